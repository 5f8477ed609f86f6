"""What a run tells while it goes: telemetry to the evidence, and every reason to end it early."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robot.joints import GRIPPER
from robot.telemetry import MODES, Record, person_drives
from services.evidence import ArmSample, GripperEvidence
from services.pickups.robot import Robot

PERIOD_S = 1 / 30
ACCEPT_S = 0.6
"""Time in which the controller must be seen running after it took the run."""
SILENT_S = 0.6
"""Telemetry older than this: the controller is gone."""
STALE_CHUNK_S = 2.5
"""Without a fresh chunk for so long the policy has stalled; the arm has long been holding by then."""
NEEDED = {
    "worker": ("policy_worker_lost", "the policy worker died during the run; the arm holds"),
    "cameras": ("camera_process_lost", "the camera process died during the run; the arm holds"),
}
"""Children whose death ends a run, and how that is told."""
SEVERE = frozenset({"hold", "park", "release"})


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run came to its end.

    ``judged``: the evidence decides. ``failed``: something that drives the arm is broken, it is to hold.
    ``stopped``: the controller has ended the run.
    """

    kind: Literal["judged", "failed", "stopped"]
    reason: str = ""
    detail: str = ""


def sample_of(record: Record) -> ArmSample:
    """The part of a telemetry record that the evidence looks at."""
    tool = record["tool_m"]
    return ArmSample(
        time_s=float(record["time_s"]),
        tool_m=(float(tool[0]), float(tool[1]), float(tool[2])),
        gripper_pct=float(record["position"][GRIPPER]),
        gripper_goal_pct=float(record["goal"][GRIPPER]),
        gripper_load_pct=float(record["load_pct"][GRIPPER]),
        fastest_dps=float(np.abs(record["velocity"][:GRIPPER]).max()),
        by_person=person_drives(record),
    )


def worst_fault(status: dict[str, Any]) -> dict[str, Any] | None:
    """The newest fault that stops the arm, if there is one."""
    severe = [fault for fault in status.get("faults", []) if fault.get("severity") in SEVERE]
    return severe[-1] if severe else None


class ControllerWatch:
    """Whether the controller goes on with a run that it is given now.

    Args:
        robot: Link to the controller.
        run_id: Of the run.
    """

    def __init__(self, robot: Robot, run_id: int) -> None:
        self._robot = robot
        self._run_id = run_id
        self._pid = robot.status().get("pid")
        self._begun_s = time.monotonic()
        self._seen_running = False

    def look(self) -> RunEnd | None:
        """How the run came to its end; ``None`` while it goes on."""
        now_s = time.monotonic()
        newest = self._robot.newest()
        status = self._robot.status()
        silent = newest is None or now_s - float(newest["time_s"]) > SILENT_S
        if silent or status.get("pid") != self._pid:
            return RunEnd(
                "failed", "controller_lost", "the controller process died; the servos hold their position"
            )
        fault = worst_fault(status)
        if fault is not None:
            return RunEnd("failed", "fault", f"{fault.get('code', 'fault')}: {fault.get('message', '')}")
        running = status.get("mode") == "running" and status.get("run_id") == self._run_id
        # By the status alone, which is written after the tick's telemetry: that one may be ahead of it.
        self._seen_running = self._seen_running or running
        if running or (not self._seen_running and now_s - self._begun_s < ACCEPT_S):
            return None
        reason = str(status.get("reason") or "the controller ended the run")
        return RunEnd("stopped", "run_ended", reason)


class RunWatch:
    """Follows one run that the controller has taken.

    While a person drives it, nothing that only the policy needs ends it: not its cameras, nor its worker.

    Args:
        robot: Link to the other processes.
        run_id: Of the run.
        evidence: Is fed every telemetry record.
        control_hz: To turn the age of a chunk into seconds.
        approach_s: Time that the arm may take to where chunks begin, at first and when handed back.
    """

    def __init__(
        self,
        robot: Robot,
        run_id: int,
        evidence: GripperEvidence,
        control_hz: float,
        approach_s: float = 0.0,
    ) -> None:
        self._robot = robot
        self._run_id = run_id
        self._evidence = evidence
        self._control_hz = control_hz
        newest = robot.newest()
        self._tick = -1 if newest is None else int(newest["tick"])
        self._controller = ControllerWatch(robot, run_id)
        self._pids = self._needed_pids()
        self._approach_s = approach_s
        self._chunk_s = time.monotonic() + approach_s
        self._by_person = False

    async def until_end(self) -> RunEnd:
        """Return when the run is over or should be ended."""
        while True:
            end = self.look()
            if end is not None:
                return end
            await asyncio.sleep(PERIOD_S)

    def look(self) -> RunEnd | None:
        """One look at everything; ``None`` while the run goes on."""
        now_s, was_by_person = time.monotonic(), self._by_person
        for record in self._robot.since(self._tick):
            self._tick = int(record["tick"])
            if int(record["run_id"]) == self._run_id and MODES[int(record["mode"])] == "running":
                self._evidence.update(sample_of(record))
                self._by_person = person_drives(record)
        if was_by_person or self._by_person:  # handed back, the policy begins anew with what is there
            self._pids, self._chunk_s = self._needed_pids(), now_s + self._approach_s
        return (
            self._camera_end()
            or self._controller.look()
            or (RunEnd("judged") if self._evidence.ended else None)
            or self._policy_end(now_s)
        )

    def _camera_end(self) -> RunEnd | None:
        """Before the controller's own end: it was the worker that told it to hold."""
        worker = self._robot.worker()
        mine = worker.get("run_id") == self._run_id and not self._by_person
        blind = worker.get("blind") if mine else None
        return RunEnd("failed", str(blind["code"]), str(blind["message"])) if blind else None

    def _policy_end(self, now_s: float) -> RunEnd | None:
        if self._by_person:
            return None
        pids = self._needed_pids()
        for name, (code, words) in NEEDED.items():
            if pids.get(name) != self._pids.get(name):
                return RunEnd("failed", code, words)
        worker = self._robot.worker()
        if worker.get("state") == "error":
            return RunEnd("failed", "policy_error", str(worker.get("error") or "the policy worker failed"))
        newest = self._robot.newest()
        if newest is not None and 0 <= int(newest["chunk_age_ticks"]) < STALE_CHUNK_S * self._control_hz:
            self._chunk_s = now_s
        if now_s - self._chunk_s > STALE_CHUNK_S:
            return RunEnd(
                "failed",
                "policy_stalled",
                "no fresh actions came from the policy: its worker or a camera is gone",
            )
        return None

    def _needed_pids(self) -> dict[str, Any]:
        """Process ids as the supervisor knows them: it is the first to see a death."""
        processes = self._robot.service().get("processes", {})
        return {name: processes.get(name, {}).get("pid") for name in NEEDED}
