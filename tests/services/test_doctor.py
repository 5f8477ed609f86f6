"""Seeded faults on the live twin: the doctor names each one's cause, and nothing beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from robot.bus import FeetechBus
from robot.config import config_root
from robot.joints import SERVO_IDS
from robot.registers import REGISTERS
from robot.twin.client import TwinProcess
from services.cli import app
from services.doctor import motion
from services.doctor.examine import Options, examine
from services.doctor.report import Finding, Report
from services.doctor.survey import sample

pytestmark = pytest.mark.live

ROBOTS = config_root() / "robots"
CALIBRATION = ROBOTS / "twin_calibration.json"
LEADERS = ROBOTS / "twin_leader_calibration.json"


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples enough to tell these faults, fewer than for a verdict on a cable or a camera."""
    monkeypatch.setattr("services.doctor.examine.sample", partial(sample, reads=80))
    monkeypatch.setattr("services.doctor.pictures.WATCH_S", 1.2)


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    """A twin that every test leaves as it was."""
    with TwinProcess(cameras=False) as twin:
        yield twin


@pytest.fixture(scope="module")
def filmed() -> Iterator[TwinProcess]:
    with TwinProcess() as twin:
        yield twin


def found(report: Report) -> list[Finding]:
    """What a report finds, without the answers that a busy machine lets come too late."""
    assert all(finding.message and finding.remedy for finding in report.findings)
    return [finding for finding in report.findings if finding.code != "bus_unreliable"]


def causes(report: Report) -> list[tuple[str, str | None, str | None]]:
    return [(finding.code, finding.joint or finding.camera, finding.arm) for finding in found(report)]


def look(twin: TwinProcess, **options: Any) -> Report:
    given = {"port": twin.by_id["follower"], "calibration": CALIBRATION} | options
    return examine(Options(**given))


def test_a_healthy_twin_is_well(twin: TwinProcess) -> None:
    report = look(twin, leader_port=twin.by_id["leader"], leader_calibration=LEADERS)
    assert causes(report) == []
    checked = {(check.name, check.arm) for check in report.checks}
    for name in (
        "servos",
        "firmware",
        "registers",
        "calibration",
        "supply",
        "temperature",
        "alarms",
        "latency",
    ):
        assert {(name, "follower"), (name, "leader")} <= checked


def muted(servo_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"kind": "mute", "servo_id": servo_id}, {"kind": "unmute", "servo_id": servo_id}


def register(servo_id: int, name: str, value: int, before: int) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = {"kind": "register", "servo_id": servo_id, "name": name}
    return kind | {"value": value}, kind | {"value": before}


OFFSET = json.loads(CALIBRATION.read_text())["shoulder_lift"]["homing_offset"]
FIRMWARE = REGISTERS["firmware_minor"].default

SEEDED: dict[str, tuple[list[tuple[dict[str, Any], dict[str, Any]]], tuple[str, str | None], str]] = {
    # what happens and how it is undone; code and joint; a word of the remedy
    "dead servo": ([muted(4)], ("servo_silent", "wrist_flex"), "from elbow_flex"),
    "cable": ([muted(4), muted(5), muted(6)], ("chain_broken", "wrist_flex"), "elbow_flex to wrist_flex"),
    "no power": ([muted(i) for i in range(1, 7)], ("no_servos", None), "supply"),
    "wrong id": (
        [
            (
                {"kind": "duplicate", "servo_id": 3, "value": 9},
                {"kind": "duplicate", "servo_id": 9, "value": 3},
            )
        ],
        ("wrong_id", "elbow_flex"),
        "setup-motors",
    ),
    "low supply": (
        [({"kind": "supply", "voltage_v": 5.1}, {"kind": "supply", "voltage_v": 7.4})],
        ("supply_low", None),
        "supply",
    ),
    "low supply that alarms": (
        [({"kind": "supply", "voltage_v": 3.8}, {"kind": "supply", "voltage_v": 7.4})],
        ("supply_low", None),
        "supply",
    ),
    "too much supply": (
        [({"kind": "supply", "voltage_v": 12.0}, {"kind": "supply", "voltage_v": 7.4})],
        ("supply_high", None),
        "supply",
    ),
    "hot servo": (
        [
            (
                {"kind": "heat", "servo_id": 2, "temperature_c": 75},
                {"kind": "heat", "servo_id": 2, "temperature_c": 25},
            )
        ],
        ("servo_hot", "shoulder_lift"),
        "cool",
    ),
    "unlocked": ([register(5, "lock", 0, 1)], ("eeprom_unlocked", "wrist_roll"), "supply off and on"),
    "wrong baud": (
        [
            (
                {"kind": "baud", "servo_id": 3, "value": 4},
                {"kind": "baud", "servo_id": 3, "value": 0},
            )
        ],
        ("wrong_baud", "elbow_flex"),
        "setup-motors",
    ),
    "foreign calibration": (
        [register(2, "homing_offset", 123, OFFSET)],
        ("calibration_foreign", "shoulder_lift"),
        "calibrate arm",
    ),
    "overload": (
        [({"kind": "overload", "servo_id": 2}, {"kind": "reboot", "servo_id": 2})],
        ("overload_latched", "shoulder_lift"),
        "torque off and on",
    ),
    "wrong model": (
        [({"kind": "model", "servo_id": 2, "value": 1}, {"kind": "model", "servo_id": 2, "value": 777})],
        ("wrong_model", "shoulder_lift"),
        "STS3215",
    ),
    "not set up": ([register(6, "max_torque", 1000, 500)], ("register_wrong", "gripper"), "setup-motors"),
    "firmware": (
        [register(1, "firmware_minor", FIRMWARE - 1, FIRMWARE)],
        ("firmware_differs", "shoulder_pan"),
        "one version",
    ),
    "slow adapter": (
        [({"kind": "delay", "delay_ms": 16}, {"kind": "delay", "delay_ms": 0})],
        ("bus_slow", None),
        "USB port",
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_fault_is_named_and_nothing_else_is(twin: TwinProcess, name: str) -> None:
    events, (code, joint), remedy = SEEDED[name]
    for event, _ in events:
        twin.fault(**event)
    try:
        report = look(twin)
    finally:
        for _, undo in events:
            twin.fault(**undo)
    assert causes(report) == [(code, joint, "follower")]
    assert remedy in found(report)[0].remedy


def test_a_bad_cable_is_named_and_nothing_else_is(twin: TwinProcess) -> None:
    twin.fault("unreliable", lose_share=0.03, corrupt_share=0.03)
    try:
        report = look(twin)
    finally:
        twin.fault("unreliable", lose_share=0.0, corrupt_share=0.0)
    assert causes(report) == []
    (finding,) = report.findings
    assert (finding.code, finding.arm) == ("bus_unreliable", "follower")
    assert "plugs" in finding.remedy


def test_two_servos_with_one_id() -> None:
    with TwinProcess(cameras=False) as twin:
        twin.fault("duplicate", servo_id=3, value=2)
        report = look(twin)
    assert causes(report) == [("wrong_id", "elbow_flex", "follower")]
    assert "id 2" in found(report)[0].message


def test_a_single_wild_temperature_is_none(twin: TwinProcess) -> None:
    twin.fault("glitch", servo_id=3, temperature_c=92, count=3)
    assert causes(look(twin)) == []


@pytest.mark.parametrize("leader_too", [True, False])
def test_arms_that_changed_places_are_one_finding(twin: TwinProcess, leader_too: bool) -> None:
    twin.fault("swap")
    try:
        leader = {"leader_port": twin.by_id["leader"], "leader_calibration": LEADERS} if leader_too else {}
        report = look(twin, **leader)
    finally:
        twin.fault("swap")
    assert causes(report) == [("arms_swapped", None, "follower")]
    assert "leader_port" in found(report)[0].remedy


def test_files_that_are_no_calibration(twin: TwinProcess, tmp_path: Path) -> None:
    assert causes(look(twin, calibration=tmp_path / "none.json")) == [
        ("calibration_missing", None, "follower")
    ]
    old = tmp_path / "old.json"
    old.write_text('{"calib_mode": []}')
    assert causes(look(twin, calibration=old)) == [("calibration_unreadable", None, "follower")]


def test_an_arm_from_the_factory_is_not_calibrated_and_not_set_up() -> None:
    with TwinProcess(cameras=False, factory=True) as twin:
        for joint, servo_id in reversed(SERVO_IDS.items()):
            twin.plug("follower", [joint])
            twin.fault("duplicate", servo_id=1, value=servo_id)
        twin.plug("follower", None)
        report = look(twin, calibration=None)
    assert {code for code, _, _ in causes(report)} == {"calibration_missing", "register_wrong"}


@pytest.mark.parametrize(
    ("event", "code", "camera"),
    [
        (None, None, None),
        ({"kind": "camera_slow", "camera": "wrist", "fps": 15}, "camera_slow", "wrist"),
        ({"kind": "camera_black", "camera": "overhead"}, "camera_black", "overhead"),
        ({"kind": "camera_swap"}, "camera_swapped", "wrist"),
        ({"kind": "camera_unplug", "camera": "wrist"}, "camera_lost", "wrist"),
    ],
)
def test_cameras(filmed: TwinProcess, event: dict[str, Any] | None, code: str | None, camera: str) -> None:
    try:
        if event is not None:
            filmed.fault(**event)
        report = look(filmed, cameras=filmed.cameras)
    finally:
        filmed.fault("camera_ok")
    assert causes(report) == ([] if code is None else [(code, camera, None)])
    assert [check.camera for check in report.checks if check.name == "camera"] == ["wrist", "overhead"]


# -- the command -------------------------------------------------------------------------------------------


def command(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "services.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_json_and_exit_status_with_raw_port_names(twin: TwinProcess) -> None:
    arguments = ("--port", twin.follower, "--calibration", str(CALIBRATION), "--json")
    well = command(*arguments)
    assert well.returncode == 0, well.stdout + well.stderr
    assert json.loads(well.stdout)["ok"] is True and json.loads(well.stdout)["findings"] == []
    twin.fault("mute", servo_id=6)
    try:
        ill = command(*arguments)
        human = CliRunner().invoke(app, ["doctor", *arguments[:-1]])
    finally:
        twin.fault("unmute", servo_id=6)
    assert ill.returncode == 1 and ill.stderr == ""
    told = json.loads(ill.stdout)
    assert not told["ok"]
    (finding,) = (one for one in told["findings"] if one["code"] != "bus_unreliable")
    assert (finding["code"], finding["joint"]) == ("servo_silent", "gripper")
    assert finding["message"] and finding["remedy"]
    assert human.exit_code == 1 and "servo_silent" in human.stdout and "remedy" in human.stdout


def test_nothing_is_written_to_a_servo(twin: TwinProcess) -> None:
    """What can be written, present values apart: the goals and the torque, too."""

    def written() -> list[bytes]:
        with FeetechBus(twin.by_id["follower"], margin_s=0.5) as bus:
            return [bus.read_block(i, 0, 56) for i in SERVO_IDS.values()]

    before = written()
    look(twin)
    assert written() == before


def test_a_move_measures_play_and_leaves_the_arm_limp(
    twin: TwinProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion, "SETTLE_S", 0.2)
    monkeypatch.setattr(motion, "SPEED", 50.0)
    report = look(twin, move=True)
    assert causes(report) == []
    (play,) = [check.values["degrees"] for check in report.checks if check.name == "backlash"]
    assert len(play) >= 3 and all(0.0 <= degrees < 5.0 for degrees in play.values())
    with FeetechBus(twin.follower) as bus:
        assert [bus.read(i, "torque_enable") for i in SERVO_IDS.values()] == [0] * 6
    assert any(goal["arm"] == "follower" for goal in twin.goal_log())


def test_a_port_without_permission(twin: TwinProcess) -> None:
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root is bound by file modes once it has given up this capability
        before = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
        able = shutil.which("setpriv") and subprocess.run([*before, "true"], capture_output=True, check=False)
        if not able or able.returncode != 0:
            pytest.skip("no setpriv that may give up a capability")
    mode = Path(twin.leader).stat().st_mode
    Path(twin.leader).chmod(0)
    try:
        run = command("--leader-port", twin.leader, "--json", before=before)
    finally:
        Path(twin.leader).chmod(mode)
    assert run.returncode == 1, run.stderr
    (finding,) = json.loads(run.stdout)["findings"]
    assert finding["code"] == "port_permission" and finding["arm"] == "leader"
    assert "so101 ports --install" in finding["remedy"]


def test_a_port_in_use_names_its_owner(twin: TwinProcess) -> None:
    hold = (
        "import sys, time\nfrom robot.port import SerialPort\n"
        "port = SerialPort(sys.argv[1])\nprint(1, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, twin.follower], stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline()
            report = look(twin)
        finally:
            owner.kill()
    assert causes(report) == [("port_busy", None, "follower")]
    assert f"pid {owner.pid}" in found(report)[0].message


def test_a_port_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for port, why in (("ttyACM9", "there is no port"), ("", "no serial port"), ("file", "no serial port")):
        report = examine(Options(port=str(tmp_path / port)))
        assert causes(report) == [("port_missing", None, "follower")]
        assert why in found(report)[0].message and "`so101 ports`" in found(report)[0].remedy


@pytest.mark.parametrize("arguments", [("--camera", "wrist"), ("--camera", "Wrist cam=x"), ("--prt", "x")])
def test_a_wrong_option_is_exit_2(arguments: tuple[str, ...]) -> None:
    run = command(*arguments)
    assert run.returncode == 2 and "Traceback" not in run.stderr


def test_a_robot_that_is_not_there_is_one_line() -> None:
    run = command("--robot", "no-such-robot")
    assert run.returncode == 1 and run.stderr.startswith("so101: ") and "Traceback" not in run.stderr


GIVEN = (r'(?:find|advise|Finding)\(\s*"([a-z_]+)"', r'StatusBit\.\w+,\s*"([a-z_]+)"', r'code = "([a-z_]+)"')
"""How the doctor's sources say a code."""


def test_every_code_is_documented() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [*(root / "services" / "doctor").glob("*.py"), root / "robot" / "camera_health.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    codes = {code for pattern in GIVEN for code in re.findall(pattern, text)} | set(motion._CODES.values())
    codes -= {"camera_stale"}  # of a service, whose camera is open all the time
    assert codes > {code for _, (code, _), _ in SEEDED.values()}
    documented = (root / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in documented} == set()
    rows = " ".join(re.findall(r"^\| (`.*?) \|", documented, flags=re.MULTILINE))
    assert {code for code in re.findall("`([a-z_]+)`", rows) if f'"{code}"' not in text} == set()
