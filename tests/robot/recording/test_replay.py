from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_samples import REAL, create, record

from robot.calibration_file import Calibration
from robot.errors import ConfigError, DatasetError
from robot.recording.reader import Dataset
from robot.recording.replay import SETTLE_S, ReplaySource, UnitMap, load_episode, units_of
from robot.seams import ArmState
from robot.twin.lockstep import follower_calibration


def state(position: np.ndarray, time_s: float) -> ArmState:
    zeros = np.zeros(6)
    return ArmState(time_s, position, zeros, zeros, zeros, zeros, zeros, zeros.astype(np.uint8))


def inverted(calibration: Calibration, joint: str) -> Calibration:
    joints = dict(calibration.joints)
    joints[joint] = replace(joints[joint], drive_mode=1)
    return Calibration(joints)


@given(st.lists(st.floats(-100, 100), min_size=6, max_size=6), st.booleans())
@settings(deadline=None)
def test_m100_100_means_what_lerobot_means(values: list[float], flip: bool) -> None:
    calibration = follower_calibration()
    if flip:
        calibration = inverted(calibration, "elbow_flex")
    recorded = np.array([*values[:5], abs(values[5])])
    user = UnitMap("m100_100", calibration).to_user(recorded)
    for i, (name, joint) in enumerate(list(calibration.joints.items())[:5]):
        # LeRobot's inverse, before it is cut to a whole tick.
        value = -recorded[i] if joint.drive_mode else recorded[i]
        raw = (value + 100) / 200 * (joint.range_max - joint.range_min) + joint.range_min
        middle = (joint.range_min + joint.range_max) / 2
        assert user[i] == pytest.approx((raw - middle) * 360 / 4095), name
    assert user[5] == recorded[5]
    np.testing.assert_allclose(UnitMap("m100_100", calibration).from_user(user), recorded, atol=1e-9)


def test_degrees_stay_degrees() -> None:
    values = np.array([[1.0, -2.0, 3.0, 4.0, 5.0, 60.0]])
    units = UnitMap("degrees", follower_calibration())
    np.testing.assert_array_equal(units.to_user(values), values)
    np.testing.assert_array_equal(units.from_user(values), values)


def test_units_are_said_or_asked_for(tmp_path: Path) -> None:
    with create(tmp_path / "d", (), units="m100_100") as writer:
        record(writer, 0, 3)
    dataset = Dataset(tmp_path / "d")
    assert units_of(dataset, None) == units_of(dataset, "m100_100") == "m100_100"
    with pytest.raises(ConfigError, match="m100_100, not degrees"):
        units_of(dataset, "degrees")
    bare = Dataset(tmp_path / "d/data/chunk-000/file-000.parquet")
    assert units_of(bare, "degrees") == "degrees"
    with pytest.raises(ConfigError, match="--units degrees or m100_100"):
        units_of(bare, None)
    with pytest.raises(ConfigError, match="'radians' are not known"):
        units_of(bare, "radians")


@given(
    frames=st.integers(1, 20),
    fps=st.sampled_from([10.0, 30.0, 50.0]),
    control_hz=st.sampled_from([30, 60, 100]),
    first_tick=st.integers(0, 10**9),
    lost=st.sets(st.integers(1, 60)),
)
@settings(deadline=None)
def test_zero_order_hold(frames: int, fps: float, control_hz: int, first_tick: int, lost: set[int]) -> None:
    actions = np.arange(frames * 6, dtype=float).reshape(frames, 6)
    source = ReplaySource(actions, fps, control_hz)
    tick = 0
    while not source.done:
        if tick == 0 or tick not in lost:
            target = source.target(first_tick + tick, state(np.zeros(6), tick / control_hz))
            frame = int(np.floor(tick * fps / control_hz + 1e-6))
            if frame < frames:
                assert target is not None
                np.testing.assert_array_equal(target, actions[frame])
            else:
                assert target is None
                assert source.done
        tick += 1
    assert tick >= frames * control_hz / fps


def test_states_are_those_of_the_frames_whatever_ticks_are_lost() -> None:
    actions = np.zeros((12, 6))
    source = ReplaySource(actions, 30.0, 60)
    for tick in range(26):
        if tick not in (5, 6, 7, 16):
            time_s = 100.0 + tick / 60
            source.target(tick, state(np.full(6, 3.0 * time_s), time_s))
    played = source.state_at_frames()
    np.testing.assert_allclose(played[:, 0], 3.0 * (100.0 + np.arange(12) / 30))


def test_goes_to_the_first_pose_before_it_plays() -> None:
    actions = np.full((5, 6), 40.0)
    source = ReplaySource(actions, 30.0, 60, first_pose=np.full(6, 30.0), ramp_velocity=60.0)
    position = np.zeros(6)
    speeds = []
    tick = 0
    while not source.playing:
        target = source.target(tick, state(position, tick / 60))
        assert target is not None
        if not source.playing:
            speeds.append(np.abs(target - position).max() * 60)
            position = target
        tick += 1
    assert max(speeds) <= 61
    np.testing.assert_allclose(position, 30.0)
    assert len(speeds) >= (30 / 60 + SETTLE_S) * 60
    assert len(source.states) == 1
    np.testing.assert_array_equal(target, actions[0])


def test_nothing_played_is_an_error() -> None:
    with pytest.raises(DatasetError, match="nothing was played"):
        ReplaySource(np.zeros((3, 6)), 30, 60).state_at_frames()


def test_episodes_that_cannot_be_replayed(tmp_path: Path) -> None:
    with create(tmp_path / "d", ()) as writer:
        record(writer, 0, 3)
    episode = load_episode(Dataset(tmp_path / "d"), 0)
    assert (episode.frames, episode.fps) == (3, 30)
    with pytest.raises(DatasetError, match="no episode 1"):
        load_episode(Dataset(tmp_path / "d"), 1)
    if REAL.is_file():
        assert load_episode(Dataset(REAL), 2).frames == 372
    path = tmp_path / "d/meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fps": 15}))
    assert load_episode(Dataset(tmp_path / "d"), 0).fps == 15
