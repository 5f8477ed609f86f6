"""What keeps the arm from a run that is asked for: each check raises the refusal that says so."""

from __future__ import annotations

from typing import Any

from services.pickups.model import Refusal
from services.pickups.robot import Robot
from services.pickups.watch import worst_fault

START = "POST /v1/start"
CLEAR = "look at the arm, POST /v1/faults/clear, then POST /v1/start"


def check_controller(robot: Robot) -> None:
    """Whether the controller lives: what a dead one wrote last stays to be seen."""
    if robot.newest() is None:
        raise Refusal("not_started", "the controller is not running yet", "wait for /readyz")
    if not robot.controller_alive():
        words = "the controller has died or hangs; the servos hold their position"
        raise Refusal("controller_lost", words, "see GET /v1/faults; it is started again by itself")


def check_policy_worker(robot: Robot) -> None:
    """Whether the policy worker lives; what a dead one wrote last stays to be seen as well."""
    worker = robot.service().get("processes", {}).get("worker")
    if worker is not None and worker.get("pid") != robot.worker().get("pid"):
        words = "the policy worker has died and is started again"
        raise Refusal("policy_worker_lost", words, "wait for /readyz")


def check_service_faults(robot: Robot) -> None:
    """Whether the death of a process has been acknowledged."""
    fault = worst_fault(robot.service())
    if fault is not None:
        raise latched(fault)


def check_cameras(robot: Robot, cameras: tuple[str, ...]) -> None:
    """Whether what these cameras show can be trusted."""
    for name in cameras:
        for finding in robot.camera(name).get("findings", ()):
            if finding["blinds"]:
                raise Refusal(finding["code"], finding["message"], finding["remedy"])


def check_arm(robot: Robot, waits_in: frozenset[str] = frozenset()) -> None:
    """Whether the arm has no fault and stands ready, or is in a mode that comes to that by itself.

    Args:
        robot: link to the controller.
        waits_in: Modes that the caller waits in until the arm is ready.
    """
    status = robot.status()
    fault = worst_fault(status)
    mode = str(status.get("mode"))
    if fault is not None or mode == "fault":
        raise latched(fault)
    if mode == "ready" or mode in waits_in:
        return
    if mode == "running":
        raise Refusal(
            "busy", f"the arm is driven by {status.get('source') or 'a run'}", "wait or POST /v1/stop"
        )
    if mode == "starting":
        raise Refusal("not_ready", "the arm is on its way to its ready pose", "wait until it is ready")
    words = {"hold": "the arm is stopped", "parking": "the arm is being parked"}
    raise Refusal("not_started", words.get(mode, "the arm is off"), START)


def latched(fault: dict[str, Any] | None) -> Refusal:
    """The refusal while a fault is latched; ``None``: one that is not listed."""
    what = "a fault is latched" if fault is None else f"fault {fault.get('code')}: {fault.get('message')}"
    return Refusal("fault_latched", what, CLEAR)
