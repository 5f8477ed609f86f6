"""How chunks of actions become one target per control tick.

All arrays are on control ticks: a chunk that was observed at tick s says where the arm shall be at ticks
s, s + 1, and so on. One that arrives at tick n changes only ticks from n on, and none whose target has
been given out. Three ways:

* ``ensemble``: each tick is the weighted mean of all chunks that cover it, as in ACT (Zhao et al. 2023);
* ``receding``: one chunk is followed for ``actions_per_inference`` steps, then the newest takes over;
* ``open_loop``: one chunk is followed to its end, where the newest takes over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robot.config import Finite, StrictModel
from robot.joints import N_JOINTS
from robot.seams import FloatArray


class ExecutionConfig(StrictModel, use_attribute_docstrings=True):
    """How chunks become targets."""

    mode: Literal["ensemble", "open_loop", "receding"] = "receding"
    """Mean of all chunks, one chunk to its end, or the newest chunk every few steps."""
    m: Finite = 0.01
    """Ensembling weights exp(-m i), i = 0 the oldest: above 0 favours older predictions."""
    actions_per_inference: int = Field(default=16, ge=1)
    """Receding: steps of a chunk (at the policy's fps) before the newest takes over."""
    blend_s: float = Field(default=0.1, ge=0.0, le=1.0)
    """Receding and open loop: time over which the old chunk fades into the new one, while it lasts."""


class Executor(Protocol):
    """Takes chunks when they arrive and says where the arm shall be."""

    @property
    def newest(self) -> int | None:
        """Tick of the observation of the newest chunk that was taken."""

    def wants(self, tick: int, latency_ticks: int) -> bool:
        """Whether a chunk observed now that arrives ``latency_ticks`` later could change a target.

        Only saves inferences where these are made on demand; unwanted chunks do no harm.
        """

    def add(self, observed: int, now: int, chunk: NDArray[Any]) -> bool:
        """Take a chunk.

        Args:
            observed: tick of its observation.
            now: tick at which it arrived; earlier ticks are left alone.
            chunk: (M, width), one row per control tick, the first for ``observed``: joint goals in user
                units, or places of the tool in metres.

        Returns:
            Whether it was taken. One that is not finite, of another shape, or already over is dropped whole.
        """

    def target(self, tick: int) -> FloatArray | None:
        """Target of a tick, shape (width,); ``None`` where no chunk covers it. Ticks must not go back."""


def resample_chunk(chunk: NDArray[Any], fps: float, control_hz: float) -> FloatArray:
    """A chunk at ``fps`` steps per second, on control ticks, linearly between its steps.

    Control tick j has chunk time ``j * fps / control_hz``; the last tick is not after the last step.

    Args:
        chunk: (K, width).
        fps: steps of the chunk per second.
        control_hz: control ticks per second.

    Returns:
        (M, width) float64 with M = floor((K - 1) * control_hz / fps) + 1.
    """
    steps = len(chunk)
    # The small number keeps a tick that is on the last step from falling behind it by rounding.
    count = math.floor((steps - 1) * control_hz / fps + 1e-9) + 1
    at = np.minimum(np.arange(count) * (fps / control_hz), steps - 1)
    before: NDArray[np.int64] = np.minimum(at.astype(np.int64), max(0, steps - 2))
    after = np.minimum(before + 1, steps - 1)
    share = (at - before)[:, None]
    values = np.asarray(chunk, dtype=np.float64)
    resampled: FloatArray = values[before] * (1.0 - share) + values[after] * share
    return resampled


class TemporalEnsembler:
    """Weighted mean of all chunks that cover a tick, w_i = exp(-m i) with i = 0 for the first that came.

    Per future tick it keeps the weighted sum S, the sum of weights W and the count n; a chunk adds
    exp(-m n) A to S and exp(-m n) to W and counts n up, so the cost does not depend on how many there were.
    With a chunk in every tick and no delay this is the definition of the ACT paper.
    """

    def __init__(self, m: float = 0.01, width: int = N_JOINTS) -> None:
        self._m = m
        self._width = width
        self._first = 0
        """Tick of row 0."""
        self._sum = np.zeros((0, width))
        self._weight = np.zeros(0)
        self._count = np.zeros(0)
        self._given: int | None = None
        self._newest: int | None = None

    @property
    def newest(self) -> int | None:
        """See Executor."""
        return self._newest

    def wants(self, tick: int, latency_ticks: int) -> bool:
        """See Executor: always."""
        return True

    def add(self, observed: int, now: int, chunk: NDArray[Any]) -> bool:
        """See Executor."""
        earliest = now if self._given is None else max(now, self._given + 1)
        if not _usable(chunk, self._width) or max(observed, earliest) >= observed + len(chunk):
            return False
        self._keep_from(earliest)
        start = max(observed, self._first)
        values = np.asarray(chunk, dtype=np.float64)[start - observed :]
        begin, end = start - self._first, start - self._first + len(values)
        self._grow(end)
        weight = np.exp(-self._m * self._count[begin:end])
        self._sum[begin:end] += weight[:, None] * values
        self._weight[begin:end] += weight
        self._count[begin:end] += 1
        self._newest = observed if self._newest is None else max(observed, self._newest)
        return True

    def target(self, tick: int) -> FloatArray | None:
        """See Executor."""
        self._given = tick if self._given is None else max(tick, self._given)
        self._keep_from(tick)
        if not len(self._weight) or self._first != tick or self._weight[0] == 0:
            return None
        mean: FloatArray = self._sum[0] / self._weight[0]
        return mean

    def _keep_from(self, tick: int) -> None:
        """Forget ticks before ``tick``; with nothing kept, the rows begin there."""
        if not len(self._weight):
            self._first = tick
        over = min(tick - self._first, len(self._weight))
        if over > 0:
            self._first += over
            self._sum, self._weight, self._count = self._sum[over:], self._weight[over:], self._count[over:]
        if not len(self._weight):
            self._first = tick

    def _grow(self, rows: int) -> None:
        more = rows - len(self._weight)
        if more > 0:
            self._sum = np.concatenate([self._sum, np.zeros((more, self._width))])
            self._weight = np.concatenate([self._weight, np.zeros(more)])
            self._count = np.concatenate([self._count, np.zeros(more)])


class _Chunk:
    """A chunk and the ticks it covers."""

    __slots__ = ("end", "observed", "values")

    def __init__(self, observed: int, values: NDArray[Any]) -> None:
        self.observed = observed
        self.values = np.asarray(values, dtype=np.float64)
        self.end = observed + len(values)

    def at(self, tick: int) -> FloatArray:
        """Value at a tick that is covered."""
        value: FloatArray = self.values[tick - self.observed]
        return value


class RecedingHorizon:
    """Follows one chunk for some ticks, then the newest; the seam is a linear cross-fade.

    Beyond its end a chunk says nothing: to fade from its last value would brake the arm. So the fade begins
    early enough to be over at the old chunk's end, and is shorter where the new chunk comes too late.

    Args:
        horizon_ticks: ticks for which a chunk is followed; ``None`` is to its end (open loop). A chunk
            without successor is followed to its end.
        blend_ticks: length of the cross-fade.
        period_ticks: ticks between two observations that could be asked for (see ``wants``).
        width: numbers in a target.
    """

    def __init__(
        self,
        horizon_ticks: int | None,
        blend_ticks: int = 0,
        period_ticks: int = 1,
        width: int = N_JOINTS,
    ) -> None:
        self._width = width
        self._horizon = horizon_ticks
        self._blend = blend_ticks
        self._period = period_ticks
        self._current: _Chunk | None = None
        self._previous: _Chunk | None = None
        self._pending: _Chunk | None = None
        self._since = 0
        """First tick at which the current chunk was followed."""
        self._fade = 0
        """Ticks over which the previous chunk fades into the current one."""
        self._given: int | None = None

    @property
    def newest(self) -> int | None:
        """See Executor."""
        newest = self._pending or self._current
        return None if newest is None else newest.observed

    def wants(self, tick: int, latency_ticks: int) -> bool:
        """See Executor: only a chunk that is the newest when the present one has been followed."""
        return self._current is None or tick + latency_ticks + self._period > self._switch(self._current)

    def add(self, observed: int, now: int, chunk: NDArray[Any]) -> bool:
        """See Executor; also one that is not newer than the newest is dropped."""
        start = max(observed, now, -1 if self._given is None else self._given + 1)
        newest = self.newest
        if (
            not _usable(chunk, self._width)
            or start >= observed + len(chunk)
            or (newest is not None and observed <= newest)
        ):
            return False
        self._pending = _Chunk(observed, chunk)
        return True

    def target(self, tick: int) -> FloatArray | None:
        """See Executor."""
        unbroken = self._given is not None and tick == self._given + 1
        pending, current = self._pending, self._current
        if (
            pending is not None
            and tick >= pending.observed
            and (current is None or tick >= self._switch(current))
        ):
            self._pending = None
            if tick < pending.end:
                # After a gap the arm is not on the old chunk any more: there is nothing to fade from.
                self._previous = current if unbroken else None
                self._fade = 0 if current is None else min(self._blend, current.end - tick)
                self._current, self._since = pending, tick
        current = self._current
        self._given = tick if self._given is None else max(tick, self._given)
        if current is None or tick >= current.end:
            return None
        fade = tick - self._since + 1
        if self._previous is None or fade > self._fade:
            self._previous = None
            return current.at(tick).copy()
        share = fade / (self._fade + 1)
        return (1.0 - share) * self._previous.at(tick) + share * current.at(tick)

    def _switch(self, current: _Chunk) -> int:
        """Tick from which the newest chunk takes over."""
        # Not before the last fade is over: chunks shorter than two fades would never be followed.
        last = min(current.end, max(current.end - self._blend, self._since + self._blend))
        return last if self._horizon is None else min(last, self._since + self._horizon)


def make_executor(config: ExecutionConfig, control_hz: float, fps: float, width: int = N_JOINTS) -> Executor:
    """The executor of a configuration.

    Args:
        config: how chunks become targets.
        control_hz: control ticks per second.
        fps: steps of a chunk per second.
        width: numbers in a target.
    """
    makers: dict[str, Callable[[], Executor]] = {
        "ensemble": lambda: TemporalEnsembler(config.m, width),
        "receding": lambda: RecedingHorizon(
            max(1, round(config.actions_per_inference * control_hz / fps)), blend, period, width
        ),
        "open_loop": lambda: RecedingHorizon(None, blend, period, width),
    }
    blend, period = round(config.blend_s * control_hz), max(1, round(control_hz / fps))
    return makers[config.mode]()


def _usable(chunk: NDArray[Any], width: int) -> bool:
    return chunk.ndim == 2 and chunk.shape[1] == width and len(chunk) > 0 and bool(np.isfinite(chunk).all())
