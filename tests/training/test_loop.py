from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from robot.errors import ConfigError
from robot.recording.convert import convert
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from training.checkpoint import load_checkpoint
from training.config import OptimiserConfig, TrainConfig
from training.loop import Trainer, train
from training.optimisers import Schedule
from training.policies.base import Inputs


def changed(config: TrainConfig, **values: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **values})


def test_a_run_leaves_checkpoints_and_logs(train_config: TrainConfig) -> None:
    seen = []
    result = train(train_config, seen.append)
    assert result.finished and result.step == 6
    output = Path(train_config.output_dir)
    assert sorted(p.name for p in (output / "checkpoints").iterdir()) == ["step_00000003", "step_00000006"]
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert lines == seen
    assert {"start", "train", "validation", "end"} == {line["event"] for line in lines}
    assert any((output / "tensorboard").iterdir())
    checkpoint = load_checkpoint(output)
    assert checkpoint.step == 6 and checkpoint.fps == 30.0
    assert checkpoint.metrics["val_l1"] > 0


def test_it_learns(train_config: TrainConfig) -> None:
    seen = []
    train(changed(train_config, steps=60, checkpoint_every=60, log_every=10, validate_every=60), seen.append)
    losses = [entry["l1"] for entry in seen if entry["event"] == "train"]
    assert losses[-1] < 0.75 * losses[0]


def test_resumed_is_the_same_as_uninterrupted(train_config: TrainConfig, tmp_path: Path) -> None:
    whole = train(train_config)
    other = changed(train_config, output_dir=str(tmp_path / "other"))
    first = Trainer(other, lambda entry: first.stop() if entry.get("step") == 2 else None)
    stopped = first.run()
    assert not stopped.finished and stopped.step == 2
    resumed = train(other)
    assert resumed.finished
    for averaged in (True, False):
        a = load_checkpoint(whole.checkpoint).weights(averaged=averaged)
        b = load_checkpoint(resumed.checkpoint).weights(averaged=averaged)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), name


def record_again(dataset: Path, root: Path) -> None:
    """The first episodes' frames once more, each action a hundredth of a degree off."""
    old = Dataset(dataset)
    with DatasetWriter.create(root, fps=30, cameras={"wrist": (64, 64), "overhead": (32, 32)}) as writer:
        for episode in old.episodes:
            columns = old.load(episode.index)
            pictures = {camera: old.frames(episode.index, camera) for camera in ("wrist", "overhead")}
            writer.begin_episode("pick up the cube")
            for t in range(episode.length):
                writer.add_frame(
                    columns["observation.state"][t],
                    columns["action"][t] + 0.01,
                    {camera: frames[t] for camera, frames in pictures.items()},
                    environment_state=columns["observation.environment_state"][t],
                )
            writer.save_episode()


@pytest.mark.parametrize(("every", "what"), [((3, 2), "norm of the weights"), ((2, 3), "validation loss")])
def test_what_diverged_is_not_kept(train_config: TrainConfig, every: tuple[int, int], what: str) -> None:
    validate_every, checkpoint_every = every
    config = changed(
        train_config, log_every=6, validate_every=validate_every, checkpoint_every=checkpoint_every,
        optimiser={"lr": 1e30, "ema_decay": 0.0},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"the {what} is (nan|inf) at step 2: lower the lr"):
        train(config)
    assert not (Path(config.output_dir) / "checkpoints").exists()


def test_only_the_same_run_is_resumed(train_config: TrainConfig, dataset_root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(dataset_root, data)
    config = changed(train_config, datasets=(str(data),), steps=3)
    train(config)
    faster = changed(config, threads=2, log_every=1, validate_every=1, checkpoint_every=2)
    assert Trainer(faster).step == 3
    other = {"lr": 0.5, "ema_decay": config.optimiser.ema_decay}
    for values, difference in (
        ({"seed": 7, "steps": 6}, r"steps 3 -> 6, seed 0 -> 7"),
        ({"optimiser": other}, r"optimiser\.lr 0\.001 -> 0\.5"),
        ({"init_from": str(tmp_path / "run")}, "init_from None -> "),
    ):
        with pytest.raises(ConfigError, match=f"another run: {difference}.*another output_dir, or delete"):
            Trainer(changed(config, **values))
    moved = tmp_path / "moved"
    data.rename(moved)
    assert Trainer(changed(config, datasets=(str(moved),))).step == 3
    record_again(dataset_root, data)
    with pytest.raises(ConfigError, match="another run: other data in the datasets"):
        Trainer(config)


def test_a_checkpoint_that_does_not_know_its_data_is_resumed(
    train_config: TrainConfig, dataset_root: Path, tmp_path: Path
) -> None:
    path = train(changed(train_config, steps=3)).checkpoint / "config.json"
    content = json.loads(path.read_text())
    assert len(content.pop("data")) == 64
    path.write_text(json.dumps(content))
    assert Trainer(changed(train_config, steps=3)).step == 3
    shutil.copytree(dataset_root, tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"datasets .* -> "):
        Trainer(changed(train_config, steps=3, datasets=(str(tmp_path / "copy"),)))


def test_a_finished_run_says_so_and_is_left_as_it_is(
    train_config: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(train_config)
    before = (Path(train_config.output_dir) / "log.jsonl").read_text()
    assert not caplog.records
    again = train(train_config)
    assert again.finished and (again.checkpoint, again.step) == (first.checkpoint, 6)
    assert "was finished before, at step 6: nothing was trained" in caplog.text
    assert (Path(train_config.output_dir) / "log.jsonl").read_text() == before


def test_the_seed_decides(train_config: TrainConfig, tmp_path: Path) -> None:
    a = train(changed(train_config, steps=2, output_dir=str(tmp_path / "a")))
    b = train(changed(train_config, steps=2, output_dir=str(tmp_path / "b")))
    c = train(changed(train_config, steps=2, output_dir=str(tmp_path / "c"), seed=1))
    weights = [load_checkpoint(r.checkpoint).weights()["action_head.weight"] for r in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_fine_tuning_keeps_weights_and_statistics(train_config: TrainConfig, tmp_path: Path) -> None:
    base = train(train_config)
    fine = Trainer(
        changed(train_config, init_from=str(base.checkpoint), output_dir=str(tmp_path / "fine"), seed=3)
    )
    before = load_checkpoint(base.checkpoint)
    assert fine.step == 0
    assert (fine.stats.action_mean == before.stats.action_mean).all()
    assert torch.equal(fine.policy.state_dict()["action_head.weight"], before.weights()["action_head.weight"])


def test_another_policy_is_refused(train_config: TrainConfig, tmp_path: Path, tiny) -> None:  # type: ignore[no-untyped-def]
    base = train(changed(train_config, steps=1))
    other = tmp_path / "other.yaml"
    other.write_text(tiny.model_copy(update={"d_ff": 64}).model_dump_json())
    with pytest.raises(ConfigError, match="d_ff 32 -> 64"):
        Trainer(
            changed(
                train_config,
                policy=str(other),
                init_from=str(base.checkpoint),
                output_dir=str(tmp_path / "x"),
            )
        )


def test_learning_rate_warms_up_and_falls() -> None:
    config = OptimiserConfig(warmup_steps=10, final_lr_share=0.1)
    schedule = Schedule(config, 100, {})
    shares = [schedule.share(step) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and max(shares) == shares[10] == pytest.approx(1.0)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert schedule.share(100) == pytest.approx(0.1)


def test_without_pickup_points_a_policy_learns_to_heed_none(
    train_config: TrainConfig, dataset_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blind = tmp_path / "blind"
    convert(dataset_root, blind, drop=["observation.environment_state"])
    trainer = Trainer(changed(train_config, datasets=(str(blind),), steps=2))
    assert "will not heed coordinates" in caplog.text
    trainer.run()
    images = {camera: torch.zeros(2, 32, 32, 3) for camera in ("wrist", "overhead")}
    with torch.no_grad():
        pickups = torch.tensor([[0.1, 0.1], [0.3, -0.2]])
        near, far = trainer.policy.predict(Inputs(images, torch.zeros(2, 6), pickups))
    torch.testing.assert_close(near, far, atol=1e-4, rtol=0.0)
