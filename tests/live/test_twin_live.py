"""The live gait as a process: what it says, how it keeps time, what goes wrong on request, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot.bus import FeetechBus
from robot.calibration_file import Calibration, parse_calibration
from robot.errors import PortError, ServoError, TwinError
from robot.port import SerialPort
from robot.servo_arm import ServoArm
from robot.twin.camera_server import NICE
from robot.twin.client import TwinProcess
from robot.twin.world import twin_calibration

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
SLOW_MACHINE_S = 0.5


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False) as twin:
        yield twin
        assert twin.errors() == ""


@pytest.fixture
def arm(twin: TwinProcess, calibration: Calibration) -> Iterator[ServoArm]:
    arm = ServoArm.connect(twin.follower, calibration, margin_s=SLOW_MACHINE_S)
    yield arm
    arm.close()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return parse_calibration(twin_calibration(), "twin_calibration.json")


def until(reached: Callable[[], bool], limit_s: float = 30.0) -> bool:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if reached():
            return True
        time.sleep(0.05)
    return False


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_description_has_what_the_contract_says(twin: TwinProcess) -> None:
    description = twin.description
    assert set(description) == {"follower", "leader", "by_id", "cameras", "control", "pid"}
    assert description["pid"] == twin.pid
    assert description["follower"] != description["leader"]
    assert Path(description["control"]).is_socket()


def test_world_runs_in_real_time(twin: TwinProcess) -> None:
    before, start_s = twin.truth(), time.monotonic()
    time.sleep(1.0)
    after, elapsed_s = twin.truth(), time.monotonic() - start_s
    lived_s = after["time_s"] - before["time_s"] + after["skipped_s"] - before["skipped_s"]
    assert lived_s == pytest.approx(elapsed_s, abs=0.15)


def test_stall_is_skipped_and_not_made_up_for(twin: TwinProcess) -> None:
    before, start_s = twin.truth(), time.monotonic()
    os.kill(twin.pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(twin.pid, signal.SIGCONT)
    time.sleep(0.3)
    after, elapsed_s = twin.truth(), time.monotonic() - start_s
    assert after["skipped_s"] - before["skipped_s"] > 0.8
    assert after["time_s"] - before["time_s"] < elapsed_s - 0.8


def test_enabled_arm_stays_and_goes_where_it_is_told(arm: ServoArm) -> None:
    before = arm.read().position
    held = arm.enable()
    time.sleep(0.3)
    np.testing.assert_allclose(arm.read().position, held, atol=4.0)  # degrees of sag
    np.testing.assert_allclose(held, before, atol=4.0)
    goal = held.copy()
    goal[0] = 25.0
    assert until(lambda: (arm.write(goal), abs(arm.read().position[0] - 25.0) < 2.0)[1])
    state = arm.read()
    assert (state.status == 0).all()
    assert state.voltage_v == pytest.approx(np.full(6, 7.4), abs=0.5)
    arm.release()
    assert not arm.torque_enabled()


def test_things_are_placed(twin: TwinProcess) -> None:
    cube = twin.place_cube(0.21, -0.05)["cube"]
    assert (cube["x_m"], cube["y_m"]) == pytest.approx((0.21, -0.05), abs=1e-6)
    assert twin.truth()["confuser"] is None
    assert twin.place_confuser(0.25, 0.1)["confuser"] is not None
    assert twin.remove_confuser()["confuser"] is None
    assert twin.reset()["cube"]["y_m"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("place_cube", {"x_m": 5.0, "y_m": 0.0}),
        ("place_cube", {"x_m": 0.2}),
        ("place_cube", {"x_m": 0.2, "y_m": 0.0, "z_m": 0.1}),
        ("place_cube", {"x_m": "far", "y_m": 0.0}),
        ("leader", {"user": [0.0]}),
        ("leader", {}),
        ("fault", {"kind": "melt"}),
        ("explode", {}),
    ],
)
def test_impossible_commands_are_refused_and_it_lives_on(twin: TwinProcess, op: str, values: dict) -> None:
    before_s = twin.truth()["time_s"]
    with pytest.raises(TwinError, match="refused"):
        twin._do(op, **values)
    assert until(lambda: twin.truth()["time_s"] > before_s)


def test_muted_servo_is_named_by_the_arm(twin: TwinProcess, calibration: Calibration) -> None:
    arm = ServoArm.connect(twin.follower, calibration, margin_s=SLOW_MACHINE_S)
    twin.fault("mute", servo_id=4)
    arm.bus.margin_s = 0.05
    with pytest.raises(ServoError, match="wrist_flex"):
        arm.read()
    twin.fault("unmute", servo_id=4)
    arm.bus.margin_s = SLOW_MACHINE_S
    arm.read()
    arm.close()


def test_port_of_a_killed_client_is_free_again(twin: TwinProcess) -> None:
    script = "import sys, time\nfrom robot.port import SerialPort\nport = SerialPort(sys.argv[1])\n"
    script += "sys.stdout.write('open\\n')\nsys.stdout.flush()\ntime.sleep(600)\n"
    client = subprocess.Popen([sys.executable, "-c", script, twin.leader], stdout=subprocess.PIPE, cwd=ROOT)
    assert client.stdout is not None
    assert client.stdout.readline() == b"open\n"
    with pytest.raises(PortError, match=f"pid {client.pid}"):
        SerialPort(twin.leader)
    client.kill()
    client.wait()
    client.stdout.close()

    def opens() -> bool:
        try:
            SerialPort(twin.leader).close()
        except PortError:
            return False
        return True

    assert until(opens)


def test_half_a_request_does_not_spoil_the_next_client(twin: TwinProcess) -> None:
    port = SerialPort(twin.leader)
    port.write(b"\xff\xff\x01\xf0\x83")
    port.close()
    time.sleep(0.1)
    with FeetechBus(twin.leader, margin_s=SLOW_MACHINE_S) as bus:
        assert bus.ping(1) == 0


def test_script_of_faults(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {at_s: 0.0, kind: mute, servo_id: 2}\n")
    with TwinProcess(cameras=False, faults=path) as twin, FeetechBus(twin.follower, margin_s=0.1) as bus:
        assert until(lambda: bus.sync_read((1, 2, 3), 56, 2).missing == (2,))


def test_broken_script_of_faults_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {kind: melt}\n")
    with pytest.raises(TwinError, match=r"did not start.*kind"):
        TwinProcess(cameras=False, faults=path)


def test_unplugged_when_it_ends_and_nothing_is_left(calibration: Calibration) -> None:
    twin = TwinProcess(cameras=False)
    arm = ServoArm.connect(twin.follower, calibration, margin_s=SLOW_MACHINE_S)
    folder = Path(twin.description["control"]).parent
    segments = list(Path("/dev/shm").glob(f"{folder.name}*"))
    assert segments
    twin.close()
    with pytest.raises(PortError):
        arm.read()
    arm.close()
    assert twin.process.returncode == 0
    assert not folder.exists()
    assert not any(segment.exists() for segment in segments)


def test_a_start_that_waits_for_its_cameras_can_be_interrupted(tmp_path: Path) -> None:
    hang = "import sys, time\nif 'robot.twin.camera_server' in sys.orig_argv:\n    time.sleep(600)\n"
    (tmp_path / "sitecustomize.py").write_text(hang)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    twin = subprocess.Popen(
        [sys.executable, "-m", "robot.twin.live"],
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
    )
    children = Path(f"/proc/{twin.pid}/task/{twin.pid}/children")
    assert until(lambda: bool(children.read_text()))
    cameras = int(children.read_text())
    (folder,) = tmp_path.glob("so101-twin-*")
    assert list(Path("/dev/shm").glob(f"{folder.name}*"))
    twin.terminate()
    assert twin.wait(30) == 0
    assert gone(cameras)
    assert not folder.exists()
    assert not list(Path("/dev/shm").glob(f"{folder.name}*"))


def test_twin_does_not_outlive_its_parent() -> None:
    script = (
        "import sys, time\nfrom robot.twin.client import TwinProcess\n"
        "twin = TwinProcess()\nsys.stdout.write(f'{twin.pid}\\n')\nsys.stdout.flush()\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    cameras = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(cameras) == 1
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: gone(pid) and gone(cameras[0]))


def test_cameras_show_the_world() -> None:
    with TwinProcess() as twin:
        assert set(twin.cameras) == {"wrist", "overhead"}
        capture = cv2.VideoCapture(twin.cameras["overhead"], cv2.CAP_FFMPEG)
        assert capture.isOpened()

        def picture() -> np.ndarray:
            ok, image = capture.read()
            assert ok
            return image.astype(np.int16)

        before = picture()
        assert before.shape == (480, 640, 3)
        assert before.std() > 5
        twin.place_cube(0.3, 0.15)
        assert until(lambda: np.abs(picture() - before).max() > 100)
        wrist = cv2.VideoCapture(twin.cameras["wrist"], cv2.CAP_FFMPEG)
        ok, image = wrist.read()
        assert ok
        assert image.shape == (480, 640, 3)
        wrist.release()
        capture.release()
        # Killed, what renders comes back under the same address; the servos do not notice.
        children = Path(f"/proc/{twin.pid}/task/{twin.pid}/children")
        former = int(children.read_text())
        assert os.getpriority(os.PRIO_PROCESS, former) == os.getpriority(os.PRIO_PROCESS, 0) + NICE
        os.kill(former, signal.SIGKILL)
        assert until(lambda: children.read_text().split() not in ([], [str(former)]))
        assert "started again" in twin.errors()

        def opens() -> bool:
            capture.open(twin.cameras["overhead"], cv2.CAP_FFMPEG)
            return capture.isOpened()

        assert until(opens)
        assert picture().std() > 5
        capture.release()


def test_first_line_of_the_command_is_the_description() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "twin", "--no-cameras"], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b'{"follower": "/dev/pts/')
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout.read() == b""
    process.stdout.close()
