"""Recording at work: two cameras, a leader that is moved, no pause between episodes; and LeRobot's recorder.

Pictures come out of files, so that nobody's rendering counts. What is measured of ours is the command as a
person runs it, ``so101 record --teleop leader``, with API and dashboard up.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.errors import CommandError, TwinError
from robot.recording.reader import Dataset
from robot.runtime import Runtime
from robot.twin.client import TwinControl, TwinProcess
from services.bench.bus import lerobot_python
from services.bench.clips import make_clips, sway
from services.bench.record_peer import count_frames, record_with_lerobot
from services.bench.robot_file import twin_at
from services.bench.served import Served, started
from services.bench.ticks import Ticks, cpu_s, spread

WIDTH_PX, HEIGHT_PX, FPS = 640, 480, 30
ROUND_S = 6.0
"""Time in which the leader is led once around."""
LED_HZ = 50
POLL_S = 0.2
ENGAGED_S = 20.0
SLACK_S = 30.0
"""Longer than its episodes a recording may take, and no more."""
OWN_PROCESSES = ("controller", "cameras", "recorder")
"""They do what LeRobot does in one."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How long, and how fast."""

    minutes: float = 10.0
    episode_s: float = 20.0
    hz: int = 50
    codec: str = "h264"
    peer_minutes: float = 2.0
    """The same for each peer."""


def episodes_in(minutes: float, episode_s: float) -> int:
    """Episodes of so many minutes together; two at least, for the pause between them."""
    return max(2, round(60.0 * minutes / episode_s))


def bench_record(
    options: RecordOptions, python: Path | None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Record with ours and then with LeRobot's, which encodes while it records, or afterwards, its default.

    ``step_over_ms``: by how much the time between two steps of the loop that moves the arm differs from what
    it should be. ``lag_ms``: from what the leader was read to say to where the follower is.

    Args:
        options: how long and how fast; LeRobot's loop and its pictures have one rate, that of the pictures.
        python: interpreter that has LeRobot, see :func:`lerobot_python`.
        say: takes a line as each begins.

    Raises:
        TwinError: the recording did not come to its end; the message says why.
        ConfigError: ``python`` is no interpreter that has LeRobot.
    """
    python = lerobot_python(python)
    with tempfile.TemporaryDirectory(prefix="so101-bench-") as scratch:
        folder = Path(scratch)
        clips = make_clips(folder, WIDTH_PX, HEIGHT_PX, FPS)
        episodes = episodes_in(options.minutes, options.episode_s)
        say(f"so101: {episodes} episodes of {options.episode_s:g} s")
        ours = _ours(options, clips, folder)
        peers = {}
        for name, streaming in (("lerobot, streaming", True), ("lerobot, as it comes", False)):
            if python is not None:
                episodes = episodes_in(options.peer_minutes, options.episode_s)
                say(f"{name}: {episodes} episodes of {options.episode_s:g} s")
                with TwinProcess(cameras=False) as twin, led(twin):
                    peers[name] = record_with_lerobot(
                        twin, clips, folder / f"lerobot-{streaming:d}", python,
                        fps=FPS, episodes=episodes, episode_s=options.episode_s, streaming=streaming,
                    )  # fmt: skip
    return {**ours, "peers": peers}


def _ours(options: RecordOptions, clips: dict[str, Path], folder: Path) -> dict[str, Any]:
    out, runtimes = folder / "ours", folder / "run"
    episodes = episodes_in(options.minutes, options.episode_s)
    runtimes.mkdir()
    cameras = {
        camera: {"source": f"file:{path}", "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "fps": FPS}
        for camera, path in clips.items()
    }
    with twin_at(options.hz, cameras) as robot:
        command = [
            "record", "--robot", robot, "--teleop", "leader", "--task", "Follow the leader.",
            "--out", str(out), "--no-pickup", "--fps", str(FPS), "--codec", options.codec,
            "--episode-s", str(options.episode_s), "--reset-s", "0",
        ]  # fmt: skip
        with started(command, {"XDG_RUNTIME_DIR": str(runtimes)}) as service:
            (runtime,) = (Runtime(path) for path in runtimes.glob("so101-*"))
            description = json.loads(runtime.description.read_text(encoding="utf-8"))
            with led(TwinControl(description["twin"]["control"])):
                figures = _drive(service, runtime, options, episodes)
    dataset = Dataset(out)
    columns = [dataset.load(episode.index) for episode in dataset.episodes]
    rows = dataset.total_frames
    frames = {camera: count_frames(out, camera) for camera in clips}
    return {
        "hz": options.hz,
        "fps": FPS,
        "codec": options.codec,
        "episodes": len(columns),
        "rows": rows,
        "rows_short": episodes * round(options.episode_s * FPS) - rows,
        "frames_lost": sum(rows - count for count in frames.values()),
        **figures,
        "frame_age_ms": {
            camera: spread(np.concatenate([1e3 * column[f"timing.{camera}_age_s"] for column in columns]))
            for camera in clips
        },
        "megabytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6,
    }


def _drive(service: Served, runtime: Runtime, options: RecordOptions, episodes: int) -> dict[str, Any]:
    """Engage the leader, record all episodes, and say how it went."""
    service.start()
    service.call("POST", "/v1/teleop/start", {"source": "leader"})
    deadline_s = time.monotonic() + ENGAGED_S
    while not service.call("GET", "/v1/teleop")["engaged"]:
        if time.monotonic() > deadline_s:
            raise TwinError(f"the leader was not engaged within {ENGAGED_S:g} s")
        time.sleep(POLL_S)
    processes = service.call("GET", "/v1/state")["processes"]
    pids = [int(processes[name]["pid"]) for name in OWN_PROCESSES]
    begun_s, used_s = time.monotonic(), sum(map(cpu_s, pids))
    with Ticks(runtime) as ticks:
        pauses_ms = _record(service, episodes, options.episode_s)
    share = (sum(map(cpu_s, pids)) - used_s) / (time.monotonic() - begun_s)
    lag_ms = service.call("GET", "/v1/teleop")["lag_ms"]
    return {
        "lateness_ms": spread(ticks.lateness_ms),
        "ticks": len(ticks.time_s),
        "missed": ticks.missed,
        "step_over_ms": spread(np.abs(1e3 * np.diff(ticks.time_s) - 1e3 / options.hz)),
        "end_to_start_ms": spread(pauses_ms),
        "lag_ms": lag_ms,
        "cpu_share": share,
    }


def _record(service: Served, episodes: int, episode_s: float) -> list[float]:
    """All episodes, one after the other; the pauses between them in milliseconds. Raises TwinError."""
    pauses_ms: dict[int, float] = {}
    deadline_s = time.monotonic() + episodes * episode_s + SLACK_S
    service.call("POST", "/v1/recording/next", {})
    while True:
        status = service.call("GET", "/v1/recording")
        if status["end_to_start_ms"] is not None:
            pauses_ms[int(status["episode"])] = float(status["end_to_start_ms"])
        if status["committed"] >= episodes:
            service.call("POST", "/v1/recording/discard", {})  # the one after them, which has begun
            return list(pauses_ms.values())
        if status["state"] == "failed" or time.monotonic() > deadline_s:
            raise TwinError(f"the recording did not come to its end: {status['message']}")
        if status["last"] is not None and status["last"]["reason"] is not None:
            faults = [fault["message"] for fault in service.call("GET", "/v1/faults")["faults"]]
            raise TwinError("; ".join([f"an episode was stopped: {status['last']['reason']}", *faults]))
        time.sleep(POLL_S)


@contextlib.contextmanager
def led(twin: TwinControl) -> Iterator[None]:
    """A hand leads the leader round and round meanwhile."""
    stop, begun_s = threading.Event(), time.monotonic()

    def lead() -> None:
        while not stop.wait(1 / LED_HZ):
            with contextlib.suppress(CommandError):  # a twin that is held back for seconds goes on afterwards
                twin.hand("leader", sway((time.monotonic() - begun_s) / ROUND_S))

    thread = threading.Thread(target=lead)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
