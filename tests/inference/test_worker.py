from __future__ import annotations

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.source import unpack_chunk
from inference.worker import ORPHAN_S, Eyes, Trouble, Worker
from robot.errors import CommandError
from robot.mailbox import to_json
from robot.seams import Frame
from robot.telemetry import MODES, SOURCES, empty_record
from tests.inference.toy import HEIGHT, WIDTH


class HandClock:
    def __init__(self) -> None:
        self.time_s = 10.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until_s(self, deadline_s: float) -> None:
        self.time_s = max(self.time_s, deadline_s)


class Scene:
    """A worker over a toy policy, with telemetry and a camera moved by hand."""

    def __init__(self, bundle_folder) -> None:  # type: ignore[no-untyped-def]
        bundle = load_bundle(bundle_folder)
        self.clock = HandClock()
        self.record = empty_record()
        self.frame: Frame | None = None
        self.sent: list[bytes] = []
        self.refuse = False
        self.trouble: Trouble | None = None
        self.holds = 0
        eyes = Eyes(lambda: self.record, lambda camera: self.frame, lambda camera: self.trouble)
        self.worker = Worker(
            bundle.policy, bundle.manifest, eyes, self.send, self.clock, 60, {"pid": 1}, self.hold
        )
        self.look(600)

    def send(self, payload: bytes) -> None:
        if self.refuse:
            raise CommandError("nobody listens", code="unreachable")
        self.sent.append(payload)

    def hold(self) -> None:
        self.holds += 1

    def look(self, tick: int, run_id: int = 3, source: str = "policy") -> None:
        self.record["tick"], self.record["time_s"] = tick, self.clock.time_s
        self.record["source"] = SOURCES.index(source)
        self.record["mode"], self.record["run_id"] = MODES.index("running"), run_id
        self.record["position"] = np.arange(6)
        self.frame = Frame(np.full((HEIGHT, WIDTH, 3), 100, np.uint8), self.clock.time_s, tick)

    def ask(self, **command: object) -> dict[str, object]:
        return self.worker.command(to_json(command))


@pytest.fixture
def scene(bundle_folder) -> Scene:  # type: ignore[no-untyped-def]
    return Scene(bundle_folder)


def test_a_chunk_is_stamped_with_the_tick_it_was_seen_at(scene: Scene) -> None:
    assert not scene.worker.step()
    assert scene.worker.status()["state"] == "idle"
    assert scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, -0.1]) == {"ok": True}
    assert scene.worker.step()
    message = unpack_chunk(scene.sent[0])
    assert (message.run_id, message.tick, message.fps) == (3, 600, 30.0)
    np.testing.assert_allclose(message.actions[0], np.arange(6) + 1.0 + 0.25, atol=1e-4)
    status = scene.worker.status()
    assert status["state"] == "running" and status["chunks"] == 1 and status["pid"] == 1
    assert status["latency_ms"]["median"] > 0
    assert scene.ask(op="end") == {"ok": True}
    scene.clock.time_s += 1
    scene.look(660)
    assert not scene.worker.step()


def test_once_per_policy_step_and_only_for_a_new_tick(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    count = 0
    for k in range(60):
        scene.clock.time_s += 1 / 60
        scene.look(601 + k)
        count += scene.worker.step()
        assert not scene.worker.step()
    assert 28 <= count <= 31


def test_a_stale_camera_stops_the_chunks_and_is_named(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    old = scene.frame
    scene.clock.time_s += 0.25
    scene.look(615)
    scene.frame = old
    assert not scene.worker.step()
    assert "camera wrist is stale" in scene.worker.status()["waiting"]
    scene.look(616)
    assert scene.worker.step()
    assert scene.worker.status()["waiting"] is None
    scene.clock.time_s += 0.1
    scene.look(622)
    scene.frame = None
    assert not scene.worker.step()
    assert "no picture from camera wrist" in scene.worker.status()["waiting"]


def test_late_pictures_pause_the_arm_and_the_run_goes_on_with_the_next(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()
    for k in range(6):  # 0.2 to 0.45 s without a new picture
        old = scene.frame
        scene.clock.time_s += 0.21 if k == 0 else 0.04
        scene.look(613 + k)
        scene.frame = old
        assert not scene.worker.step()
    assert len(unpack_chunk(scene.sent[0]).actions) > 0
    assert [len(unpack_chunk(sent).actions) for sent in scene.sent[1:]] == [0]
    assert (scene.holds, scene.worker.status()["blind"]) == (0, None)
    scene.clock.time_s += 0.02
    scene.look(630)
    assert scene.worker.step()
    assert scene.worker.status()["waiting"] is None


def test_no_picture_for_half_a_second_ends_the_run(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()
    old = scene.frame
    scene.clock.time_s += 0.51
    scene.look(631)
    scene.frame = old
    assert not scene.worker.step()
    assert scene.holds == 0  # first the reason, then the hold
    blind = scene.worker.status()["blind"]
    assert blind["code"] == "camera_stale" and "camera wrist" in blind["message"]
    scene.clock.time_s += 0.003
    scene.look(632)
    for _ in range(3):
        assert not scene.worker.step()
    assert scene.holds == 1
    assert [len(unpack_chunk(sent).actions) for sent in scene.sent[1:]] == [0]


def test_a_camera_that_is_not_trusted_ends_the_run_until_the_next_one_begins(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()
    scene.trouble = Trouble("camera_frozen", "camera wrist repeats one picture")
    assert not scene.worker.step()  # between two policy steps: it does not wait for the next
    assert len(unpack_chunk(scene.sent[-1]).actions) == 0
    scene.trouble = None
    for k in range(10):
        scene.clock.time_s += 0.05
        scene.look(603 + 3 * k)
        assert not scene.worker.step()
    assert scene.holds == 1 and len(scene.sent) == 2
    scene.clock.time_s += 0.1
    scene.look(640, run_id=4)
    assert scene.ask(op="begin", run_id=4, pickup_xy_m=[0.25, 0])["ok"]
    assert scene.worker.status()["blind"] is None
    assert scene.worker.step()


def test_an_arm_that_does_not_execute_the_run_is_not_told_to_hold(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.trouble = Trouble("camera_lost", "camera wrist gives no pictures any more")
    scene.look(601, run_id=2)
    for _ in range(3):
        assert not scene.worker.step()
    assert scene.holds == 0
    scene.look(602)
    assert not scene.worker.step()
    assert scene.holds == 1


def test_no_run_begins_on_a_camera_that_is_not_trusted(scene: Scene) -> None:
    scene.trouble = Trouble("camera_black", "camera wrist gives black pictures")
    answer = scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert answer == {"ok": False, "code": "camera_black", "message": "camera wrist gives black pictures"}
    assert scene.worker.status()["state"] == "idle"


def test_no_chunks_without_a_controller_that_executes_the_run(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.look(601, run_id=2)
    assert not scene.worker.step()
    assert "not executing" in scene.worker.status()["waiting"]
    scene.look(602)
    scene.record["state_age_ticks"] = 1
    assert not scene.worker.step()
    scene.record["state_age_ticks"] = 0
    scene.clock.time_s += 0.15
    assert not scene.worker.step()
    assert "no telemetry" in scene.worker.status()["waiting"]
    scene.look(603)
    assert scene.worker.step()
    scene.clock.time_s += 2.5
    assert not scene.worker.step()
    assert scene.worker.status()["state"] == "idle"


def test_a_chunk_that_nobody_takes_is_counted(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.refuse = True
    assert not scene.worker.step()
    assert scene.worker.undelivered == 1
    assert scene.worker.chunks == 0


def test_a_policy_error_ends_in_the_state_error(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.frame = Frame(np.zeros((4, 4, 3), np.uint8), scene.clock.time_s, 1)
    assert not scene.worker.step()
    status = scene.worker.status()
    assert status["state"] == "error" and "camera wrist" in status["error"]
    scene.look(620)
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{", "malformed"),
        (b'{"op":"fly"}', "unknown_op"),
        (b'{"op":"begin"}', "bad_argument"),
        (b'{"op":"begin","run_id":true,"pickup_xy_m":[0,0]}', "bad_argument"),
        (b'{"op":"begin","run_id":1,"pickup_xy_m":[0]}', "bad_argument"),
        (b'{"op":"begin","run_id":1,"pickup_xy_m":["a",0]}', "bad_argument"),
        (b'{"op":"begin","run_id":1,"pickup_xy_m":[NaN,0]}', "malformed"),
        (b'{"op":"begin","run_id":1,"pickup_xy_m":[1e3,0]}', "bad_argument"),
        (b'{"op":"begin","run_id":1,"pickup_xy_m":[0,0],"speed":2}', "bad_argument"),
    ],
)
def test_wrong_commands_are_refused(scene: Scene, payload: bytes, code: str) -> None:
    answer = scene.worker.command(payload)
    assert answer["ok"] is False and answer["code"] == code and answer["message"]
    assert scene.worker.status()["state"] == "idle"


@pytest.mark.parametrize("source", ["leader", "teleop"])
def test_a_person_who_drives_is_given_no_chunks_and_the_run_is_kept(scene: Scene, source: str) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()
    scene.refuse = True
    for k in range(40):
        scene.clock.time_s += ORPHAN_S / 10
        scene.look(700 + 12 * k, source=source)
        assert not scene.worker.step()
    status = scene.worker.status()
    assert status["run_id"] == 3 and "person drives" in status["waiting"]
    assert (status["chunks"], status["undelivered"], len(scene.sent)) == (1, 0, 1)
    scene.refuse = False
    assert scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0]) == {"ok": True}
    assert not scene.worker.step()  # it has begun anew, and a person still drives
    scene.clock.time_s += 1 / 60
    scene.look(2000)
    assert scene.worker.step()
    assert unpack_chunk(scene.sent[-1]).tick == 2000 and scene.worker.status()["waiting"] is None


def test_a_camera_that_is_blind_while_a_person_drives_ends_nothing(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert scene.worker.step()
    scene.trouble = Trouble("camera_frozen", "camera wrist is frozen")
    for k in range(30):
        scene.clock.time_s += 0.05
        scene.look(620 + 3 * k, source="leader")
        assert not scene.worker.step()
    assert scene.holds == 0 and scene.worker.status()["blind"] is None
    answer = scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    assert (answer["ok"], answer["code"]) == (False, "camera_frozen")


def test_a_camera_that_was_blind_before_a_person_took_over_is_forgotten(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.trouble = Trouble("camera_frozen", "camera wrist is frozen")
    scene.worker.step()
    assert scene.worker.status()["blind"] is not None
    scene.clock.time_s += 1 / 60
    scene.look(601, source="teleop")
    scene.trouble = None
    assert not scene.worker.step()
    assert scene.holds == 0 and scene.worker.status()["blind"] is None


def test_a_run_whose_controller_died_in_a_persons_hands_is_given_up(scene: Scene) -> None:
    scene.ask(op="begin", run_id=3, pickup_xy_m=[0.25, 0])
    scene.look(601, source="teleop")
    assert not scene.worker.step()
    for _ in range(10):
        scene.clock.time_s += ORPHAN_S / 8
        scene.worker.step()
    assert scene.worker.status()["run_id"] is None and scene.holds == 0
