from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot.errors import DatasetError
from robot.joints import JOINTS
from robot.recording.compare import blocked_frames, compare, lag_frames, plot, static_error
from robot.recording.replay import Episode

KEYS = {
    "rmse", "lag_frames", "static_error", "rmse_all", "blocked_frames", "lag_real_frames", "lag_twin_frames",
    "static_error_real", "static_error_twin",
}  # fmt: skip


def motion(frames: float, length: int = 300) -> np.ndarray:
    """A teleoperated-looking motion, delayed by a number of frames."""
    t = (np.arange(length) - frames) / 30
    return 30 * np.sin(1.1 * t) + 12 * np.sin(2.7 * t + 1) + 5 * np.sin(5.3 * t)


def still_motion() -> tuple[np.ndarray, np.ndarray]:
    """Goals that jump every two seconds, and a joint that ends 1.5 units below each."""
    goal = np.repeat([0.0, 20.0, -10.0, 30.0], 60)
    position = goal.copy()
    for start in range(0, 240, 60):
        before = position[start - 1] if start else 0.0
        ramp = np.linspace(before, goal[start] - 1.5, 12)
        position[start : start + 12] = ramp
        position[start + 12 : start + 60] = goal[start] - 1.5
    return goal, position


@pytest.mark.parametrize("lag", [0.0, 1.0, 2.5, 4.0, 4.3, 7.8, 11.0])
def test_lag_is_found_between_frames(lag: float) -> None:
    found = lag_frames(motion(0), motion(lag))
    assert found == pytest.approx(lag, abs=0.1)


def test_lag_survives_sag_and_gain() -> None:
    assert lag_frames(motion(0), 0.9 * motion(4.0) - 2.0) == pytest.approx(4.0, abs=0.15)


def test_no_motion_no_lag() -> None:
    still = np.full(100, 5.0)
    assert lag_frames(still, still) is None
    assert lag_frames(motion(0)[:4], motion(0)[:4]) is None


def test_static_error_is_that_of_stillness() -> None:
    goal, position = still_motion()
    assert static_error(goal, position) == pytest.approx(1.5)
    assert static_error(motion(0), motion(4)) is None


def test_blocked_gripper_until_it_moves_again() -> None:
    goal = np.concatenate([np.full(30, 40.0), np.full(60, 2.0), np.full(30, 40.0)])
    position = np.concatenate(
        [np.full(33, 40.0), np.linspace(40, 15, 5), np.full(55, 15.0), np.full(27, 40.0)]
    )
    blocked = blocked_frames(goal, position)
    assert blocked[45:93].all()
    assert not blocked[:37].any()
    assert not blocked[94:].any()


def test_comparison_of_known_differences() -> None:
    real = np.stack([motion(4.0)] * 6, axis=1)
    action = np.stack([motion(0)] * 6, axis=1)
    twin = np.stack([motion(4.0)] * 6, axis=1)
    twin[:, 1] = motion(5.5)
    twin[:, 2] += 2.0
    result = compare(Episode(action, real, 30.0), twin)
    assert tuple(result.joints) == JOINTS
    values = result.as_json()["joints"]
    assert set(values["shoulder_pan"]) == KEYS
    assert values["shoulder_pan"]["rmse"] == 0
    assert values["shoulder_pan"]["lag_frames"] == pytest.approx(0)
    assert values["shoulder_pan"]["lag_real_frames"] == pytest.approx(4, abs=0.1)
    assert values["shoulder_lift"]["lag_frames"] == pytest.approx(1.5, abs=0.15)
    assert values["elbow_flex"]["rmse"] == pytest.approx(2.0)
    json.dumps(values, allow_nan=False)


def test_static_errors_of_both() -> None:
    goal, position = still_motion()
    action = np.stack([goal] * 6, axis=1)
    real, twin = np.stack([position] * 6, axis=1), np.stack([goal * 1.0] * 6, axis=1)
    joint = compare(Episode(action, real, 30.0), twin).as_json()["joints"]["elbow_flex"]
    assert (joint["static_error_real"], joint["static_error_twin"], joint["static_error"]) == (1.5, 0, 0)


def test_what_the_gripper_holds_is_not_the_servos_error() -> None:
    goal = np.concatenate([motion(0, 100), np.full(100, 0.0), motion(0, 100)])
    real = np.concatenate([motion(0, 100), np.full(100, 10.0), motion(0, 100)])
    episode = Episode(np.stack([goal] * 6, axis=1), np.stack([real] * 6, axis=1), 30.0)
    joints = compare(episode, episode.action.copy()).joints
    assert joints["gripper"].blocked_frames >= 85
    assert joints["gripper"].rmse < joints["gripper"].rmse_all == pytest.approx(10 / np.sqrt(3))
    assert joints["elbow_flex"].blocked_frames == 0
    assert joints["elbow_flex"].rmse == joints["elbow_flex"].rmse_all


def test_shapes_must_agree() -> None:
    episode = Episode(np.zeros((5, 6)), np.zeros((5, 6)), 30.0)
    with pytest.raises(DatasetError):
        compare(episode, np.zeros((4, 6)))


def test_plot_is_a_picture(tmp_path: Path) -> None:
    values = np.stack([motion(0)] * 6, axis=1)
    episode = Episode(values, values, 30.0)
    plot(tmp_path / "new" / "plot.png", episode, values, compare(episode, values), "degrees")
    image = cv2.imread(str(tmp_path / "new" / "plot.png"))
    assert image is not None
    assert len(np.unique(image)) > 10
