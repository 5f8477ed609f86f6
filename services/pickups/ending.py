"""Ending a run on the controller's side, whatever is known of it here."""

from __future__ import annotations

import logging
from collections.abc import Callable

from robot.errors import CommandError
from services.pickups.robot import Robot

log = logging.getLogger(__name__)
DEALT_WITH = frozenset({"off", "fault", "parking"})
"""Modes in which the controller has itself done about a failure what hold would do, or more."""


async def end_run(robot: Robot, run_id: int, stopped: Callable[[], bool], *, hold: bool = False) -> None:
    """Tell the controller: back to ready, or hold where it is.

    It is told whatever its status says, which may be older than the run, and knows by the run's number
    whether this one still goes on. After a stop it is left alone: nothing may move then.
    """
    if stopped():
        return
    try:
        await robot.controller("end_run", run_id=run_id)
        if hold and not stopped() and robot.status().get("mode") not in DEALT_WITH:
            await robot.controller("stop", level="hold")
    except CommandError as error:
        if error.code != "no_such_run":  # it was never taken
            log.warning("run %d could not be ended (%s); the controller ends it by itself", run_id, error)
