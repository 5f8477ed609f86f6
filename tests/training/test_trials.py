"""What is said of a trial: where it grasped, which cube is in the bowl, and where on the table it failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from inference.ensembler import ExecutionConfig
from robot.errors import ConfigError
from robot.joints import GRIPPER
from robot.twin.tasks import PickPlaceConfuser
from services.cli import app
from training import evaluation
from training.evaluation import EvaluationOptions, Evaluator, summary
from training.trial_map import plot_trials, success_by_cell
from training.trials import Trial, Watch, grasped_at, read_trials, write_trials
from training.variety import Variety

A_TRIAL = Trial(0, True, 5.0, 0.2, 0.0, 0.0, 0.18, -0.26, 0.02)


@pytest.mark.parametrize(
    ("grasp", "confuser", "what"),
    [
        ((0.24, 0.01), None, "target"),
        ((0.24, 0.05), None, "elsewhere"),
        ((0.24, 0.01), (0.24, 0.10), "target"),
        ((0.25, 0.09), (0.24, 0.10), "confuser"),
        ((0.25, 0.05), (0.24, 0.10), "between"),
        ((0.26, 0.05), (0.24, 0.10), "elsewhere"),  # beside the middle, not between
        ((0.24, 0.034), (0.24, 0.10), "between"),
        ((0.24, 0.032), (0.24, 0.10), "target"),
        ((0.24, 0.02), (0.24, 0.045), "between"),
        ((0.24, 0.032), (0.24, 0.045), "confuser"),
    ],
)
def test_a_grasp_is_at_one_cube_at_the_other_between_them_or_nowhere(grasp, confuser, what) -> None:
    other = None if confuser is None else np.array(confuser)
    assert grasped_at(np.array(grasp), np.array([0.24, 0.0]), other) == what


def test_the_first_grasp_counts_and_only_of_jaws_that_were_open() -> None:
    world = SimpleNamespace(
        time_s=0.0,
        tool_m=np.array([0.2, 0.0, 0.1]),
        cube_xyz_m=np.array([0.3, 0.0, 0.014]),
        confuser_xyz_m=None,
        cube_in_bowl=False,
        confuser_in_bowl=False,
    )
    task = PickPlaceConfuser()
    watch = Watch(world, task)  # type: ignore[arg-type]
    for x_m, gripper in ((0.2, 12.0), (0.25, 44.0), (0.3, 30.0), (0.31, 20.0), (0.1, 45.0), (0.1, 13.0)):
        world.tool_m = np.array([x_m, 0.0, 0.02])
        command = np.zeros(6)
        command[GRIPPER] = gripper
        watch.commanded(command)
    trial = watch.trial(1, task.sample(np.random.default_rng(0)))
    assert (trial.grasped, trial.grasp_x_m) == ("target", 0.31)


def options_and_trials(monkeypatch: pytest.MonkeyPatch, stage, **options: object) -> list[dict[str, object]]:
    """What trials 0..3 begin with."""
    camera = SimpleNamespace(name="wrist", width_px=64, height_px=48)
    manifest = SimpleNamespace(cameras=(camera,), execution=ExecutionConfig())
    bundle = SimpleNamespace(policy=None, manifest=manifest)
    begun: list[dict[str, object]] = []

    def source(stage, policy, manifest, pickup, **rest):
        return SimpleNamespace(pickup=pickup)

    def drive(stage, source, **rest):
        begun.append(
            {
                "cube": stage.world.cube_xyz_m.tolist(),
                "confuser": stage.world.confuser_xyz_m,
                "arm": stage.world.joint_user.tolist(),
                "told": source.pickup.tolist(),
            }
        )

    monkeypatch.setattr(evaluation, "InlinePolicySource", SimpleNamespace(of_bundle=source))
    monkeypatch.setattr(evaluation, "drive", drive)
    evaluator = Evaluator(bundle, EvaluationOptions(**options))  # type: ignore[arg-type]
    evaluator.stage = stage
    for number, begin in zip(range(4), (evaluator.run(number) for number in range(4)), strict=True):
        begun[number]["trial"] = begin
    return begun


def test_a_trial_begins_the_same_whatever_else_is_asked_for(monkeypatch, stage) -> None:
    plain = options_and_trials(monkeypatch, stage)
    varied = Variety(look_share=1.0, unseen_looks=True, stiffness_spread=0.2)
    other = options_and_trials(
        monkeypatch, stage, task="pick_place_confuser", coordinate_error_m=0.01, variety=varied
    )
    for before, after in zip(plain, other, strict=True):
        assert before["cube"] == after["cube"] and before["arm"] == after["arm"]
        assert before["confuser"] is None and after["confuser"] is not None
        told, cube = np.array(after["told"]), np.array(after["cube"])[:2]
        assert 0.0001 < np.linalg.norm(told - cube) < 0.05
        assert before["told"] == pytest.approx(np.array(before["cube"])[:2], abs=1e-6)
        assert after["trial"].stiffness != 1.0 == before["trial"].stiffness
        assert after["trial"].look != "plain"
        assert (after["trial"].told_x_m, after["trial"].told_y_m) == pytest.approx(told)


def test_told_the_other_cube_the_other_is_the_one_that_is_meant(monkeypatch, stage) -> None:
    one = options_and_trials(monkeypatch, stage, task="pick_place_confuser")
    two = options_and_trials(monkeypatch, stage, task="pick_place_confuser", tell_other=True)
    for target, other in zip(one, two, strict=True):
        assert other["cube"] == pytest.approx(list(target["confuser"]), abs=1e-6)
        assert list(other["confuser"]) == pytest.approx(target["cube"], abs=1e-6)
        assert other["told"] == pytest.approx(list(target["confuser"])[:2], abs=1e-6)


def test_a_task_without_a_second_cube_cannot_be_told_it(monkeypatch, stage) -> None:
    with pytest.raises(ConfigError, match="reach has no second cube"):
        options_and_trials(monkeypatch, stage, task="reach", tell_other=True)


def test_trials_come_back_from_their_file(tmp_path: Path) -> None:
    trials = [
        A_TRIAL,
        replace(A_TRIAL, number=1, success=False, grasped="between", grasp_x_m=0.21, grasp_y_m=0.0),
    ]
    write_trials(tmp_path / "t.jsonl", trials)
    assert read_trials(tmp_path / "t.jsonl") == trials
    assert summary(trials)["grasped"] == {"target": 0, "confuser": 0, "between": 1, "elsewhere": 0, "none": 1}
    (tmp_path / "t.jsonl").write_text('{"number": 1}\n')
    with pytest.raises(ConfigError, match="line 1"):
        read_trials(tmp_path / "t.jsonl")


def test_the_map_counts_what_was_tried_in_each_cell(tmp_path: Path) -> None:
    places = [(0.17, -0.17, True), (0.17, -0.17, False), (0.31, 0.17, True), (0.40, 0.0, False)]
    trials = [replace(A_TRIAL, x_m=x, y_m=y, success=won) for x, y, won in places]
    x_edges, y_edges, shares = success_by_cell(trials, cell_m=0.04)
    assert shares.shape == (x_edges.size - 1, y_edges.size - 1) == (6, 9)
    assert shares[0, 0] == 0.5 and shares[3, 8] == 1.0
    assert np.isnan(shares).sum() == shares.size - 3
    assert shares[5, np.searchsorted(y_edges, 0.0) - 1] == 0.0
    plot_trials(tmp_path / "map.png", trials, "a map")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task", "juggle"], "no task 'juggle'"),
        (["--tell", "confuser"], "--task pick_place_confuser"),
        (["--blackout", "rear"], "wrist"),
        (["--plot", "nowhere/map.png"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_the_first_trial(options: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["eval", "policies/pick_place", *options])
    assert result.exit_code != 0
    assert says in " ".join(result.stderr.split())
