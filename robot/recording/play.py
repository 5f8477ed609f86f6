"""Lets an arm play a recorded episode through the controller and its gate, live or in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robot.config import RobotConfig
from robot.controller import Controller
from robot.errors import CommandError, So101Error
from robot.recording.replay import Episode, ReplaySource, UnitMap
from robot.safety.clearance import Clearance
from robot.safety.faults import Severity
from robot.seams import Arm, Clock, FloatArray
from robot.way import safe_way

READY_TIMEOUT_S = 30.0
PARK_TIMEOUT_S = 30.0
APPROACH_TIMEOUT_S = 20.0


def play(
    episode: Episode,
    units: UnitMap,
    config: RobotConfig,
    arm: Arm,
    *,
    clock: Clock | None = None,
    clearance: Clearance,
    park: bool = True,
) -> FloatArray:
    """Start the arm, bring it to the episode's first pose, play the actions, park it.

    An interrupt (Ctrl-C) parks the arm as well. A fault does not: the arm has done what that fault asks for,
    and nothing moves it before a person has looked.

    Args:
        episode: what to play, in the recording's units.
        units: from these to the arm's.
        config: limits, rate and poses of the arm.
        arm: the arm, connected; nobody else may use it.
        clock: the arm's time; the machine's by default.
        clearance: room that a pose in user units leaves, for the gate (``unlimited`` on a bare twin).
        park: whether to park and let go in the end; otherwise the arm holds, as after a fault.

    Returns:
        Measured positions at the recording's frames, in its units, shape (frames, 6).

    Raises:
        CommandError: the controller refused to start.
        So101Error: a fault ended the replay; the message names it and its remedy.
    """
    low, high = config.gate.min_position.array(), config.gate.max_position.array()

    def way(start: FloatArray, end: FloatArray) -> Sequence[FloatArray]:
        return safe_way(start, end, clearance, low, high)

    source = ReplaySource(
        units.to_user(episode.action),
        episode.fps,
        config.control_hz,
        first_pose=units.to_user(episode.state[0]),
        way=way,
        ramp_velocity=config.ramp_velocity_dps,
    )
    controller = Controller(
        config, arm, clearance=clearance, sources={"replay": lambda _: source}, clock=clock
    )
    controller.adopt()
    try:
        _command(controller, {"op": "start"})
        _until(controller, lambda: controller.modes.mode == "ready", READY_TIMEOUT_S, "getting ready")
        length_s = episode.frames / episode.fps + APPROACH_TIMEOUT_S
        run = {"op": "run", "run_id": 1, "source": "replay", "args": {}, "max_duration_s": length_s}
        _command(controller, run)
        _until(controller, lambda: source.done, length_s + 1.0, "playing the episode")
    finally:
        if park and not controller.faults.stops():
            controller.command({"op": "stop", "level": "park"})
            _until(controller, lambda: not controller.modes.driven, PARK_TIMEOUT_S, "parking")
    return units.from_user(source.state_at_frames())


def _command(controller: Controller, command: dict[str, object]) -> None:
    answer = controller.command(command)
    if not answer["ok"]:
        raise CommandError(f"{command['op']} was refused: {answer['message']}", code=answer["code"])


def _until(controller: Controller, reached: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Run the loop until something is so; where the arm has stopped before that, or time is up, raise."""
    modes, end_s = controller.modes, controller.clock.now_s() + timeout_s

    def keep_going() -> bool:
        stopped = modes.mode in ("fault", "hold") and (controller.gate.at_rest or not modes.driven)
        return not (reached() or stopped or controller.clock.now_s() > end_s)

    controller.run(keep_going)
    if reached():
        return
    if modes.mode not in ("fault", "hold"):
        raise So101Error(f"the arm was not done {what} within {timeout_s:.0f} s ({modes.reason})")
    found = [fault.finding for fault in controller.faults if fault.finding.severity >= Severity.HOLD]
    why = "; ".join(f"{finding.message} ({finding.remedy})" for finding in found) or modes.reason
    holds = "; it holds where it is" if found and modes.driven else ""
    raise So101Error(f"the arm stopped while {what}: {why}{holds}")
