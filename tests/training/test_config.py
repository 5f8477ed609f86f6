from __future__ import annotations

from pathlib import Path

import pytest

from robot.config import config_root
from robot.errors import ConfigError
from training.config import load_train_config
from training.policies.registry import POLICIES, load_policy_config


def test_the_shipped_configurations_are_right() -> None:
    names = [path.stem for path in (config_root() / "policies").glob("*.yaml")]
    assert {load_policy_config(name).type for name in names} == set(POLICIES)
    train = load_train_config(config_root() / "experiments" / "pick_place.yaml")
    assert load_policy_config(train.policy).chunk_size == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: []\noutput_dir: x\n", "datasets"),
        ("datasets: [a]\noutput_dir: x\nsteps: 0\n", "steps"),
        ("datasets: [a]\noutput_dir: x\nstep: 5\n", "did you mean 'steps'"),
        ("datasets: [a]\noutput_dir: x\noptimiser: {lr: .nan}\n", "optimiser.lr"),
        ("datasets: [a]\noutput_dir: x\naugment: {pickup_dropout: 2}\n", "augment.pickup_dropout"),
        ("datasets: [a]\n", "output_dir"),
    ],
)
def test_wrong_runs_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_train_config(path)


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"one of .*act_small.*, bc_planar"):
        load_policy_config("pi0")
