"""Who of the people drives, and with what: one at a time, and never against a pickup but in its midst."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from robot.config import RobotConfig
from robot.errors import CommandError
from robot.telemetry import PEOPLE, SOURCES
from robot.teleop.intents import Halt, Intent, TeleopClient
from services.pickups import Pickup, PickupService, Refusal
from services.pickups.ending import end_run
from services.pickups.readiness import check_arm, check_controller, check_service_faults
from services.pickups.robot import Robot
from services.pickups.service import SEE_LOG
from services.pickups.watch import ACCEPT_S, RunEnd
from services.ports import leader_port
from services.teleop.driving import Driving

log = logging.getLogger(__name__)

LONGEST_S = 3600.0
"""A session ends after an hour, with the arm back at its ready pose: nobody drives longer without a pause,
and a forgotten one must not keep the arm for ever.
"""
PERIOD_S = 0.1
"""Time between two looks at a session."""
STOP_FIRST = "POST /v1/teleop/stop first"


def available_sources(description: dict[str, Any], config: RobotConfig) -> tuple[str, ...]:
    """What a person can drive this arm with."""
    return ("teleop",) if leader_port(description, config) is None else ("leader", "teleop")


class TeleopService:
    """Sessions in which a person drives, takeovers of a pickup's run, and intents on their way.

    Args:
        robot: Link to the controller.
        pickups: Whose runs are taken over, and with whom the arm is shared.
        client: Takes intents to the controller.
        available: What a person can drive with.
        control_hz: Control ticks per second.
    """

    def __init__(
        self,
        robot: Robot,
        pickups: PickupService,
        client: TeleopClient,
        available: tuple[str, ...],
        control_hz: float,
    ) -> None:
        self._robot = robot
        self._pickups = pickups
        self._client = client
        self._control_hz = control_hz
        self._driving: Driving | None = None
        self._reason: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self.available = available
        pickups.check_others = self._check_free

    # -- what is there ---------------------------------------------------------------------------

    @property
    def driver(self) -> str:
        """What drives the arm now, one of ``SOURCES``."""
        record = self._robot.newest()
        alive = record is not None and self._robot.controller_alive()
        return SOURCES[int(record["source"])] if record is not None and alive else SOURCES[0]

    @property
    def corrected(self) -> Pickup | None:
        """The pickup that a person drives now in the policy's place."""
        pickup, record = self._pickups.active, self._robot.newest()
        mine = pickup is not None and record is not None and int(record["run_id"]) == pickup.run_id
        return pickup if mine and self.driver in PEOPLE else None

    @property
    def lag_ms(self) -> float | None:
        """From the person's target to the arm's position; ``None`` without a person or without motion."""
        return None if self._driving is None else self._driving.lag.lag_ms

    def describe(self) -> dict[str, Any]:
        """As JSON. ``reason`` says why the last session ended."""
        driving, corrected, driver, lag_ms = self._driving, self.corrected, self.driver, self.lag_ms
        active = driving is not None or corrected is not None
        told = (self._robot.status().get("teleop") or {}) if active else {}
        source = driver if driver in PEOPLE else None if driving is None else driving.source
        return {
            "active": active,
            "source": source,
            "run_id": self._robot.status().get("run_id") if active else None,
            "engaged": bool(told.get("engaged", False)),
            "away": told.get("away", {}),
            "limited": told.get("limited"),
            "lag_ms": None if lag_ms is None else round(lag_ms, 1),
            "intervening": corrected is not None,
            "pickup": None if corrected is None else corrected.id,
            "available": list(self.available),
            "reason": None if active else self._reason,
        }

    # -- commands --------------------------------------------------------------------------------

    async def begin(self, source: str) -> None:
        """Let a person drive, from the ready pose on.

        Raises:
            Refusal: there is no such source, the arm is not ready, or somebody else has it.
            CommandError: the controller refused.
        """
        self._check_source(source)
        async with self._lock:
            self._check_free()
            pickup = self._pickups.active
            if pickup is not None:
                remedy = "POST /v1/teleop/take_over to correct it, wait for it, or cancel it"
                raise Refusal("busy", f"pickup {pickup.id} is {pickup.status}", remedy)
            check_controller(self._robot)
            check_service_faults(self._robot)
            check_arm(self._robot)
            driving = self._new(self._pickups.next_run_id(), source, None)
            args = {"engage": "approach"} if source == "leader" else {}
            try:
                await self._robot.controller(
                    "run", run_id=driving.run_id, source=source, args=args, max_duration_s=LONGEST_S
                )
            except CommandError:
                await end_run(self._robot, driving.run_id, lambda: driving.stopped)  # the answer may be lost
                self._driving = None
                raise
            await self._until_driver(source)
            self._follow(driving)

    async def end(self) -> None:
        """End the session; the arm goes back to ready. No effect without one.

        Raises:
            Refusal: it is a pickup that is driven: that is handed back, or cancelled.
        """
        if self.corrected is not None:
            remedy = "POST /v1/teleop/hand_back, or cancel the pickup"
            raise Refusal("busy", f"pickup {self.corrected.id} is being corrected", remedy)
        async with self._lock:
            driving = self._driving
            if driving is None or driving.pickup is not None:
                return
            driving.reason = driving.reason or "ended on request"
            await end_run(self._robot, driving.run_id, lambda: driving.stopped)
            await self._until_over()

    async def take_over(self, source: str) -> None:
        """Drive in the policy's place, in the midst of a pickup. A leader has to be brought to the arm first.

        Raises:
            Refusal: there is no such source, or no pickup that the policy drives.
            CommandError: the controller refused; the policy drives on.
        """
        self._check_source(source)
        async with self._lock:
            pickup = self._pickups.active
            if pickup is None or pickup.status != "running":
                remedy = "POST /v1/pickups to begin one, or POST /v1/teleop/start to drive without"
                raise Refusal("no_policy_run", "no pickup is running", remedy)
            if self.corrected is not None:
                raise Refusal("busy", f"{self.driver} drives already", "POST /v1/teleop/hand_back first")
            args = {"engage": "match"} if source == "leader" else {}
            await self._robot.controller("switch", run_id=pickup.run_id, source=source, args=args)
            pickup.intervened = True
            driving = self._new(pickup.run_id, source, pickup)
            await self._until_driver(source)
            self._follow(driving)

    async def hand_back(self) -> None:
        """Let the policy go on with the pickup. Where it cannot, the person drives on.

        Raises:
            Refusal: no person drives a pickup, or the policy's worker or cameras are not as they must be.
            CommandError: worker or controller refused.
        """
        async with self._lock:
            pickup = self.corrected
            if pickup is None:
                remedy = "POST /v1/teleop/take_over while a pickup runs"
                raise Refusal("not_driving", "no person drives a pickup", remedy)
            await self._pickups.hand_back(pickup)
            await self._until_driver("policy")
            await self._until_over()

    def jog(self, intent: Intent) -> None:
        """Send what the person wants; never waits.

        Raises:
            Refusal: (``not_driving``) nobody drives by intents.
            CommandError: the controller does not listen or does not keep up.
        """
        if self.driver != "teleop":
            who = "the leader drives" if self.driver == "leader" else "nobody drives by intents"
            remedy = (
                'POST /v1/teleop/start {"source": "teleop"}, or POST /v1/teleop/take_over while a pickup runs'
            )
            raise Refusal("not_driving", who, remedy)
        self._client.send(intent.model_dump(exclude_none=True))

    def halt(self) -> None:
        """The one whose intents these were has gone: stand still. No effect where nobody listens."""
        with contextlib.suppress(Refusal, CommandError):
            self.jog(Halt())

    def stopped(self, level: str) -> None:
        """The arm was stopped: the session is over without sending the arm anything."""
        if self._driving is not None:
            self._driving.stopped, self._driving.reason = True, f"stopped ({level})"

    async def close(self) -> None:
        """End the session; the service ends."""
        driving, self._driving = self._driving, None
        if self._task is not None:
            self._task.cancel()
        if driving is not None and driving.pickup is None:
            await end_run(self._robot, driving.run_id, lambda: driving.stopped)

    # -- inside ----------------------------------------------------------------------------------

    def _check_source(self, source: str) -> None:
        if source not in self.available:
            remedy = "name leader_port and leader_calibration in the robot's file, or drive with teleop"
            raise Refusal("no_leader", "this robot has no leader arm", remedy)

    def _check_free(self) -> None:
        driving = self._driving
        if driving is not None and driving.pickup is None:
            raise Refusal("busy", f"a person drives the arm with {driving.source}", STOP_FIRST)

    def _new(self, run_id: int, source: str, pickup: Pickup | None) -> Driving:
        self._driving = Driving.of(self._robot, run_id, source, pickup, self._control_hz)
        return self._driving

    def _follow(self, driving: Driving) -> None:
        self._task = asyncio.create_task(self._until_end(driving), name=f"teleop-{driving.run_id}")

    async def _until_driver(self, source: str) -> None:
        """Wait until telemetry shows who drives, so that the caller's next command meets it."""
        deadline_s = time.monotonic() + ACCEPT_S
        while self.driver != source and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    async def _until_over(self) -> None:
        """Wait until the end has been seen, so that the caller's next question meets it."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=ACCEPT_S)

    async def _until_end(self, driving: Driving) -> None:
        try:
            while (end := driving.look(self._robot)) is None:
                await asyncio.sleep(PERIOD_S)
        except Exception:  # whatever it is, the arm must not be left to a run that nobody watches
            log.exception("run %d, driven with %s: watching it failed", driving.run_id, driving.source)
            end = RunEnd("failed", "internal_error", SEE_LOG)
        if driving.pickup is None:
            await end_run(self._robot, driving.run_id, lambda: driving.stopped, hold=end.kind == "failed")
        reason = driving.reason or end.detail
        log.info("run %d, driven with %s, is over: %s", driving.run_id, driving.source, reason)
        if self._driving is driving:
            self._driving, self._reason = None, reason
