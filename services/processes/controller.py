"""The controller's process: ``python -m services.processes.controller RUNTIME_FOLDER``.

Owns the bus and runs the one control loop. No HTTP, no model, no camera. An arm that cannot be opened is a
fault that names the reason, and is tried again; it does not end the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from inference.source import PolicySource
from inference.tool_space import DrivenArm
from robot.calibration_file import load_calibration
from robot.config import RobotConfig, load_robot
from robot.controller import Controller
from robot.errors import BusError, CommandError, ConfigError, PortError, So101Error
from robot.kinematics import Kinematics
from robot.mailbox import Mailbox
from robot.model import load_arm
from robot.modes import Modes
from robot.realtime import Housekeeping, favour_this_process
from robot.reopening import InBackground
from robot.runs import SourceFactory
from robot.runtime import Runtime
from robot.safety.clearance import ArmClearance, Clearance
from robot.seams import Arm, ArmState, FloatArray, Source
from robot.seqlock import SharedBlock
from robot.servo_arm import ServoArm
from robot.standing_thread import StandingThread
from robot.telemetry import TelemetryRing
from robot.teleop.jog import HandJog
from robot.teleop.leader import LeaderReader, LeaderSource, engagement
from robot.teleop.source import TeleopSource
from robot.trajectory import Motion
from services.ports import follower_port, leader_port

READ_SHARE = 0.6
"""Part of a tick after which a servo that has not answered is not asked again."""
STATUS_BYTES = 32 * 1024
HEARTBEAT_TIMEOUT_S = 2.0
PARK_S = 12.0
"""Longest time that parking may take after SIGTERM; then the arm is left holding where it is."""

log = logging.getLogger(__name__)


class AbsentArm:
    """Stands for an arm that could not be opened; says why whenever it is asked anything."""

    def __init__(self, reason: So101Error) -> None:
        self._reason = reason

    def _fail(self) -> NoReturn:
        raise PortError(str(self._reason)) from self._reason

    def read(self) -> ArmState:
        """Raises PortError."""
        self._fail()

    def write(self, goal: FloatArray) -> None:
        """Raises PortError."""
        self._fail()

    def enable(self) -> FloatArray:
        """Raises PortError."""
        self._fail()

    def release(self) -> None:
        """Raises PortError."""
        self._fail()

    def torque_enabled(self) -> bool:
        """Raises PortError."""
        self._fail()

    def close(self) -> None:
        """Nothing to let go of."""


def arm_opener(config: RobotConfig, calibration_file: Path, port: str) -> Callable[[], Arm]:
    """What opens an arm, now and after its port was lost; it raises So101Error."""

    def open_arm() -> Arm:
        calibration = load_calibration(calibration_file)
        return ServoArm.connect(port, calibration, read_within_s=READ_SHARE * config.dt_s)

    return open_arm


def source_factories(
    runtime: Runtime,
    config: RobotConfig,
    open_leader: Callable[[], Arm] | None,
    clearance: Clearance,
    motion: Callable[[], Motion],
    kinematics: Kinematics,
) -> dict[str, SourceFactory]:
    """What runs can be made of; the leader where there is one.

    Args:
        runtime: where the sources take what they are sent.
        config: of the robot.
        open_leader: opens the leader arm.
        clearance: room that a pose leaves; asked in the loop's own thread.
        motion: the gate's last command, and how it moves.
        kinematics: for the loop's own thread.
    """
    low, high = config.gate.min_position.array(), config.gate.max_position.array()
    jog = HandJog(load_arm(), clearance, low, high, config.dt_s)
    driven = DrivenArm(kinematics, motion, low, high, config.ramp_velocity_dps, config.control_hz)

    def policy(args: dict[str, Any]) -> Source:
        return PolicySource(runtime.chunk_socket, args, driven)

    def teleop(args: dict[str, Any]) -> Source:
        if args:
            raise ConfigError(f"the source teleop takes no arguments, not {', '.join(map(repr, args))}")
        return TeleopSource(runtime.teleop_socket, jog, motion, low, high, config.dt_s)

    factories: dict[str, SourceFactory] = {"policy": policy, "teleop": teleop}
    if open_leader is not None:
        thread = StandingThread("leader")

        def leader(args: dict[str, Any]) -> Source:
            engage = engagement(args)
            reader = LeaderReader(thread, open_leader, config.dt_s)
            return LeaderSource(reader, motion, low, high, config.dt_s, engage=engage)

        factories["leader"] = leader
    return factories


class Shutdown:
    """SIGTERM or ctrl-C: park, let go, and end; in bounded time.

    The park is asked for once. Whatever stops it, a person, a fault or a second signal, leaves the arm
    holding where it is.

    The kernel sends the same signal when the supervisor has died. Nobody has asked for a motion then: the
    arm is left holding its last goal, as after any crash.
    """

    def __init__(self) -> None:
        self._signals = 0
        self._parent = os.getppid()
        self._deadline_s: float | None = None

    def on_signal(self, number: int, stack: FrameType | None) -> None:
        """Signal handler."""
        self._signals += 1

    def keep_going(self, controller: Controller) -> bool:
        """Whether the loop has to go on; asked once per tick."""
        if self._signals == 0:
            return True
        modes, now_s = controller.modes, controller.clock.now_s()
        if os.getppid() != self._parent:
            log.warning("the supervisor is gone: the arm holds where it is")
            return False
        if not modes.driven:
            parked = self._signals == 1 and self._deadline_s is not None and now_s <= self._deadline_s
            if parked and modes.releasing:
                return True  # tried in each tick
            if modes.energised:
                log.warning("not driven (%s): what has torque goes on holding", modes.reason)
            return False
        if self._signals > 1:
            log.warning("asked again: the arm holds where it is")
            return False
        if self._deadline_s is None:
            return self._park(modes, now_s)
        if modes.mode != "parking":  # a person or a fault has stopped it, and they come first
            log.warning("parking was stopped (%s): the arm holds where it is", modes.reason)
            return False
        if now_s > self._deadline_s:
            log.warning("not parked in %.0f s: the arm holds where it is", PARK_S)
            return False
        return True

    def _park(self, modes: Modes, now_s: float) -> bool:
        """Ask for it, once; whether the arm is under way."""
        log.info("asked to end: parking the arm (Ctrl-C again stops it at once)")
        self._deadline_s = now_s + PARK_S
        try:
            modes.stop("park", now_s, "asked to end")
        except (BusError, CommandError) as error:
            log.warning("parking failed (%s): the arm holds where it is", error)
            return False
        return True


@contextlib.contextmanager
def logging_off_the_loop() -> Iterator[None]:
    """Log to stderr from another thread: a terminal that does not read must not stop the arm."""
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    writer = logging.StreamHandler()
    writer.setFormatter(logging.Formatter("%(asctime)s controller %(levelname)s %(message)s"))
    listener = logging.handlers.QueueListener(lines, writer)
    handler = logging.handlers.QueueHandler(lines)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


def serve(runtime: Runtime, shutdown: Shutdown) -> None:
    """Open everything and run the loop until ``shutdown`` says so. Raises So101Error, OSError, ValueError."""
    description = json.loads(runtime.description.read_text(encoding="utf-8"))
    config, folder = load_robot(description["robot"])
    port = follower_port(description, config)
    if port is None:
        raise PortError(f"robot {config.name} has no port: set one in its configuration")
    open_arm = arm_opener(config, folder / config.calibration, port)
    leads, open_leader = leader_port(description, config), None
    if leads is not None and config.leader_calibration is not None:
        open_leader = arm_opener(config, folder / config.leader_calibration, leads)
    kinematics = Kinematics()
    with contextlib.ExitStack() as stack:
        commands = stack.enter_context(contextlib.closing(Mailbox(runtime.controller_socket)))
        telemetry = stack.enter_context(contextlib.closing(TelemetryRing.create(runtime.telemetry_name)))
        status = stack.enter_context(SharedBlock.create(runtime.status_name, STATUS_BYTES))
        arm: Arm
        try:
            arm = open_arm()
        except So101Error as error:
            log.error("%s", error)
            arm = AbsentArm(error)
        reopen = InBackground(open_arm)
        clearance = ArmClearance(load_arm(), config.gate)
        sources = source_factories(
            runtime, config, open_leader, clearance, lambda: controller.gate.motion, kinematics
        )
        realtime = favour_this_process()  # the threads that those two start come before it
        controller = Controller(
            config,
            arm,
            clearance=clearance,
            tool_position_m=kinematics.tool_position_m,
            sources=sources,
            commands=commands,
            telemetry=telemetry.append,
            status=status.write,
            heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S,
            reopen=reopen,
            realtime=realtime,
        )
        controller.adopt()
        log.info("%d Hz on %s with %s", config.control_hz, port, realtime)
        controller.run(lambda: shutdown.keep_going(controller), Housekeeping(config.dt_s).after_tick)
        controller.close()


def main(arguments: list[str]) -> int:
    """Entry point; SIGTERM and ctrl-C park the arm first."""
    shutdown = Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, shutdown.on_signal)
    with logging_off_the_loop():
        if len(arguments) != 1:
            log.error("usage: python -m services.processes.controller RUNTIME_FOLDER")
            return 2
        try:
            serve(Runtime(Path(arguments[0])), shutdown)
        except (So101Error, OSError, ValueError, KeyError) as error:
            log.exception("the controller cannot run: %s", error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
