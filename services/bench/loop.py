"""Lateness of control ticks while everything else runs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from robot.errors import TwinError
from robot.seams import FloatArray
from robot.twin.tasks import PickPlace
from services.bench.robot_file import twin_at
from services.bench.served import Served, served

RESTART_S = 0.3
"""Pause before the arm is started again after a refusal."""


def bench_loop(hz: int | None, seconds: float, execution: str | None, plot: Path | None) -> dict[str, Any]:
    """Run the service and pickups on the live twin; collect every tick's lateness over the WebSocket.

    Meanwhile a client asks for ``/v1/state`` 50 times a second, as a busy dashboard would. ``pickups`` in the
    result says how many came to their end meanwhile.

    Raises:
        TwinError: the service did not start, or no tick was seen.
    """
    with twin_at(hz) as robot, served(robot, execution=execution) as service:
        service.start()
        stop = threading.Event()
        finished: list[str] = []
        workers = [
            threading.Thread(target=_pick, args=(service, stop, finished)),
            threading.Thread(target=_ask, args=(service, stop)),
        ]
        for worker in workers:
            worker.start()
        try:
            rate, ticks, lateness_ms = _collect(service.port, seconds)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
    if len(lateness_ms) == 0:
        raise TwinError("no tick was seen on the telemetry socket")
    p50, p99, p999 = np.percentile(lateness_ms, (50, 99, 99.9))
    if plot is not None:
        _plot(lateness_ms, rate, plot)
    return {
        "hz": rate,
        "ticks": len(lateness_ms),
        "lateness_ms": {
            "p50": float(p50),
            "p99": float(p99),
            "p999": float(p999),
            "max": float(lateness_ms.max()),
        },
        "missed": int(ticks[-1] - ticks[0] + 1 - len(ticks)),
        "pickups": len(finished),
    }


def _collect(port: int, seconds: float) -> tuple[float, list[int], FloatArray]:
    ticks: list[int] = []
    lateness_ms: list[float] = []
    with connect(f"ws://127.0.0.1:{port}/v1/telemetry?hz=500") as stream:
        rate = float(json.loads(stream.recv())["control_hz"])
        until_s = time.monotonic() + seconds
        with contextlib.suppress(ConnectionClosed):
            while time.monotonic() < until_s:
                record = json.loads(stream.recv(timeout=5.0))
                if not ticks or record["tick"] > ticks[-1]:
                    ticks.append(int(record["tick"]))
                    lateness_ms.append(float(record["lateness_ms"]))
    return rate, ticks, np.array(lateness_ms)


def _pick(service: Served, stop: threading.Event, finished: list[str]) -> None:
    """Pickups one after the other, and a new start after one that was refused: an idle arm measures nothing.

    Args:
        service: takes them.
        stop: ends this after the present pickup.
        finished: gets the status of each that came to its end.
    """
    rng, task = np.random.default_rng(0), PickPlace()
    while not stop.is_set():
        place = task.place(rng)
        try:
            cube = {"x_m": place.x_m, "y_m": place.y_m}
            service.call("PUT", "/v1/twin", {"cube": cube})
            finished.append(str(service.pickup(place.x_m, place.y_m)["status"]))
        except (TwinError, OSError):
            stop.wait(RESTART_S)
            with contextlib.suppress(TwinError, OSError):
                service.call("POST", "/v1/faults/clear")
            with contextlib.suppress(TwinError, OSError):
                service.start()


def _ask(service: Served, stop: threading.Event) -> None:
    """A busy reader."""
    while not stop.wait(0.02):
        with contextlib.suppress(TwinError, OSError):
            service.call("GET", "/v1/state")


def _plot(lateness_ms: FloatArray, hz: float, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.hist(np.clip(lateness_ms, 0, 5), bins=100, color="#2a6fbb")
    axes.set(xlabel="lateness of a tick, ms (above 5 in the last bar)", ylabel="ticks", yscale="log")
    axes.set_title(f"{len(lateness_ms)} ticks at {hz:.0f} Hz, p99 {np.percentile(lateness_ms, 99):.2f} ms")
    figure.savefig(path, dpi=130)
    plt.close(figure)
