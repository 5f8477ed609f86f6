from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot.errors import ConfigError
from services.bench import train as bench
from services.bench.train import TrainBenchOptions, bench_train, time_lerobot, time_ours
from training.config import load_train_config
from training.policies.registry import load_policy_config

LINE = (
    "INFO 2026-01-01 ts/train.py:1 step:{k} smpl:8 ep:0 epch:0.01 loss:1.000 updt_s:{u:.3f} data_s:{d:.3f}\n"
)


def python_that_tells(folder: Path, lines: str, status: int = 0) -> Path:
    (folder / "said").write_text(lines)
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\ncat {folder}/said >&2\nexit {status}\n')
    path.chmod(0o755)
    return path


def test_a_step_of_lerobot_is_its_update_and_its_wait_and_the_first_does_not_count(tmp_path: Path) -> None:
    lines = "".join(LINE.format(k=k, u=u, d=d) for k, (u, d) in enumerate([(90, 9), (1.5, 0.5), (3.0, 1.0)]))
    python = python_that_tells(tmp_path, lines)
    result = time_lerobot(TrainBenchOptions(steps=2, batch_size=6), tmp_path, tmp_path / "out", python)
    assert result["samples_per_s"] == pytest.approx(6 / 3.0)
    assert result["waiting_share"] == pytest.approx(1.5 / 6.0)
    asked = (tmp_path / "asked").read_text()
    assert "--steps=3" in asked and "--batch_size=6" in asked and "--policy.type=act" in asked


def test_a_log_without_times_and_a_failure_are_told(tmp_path: Path) -> None:
    options = TrainBenchOptions(steps=2)
    with pytest.raises(ConfigError, match="LeRobot told of 0 steps"):
        time_lerobot(options, tmp_path, tmp_path / "out", python_that_tells(tmp_path, "nothing\n"))
    with pytest.raises(ConfigError, match=r"ended: No module named lerobot$"):
        python = python_that_tells(tmp_path, "x\nNo module named lerobot\n", status=1)
        time_lerobot(options, tmp_path, tmp_path / "out", python)


def test_ours_is_a_run_that_can_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(command: list[str], *rest: Any) -> subprocess.CompletedProcess[str]:
        config = load_train_config(Path(command[-2]))
        assert (config.steps, config.batch_size, config.validation_share) == (3, 4, 0.0)
        shape = load_policy_config(config.policy)
        assert (shape.image_height_px, shape.image_width_px, shape.chunk_size) == (240, 320, 100)
        assert yaml.safe_load(Path(config.policy).read_text())["pretrained"] is False
        speeds = [0.001, 2.0, 8.0]
        told = [
            {"event": "start", "parameters": 51},
            *({"event": "train", "samples_per_s": s} for s in speeds),
        ]
        return subprocess.CompletedProcess(command, 0, "\n".join(map(json.dumps, told)), "")

    monkeypatch.setattr(bench, "_ran", ran)
    result = time_ours(
        TrainBenchOptions(steps=2, batch_size=4), tmp_path, tmp_path / "x", "lerobot_act_240x320"
    )
    assert result["samples_per_s"] == pytest.approx(4 / 1.25) and result["parameters"] == 51


def test_ratios_are_ours_through_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"lerobot_act": 3.0, "lerobot_act_240x320": 12.0}
    monkeypatch.setattr(bench, "make_clips", lambda *given: {})
    monkeypatch.setattr(bench, "make_dataset", lambda *given: None)
    monkeypatch.setattr(bench, "time_lerobot", lambda *given: {"samples_per_s": 2.0})
    monkeypatch.setattr(bench, "time_ours", lambda o, d, f, policy: {"samples_per_s": speeds[policy]})
    result = bench_train(TrainBenchOptions(), python_that_tells(tmp_path, ""))
    assert result["ratio"] == {"like_for_like": 1.5, "as_advised": 6.0}
    assert result["samples_per_s"] == 12.0 and result["peers"] == {"lerobot": {"samples_per_s": 2.0}}
    monkeypatch.setattr(bench, "lerobot_python", lambda asked: None)
    assert "ratio" not in bench_train(TrainBenchOptions(), None)
