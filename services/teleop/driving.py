"""One person's time at the arm, from the first tick to the last."""

from __future__ import annotations

from dataclasses import dataclass

from robot.telemetry import MODES, person_drives
from robot.teleop.latency import LagMeter
from services.pickups.model import Pickup
from services.pickups.robot import Robot
from services.pickups.watch import ControllerWatch, RunEnd


@dataclass(slots=True)
class Driving:
    """Who drives which run, and how it goes.

    Attributes:
        run_id: Of the run.
        source: ``leader`` or ``teleop``.
        pickup: The one that is being corrected; ``None`` in a session of the person's own.
        watch: Of the run.
        lag: Fed with the telemetry of this time.
        tick: Of the newest record it was fed.
        stopped: Whether the arm was stopped: nothing may move then.
        reason: Why it ends, where that is known here first.
    """

    run_id: int
    source: str
    pickup: Pickup | None
    watch: ControllerWatch
    lag: LagMeter
    tick: int
    stopped: bool = False
    reason: str | None = None

    @classmethod
    def of(cls, robot: Robot, run_id: int, source: str, pickup: Pickup | None, control_hz: float) -> Driving:
        """From now on."""
        newest = robot.newest()
        tick = -1 if newest is None else int(newest["tick"])
        return cls(run_id, source, pickup, ControllerWatch(robot, run_id), LagMeter(control_hz), tick)

    def look(self, robot: Robot) -> RunEnd | None:
        """Take in the newest telemetry; how it came to its end, ``None`` while it goes on."""
        by_policy = False
        for record in robot.since(self.tick):
            self.tick = int(record["tick"])
            if MODES[int(record["mode"])] != "running" or int(record["run_id"]) != self.run_id:
                continue
            by_policy = not person_drives(record)
            if not by_policy:
                self.lag.add(record)
        if self.pickup is not None and by_policy:
            return RunEnd("stopped", "handed_back", "handed back to the policy")
        return self.watch.look()
