from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from served_bus import ServedBus

from robot.bus import FeetechBus
from robot.calibration_file import parse_calibration
from robot.config import config_root
from robot.eeprom import SetupBus
from robot.errors import CalibrationError
from robot.fingerprint import Identity, KnownArm, identify, known_arms, read_servos, role_of
from robot.joints import SERVO_IDS
from robot.twin.world import twin_calibration

SHIPPED = config_root() / "robots" / "twin_calibration.json"


def known(role: str = "follower", **changed: int) -> KnownArm:
    raw = twin_calibration()
    raw["elbow_flex"] |= changed
    return KnownArm(parse_calibration(raw, "x"), Path("x.json"), role)  # type: ignore[arg-type]


def told(served: ServedBus, arms: list[KnownArm]) -> Identity:
    with FeetechBus(served.path, margin_s=0.02) as bus:
        servos = read_servos(bus)
        return identify(servos, arms, illegible=bus.counters.dropped_bytes > 0)


def test_an_arm_is_told_by_the_file_that_its_servos_hold(served: ServedBus) -> None:
    wrong = known("leader", homing_offset=1511)  # one tick in one joint is another arm
    identity = told(served, [wrong, known()])
    assert (identity.role, identity.files) == ("follower", ("x.json",))


def test_files_that_disagree_about_the_role_leave_it_open(served: ServedBus) -> None:
    assert told(served, [known("leader"), known("follower")]).role == "unknown"
    assert told(served, [known("leader"), known("unknown")]).role == "leader"


def test_without_a_file_the_grippers_limits_tell_a_follower(served: ServedBus) -> None:
    assert told(served, []).role == "follower"
    with SetupBus(served.path, margin_s=0.02) as bus:
        bus.write_eeprom(6, "max_torque", 1000)
        assert identify(read_servos(bus), []).evidence == "calibrated, but no file known here agrees"
        for servo_id in SERVO_IDS.values():
            bus.write_eeprom(servo_id, "homing_offset", 0)
        identity = identify(read_servos(bus), [])
    assert (identity.role, identity.evidence) == ("unknown", "not calibrated yet")


def test_half_an_arm_and_none_are_named(served: ServedBus) -> None:
    served.bank.plug({0, 1, 2})
    assert "wrist_flex, wrist_roll, gripper not found" in told(served, [known()]).evidence
    served.bank.plug(())
    assert "is the arm's supply on" in told(served, [known()]).evidence


def test_servos_that_share_an_id_are_not_taken_for_none(served: ServedBus) -> None:
    served.bank.force(2, "id", 1)
    assert "4 of 6 servos found, and something answers illegibly" in told(served, [known()]).evidence
    for servo_id in (3, 4, 5, 6):
        served.bank.force(servo_id, "id", 1)
    evidence = told(served, [known()]).evidence
    assert evidence.startswith("something answers illegibly") and "`so101 setup-motors`" in evidence


def test_an_adapters_echo_is_nothing_that_answers(served: ServedBus) -> None:
    served.faults.echo = True
    served.bank.plug(())
    assert "is the arm's supply on" in told(served, [known()]).evidence


def test_servos_with_other_ids_are_found_too(served: ServedBus) -> None:
    served.bank.force(4, "id", 40)
    with FeetechBus(served.path, margin_s=0.02) as bus:
        servos = read_servos(bus)
    assert [servo.servo_id for servo in servos] == [1, 2, 3, 5, 6, 40]
    assert {(servo.firmware, round(servo.voltage_v, 1)) for servo in servos} == {("3.10", 7.4)}


def test_looking_changes_nothing(served: ServedBus) -> None:
    written: list[int] = []
    write = served.bank.write_slot

    def noted(slot: int, address: int, data: bytes) -> None:
        written.append(slot)
        write(slot, address, data)

    served.bank.write_slot = noted  # type: ignore[method-assign]
    told(served, [known()])
    assert written == []


def test_files_are_looked_for_where_lerobot_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    for folder in ("robots/so_follower", "teleoperators/so_leader"):
        (tmp_path / folder).mkdir(parents=True)
        raw = twin_calibration()
        raw["gripper"]["range_max"] += len(folder)
        (tmp_path / folder / "blue.json").write_text(json.dumps(raw), encoding="utf-8")
    (tmp_path / "robots/so_follower/old.json").write_text('{"calib_mode": []}', encoding="utf-8")
    arms = {str(arm.path): arm.role for arm in known_arms()}
    assert arms[str(tmp_path / "robots/so_follower/blue.json")] == "follower"
    assert arms[str(tmp_path / "teleoperators/so_leader/blue.json")] == "leader"
    assert arms[str(SHIPPED)] == "follower"
    assert arms[str(SHIPPED.with_name("twin_leader_calibration.json"))] == "leader"
    assert len(arms) == 4


def test_a_file_that_was_named_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "none"))
    mine = tmp_path / "my_leader.json"
    shutil.copy(SHIPPED, mine)
    assert known_arms([mine])[0].role == "leader"
    mine.write_text("{", encoding="utf-8")
    with pytest.raises(CalibrationError, match="no readable JSON"):
        known_arms([mine])


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/x/robots/so_follower/a.json", "follower"),
        ("/x/teleoperators/koch/a.json", "leader"),
        ("/x/robots/blue_leader.json", "leader"),
        ("/x/y/a.json", "unknown"),
    ],
)
def test_role_by_place(path: str, role: str) -> None:
    assert role_of(Path(path)) == role
