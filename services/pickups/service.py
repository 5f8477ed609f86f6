"""The life of pickups: one at a time, from request to verdict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

from calibration.table import TableMap
from inference.follower import longest_approach_s
from robot.config import RobotConfig
from robot.errors import CommandError
from robot.seams import ByteArray
from services.evidence import EvidenceConfig, GripperEvidence, PictureEvidence, judge
from services.pickups.ending import end_run
from services.pickups.journal import Journal
from services.pickups.model import Pickup, Refusal
from services.pickups.readiness import (
    check_arm,
    check_cameras,
    check_controller,
    check_policy_worker,
    check_service_faults,
)
from services.pickups.robot import Robot
from services.pickups.watch import RunEnd, RunWatch, worst_fault

log = logging.getLogger(__name__)

READY_S = 15.0
"""Longest wait for the arm to stand at the ready pose, before and after a run."""
PICTURE_S = 2.0
"""Longest wait for a picture from after the run."""
SETTLE_S = 0.25
"""The picture must be this much younger than the arm's return: cameras are late."""
CORRECTIONS_S = 600.0
"""Longest time, about, that people may drive in one pickup; the run then ends as too long."""
KEPT = 200
SEE_LOG = "see the service's log"


class PickupService:
    """Takes pickups, runs them one at a time, judges and keeps them.

    Args:
        robot: Link to controller, worker and cameras.
        config: Of the robot: bowl, control rate, cameras.
        journal: Where they are kept.
        executor: One thread for looking at pictures.
        execution: How chunks are executed, from runtime.json; passed to the policy source.
        overhead: Name and table map of the camera that judges; ``None`` where none is calibrated.
        on_finished: Told of every pickup that ended, for metrics.
    """

    def __init__(
        self,
        robot: Robot,
        config: RobotConfig,
        journal: Journal,
        executor: Executor,
        *,
        execution: dict[str, Any] | None = None,
        overhead: tuple[str, TableMap] | None = None,
        evidence: EvidenceConfig | None = None,
        on_finished: Callable[[Pickup], None] | None = None,
    ) -> None:
        self._robot = robot
        self._config = config
        self._journal = journal
        self._executor = executor
        self._execution = execution or {}
        self._overhead = overhead
        self._evidence = evidence or EvidenceConfig()
        self._on_finished = on_finished
        self._pickups: dict[str, Pickup] = {pickup.id: pickup for pickup in journal.load()}
        self._active: Pickup | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancel = asyncio.Event()
        self._cancel_reason = ""
        self._stopped = False
        self._run_id = max((pickup.run_id for pickup in self._pickups.values()), default=0)
        self.check_others: Callable[[], None] = lambda: None
        """Raises Refusal while somebody else has the arm, in the words of who knows: teleoperation."""

    # -- what is there ---------------------------------------------------------------------------

    @property
    def active(self) -> Pickup | None:
        """The pickup that is queued or runs."""
        return self._active if self._active is not None and not self._active.done else None

    def get(self, pickup_id: str) -> Pickup | None:
        """One pickup by its id."""
        return self._pickups.get(pickup_id)

    def newest_first(self) -> list[Pickup]:
        """All that are kept."""
        return list(reversed(self._pickups.values()))

    # -- commands --------------------------------------------------------------------------------

    def check(self) -> None:
        """Whether a pickup could begin now. Raises Refusal."""
        if self.active is not None:
            raise Refusal(
                "busy", f"pickup {self.active.id} is {self.active.status}", "wait for it or cancel it"
            )
        self.check_others()
        self._check_policy()
        returning = self._task is not None and not self._task.done()
        check_arm(self._robot, frozenset({"starting", "hold"} if returning else {"starting"}))

    def _check_policy(self) -> None:
        """Whether the policy could drive: its processes live, and its cameras can be trusted."""
        self._check_processes()
        judge = [] if self._overhead is None else [self._overhead[0]]
        names = dict.fromkeys([*self._robot.worker().get("cameras", ()), *judge])  # policy and verdict
        check_cameras(self._robot, tuple(names))

    def _check_processes(self) -> None:
        check_controller(self._robot)
        check_policy_worker(self._robot)
        check_service_faults(self._robot)

    def begin(self, x_m: float, y_m: float, pixel: dict[str, Any] | None = None) -> Pickup:
        """Queue a pickup at a point that was checked to be reachable. Raises Refusal (see ``check``)."""
        self.check()
        policy = self._robot.worker()
        pickup = Pickup(
            x_m=x_m,
            y_m=y_m,
            pixel=pixel,
            conditioned=bool(policy.get("conditioned", True)),
            task=policy.get("task"),
        )
        previous = self._task
        self._pickups[pickup.id] = self._active = pickup
        while len(self._pickups) > KEPT:
            self._pickups.pop(next(iter(self._pickups)))
        self._cancel, self._cancel_reason, self._stopped = asyncio.Event(), "", False
        self._journal.append(pickup)
        self._task = asyncio.create_task(self._life(pickup, previous), name=f"pickup-{pickup.id}")
        return pickup

    def cancel(self, pickup: Pickup, reason: str = "cancelled") -> None:
        """End a pickup at the caller's wish; the arm goes back to ready. No effect on a finished one."""
        if pickup is self.active:
            self._cancel_reason = self._cancel_reason or reason
            self._cancel.set()

    def stopped(self, level: str) -> None:
        """The arm was stopped: the active pickup is cancelled without sending the arm anything."""
        self._stopped = True
        if self.active is not None:
            self.cancel(self.active, f"stopped ({level})")

    def next_run_id(self) -> int:
        """A number that no run of this service has had."""
        current = self._robot.status().get("run_id")
        self._run_id = max(self._run_id, current if isinstance(current, int) else 0) + 1
        return self._run_id

    async def hand_back(self, pickup: Pickup) -> None:
        """Let the policy go on in a pickup that a person drives. Where it cannot, the person drives on.

        The worker begins anew before the controller turns to it, so that its first chunk is on its way
        before a silent source would end the run.

        Raises:
            Refusal: its worker or cameras are not as they must be.
            CommandError: worker or controller refused.
        """
        self._check_policy()
        await self._begin_policy(pickup)
        args = self._policy_args(pickup, resume=True)
        await self._robot.controller("switch", run_id=pickup.run_id, source="policy", args=args)

    async def close(self) -> None:
        """End the active pickup and wait for its task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # -- one life --------------------------------------------------------------------------------

    async def _life(self, pickup: Pickup, previous: asyncio.Task[None] | None) -> None:
        started_s = time.monotonic()
        try:
            if previous is not None and not previous.done():
                await asyncio.wait([previous], timeout=READY_S)
            await self._run(pickup, started_s)
        except CommandError as error:
            self._finish(pickup, "failed", error.code, str(error), started_s)
        except asyncio.CancelledError:
            self._finish(pickup, "cancelled", "service_stopped", "the service was stopped", started_s)
            raise
        except Exception:  # a bug must not keep the service busy for ever
            log.exception("pickup %s: a failure that nobody expected", pickup.id)
            self._finish(pickup, "failed", "internal_error", SEE_LOG, started_s)

    async def _run(self, pickup: Pickup, started_s: float) -> None:
        if not await self._until_ready(pickup):
            return self._finish_unready(pickup, started_s)
        run_id = self.next_run_id()
        pictures = await self._look_before(pickup)
        if self._cancel.is_set():
            return self._finish(pickup, "cancelled", self._cancel_reason, "before it began", started_s)
        pickup.run_id = run_id
        gripper = self._new_evidence()
        approach_s = longest_approach_s(self._config) if self._robot.worker().get("start_pose") else 0.0
        watch = RunWatch(self._robot, run_id, gripper, self._config.control_hz, approach_s)
        try:
            # The worker first: its first chunk takes longer than the controller waits for a silent source.
            await self._begin_policy(pickup)
            end = await self._drive(pickup, watch)
        except (CommandError, Refusal) as error:
            end = RunEnd("failed", error.code, str(error))
        except asyncio.CancelledError:
            await self._end_run(run_id)
            raise
        except Exception:  # whatever it is, the arm must not be left to a run that nobody watches
            log.exception("pickup %s: run %d failed", pickup.id, run_id)
            end = RunEnd("failed", "internal_error", SEE_LOG)
        pickup.evidence = {
            "grasped": gripper.grasped,
            "released_in_bowl": gripper.released_in_bowl,
            "elapsed_s": round(gripper.elapsed_s, 2),
        }
        pickup.intervened_s = round(gripper.by_person_s, 2)
        pickup.intervened = pickup.intervened or gripper.by_person_s > 0
        if end is None:
            await self._end_run(run_id)
            return self._finish(pickup, "cancelled", self._cancel_reason, "ended on request", started_s)
        await self._end_run(run_id, hold=end.kind == "failed")
        if end.kind == "stopped":
            verdict = gripper.verdict()
            if pickup.judged and gripper.timed_out and not verdict.succeeded:
                return self._finish(pickup, "failed", verdict.reason, verdict.detail, started_s)
            return self._finish(pickup, "failed", end.reason, end.detail, started_s)
        if end.kind == "failed":
            return self._finish(pickup, "failed", end.reason, end.detail, started_s)
        return await self._judge(pickup, gripper, pictures, started_s)

    async def _drive(self, pickup: Pickup, watch: RunWatch) -> RunEnd | None:
        """Let the policy drive until the run's end; ``None`` if it is cancelled, or was before it began."""
        # Between these checks and the command nothing is awaited: a stop comes before them or after the run.
        if self._cancel.is_set():
            return None
        self._check_processes()
        await self._robot.controller(
            "run",
            run_id=pickup.run_id,
            source="policy",
            args=self._policy_args(pickup),
            max_duration_s=self._evidence.limit_s + 2.0 + CORRECTIONS_S,
        )
        pickup.status = "running"
        return await self._first(watch.until_end())

    async def _begin_policy(self, pickup: Pickup) -> None:
        point = [pickup.x_m, pickup.y_m]
        await self._robot.policy_worker("begin", run_id=pickup.run_id, pickup_xy_m=point)

    def _policy_args(self, pickup: Pickup, *, resume: bool = False) -> dict[str, Any]:
        """For the policy's source: how chunks are executed, and what the loaded bundle's mean."""
        policy = self._robot.worker()
        given = {key: policy[key] for key in ("action_space", "start_pose") if policy.get(key) is not None}
        return {**self._execution, **given, "run_id": pickup.run_id, "resume": resume}

    async def _judge(
        self, pickup: Pickup, gripper: GripperEvidence, pictures: PictureEvidence | None, started_s: float
    ) -> None:
        if not pickup.judged:
            detail = f"nothing on this arm sees whether the task {pickup.task} was done: look for yourself"
            return self._finish(pickup, "failed", "not_judged", detail, started_s)
        verdict = gripper.verdict()
        if verdict.succeeded:
            if not await self._until_ready(pickup):
                return self._finish_unready(pickup, started_s)
            after = await self._fresh_picture() if self._overhead is not None else None
            verdict = await self._on_thread(judge, gripper, pictures, after)
            if pictures is not None and after is not None:
                findings = await self._on_thread(pictures.compare, after)
                pickup.evidence["pictures"] = {k: round(v, 3) for k, v in asdict(findings).items()}
        if verdict.succeeded:
            return self._finish(
                pickup, "succeeded", None, "grasped, released over the bowl and seen there", started_s
            )
        return self._finish(pickup, "failed", verdict.reason, verdict.detail, started_s)

    # -- parts -----------------------------------------------------------------------------------

    def _new_evidence(self) -> GripperEvidence:
        bowl = self._config.bowl
        if bowl is None:
            raise CommandError("the robot's configuration has no bowl: add 'bowl'", code="no_bowl")
        return GripperEvidence(bowl, self._evidence)

    async def _look_before(self, pickup: Pickup) -> PictureEvidence | None:
        if self._overhead is None or self._config.bowl is None or not pickup.judged:
            return None
        name, table_map = self._overhead
        image = await self._fresh_picture()
        if image is None:
            why = self._robot.camera(name).get("error") or "see GET /v1/cameras, then check its cable"
            raise CommandError(f"camera {name!r} gives no pictures: {why}", code="camera_lost")
        point = (pickup.x_m, pickup.y_m)
        looking = self._on_thread(PictureEvidence, image, table_map, point, self._config.bowl, self._evidence)
        pictures: PictureEvidence = await looking
        return pictures

    async def _fresh_picture(self) -> ByteArray | None:
        """A picture that was taken after now, or ``None`` if none comes in time."""
        if self._overhead is None:
            return None
        now_s = time.monotonic()
        while time.monotonic() - now_s < PICTURE_S:
            frame = self._robot.frame(self._overhead[0])
            if frame is not None and frame.time_s >= now_s + SETTLE_S:
                return frame.image
            await asyncio.sleep(0.03)
        return None

    async def _until_ready(self, pickup: Pickup) -> bool:
        """Wait for mode ready; ``False`` on cancel, stop, fault or time-out."""
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < READY_S:
            status = self._robot.status()
            mode = status.get("mode")
            if (
                self._cancel.is_set()
                or worst_fault(status) is not None
                or mode in ("off", "parking", "fault")
            ):
                return False
            if mode == "ready":
                return True
            await asyncio.sleep(0.03)
        return False

    def _finish_unready(self, pickup: Pickup, started_s: float) -> None:
        fault = worst_fault(self._robot.status())
        if self._cancel.is_set():
            self._finish(
                pickup,
                "cancelled",
                self._cancel_reason,
                "the arm was stopped or the pickup cancelled",
                started_s,
            )
        elif fault is not None:
            self._finish(pickup, "failed", "fault", f"{fault.get('code')}: {fault.get('message')}", started_s)
        else:
            self._finish(pickup, "failed", "not_ready", "the arm did not come to its ready pose", started_s)

    async def _first(self, run: Awaitable[RunEnd]) -> RunEnd | None:
        """The run's end, or ``None`` if it is cancelled before."""
        watching = asyncio.ensure_future(run)
        cancelled = asyncio.ensure_future(self._cancel.wait())
        try:
            await asyncio.wait({watching, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._cancel.is_set() else watching.result()
        finally:
            for task in (watching, cancelled):
                task.cancel()

    async def _end_run(self, run_id: int, *, hold: bool = False) -> None:
        """Tell worker and controller: back to ready, or hold where it is."""
        with contextlib.suppress(CommandError):
            await self._robot.policy_worker("end", timeout_s=0.3)
        await end_run(self._robot, run_id, lambda: self._stopped, hold=hold)

    async def _on_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def _finish(
        self, pickup: Pickup, status: Any, reason: str | None, detail: str, started_s: float | None = None
    ) -> None:
        if pickup.done:
            return
        pickup.finish(status, reason, detail)
        if started_s is not None:
            pickup.duration_s = round(time.monotonic() - started_s, 2)
        self._journal.append(pickup)
        log.info("pickup %s %s %s %s", pickup.id, status, reason or "", detail)
        if self._on_finished is not None:
            self._on_finished(pickup)
