from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.source import PolicySource
from robot.errors import SegmentError
from robot.frame_ring import FrameRing
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seams import ArmState
from robot.seqlock import SharedBlock
from robot.telemetry import MODES, TelemetryRing, empty_record
from services.supervisor import remove_leftovers
from tests.inference.toy import HEIGHT, WIDTH, driven_arm, write_bundle

pytestmark = pytest.mark.live
STATE = ArmState(0.0, *(np.zeros(6) for _ in range(6)), np.zeros(6, np.uint8))  # type: ignore[arg-type]


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    parent = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    made = Runtime.create(parent)
    yield made
    remove_leftovers(made)
    shutil.rmtree(parent)


@contextlib.contextmanager
def worker(runtime: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "services.processes.worker", str(runtime.folder)])
    try:
        yield process
        process.terminate()
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def status_when(
    runtime: Runtime, ready: Callable[[dict[str, Any]], bool], limit_s: float = 30
) -> dict[str, Any]:
    end_s = time.monotonic() + limit_s
    status: dict[str, Any] = {}
    while time.monotonic() < end_s:
        with contextlib.suppress(SegmentError):
            block = SharedBlock.attach(runtime.worker_status_name)
            status = json.loads(block.read() or b"{}")
            block.close()
            if ready(status):
                return status
        time.sleep(0.02)
    raise AssertionError(f"not seen in {limit_s} s, last status {status}")


def describe(runtime: Runtime, bundle: Path | None, robot: Path) -> None:
    content = {"robot": str(robot), "policy": None if bundle is None else str(bundle), "execution": {}}
    runtime.description.write_text(json.dumps(content))


def small_robot(folder: Path) -> Path:
    """The twin's configuration with one small camera."""
    import yaml

    from robot.config import config_root

    content = yaml.safe_load((config_root() / "robots" / "twin.yaml").read_text())
    content["cameras"] = [{"name": "wrist", "width_px": WIDTH, "height_px": HEIGHT}]
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_chunks_reach_the_source(runtime: Runtime, tmp_path: Path) -> None:
    describe(runtime, write_bundle(tmp_path / "bundle"), small_robot(tmp_path))
    telemetry = TelemetryRing.create(runtime.telemetry_name)
    frames = FrameRing.create(runtime.frame_name("wrist"), HEIGHT, WIDTH)
    source = PolicySource(runtime.chunk_socket, {"run_id": 5, "mode": "ensemble"}, driven_arm())
    client = MailboxClient(runtime.worker_socket)
    with worker(runtime) as process:
        status = status_when(runtime, lambda s: s.get("state") == "idle")
        assert status["pid"] == process.pid
        assert status["name"] == "toy" and status["provider"] == "cpu"
        assert client.ask({"op": "begin", "run_id": 5, "pickup_xy_m": [0.2, 0.0]}, 5)["ok"]
        record, target, tick = empty_record(), None, 1000
        record["mode"], record["run_id"] = MODES.index("running"), 5
        end_s = time.monotonic() + 20
        while target is None and time.monotonic() < end_s:
            tick += 1
            record["tick"], record["time_s"] = tick, time.monotonic()
            telemetry.append(record)
            frames.write(np.zeros((HEIGHT, WIDTH, 3), np.uint8), time.monotonic())
            target = source.target(tick, STATE)
            time.sleep(1 / 60)
        assert target is not None and 0.2 <= target[0] < 10
        assert status_when(runtime, lambda s: s.get("chunks", 0) > 0)["state"] == "running"
        assert client.ask({"op": "end"}, 5)["ok"]
        status_when(runtime, lambda s: s.get("state") == "idle")
    source.close()
    assert not runtime.worker_socket.exists()


def test_a_bundle_that_does_not_fit_is_told_and_not_run(runtime: Runtime, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes(b"damaged")
    describe(runtime, bundle, small_robot(tmp_path))
    with worker(runtime):
        status = status_when(runtime, lambda s: s.get("state") == "error")
        assert "model.onnx has sha256" in status["error"]
        answer = MailboxClient(runtime.worker_socket).ask(
            {"op": "begin", "run_id": 1, "pickup_xy_m": [0, 0]}, 5
        )
        assert answer["ok"] is False and answer["code"] == "policy_not_ready"
