"""Bundles of every action space, from the folder to the arm's joints."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from inference.action_space import ActionSpace
from inference.bundle import check_robot, load_bundle
from inference.manifest import read_manifest
from inference.source import ChunkMessage, PolicySource, pack_chunk, unpack_chunk
from robot.config import load_robot
from robot.errors import BundleError
from robot.joints import JOINTS
from robot.mailbox import MailboxClient
from robot.seams import FloatArray, Frame
from robot.trajectory import Motion
from tests.inference.test_source import STATE
from tests.inference.test_worker import Scene
from tests.inference.toy import HEIGHT, PER_GREY_M, WIDTH, driven_arm, write_tool_bundle

STEPS_M: dict[ActionSpace, tuple[float, ...]] = {
    "tool_delta_xy": (0.004, 0.003),
    "tool_delta_xyz": (0.0, 0.003, 0.004),
}
POSE = np.array([5.0, -20.0, 40.0, 70.0, 10.0, 0.0])


@pytest.mark.parametrize("space", STEPS_M)
def test_a_bundle_that_moves_the_tool_moves_it(tmp_path: Path, space: ActionSpace) -> None:
    folder = write_tool_bundle(tmp_path / "bundle", action_space=space, step_m=STEPS_M[space])
    scene, command, path = Scene(folder), POSE.copy(), tmp_path / "c.sock"

    def motion() -> Motion:
        return Motion(command, np.zeros(6))

    arguments = {"run_id": 3, "mode": "ensemble", "action_space": scene.worker.status()["action_space"]}
    arm = driven_arm(motion)
    source, client = PolicySource(path, arguments, arm), MailboxClient(path)
    assert scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, -0.1]) == {"ok": True}
    assert scene.worker.status()["conditioned"] is False
    tools_m: list[FloatArray] = []
    for tick in range(600, 660):
        scene.clock.time_s += 1 / 60
        scene.look(tick)
        target = source.target(tick, STATE)
        command = command if target is None else target
        tools_m.append(arm.kinematics.tool_position_m(command))
        if scene.worker.step():
            client.send(scene.sent[-1])
    gone_m = tools_m[-1] - tools_m[0]
    step_m = np.array([*STEPS_M[space], 0.0])[:3]
    np.testing.assert_allclose(gone_m, 10.0 * step_m, atol=0.003)  # about a second at ten steps a second
    assert source.counters.taken > 5 and source.counters.foreign == 0
    assert unpack_chunk(scene.sent[0]).actions.shape == (10, len(STEPS_M[space]))
    source.close()


def test_a_chunk_of_another_space_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    source = PolicySource(path, {"run_id": 7, "action_space": "tool_delta_xy"}, driven_arm())
    client = MailboxClient(path)
    for width in (6, 3):
        client.send(pack_chunk(ChunkMessage(7, 99, 10.0, np.zeros((5, width), np.float32))))
    client.send(pack_chunk(ChunkMessage(7, 99, 10.0, np.full((5, 2), np.nan, np.float32))))
    assert source.target(100, STATE) is None
    assert (source.counters.taken, source.counters.dropped, source.counters.foreign) == (0, 1, 2)
    client.send(pack_chunk(ChunkMessage(7, 100, 10.0, np.zeros((5, 2), np.float32))))
    assert source.target(101, STATE) is not None and source.chunk_age_ticks == 1
    source.close()


def test_a_policy_that_looks_back_sees_its_own_past_and_none_of_before(tmp_path: Path) -> None:
    scene = Scene(write_tool_bundle(tmp_path / "bundle", observation_steps=2, step_m=(0.0, 0.0)))
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.0, 0.0])

    def shown(tick: int, grey: int, chunk_age: int = 2) -> float:
        """How far in x the policy then goes, in grey levels."""
        scene.clock.time_s += 0.1
        scene.look(tick)
        scene.record["chunk_age_ticks"] = chunk_age
        scene.frame = Frame(np.full((HEIGHT, WIDTH, 3), grey, np.uint8), scene.clock.time_s, tick)
        assert scene.worker.step()
        return float(unpack_chunk(scene.sent[-1]).actions[0, 0]) / PER_GREY_M

    assert shown(600, 10, chunk_age=-1) == pytest.approx(0.0)
    assert shown(606, 40) == pytest.approx(30.0, rel=1e-4)
    assert shown(612, 90) == pytest.approx(50.0, rel=1e-4)
    # It pauses, or the arm is on its way to the start pose: what was seen meanwhile is no past of the policy.
    assert shown(618, 200, chunk_age=-1) == pytest.approx(0.0)
    assert shown(624, 210) == pytest.approx(10.0, rel=1e-4)
    # A person has driven and hands back: the run begins anew for the policy.
    scene.look(630, source="teleop")
    assert not scene.worker.step()
    assert scene.ask(op="begin", run_id=3, pickup_xy_m=[0.0, 0.0]) == {"ok": True}
    assert shown(636, 100) == pytest.approx(0.0)


def test_a_golden_output_that_is_off_by_a_millimetre_a_step_is_refused(tmp_path: Path) -> None:
    folder = write_tool_bundle(tmp_path / "bundle", step_m=(0.004, 0.0))
    assert load_bundle(folder).parity_user < 1e-6
    other = write_tool_bundle(tmp_path / "other", step_m=(0.005, 0.0))
    (folder / "golden.npz").write_bytes((other / "golden.npz").read_bytes())
    manifest = read_manifest(folder)
    files = {**manifest.files, "golden.npz": read_manifest(other).files["golden.npz"]}
    (folder / "manifest.json").write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    with pytest.raises(BundleError, match=r"differ from training's by 0\.001 m"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        ((0.0, 0.0, 120.0, 0.0, 0.0, 0.0), r"elbow_flex: the policy's runs begin at 120\.0"),
        ((0.0, 50.0, 30.0, 20.0, 0.0, 0.0), r"twin cannot take: it lacks \d+ mm of room to the table"),
        ((0.0, -80.0, -30.0, -45.0, 0.0, 0.0), "start pose of the policy: .*in front of the arm"),
        (tuple(POSE), None),
    ],
)
def test_a_start_pose_that_the_robot_cannot_take_is_named(
    tmp_path: Path, pose: tuple[float, ...], words: str | None
) -> None:
    start = dict(zip(JOINTS, pose, strict=True))
    folder = write_tool_bundle(tmp_path / "bundle", start_pose=start, cameras=[], reads_state=True)
    with contextlib.nullcontext() if words is None else pytest.raises(BundleError, match=words):
        check_robot(read_manifest(folder), load_robot("twin")[0])
