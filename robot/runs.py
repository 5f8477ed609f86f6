"""The run that drives the arm: its source, what the source fails to do, and when the run must end.

A source is not the loop's own code. Whatever it raises, and whatever it keeps silent about, ends the run with
a fault that names it, and never the loop. A run that has ended says so in ``ended``; what the arm does then
is the business of :class:`robot.modes.Modes`.
"""

from __future__ import annotations

import logging
import reprlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from robot.config import RobotConfig
from robot.errors import CommandError, SourceError
from robot.joints import JOINTS
from robot.safety.faults import FaultBook, Finding, Severity
from robot.seams import ArmState, FloatArray, Source
from robot.sources import Aged, Closable, Ending, Teleoperated, TeleopStatus
from robot.teleop.blend import Blend
from robot.trajectory import Motion

SourceFactory = Callable[[dict[str, Any]], Source]
"""Makes a run's source from the arguments of the command. Raises So101Error."""

STALL_S = 0.5
"""A source that has had nothing to say for so long has stalled."""
REJECTED_S = 0.1
"""A source whose targets have been no numbers for so long is broken: two chunks, not one bad value."""
OUTSIDE_S = 1.0
OUTSIDE_SHARE = 0.1
"""A source of whose targets in a second more than a tenth lie outside the limits does not know this arm."""
OUTSIDE = 3.0
"""User units beyond a limit that still count as inside: what was learned at a limit scatters around it."""
_LONGEST_TEXT = 200
"""Characters of an error of a source that are passed on; what publishes and answers has limited room."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """The run in progress."""

    name: str
    source: Source
    ends_s: float
    silent_ticks: int = 0
    rejected_ticks: int = 0
    blend: Blend | None = None
    """From what drove before, where something did."""
    outside: deque[int | None] = field(default_factory=deque)
    """For each target of the last second the joint that was farthest outside its limits, if one was."""


class Runs:
    """Begins runs, asks their sources, watches them and closes them.

    Args:
        config: rate and joint limits.
        faults: where what goes wrong is latched.
        sources: what runs can be made of, by name.
        heartbeat_timeout_s: a run whose commander is silent for so long is ended; ``None``: never.
    """

    def __init__(
        self,
        config: RobotConfig,
        faults: FaultBook,
        sources: Mapping[str, SourceFactory],
        heartbeat_timeout_s: float | None,
    ) -> None:
        self._dt_s = config.dt_s
        self._low, self._high = config.gate.min_position.array(), config.gate.max_position.array()
        self._window = round(OUTSIDE_S / config.dt_s)
        self._faults = faults
        self._sources = sources
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._run: _Run | None = None
        self._heard_s = 0.0
        self._now_s = 0.0
        self.run_id = 0
        """The run in progress, or the last one."""
        self.ended = ""
        """Why the last run ended by itself."""
        self.finished = False
        """Whether it ended as it should: the arm may go back to ready."""

    @property
    def active(self) -> bool:
        """Whether there is a run."""
        return self._run is not None

    @property
    def source(self) -> Source | None:
        """The run's source."""
        return None if self._run is None else self._run.source

    @property
    def source_name(self) -> str | None:
        """Name of the run's source."""
        return None if self._run is None else self._run.name

    @property
    def chunk_age_ticks(self) -> int:
        """Age of the newest chunk of a policy; -1 without one."""
        return self._ask(lambda source: source.chunk_age_ticks if isinstance(source, Aged) else -1, -1)

    @property
    def teleop(self) -> TeleopStatus | None:
        """How a person's source stands; ``None`` for others."""
        return self._ask(lambda source: source.teleop if isinstance(source, Teleoperated) else None, None)

    def begin(
        self, run_id: int, name: str, args: dict[str, Any], max_duration_s: float, now_s: float
    ) -> None:
        """Make a source and let it drive.

        Raises:
            CommandError: ``unknown_source`` or ``source_failed``.
        """
        self._run = _Run(name, self._make(name, args), now_s + max_duration_s)
        self.run_id, self._heard_s, self._now_s = run_id, now_s, now_s

    def switch(self, name: str, args: dict[str, Any], motion: Motion) -> None:
        """Let another source go on with the run, from where the command is and how it moves.

        Raises:
            CommandError: ``no_such_run``, ``unknown_source`` or ``source_failed``; the old one drives on.
        """
        if self._run is None:
            raise CommandError(f"run {self.run_id} has ended", code="no_such_run")
        made = self._make(name, args)
        old, ends_s = self._run, self._run.ends_s
        self._run = _Run(name, made, ends_s, blend=Blend(motion, self._dt_s))
        self._let_go(old)

    def _make(self, name: str, args: dict[str, Any]) -> Source:
        factory = self._sources.get(name)
        if factory is None:
            known = ", ".join(sorted(self._sources)) or "none"
            raise CommandError(f"no source {reprlib.repr(name)}, there are: {known}", code="unknown_source")
        try:
            return factory(args)
        except Exception as error:  # a source is not the loop's own code: whatever it raises is its failure
            raise CommandError(
                f"source {name} cannot be made: {_text(error)}", code="source_failed"
            ) from error

    def heartbeat(self, now_s: float) -> None:
        """The commander is alive."""
        self._heard_s = now_s

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """What the source says for this tick; ``None``: nothing, or it has just failed."""
        target = self._ask(lambda source: source.target(tick, state), None)
        if self._run is not None:
            self._run.silent_ticks = self._run.silent_ticks + 1 if target is None else 0
            self._run.outside.append(self._outside(target))
            if len(self._run.outside) > self._window:
                self._run.outside.popleft()
            if self._run.blend is not None:
                return self._run.blend.mix(target)
        return target

    def judged(self, *, rejected: bool) -> None:
        """Whether the gate could use the target."""
        if self._run is not None:
            self._run.rejected_ticks = self._run.rejected_ticks + 1 if rejected else 0

    def watch(self, now_s: float) -> None:
        """End the run if it must; once per tick, before its source is asked."""
        self._now_s = now_s
        run, dt_s = self._run, self._dt_s
        if run is None:
            return
        silent = self._heartbeat_timeout_s is not None and now_s - self._heard_s > self._heartbeat_timeout_s
        outside = [joint for joint in run.outside if joint is not None]
        if silent:
            self._fail("commander_lost", f"nobody has asked for run {self.run_id} to go on", "start anew")
        elif run.silent_ticks * dt_s > STALL_S:
            what = f"{run.name} has said nothing for {STALL_S} s"
            self._fail("inference_stalled", what, "look at the policy worker, then start anew")
        elif run.rejected_ticks * dt_s > REJECTED_S:
            what = f"{run.name} gives targets that are not finite numbers"
            self._fail("non_finite_target", what, "check the policy and its inputs")
        elif len(outside) > OUTSIDE_SHARE * self._window:
            joint = JOINTS[max(set(outside), key=outside.count)]
            what = (
                f"{len(outside)} of {run.name}'s targets in {OUTSIDE_S:g} s lay outside the limits of {joint}"
            )
            self._fail("target_out_of_range", what, "check the policy's units and this arm's limits", joint)
        elif self._ask(lambda source: isinstance(source, Ending) and source.done, otherwise=False):
            self._finish("source finished")
        elif self._run is not None and now_s >= run.ends_s:
            self._finish("longest duration reached")

    def close(self) -> None:
        """End the run, if there is one; a source that cannot be closed is a fault."""
        run, self._run = self._run, None
        if run is not None:
            self._let_go(run)

    def _let_go(self, run: _Run) -> None:
        try:
            if isinstance(run.source, Closable):
                run.source.close()
        except Exception as error:  # noqa: BLE001  a source is not the loop's own code
            self._latch(_failure(run.name, error))

    def _outside(self, target: Any) -> int | None:
        """The joint whose target is farthest outside its limits, if that is far at all."""
        if not isinstance(target, np.ndarray) or target.shape != self._low.shape:
            return None
        if target.dtype.kind not in "fiu":
            return None  # no numbers: the gate rejects them
        beyond = np.maximum(self._low - target, target - self._high)
        worst = int(np.argmax(beyond))
        return worst if beyond[worst] > OUTSIDE else None

    def _ask(self, question: Callable[[Source], _T], otherwise: _T) -> _T:
        """Ask the run's source, if there is one; whatever it raises ends the run and not the loop."""
        if self._run is None:
            return otherwise
        try:
            return question(self._run.source)
        except Exception as error:  # noqa: BLE001  a source is not the loop's own code
            finding = _failure(self._run.name, error)
            self._latch(finding)
            self._end(f"fault: {finding.code}", finished=False)
            return otherwise

    def _fail(self, code: str, message: str, remedy: str, joint: str | None = None) -> None:
        self._end(f"fault: {code}", finished=False)
        self._latch(Finding(code, Severity.HOLD, joint, message, remedy))

    def _latch(self, finding: Finding) -> None:
        """Latch a fault whose cause is the run, which ends: so the cause is gone at once."""
        self._faults.raise_(finding, self._now_s)
        self._faults.settle(finding.code, finding.joint)

    def _finish(self, reason: str) -> None:
        self._end(reason, finished=True)

    def _end(self, reason: str, *, finished: bool) -> None:
        self.ended, self.finished = reason, finished
        self.close()


def _failure(name: str, error: Exception) -> Finding:
    """The fault that an error of a source is."""
    log.error("source %s failed", name, exc_info=error)
    if isinstance(error, SourceError):
        return Finding(error.code, Severity.HOLD, error.joint, _text(error), error.remedy)
    message = f"source {name} failed: {_text(error)}"
    return Finding("source_failed", Severity.HOLD, None, message, "see the log, then try again")


def _text(error: Exception) -> str:
    """What an error says, or its beginning."""
    said = str(error) or type(error).__name__
    return said if len(said) <= _LONGEST_TEXT else said[:_LONGEST_TEXT] + "..."
