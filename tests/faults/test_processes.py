"""The controller killed, stopped and confused about the time; calibrations that are not this arm's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.bus import FeetechBus
from robot.calibration_file import load_calibration
from robot.joints import SERVO_IDS
from robot.recording.reader import Dataset
from robot.telemetry import MODES
from robot.twin.client import TwinProcess
from services.shipped import ROOT, policies_root
from tests.rig import CONFIG, FOLDER, Rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

CALIBRATION = FOLDER / CONFIG.calibration


def test_a_killed_controller_leaves_the_arm_holding_and_its_successor_moves_nothing(
    rig: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    rig.start()
    rig.wave()
    rig.end(signal.SIGKILL)
    killed_s = time.monotonic()
    time.sleep(0.3)
    with FeetechBus(twin.follower, margin_s=0.5) as bus:
        ticks = [bus.read(servo_id, "present_position") for servo_id in SERVO_IDS.values()]
    before = load_calibration(CALIBRATION).to_user(np.array(ticks))
    rig.launch()
    rig.until_mode("hold")
    measured["driven again_ms"] = round(1e3 * (time.monotonic() - killed_s))
    time.sleep(0.5)
    assert rig.goals_since(killed_s + 0.1) == []  # nobody but a person moves it again
    assert MODES[int(rig.newest()["mode"])] == "hold"
    assert np.abs(rig.newest()["position"] - before).max() < 2.0


def test_a_controller_that_stood_still_does_not_make_up_for_lost_ticks(rig: Rig) -> None:
    rig.start()
    rig.wave(10.0)
    assert rig.process is not None
    since = int(rig.newest()["tick"])
    os.kill(rig.process.pid, signal.SIGSTOP)
    time.sleep(0.7)
    os.kill(rig.process.pid, signal.SIGCONT)
    time.sleep(1.0)
    records = rig.records(since)
    assert np.diff([int(record["tick"]) for record in records]).max() >= 30
    goals = np.array([record["goal"] for record in records])
    most = CONFIG.gate.max_velocity.array() * CONFIG.dt_s
    assert (np.abs(np.diff(goals, axis=0)) <= most + 1e-6).all()
    assert records[-1]["missed"] >= 30


def test_a_wall_clock_that_jumps_is_not_noticed(rig: Rig, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the clock with")
    shim, jump = tmp_path / "clock_jump.so", tmp_path / "jump"
    source = Path(__file__).with_name("clock_jump.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "CLOCK_JUMP_S": str(jump)}
    jump.write_text("3600")
    told = [sys.executable, "-c", "import time; print(time.time())"]
    # The clock that jumps is the one that Python reads.
    assert float(subprocess.check_output(told, env=environment)) > time.time() + 3000
    jump.write_text("0")
    rig.end()
    rig.launch({"LD_PRELOAD": str(shim), "CLOCK_JUMP_S": str(jump)})
    rig.start()
    rig.wave(8.0)
    since = int(rig.newest()["tick"])
    with rig.heartbeats():
        for seconds in ("3600", "-3600", "86400"):
            jump.write_text(seconds)
            time.sleep(0.5)
    assert rig.mode == "running" and rig.codes == {}
    assert np.diff([record["time_s"] for record in rig.records(since)]).min() > 0
    rig.end()


@pytest.mark.parametrize("damage", ["absent", "foreign", "half", "old schema"])
def test_an_arm_without_its_own_calibration_is_not_energised(
    tmp_path: Path, twin: TwinProcess, stack: Rig, damage: str
) -> None:
    if stack.process is not None:
        stack.end()  # the port is this test's
    twin.reset()
    content = json.loads(CALIBRATION.read_text())
    path = tmp_path / "arm.json"
    if damage == "foreign":
        content["elbow_flex"]["homing_offset"] += 120
        path.write_text(json.dumps(content))
    elif damage == "half":
        path.write_text(json.dumps(content)[:200])
    elif damage == "old schema":
        path.write_text(json.dumps({"homing_offset": [0] * 6, "calib_mode": ["DEGREE"] * 6}))
    robot = tmp_path / "arm.yaml"
    shipped = (FOLDER / "twin.yaml").read_text()
    robot.write_text(shipped.replace(f"calibration: {CONFIG.calibration}", "calibration: arm.json"))
    rig = Rig(tmp_path, twin, str(robot))
    since_s = time.monotonic()
    try:
        rig.launch()
        rig.until_mode("fault")
        (fault,) = rig.status()["faults"]
        assert "so101 calibrate arm" in fault["message"] + fault["remedy"], fault
        assert not rig.ask(op="start")["ok"]
        assert rig.goals_since(since_s) == []
    finally:
        rig.close()


def test_a_damaged_bundle_is_refused_by_name_before_anything_is_started(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(policies_root() / "pick_place", bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["joints"][0], manifest["joints"][1] = manifest["joints"][1], manifest["joints"][0]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    serve = subprocess.run(
        [sys.executable, "-m", "services.cli", "serve", "--policy", str(bundle), "--port", port],
        cwd=ROOT, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert serve.returncode == 1
    assert "joints" in serve.stderr and "Traceback" not in serve.stderr, serve.stderr


def test_a_recording_that_is_killed_keeps_every_finished_episode(tmp_path: Path) -> None:
    out = tmp_path / "episodes"
    info = out / "meta" / "info.json"
    command = [sys.executable, "-m", "services.cli", "record", "--episodes", "20", "--seed", "5"]
    command += ["--image-size", "64x48", "--out", str(out)]
    recording = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 60.0
        while not info.is_file() or json.loads(info.read_text())["total_episodes"] < 2:
            assert recording.poll() is None and time.monotonic() < end_s
            time.sleep(0.05)
        time.sleep(0.3)  # into the next one
    finally:
        recording.kill()
        recording.wait()
    dataset = Dataset(out)
    frames = [len(dataset.load(number)["action"]) for number in range(len(dataset.episodes))]
    assert 2 <= len(frames) < 20 and all(count > 10 for count in frames)
    assert sum(frames) == dataset.total_frames
