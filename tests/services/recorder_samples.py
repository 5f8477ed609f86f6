"""A robot for the recorder's tests: what its cameras show and its servos say at every moment, and a clock."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from robot.config import RobotConfig, load_robot
from robot.errors import So101Error
from robot.recording.align import Aligner
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from robot.seams import Frame
from robot.telemetry import MODES, SOURCES, Record, empty_record
from services.recording.dataset import open_dataset
from services.recording.keeper import Keeper
from services.recording.options import PickupPoint, RecordingOptions
from services.recording.session import Session

HEIGHT, WIDTH = 32, 48
CAMERAS = {"wrist": 30.0, "overhead": 30.0}
HASH = "0123456789ab"
GB = 10**9


@functools.cache
def robot() -> RobotConfig:
    """The twin, with small pictures."""
    config, _ = load_robot("twin")
    small = tuple(c.model_copy(update={"width_px": WIDTH, "height_px": HEIGHT}) for c in config.cameras)
    return config.model_copy(update={"cameras": small})


def picture(number: int) -> np.ndarray:
    """A picture whose brightness tells its number, modulo 21, through any encoder."""
    return np.full((HEIGHT, WIDTH, 3), 20 + 10 * (number % 21), np.uint8)


def number_of(image: np.ndarray) -> int:
    """The number of a picture, modulo 21."""
    return round((float(image.mean()) - 20) / 10)


def record(time_s: float, mode: str = "running", source: str = "leader", run_id: int = 7) -> Record:
    """What the controller publishes at a time."""
    made = empty_record()
    made["tick"], made["time_s"], made["mode"] = round(time_s * 60), time_s, MODES.index(mode)
    made["source"], made["run_id"] = SOURCES.index(source), run_id
    made["position"] = 30 * np.sin(time_s + np.arange(6))
    made["goal"] = made["position"] + 1.0
    return made


def episodes(out: Path) -> list[int]:
    """Lengths of the episodes on the disk."""
    return [episode.length for episode in Dataset(out).episodes]


class Robot:
    """Inputs of a session: hands over what was captured since it was asked last."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.mode, self.source, self.run_id = "running", "leader", 7
        self.silent: set[str] = set()
        self.losing: set[str] = set()
        """Cameras of which every second picture is overwritten before it was read."""
        self._ticks = round(self.now_s * 60)
        self._frames = {name: round(self.now_s * 30) for name in CAMERAS}
        self._index = dict.fromkeys(CAMERAS, 0)

    def poll(self, aligner: Aligner) -> None:
        ticks = []
        while (self._ticks + 1) / 60 <= self.now_s:
            self._ticks += 1
            if "servos" not in self.silent:
                ticks.append(record(self._ticks / 60, self.mode, self.source, self.run_id))
        aligner.add_ticks(ticks, self.now_s)
        for place, name in enumerate(CAMERAS):
            frames = []
            while (self._frames[name] + 1) / 30 + 0.004 * place <= self.now_s:
                self._frames[name] += 1
                number = self._frames[name]
                if name not in self.silent:
                    self._index[name] += 1 + (name in self.losing)
                    frames.append(Frame(picture(number), number / 30 + 0.004 * place, self._index[name]))
            aligner.add_frames(name, frames, self.now_s)


def at_once(call: Callable[[], Any]) -> Future[Any]:
    """Does it, and returns what came of it."""
    future: Future[Any] = Future()
    try:
        future.set_result(call())
    except So101Error as error:
        future.set_exception(error)
    return future


class Recording:
    """A session on a robot, on a clock that is moved by hand."""

    def __init__(self, out: Path, **options: Any) -> None:
        self.robot = Robot()
        self.free = 50 * GB
        self.cube: PickupPoint | None = None
        self.options = RecordingOptions(out=out, task="pick up the cube", **{"codec": "h264", **options})
        self.writer: DatasetWriter | None = None
        self.keeper = Keeper(self._open, at_once, lambda: self.robot.now_s)
        self.session = Session(
            self.options, tuple(CAMERAS), self.robot, self.keeper, lambda: self.robot.now_s,
            lambda: self.free, self._find if options.pop("twin", False) else None,
        )  # fmt: skip

    def _open(self) -> DatasetWriter:
        self.writer = open_dataset(self.options, robot(), HASH)
        return self.writer

    def _find(self) -> PickupPoint:
        assert self.cube is not None
        return self.cube

    @property
    def state(self) -> str:
        return self.session.state

    def pass_time(self, seconds: float) -> None:
        """Let the clock run, in steps of the process's loop."""
        end_s = self.robot.now_s + seconds
        while self.robot.now_s < end_s - 1e-9:
            self.robot.now_s = min(self.robot.now_s + 0.01, end_s)
            self.session.poll()
            while self.session.episode is not None and self.session.episode.take.waiting > 20:
                time.sleep(0.001)  # the encoder's time is real

    def ready(self) -> Recording:
        """Until an episode can begin."""
        self.pass_time(0.5)
        return self

    def do(self, op: str, **body: Any) -> dict[str, Any]:
        """A command that is carried out."""
        answer = self.session.command({"op": op, **body})
        assert answer["ok"], answer
        return answer

    def refuse(self, op: str, **body: Any) -> dict[str, Any]:
        """A command that is not."""
        answer = self.session.command({"op": op, **body})
        assert not answer["ok"], answer
        return answer

    def end(self, longest_s: float = 1.0) -> None:
        """End the session; everything is on the disk afterwards."""
        self.do("stop")
        end_s = self.robot.now_s + longest_s
        while self.state != "ended":
            assert self.robot.now_s < end_s, self.session.message
            self.pass_time(0.05)
