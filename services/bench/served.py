"""A whole service on the live twin, as a newcomer starts it, and pickups through its HTTP API."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot.errors import TwinError
from robot.twin.tasks import PickPlace

START_TIMEOUT_S = 120.0
PICKUP_TIMEOUT_S = 60.0
UP = ("ready:", "up,")
"""How the line begins that says where the service is: without, and with a fault to clear."""


class Served:
    """HTTP calls to a running service; answers are decoded JSON."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call.

        Raises:
            TwinError: it was refused; the message is the problem's detail.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=10.0) as answer:  # noqa: S310
                decoded: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise TwinError(
                f"{method} {path}: {error.code} {error.read().decode(errors='replace')}"
            ) from error
        return decoded

    def until(self, mode: str, timeout_s: float = 20.0) -> None:
        """Wait for a mode of the arm. Raises TwinError when it does not come."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if self.call("GET", "/v1/state")["mode"] == mode:
                return
            time.sleep(0.05)
        raise TwinError(f"the arm did not come to mode {mode} within {timeout_s:.0f} s")

    def start(self) -> None:
        """Energise, and wait until the arm is at its ready pose."""
        self.call("POST", "/v1/start")
        self.until("ready")

    def pickup(self, x_m: float, y_m: float) -> dict[str, Any]:
        """One pickup to its end. Raises TwinError when it has none."""
        pickup = self.call("POST", "/v1/pickups", {"x_m": x_m, "y_m": y_m})
        deadline_s = time.monotonic() + PICKUP_TIMEOUT_S
        while time.monotonic() < deadline_s:
            pickup = self.call("GET", f"/v1/pickups/{pickup['id']}")
            if pickup["status"] not in ("queued", "running"):
                return pickup
            time.sleep(0.05)
        raise TwinError(f"pickup {pickup['id']} did not end within {PICKUP_TIMEOUT_S:.0f} s")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def served(
    robot: str = "twin", policy: Path | None = None, seed: int = 0, execution: str | None = None
) -> Iterator[Served]:
    """Start ``so101 serve`` on a free port, wait until it is ready, end it afterwards.

    A fault that a busy machine has latched meanwhile is cleared.

    Robot, policy, seed and execution are its options.

    Raises:
        TwinError: it did not become ready; the message holds its last words.
    """
    arguments = ["serve", "--robot", robot, "--seed", str(seed)]
    arguments += [] if policy is None else ["--policy", str(policy)]
    arguments += [] if execution is None else ["--execution", execution]
    with started(arguments) as service:
        yield service


@contextlib.contextmanager
def started(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run a command of ``so101`` that serves, on a free port, as :func:`served` does.

    Args:
        arguments: the command and its options, without the port.
        environment: more of it.

    Raises:
        TwinError: it did not become ready; the message holds its last words.
    """
    port = free_port()
    command = [sys.executable, "-m", "services.cli", *arguments, "--port", str(port)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    output = process.stdout
    if output is None:
        raise TwinError("the service has no output")

    def listen() -> None:
        with output:
            for line in output:
                lines.put(line)

    threading.Thread(target=listen, daemon=True).start()
    try:
        said: list[str] = []
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not any(line.startswith(UP) for line in said):
            try:
                said.append(lines.get(timeout=0.2))
            except queue.Empty:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise TwinError("the service did not become ready: " + "".join(said[-8:])) from None
        service = Served(port)
        if said[-1].startswith(UP[1]):
            service.call("POST", "/v1/faults/clear")
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(25.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bench_pickups(policy: Path | None, trials: int, seed: int, execution: str | None) -> dict[str, Any]:
    """Pickups at random points of the field, one after the other, through HTTP on the live twin.

    Of ``in_bowl``, ``within_limit`` are those whose run took at most the task's time limit, by which trials
    in lockstep are judged; the service gives a run more. A run's time is without the looks before and after.

    Raises:
        TwinError: the service did not start, or a call was refused.
    """
    from training.evaluation import wilson_95

    task, results = PickPlace(), []
    with served(policy=policy, execution=execution) as service:
        service.start()
        for number in range(trials):
            place = task.place(np.random.default_rng([seed, number]))
            cube = {"x_m": place.x_m, "y_m": place.y_m, "yaw_rad": place.yaw_rad}
            service.call("PUT", "/v1/twin", {"cube": cube})
            pickup = service.pickup(place.x_m, place.y_m)
            truth = bool(service.call("GET", "/v1/twin")["cube_in_bowl"])
            results.append((pickup, truth))
            if service.call("GET", "/v1/state")["mode"] == "fault":
                service.call("POST", "/v1/faults/clear")
            if service.call("GET", "/v1/state")["mode"] != "ready":
                service.start()
        state = service.call("GET", "/v1/state")
    wins = sum(truth for _, truth in results)
    seconds = [pickup["evidence"].get("elapsed_s", math.inf) for pickup, _ in results]
    said = [pickup["status"] == "succeeded" for pickup, _ in results]
    return {
        "pickups": trials,
        "in_bowl": wins,
        "within_limit": sum(
            truth and elapsed_s <= task.time_limit_s
            for elapsed_s, (_, truth) in zip(seconds, results, strict=True)
        ),
        "wilson_95": list(wilson_95(wins, trials)),
        "service_agrees": sum(a == truth for a, (_, truth) in zip(said, results, strict=True)),
        "median_duration_s": float(
            np.median([pickup.get("duration_s") or math.nan for pickup, _ in results])
        ),
        "failures": [pickup for pickup, truth in results if not truth or pickup["status"] != "succeeded"],
        "control": state["control"],
        "policy": state["policy"],
    }
