from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robot.errors import ConfigError
from training.checkpoint import load_checkpoint, newest_checkpoint
from training.config import TrainConfig
from training.loop import Trainer, train


def empty(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"")


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


@pytest.mark.parametrize(
    "spoil",
    [
        empty("config.json"),
        empty("stats.json"),
        cut("config.json"),
        empty("model.safetensors"),
        cut("model.safetensors"),
        cut("ema.safetensors"),
        cut("optimiser.safetensors"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "stats.json").write_text("[]"),
    ],
)
def test_a_broken_checkpoint_is_passed_over_and_named(
    train_config: TrainConfig, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    broken = train(train_config).checkpoint
    output = Path(train_config.output_dir)
    spoil(broken)
    assert newest_checkpoint(output) == broken.with_name("step_00000003")
    assert str(broken) in caplog.text and "passed over" in caplog.text
    assert load_checkpoint(output).step == 3
    with pytest.raises(ConfigError, match="broken"):
        load_checkpoint(broken)


def test_training_goes_on_from_the_newest_whole_checkpoint(train_config: TrainConfig) -> None:
    first = train(train_config).checkpoint
    weights = load_checkpoint(first).weights()
    empty("config.json")(first)
    assert train(train_config).checkpoint == first
    again = load_checkpoint(first).weights()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_run_without_any_whole_checkpoint_does_not_begin_anew_unasked(train_config: TrainConfig) -> None:
    train(train_config)
    for folder in (Path(train_config.output_dir) / "checkpoints").iterdir():
        empty("config.json")(folder)
    with pytest.raises(ConfigError, match="can be read: delete it"):
        Trainer(train_config)


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(train_config)
    folder = trainer.save()
    events: list[str] = []
    rename = Path.replace

    def synced(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def renamed(self: Path, target: Path) -> Path:
        # Whatever is cut off here, a whole checkpoint of this step is in some folder.
        whole = [p for p in folder.parent.iterdir() if (p / "stats.json").is_file()]
        assert (
            all(json.loads((p / "config.json").read_text())["step"] == 0 for p in whole) and len(whole) == 2
        )
        events.append(f"-> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    assert trainer.save() == folder
    files = sorted(p.name for p in folder.iterdir())
    partial = f".{folder.name}.partial"
    assert sorted(events[: len(files)]) == files
    assert events[len(files) :] == [
        partial,
        f"-> .{folder.name}.replaced",
        f"-> {folder.name}",
        "checkpoints",
    ]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_on_a_full_disk_what_is_there_stays(train_config: TrainConfig) -> None:
    train(train_config)
    trainer = Trainer(train_config)
    checkpoints = Path(train_config.output_dir) / "checkpoints"
    before = sorted(path.name for path in checkpoints.iterdir())
    trainer.step = 7
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # no file may become longer
    try:
        with pytest.raises(ConfigError, match=r"no checkpoint can be written in .*: .*See to room"):
            trainer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in checkpoints.iterdir()) == before
    assert load_checkpoint(Path(train_config.output_dir)).step == 6
