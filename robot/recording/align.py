"""Rows at a steady rate from inputs that come when they come: pictures, and the controller's ticks.

Row k of an episode stands at t0 + k / fps on the monotonic clock. Of each camera it has the newest picture
that was captured at or before that time, which is what a policy would have seen; state and goal are
interpolated between the ticks around it. A row is made once every camera and the servos have brought
something later: from then on nothing can come that belongs into it. So no row is guessed, none taken back.

Nothing here looks at a clock or waits. All times are seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.camera_health import measured_fps
from robot.seams import ByteArray, FloatArray, Frame
from robot.telemetry import Record

PICTURE_GAP_S = 0.5
"""A row has no picture older than this: a camera that shows nothing for longer ends the episode."""
TICK_GAP_S = 0.25
"""The same for what the servos said; it is the silence after which the controller latches a fault."""
TIMES_KEPT = 60
"""Capture times by which a camera's rate and phase are known: two seconds at 30 a second."""
_PHASES = 64
"""Places within a row's period that are looked at for t0: half a millisecond apart at 30 a second."""
_STRAY = 0.1
"""Share of captures that may come closer to a row than the rest, out of their rhythm."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an episode. Vectors have shape (6,), user units."""

    time_s: float
    state: FloatArray
    goal: FloatArray
    """What was sent to the servos."""
    images: Mapping[str, ByteArray]
    """Camera name -> RGB uint8 (height, width, 3)."""
    ages_s: Mapping[str, float]
    """Camera name -> time since its picture was captured."""
    repeated: tuple[str, ...]
    """Cameras whose picture is that of the row before."""
    state_age_s: float
    """Time since the newest tick in which the servos were read."""
    tick: Record
    """The newest tick at or before the row: its mode, run and source held then."""


class Aligner:
    """Keeps what has come, and makes the rows of one episode after the other from it.

    Args:
        cameras: whose pictures every row has.
        fps: rows per second.
    """

    def __init__(self, cameras: Sequence[str], fps: float) -> None:
        self._fps = fps
        self._frames: dict[str, deque[Frame]] = {name: deque() for name in cameras}
        self._times_s: dict[str, deque[float]] = {name: deque(maxlen=TIMES_KEPT) for name in cameras}
        self._ticks: deque[Record] = deque()
        self._reads: deque[Record] = deque()
        self._looked_s: dict[str, float] = dict.fromkeys(cameras, -math.inf)
        self._ticks_looked_s = -math.inf
        self._used: dict[str, int] = {}
        self._start_s, self._rows, self._end_s = math.inf, 0, math.inf
        self._keep_s = math.inf
        self.gap: str | None = None
        """Why no more rows of this episode can be made; ``None``: they can."""

    # -- what comes ------------------------------------------------------------------------------------------

    def add_frames(self, camera: str, frames: Iterable[Frame], looked_s: float) -> None:
        """Take a camera's next pictures: all that it had by ``looked_s``, in order.

        Their indices grow by one, but where pictures were lost on the way.
        """
        for frame in frames:
            self._frames[camera].append(frame)
            self._times_s[camera].append(frame.time_s)
        self._looked_s[camera] = looked_s

    def add_ticks(self, records: Iterable[Record], looked_s: float) -> None:
        """Take the next ticks: all that the controller had published by ``looked_s``, in order."""
        for record in records:
            self._ticks.append(record)
            if int(record["state_age_ticks"]) == 0:
                self._reads.append(record)
        self._ticks_looked_s = looked_s

    @property
    def newest_tick(self) -> Record | None:
        """The newest tick; ``None`` before the first."""
        return self._ticks[-1] if self._ticks else None

    def fps_of(self, camera: str) -> float:
        """Measured rate of a camera's newest pictures; 0 where it is not known."""
        return measured_fps(self._times_s[camera])

    def age_s(self, camera: str) -> float | None:
        """How long a camera had shown nothing new when it was looked at last; ``None`` before its first."""
        frames = self._frames[camera]
        return self._looked_s[camera] - frames[-1].time_s if frames else None

    def missing(self) -> str | None:
        """Which input is silent, in words; ``None`` where all go on."""
        for camera in self._frames:
            age_s = self.age_s(camera)
            if age_s is None:
                return f"camera {camera} has shown nothing yet"
            if age_s > PICTURE_GAP_S:
                return f"camera {camera} has shown nothing new for {age_s:.1f} s"
        if not self._reads:
            return "the controller has not read the servos yet"
        for records, what in ((self._ticks, "the controller says"), (self._reads, "the servos say")):
            age_s = self._ticks_looked_s - float(records[-1]["time_s"])
            if age_s > TICK_GAP_S:
                return f"{what} nothing for {age_s:.1f} s"
        return None

    # -- one episode -----------------------------------------------------------------------------------------

    @property
    def next_s(self) -> float:
        """Time of the next row; infinity between two episodes."""
        return self._start_s + self._rows / self._fps

    @property
    def done(self) -> bool:
        """Whether all rows of the episode were made that can be."""
        return self.gap is not None or self.next_s > self._end_s

    def begin(self, after_s: float) -> float:
        """Begin an episode; returns the time of its first row, within a period after ``after_s``.

        Of all such times it is the one that is farthest from when pictures are captured: what jitters by less
        repeats no picture and leaves none out.
        """
        period_s = 1.0 / self._fps
        phase_s = _clear_phase_s([np.array(times) for times in self._times_s.values()], period_s)
        self._start_s = after_s + (phase_s - after_s) % period_s
        self._rows, self._end_s, self._used, self.gap = 0, math.inf, {}, None
        self._keep_s = self._start_s
        return self._start_s

    def end(self, at_s: float) -> None:
        """No row after ``at_s``. What comes later is kept for an episode that begins there."""
        self._end_s = at_s
        self._keep_s = min(self._keep_s, at_s)

    def release(self) -> None:
        """No episode follows for now: only the newest inputs are kept."""
        self._start_s = self._keep_s = math.inf

    def rows(self) -> list[Row]:
        """The rows that can be made by now and were not yet."""
        made: list[Row] = []
        while not self.done and self._complete(self.next_s):
            row = self._row(self.next_s)
            if row is None:
                break
            made.append(row)
            self._rows += 1
            self._keep_s = min(self.next_s, self._end_s)
        self._forget()
        return made

    def _complete(self, time_s: float) -> bool:
        shown = all(frames and frames[-1].time_s > time_s for frames in self._frames.values())
        return shown and bool(self._reads) and float(self._reads[-1]["time_s"]) >= time_s

    def _row(self, time_s: float) -> Row | None:
        """The row at a time; ``None`` with ``gap`` set where an input had paused for too long."""
        chosen: dict[str, Frame] = {}
        for camera, frames in self._frames.items():
            frame, later = _newest(frames, time_s)
            if frame is None or time_s - frame.time_s > PICTURE_GAP_S:
                self.gap = f"camera {camera} showed nothing new for more than {PICTURE_GAP_S:g} s"
                return None
            if later is not None and later.index != frame.index + 1:
                self.gap = f"pictures of camera {camera} were lost: this machine does not keep up"
                return None
            chosen[camera] = frame
        before, after = _around(self._reads, time_s), _around(self._ticks, time_s)
        for pair in (before, after):
            if pair is None or float(pair[1]["time_s"]) - float(pair[0]["time_s"]) > TICK_GAP_S:
                self.gap = f"the servos were not read for more than {TICK_GAP_S:g} s"
                return None
        if before is None or after is None:
            return None
        repeated = tuple(name for name, frame in chosen.items() if self._used.get(name) == frame.index)
        self._used = {name: frame.index for name, frame in chosen.items()}
        return Row(
            time_s=time_s,
            state=_between(*before, "position", time_s),
            goal=_between(*after, "goal", time_s),
            images={name: frame.image for name, frame in chosen.items()},
            ages_s={name: time_s - frame.time_s for name, frame in chosen.items()},
            repeated=repeated,
            state_age_s=time_s - float(before[0]["time_s"]),
            tick=after[0],
        )

    def _forget(self) -> None:
        """Let go of all that no row to come can need."""
        for frames in self._frames.values():
            while len(frames) > 1 and frames[1].time_s <= self._keep_s:
                frames.popleft()
        for records in (self._ticks, self._reads):
            while len(records) > 1 and float(records[1]["time_s"]) <= self._keep_s:
                records.popleft()


def _newest(frames: Iterable[Frame], time_s: float) -> tuple[Frame | None, Frame | None]:
    """The newest picture at or before a time, and the one after it."""
    newest = None
    for frame in frames:
        if frame.time_s > time_s:
            return newest, frame
        newest = frame
    return newest, None


def _around(records: Sequence[Record], time_s: float) -> tuple[Record, Record] | None:
    """The last record at or before a time, and the first at or after it."""
    before = next((each for each in reversed(records) if float(each["time_s"]) <= time_s), None)
    after = next((each for each in records if float(each["time_s"]) >= time_s), None)
    return None if before is None or after is None else (before, after)


def _between(before: Record, after: Record, name: str, time_s: float) -> FloatArray:
    start_s, end_s = float(before["time_s"]), float(after["time_s"])
    share = (time_s - start_s) / (end_s - start_s) if end_s > start_s else 0.0
    value: FloatArray = before[name] + share * (after[name] - before[name])
    return value


def _clear_phase_s(times_s: Iterable[FloatArray], period_s: float) -> float:
    """The time within a period that most captures of every camera keep away from."""
    phases_s = np.arange(_PHASES) * period_s / _PHASES
    room_s = np.full(_PHASES, period_s)
    for captures_s in times_s:
        if captures_s.size:
            apart_s = (captures_s[None, :] - phases_s[:, None]) % period_s
            apart_s = np.minimum(apart_s, period_s - apart_s)
            room_s = np.minimum(room_s, np.quantile(apart_s, _STRAY, axis=1))
    return float(phases_s[np.argmax(room_s)])
