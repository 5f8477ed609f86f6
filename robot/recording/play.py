"""Lets an arm play a recorded episode through the controller and its gate, live or in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robot.config import RobotConfig
from robot.controller import Controller
from robot.errors import CommandError, So101Error
from robot.recording.replay import Episode, ReplaySource, UnitMap
from robot.safety.clearance import Clearance
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

    Args:
        episode: what to play, in the recording's units.
        units: from these to the arm's.
        config: limits, rate and poses of the arm.
        arm: the arm, connected; nobody else may use it.
        clock: the arm's time; the machine's by default.
        clearance: room that a pose in user units leaves, for the gate (``unlimited`` on a bare twin).
        park: whether to park and let go in the end; otherwise the arm holds.

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
        _until(controller, lambda: controller.modes.mode == "ready", READY_TIMEOUT_S, "to get ready")
        length_s = episode.frames / episode.fps + APPROACH_TIMEOUT_S
        run = {"op": "run", "run_id": 1, "source": "replay", "args": {}, "max_duration_s": length_s}
        _command(controller, run)
        _until(controller, lambda: source.done, length_s + 1.0, "to play the episode")
    finally:
        if park:
            controller.command({"op": "stop", "level": "park"})
            _until(controller, lambda: not controller.modes.driven, PARK_TIMEOUT_S, "to park", faults=False)
    return units.from_user(source.state_at_frames())


def _command(controller: Controller, command: dict[str, object]) -> None:
    answer = controller.command(command)
    if not answer["ok"]:
        raise CommandError(f"{command['op']} was refused: {answer['message']}", code=answer["code"])


def _until(
    controller: Controller, reached: Callable[[], bool], timeout_s: float, what: str, *, faults: bool = True
) -> None:
    """Run the loop until something is so; a fault or the time-out ends it with an error."""
    end_s = controller.clock.now_s() + timeout_s
    stopped = False

    def keep_going() -> bool:
        nonlocal stopped
        stopped = faults and controller.faults.stops()
        return not (stopped or reached() or controller.clock.now_s() > end_s)

    controller.run(keep_going)
    if stopped:
        listed = "; ".join(f"{f.finding.message} ({f.finding.remedy})" for f in controller.faults)
        raise So101Error(f"the arm stopped while it was {what.removeprefix('to ')}: {listed}")
    if not reached():
        raise So101Error(f"the arm did not manage {what} within {timeout_s:.0f} s")
