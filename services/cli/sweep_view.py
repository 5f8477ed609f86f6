"""What a person sees while an arm's joints are swept, and the imaginary hand that sweeps a twin's."""

from __future__ import annotations

import select
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from calibration.sweep import PLAUSIBLE_SPAN_DEG, plausible
from robot.calibration_file import DEG_PER_TICK
from robot.errors import CalibrationError
from robot.joints import JOINTS

if TYPE_CHECKING:
    from calibration.arm import ArmSweep
    from robot.twin.client import TwinProcess

POLL_S = 0.02
BAR_CELLS = 24
REST_S = 0.6
"""A joint that has not moved for so long has arrived."""


class ImaginaryHand:
    """A hand on a twin's limp arm: all joints to one stop, to the other, and to the middle.

    Args:
        twin: whose arm it is.
        arm: ``follower`` or ``leader``.
    """

    def __init__(self, twin: TwinProcess, arm: str) -> None:
        from robot.kinematics import rad_to_user
        from robot.model import load_arm

        low, high = rad_to_user(load_arm().jnt_range.T)
        self._poses = [low, high, (low + high) / 2]
        self._twin, self._arm = twin, arm
        self._seen: list[int] = []
        self._moved_s = 0.0

    def moved_on(self, sweep: ArmSweep) -> bool:
        """Lead the arm to the next pose once it has arrived; whether that was the last one."""
        now_s = time.monotonic()
        seen = [one.now for one in sweep.joints.values()]
        if not self._seen or max(abs(a - b) for a, b in zip(seen, self._seen, strict=True)) > 1:
            self._seen, self._moved_s = seen, max(now_s, self._moved_s)
        if now_s - self._moved_s < REST_S:
            return False
        pose = self._poses.pop(0) if self._poses else None
        self._twin.hand(self._arm, pose)
        self._moved_s = now_s + REST_S  # to get going
        return pose is None


def watch_sweep(console: Console, sweep: ArmSweep, hand: ImaginaryHand | None = None) -> None:
    """Read positions and show them until the person presses ENTER, or the imaginary hand is done.

    Raises:
        ServoError: a servo has gone silent.
        CalibrationError: stdin has ended.
    """
    if hand is None:
        console.print("Move every joint from stop to stop, one after the other, slowly; then press ENTER.")
    else:
        console.print("An imaginary hand moves every joint from stop to stop.")
    next_s = time.monotonic()
    short: list[str] = []
    with Live(_bars(sweep), console=console, refresh_per_second=10) as live:
        while True:
            sweep.poll()
            live.update(_bars(sweep))
            next_s = max(next_s + POLL_S, time.monotonic())
            if hand is not None:
                if hand.moved_on(sweep):
                    return
                time.sleep(max(0.0, next_s - time.monotonic()))
            elif _enter_until(next_s):
                missing = _too_short(sweep)
                if not missing or missing == short:  # or they insist
                    return
                short = missing
                names = ", ".join(short)
                console.print(
                    f"[yellow]Not yet from stop to stop: {names}. Go on; ENTER again gives up.[/yellow]"
                )


def _too_short(sweep: ArmSweep) -> list[str]:
    return [joint for joint in JOINTS if sweep.joints[joint].span_deg < PLAUSIBLE_SPAN_DEG[joint][0]]


def _enter_until(deadline_s: float) -> bool:
    """Whether a line came on stdin meanwhile.

    Raises:
        CalibrationError: stdin has ended: nobody can press ENTER any more.
    """
    ready, _, _ = select.select([sys.stdin], [], [], max(0.0, deadline_s - time.monotonic()))
    if not ready:
        return False
    if not sys.stdin.readline():
        raise CalibrationError("stdin has ended, so nobody can press ENTER: nothing was written")
    return True


def _bars(sweep: ArmSweep) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("joint")
    for name in ("min", "now", "max", "span"):
        table.add_column(name, justify="right", min_width=7)
    table.add_column("")
    for joint in JOINTS:
        one = sweep.joints[joint]
        good = plausible(joint, one.span_deg)
        degrees = [f"{(tick - one.start) * DEG_PER_TICK:+.1f}°" for tick in (one.low, one.now, one.high)]
        table.add_row(
            Text("✓", "green") if good else Text("·", "dim"),
            joint,
            *degrees,
            Text(f"{one.span_deg:.1f}°", "green" if good else ""),
            _bar(one.low, one.now, one.high, PLAUSIBLE_SPAN_DEG[joint][0] / DEG_PER_TICK),
        )
    return table


def _bar(low: int, now: int, high: int, wanted: float) -> Text:
    """The range so far as a bar, full where it is long enough, with the joint's place in it."""
    span = high - low
    cells = max(1, min(BAR_CELLS, round(BAR_CELLS * span / wanted)))
    place = min(cells - 1, int(cells * (now - low) / max(span, 1)))
    text = Text("━" * cells, "green" if span >= wanted else "cyan")
    text.append("─" * (BAR_CELLS - cells), "dim")
    return Text.assemble(text[:place], Text("●", "bold"), text[place + 1 :])
