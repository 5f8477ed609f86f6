from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot.errors import ConfigError
from training.checkpoint import load_checkpoint
from training.config import RolloutsConfig, TrainConfig
from training.loop import Trainer, train
from training.rollouts import Rollouts, best_checkpoint
from training.trials import Trial


class Twin:
    """Stands for export and twin: each checkpoint has so many successes; keeps what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, successes: dict[int, int]) -> None:
        self.successes, self.exported, self.asked = successes, [], []
        self.between = lambda: None
        monkeypatch.setattr("training.export.export_bundle", self.export)
        monkeypatch.setattr("training.evaluation.evaluate", self.evaluate)

    def export(self, checkpoint: Path, out: Path, *, camera_size_px: tuple[int, int], execution: Any) -> None:
        out.mkdir()
        self.exported.append((load_checkpoint(checkpoint).step, camera_size_px, execution.mode))

    def evaluate(
        self, folder: Path, episodes: int, options: Any, *, jobs: int, on_trials: Any
    ) -> list[Trial]:
        assert folder.is_dir()
        step = self.exported[-1][0]
        self.asked.append((step, options.task, options.seed))
        trials = []
        for k in range(episodes):
            self.between()
            ended = dict.fromkeys(
                ("duration_s", "x_m", "y_m", "yaw_rad", "end_x_m", "end_y_m", "end_z_m"), 0.0
            )
            trials.append(Trial(number=k, success=k < self.successes[step], **ended))
            on_trials(trials[-1:])
        return trials


def with_rollouts(config: TrainConfig, **changes: object) -> TrainConfig:
    section = {"every": 2, "episodes": 4, "execution": {"mode": "ensemble"}, **changes}
    return TrainConfig.model_validate({**config.model_dump(), "rollouts": section})


def test_the_checkpoint_with_most_successes_is_the_best(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = Twin(monkeypatch, {2: 1, 4: 3, 6: 2})
    seen: list[dict[str, Any]] = []
    config = with_rollouts(train_config)
    train(config, seen.append)
    assert twin.exported == [(step, (32, 32), "ensemble") for step in (2, 4, 6)]
    assert twin.asked == [(step, "pick_place", 77_000) for step in (2, 4, 6)]
    rounds = [entry for entry in seen if entry["event"] == "rollouts"]
    assert [(r["step"], r["successes"], r["best_step"]) for r in rounds] == [(2, 1, 2), (4, 3, 4), (6, 2, 4)]
    assert rounds[1]["success_rate"] == 0.75
    assert rounds[1]["wilson_low"] < 0.75 < rounds[1]["wilson_high"]
    best = best_checkpoint(Path(config.output_dir))
    assert best.name == "step_00000004" and load_checkpoint(best).step == 4
    assert not (Path(config.output_dir) / ".rollouts").exists()
    assert load_checkpoint(Path(config.output_dir)).step == 6  # the newest is still the last


def test_of_equals_the_last_is_the_best_and_a_shape_is_kept(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = Twin(monkeypatch, {3: 2, 6: 2})
    config = with_rollouts(train_config, every=3, width_px=64)
    train(config)
    assert twin.exported[0][1] == (64, 64)
    assert best_checkpoint(Path(config.output_dir)).name == "step_00000006"


def test_a_round_that_was_left_is_done_when_the_run_goes_on(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    twin = Twin(monkeypatch, {2: 4, 4: 1, 6: 1})
    config = with_rollouts(train_config)
    trainer = Trainer(config)
    twin.between = lambda: trainer.stop() if twin.exported[-1][0] == 4 else None
    result = trainer.run()
    assert not result.finished and result.step == 4 and "they are done when the run goes on" in caplog.text
    assert best_checkpoint(Path(config.output_dir)).name == "step_00000002"
    twin.between = lambda: None
    train(config)
    assert [step for step, *_ in twin.asked] == [2, 4, 4, 6]
    log = (Path(config.output_dir) / "log.jsonl").read_text().splitlines()
    rounds = [json.loads(line) for line in log if "wilson_low" in line]
    assert [(r["step"], r["best_step"]) for r in rounds] == [(2, 2), (4, 2), (6, 2)]
    before = list(twin.asked)
    assert train(config).samples_per_s is None and twin.asked == before


def test_rounds_of_other_trials_do_not_count(
    train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Twin(monkeypatch, {2: 4, 4: 1, 6: 1})
    train(with_rollouts(train_config))
    output = Path(train_config.output_dir)
    assert not Rollouts(with_rollouts(train_config).rollouts or RolloutsConfig(every=1), output, 6).due(6)
    other = RolloutsConfig(every=2, episodes=4, seed=5)
    assert Rollouts(other, output, 6).due(6)


def test_without_rollouts_there_is_no_best(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the run's section 'rollouts'"):
        best_checkpoint(tmp_path)


def test_nothing_is_chosen_on_the_trials_that_are_reported() -> None:
    with pytest.raises(ValueError, match="reports with"):
        RolloutsConfig(every=1, seed=1000)
