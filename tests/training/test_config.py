from __future__ import annotations

from pathlib import Path

import pytest

from robot.config import config_root
from robot.errors import ConfigError
from training.config import TrainConfig, load_train_config
from training.policies.registry import POLICIES, load_policy_config
from training.settings import fields_of, table


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


RUN = "datasets: [a]\noutput_dir: x\noptimiser: {lr: 0.5, backbone_lr: 0.25}\n"


def test_any_key_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    config = load_train_config(
        path,
        ["optimiser.lr=3e-4", "steps=7", "augment.moved_cameras=[wrist]", "rollouts.every=5",
         "rollouts.execution.mode=ensemble", "init_from=null", "datasets=[b, c]"],
    )  # fmt: skip
    assert (config.optimiser.lr, config.optimiser.backbone_lr, config.steps) == (3e-4, 0.25, 7)
    assert config.augment.moved_cameras == ("wrist",) and config.datasets == ("b", "c")
    assert config.rollouts is not None and config.rollouts.execution.mode == "ensemble"
    assert load_train_config(path, ["rollouts.every=5", "rollouts=null"]).rollouts is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lr=1", "unknown key 'optimizer.lr', did you mean 'optimiser.lr'"),
        ("optimiser.lrr=1", "did you mean 'optimiser.lr'"),
        ("stepz=1", "did you mean 'steps'"),
        ("steps.more=1", "unknown key 'steps.more'"),
        ("steps", "key=value"),
        ("steps=[", "is not YAML"),
        ("steps=0", "steps: "),
        ("optimiser.betas=[0.9, 1.0]", "optimiser.betas"),
        ("rollouts.seed=1000", "rollouts.every: Field required"),
    ],
)
def test_what_cannot_be_set_is_named(tmp_path: Path, setting: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_train_config(path, [setting])


def test_a_plateau_without_validation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    with pytest.raises(ConfigError, match="needs a validation_share above 0"):
        load_train_config(path, ["optimiser.schedule=plateau", "validation_share=0"])


def test_where_a_plateau_decides_validations_may_not_come_at_other_steps(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    for schedule, told in (("plateau", ["validate_every 1000 -> 7"]), ("cosine", [])):
        before = load_train_config(path, [f"optimiser.schedule={schedule}"])
        after = load_train_config(path, [f"optimiser.schedule={schedule}", "validate_every=7", "prefetch=0"])
        assert before.differences(after) == told


def test_every_field_is_documented_and_the_documentation_is_of_this_version() -> None:
    undocumented = [name for name, field in fields_of(TrainConfig).items() if not field.description]
    assert undocumented == []
    written = (config_root().parent / "docs" / "training.md").read_text(encoding="utf-8")
    assert written.endswith(table(TrainConfig)), (
        "so101 train --help-config prints what docs/training.md ends with"
    )
