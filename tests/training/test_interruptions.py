"""Runs that are killed, and runs of several processes: the weights are those of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from robot.errors import ConfigError
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.loop import train
from training.parallel import Group

ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


def changed(config: TrainConfig, **values: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **values})


def started(config: TrainConfig, folder: Path, launcher: list[str] | None = None) -> subprocess.Popen[str]:
    path = folder / "run.json"
    path.write_text(config.model_dump_json())  # JSON is YAML
    command = [*(launcher or [sys.executable]), "-m", "services.cli", "train", str(path), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE)


def weights(run: str, averaged: bool) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(Path(run))
    return {**checkpoint.weights(averaged=averaged), **checkpoint.optimiser()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_was_killed_at_any_moment_ends_with_the_same_weights(
    train_config: TrainConfig, tmp_path: Path
) -> None:
    optimiser = {"schedule": "plateau", "plateau_patience": 0, "warmup_steps": 5, "plateau_threshold": 0.1}
    config = changed(
        train_config, steps=240, checkpoint_every=25, validate_every=10, log_every=5, optimiser=optimiser,
        output_dir=str(tmp_path / "killed"),
    )  # fmt: skip
    whole = changed(config, output_dir=str(tmp_path / "whole"), prefetch=0)
    train(whole)
    process = started(config, tmp_path)
    assert process.stdout is not None
    seed = random.randrange(10**6)
    with process:
        for line in process.stdout:
            if json.loads(line)["step"] >= 30:
                break
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
    reached = load_checkpoint(tmp_path / "killed").step
    assert 25 <= reached < 240, f"killed too late (seed {seed}): this tests nothing"
    result = train(config)
    assert result.finished
    for averaged in (True, False):
        a, b = weights(whole.output_dir, averaged), weights(config.output_dir, averaged)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), f"{name}, killed after step {reached}, seed {seed}"
    told = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "killed")]
    steps = [[(e["event"], e["step"]) for e in map(json.loads, lines)] for lines in told]
    assert [s for s in steps[1] if s[0] != "start"] == [s for s in steps[0] if s[0] != "start"]
    rates = [{e["step"]: e["lr"] for e in map(json.loads, lines) if e["event"] == "train"} for lines in told]
    assert rates[0] == rates[1] and min(rates[0].values()) < 0.6 * max(rates[0].values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_end_where_one_does(train_config: TrainConfig, tmp_path: Path) -> None:
    policy = json.loads(Path(train_config.policy).read_text())
    (tmp_path / "plain.yaml").write_text(json.dumps({**policy, "use_vae": False}))
    # Without the latent's own random numbers, and with parts in which unequally many steps are valid. Two
    # steps: sums in another order differ in the last bits, and L1's signs and Adam's division amplify that.
    config = changed(
        train_config, policy=str(tmp_path / "plain.yaml"), steps=2, checkpoint_every=2, validate_every=1
    )
    one = changed(config, output_dir=str(tmp_path / "one"))
    two = changed(config, output_dir=str(tmp_path / "two"))
    train(one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        f"--master-port={port}",
    ]
    process = started(two, tmp_path, launcher)
    out, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-2000:]
    entries = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [e["step"] for e in entries if e["event"] == "train"] == [2]  # one speaks for both
    assert entries[0]["processes"] == 2
    for averaged in (True, False):
        a, b = weights(one.output_dir, averaged), weights(two.output_dir, averaged)
        for name in a:
            torch.testing.assert_close(
                a[name], b[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )
    a, b = (load_checkpoint(Path(run.output_dir)).metrics for run in (one, two))
    assert a == pytest.approx(b, rel=1e-4)


def test_what_is_prepared_ahead_changes_nothing(train_config: TrainConfig, tmp_path: Path) -> None:
    runs = [
        changed(train_config, output_dir=str(tmp_path / str(k)), prefetch=k, augment={"sharpness": 0.5})
        for k in (0, 1, 5)
    ]
    for run in runs:
        train(run)
    first, *others = (weights(run.output_dir, averaged=False) for run in runs)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_what_a_killed_run_had_logged_too_far_is_taken_out(train_config: TrainConfig) -> None:
    config = changed(train_config, steps=3)
    train(config)
    log = Path(config.output_dir) / "log.jsonl"
    before = log.read_text()
    for folder in (Path(config.output_dir) / "checkpoints").iterdir():
        folder.rename(folder.with_name("step_00000002"))  # as if killed before the last was written
        content = json.loads((folder.with_name("step_00000002") / "config.json").read_text())
        (folder.with_name("step_00000002") / "config.json").write_text(json.dumps({**content, "step": 2}))
    with log.open("a") as lines:
        lines.write('{"event": "train", "st')
    train(config)
    events = [(e["event"], e["step"]) for e in map(json.loads, log.read_text().splitlines())]
    assert events == [
        ("start", 0), ("train", 2), ("start", 2), ("train", 3), ("validation", 3), ("end", 3),
    ]  # fmt: skip
    assert before.splitlines()[1] in log.read_text()


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert Group().part(9) == slice(3, 6) and not Group().first
    with pytest.raises(ConfigError, match="batch of 8 cannot be shared by 3 processes"):
        Group().part(8)


def test_compiling_without_a_compiler_is_refused(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"compile needs a C\+\+ compiler"):
        train(changed(train_config, compile=True))
    assert train(changed(train_config, compile="auto", steps=1)).finished  # does without
