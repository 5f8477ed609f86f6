"""The live gait: the world in real time behind two serial ports and a control socket.

One process, one thread, one loop: it steps the physics at absolute deadlines, answers the bus when a wire
would, and takes commands. Rendering is another process (:mod:`robot.twin.camera_server`), so no picture
makes a servo late.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.errors import CommandError, So101Error, TwinError
from robot.joints import JOINTS
from robot.mailbox import Mailbox, from_json, to_json
from robot.registers import FILE_SIZE
from robot.seqlock import SharedBlock
from robot.twin import child, render_state
from robot.twin.adapters import Adapters
from robot.twin.bus_faults import BusFaults
from robot.twin.camera_faults import CameraEvent, CameraTrouble
from robot.twin.camera_process import CameraProcess
from robot.twin.emulator import BusEmulator
from robot.twin.faults import Arm, Event, FaultEvent, load_faults, parse_fault
from robot.twin.goal_log import GoalLog
from robot.twin.servo import ServoBank
from robot.twin.wire import PtyWire
from robot.twin.world import World, WorldConfig

MAX_LAG_S = 0.05
"""Physics that is later than this is not made up for: a world that races after a stall would fling the
arm.
"""

MAX_MESSAGE = 1000
"""Longest message of a refusal in characters."""
HOUSEKEEPING_S = 1.0
_PUBLISH_EVERY = 2  # steps: 150 Hz, five times the frame rate


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live twin is started.

    Attributes:
        seed: of what is drawn: which answers an unreliable bus spoils.
        camera_delay_ms: from the moment a picture shows to the moment it can be fetched.
        cameras: whether there are any.
        camera_port: TCP port on the loopback address, 0 for any free one.
        faults: script of things that go wrong, see :mod:`robot.twin.faults`.
        die_with_parent: end when the process that started this one ends.
        bare: nothing can be touched, see ``WorldConfig.bare``.
        factory: servos as they left the factory, see ``WorldConfig.factory``.
    """

    seed: int = 0
    camera_delay_ms: float = 30.0
    cameras: bool = True
    camera_port: int = 0
    faults: Path | None = None
    die_with_parent: bool = False
    bare: bool = False
    factory: bool = False


class LiveTwin:
    """World, wires and control socket, and the loop that keeps them in real time.

    Args:
        world: the world to run.
        folder: where the control socket lies; its name also names the shared memory.
        faults: events in the order of their times.
        seed: of what is drawn.

    Raises:
        ConfigError: an event names a servo that is not there and that no earlier event makes.
    """

    def __init__(self, world: World, folder: Path, faults: list[Event], seed: int = 0) -> None:
        self.world = world
        self.banks: dict[Arm, ServoBank] = {"follower": world.follower, "leader": world.leader}
        given = set[tuple[Arm, int | None]]()
        for event in faults:
            if isinstance(event, FaultEvent):
                if (event.arm, event.servo_id) not in given:
                    event.check(self.banks[event.arm])
                given.add((event.arm, event.new_id))
        self.goal_log = GoalLog()
        self.wires: dict[str, PtyWire] = {
            arm: PtyWire(BusEmulator(bank, on_goal=self.goal_log.recorder(arm)))
            for arm, bank in self.banks.items()
        }
        self.adapters = Adapters(self.wires, folder / "by-id")
        self.camera_trouble = CameraTrouble(f"{folder.name}-camera-faults")
        self.mailbox = Mailbox(folder / "control.sock")
        self.block_name = f"{folder.name}-render"
        self.block = SharedBlock.create(self.block_name, render_state.block_size(world.render_size))
        self.skipped_s = 0.0
        """Real time that the world did not live through because the machine was too busy."""
        self._faults = list(faults)
        self._cameras: CameraProcess | None = None
        self._mend_buses(seed)
        self._publish()

    def open_cameras(self, delay_ms: float, port: int, ended: threading.Event) -> dict[str, str]:
        """Start the process that renders: camera name -> address. Raises TwinError where it cannot render."""
        arguments = ["--block", self.block_name, "--faults-block", self.camera_trouble.name]
        self._cameras = CameraProcess([*arguments, "--delay-ms", str(delay_ms)], port)
        return self._cameras.urls(ended)

    def warm_up(self) -> None:
        """What takes longer than a client waits for its first answer; before anybody is told of the ports."""
        child.be_prompt()
        for bank in self.banks.values():
            for servo_id in bank.ids:
                bank.read(servo_id, 0, FILE_SIZE)
        self.world.step()
        gc.collect()
        gc.freeze()  # what exists now lives as long as the twin; later collections stay short

    def run(self, ended: threading.Event) -> None:
        """Live until ``ended`` is set."""
        start_s = time.monotonic()
        step_s, housekeeping_s = start_s, start_s
        steps = 0
        while not ended.is_set():
            now_s = time.monotonic()
            if now_s - step_s > MAX_LAG_S:
                self.skipped_s += now_s - step_s
                step_s = now_s
            if now_s >= step_s:
                # One step for each look at the wires: catching up must not make an answer wait.
                self.world.step()
                step_s += self.world.timestep_s
                steps += 1
                if steps % _PUBLISH_EVERY == 0:
                    self._publish()
            if now_s >= housekeeping_s:
                housekeeping_s = now_s + HOUSEKEEPING_S
                for wire in self._plugged():
                    wire.free_dead_claim()
                if self._cameras is not None:
                    self._cameras.keep_alive()
            while self._faults and now_s - start_s >= self._faults[0].at_s:
                self._apply_scripted(self._faults.pop(0))
            self._serve(step_s)

    def close(self) -> None:
        """End the cameras, unplug the ports, remove the socket and the shared memory."""
        if self._cameras is not None:
            self._cameras.close()
        self.adapters.close()
        self.camera_trouble.close()
        self.mailbox.close()
        self.block.close()
        self.block.unlink()

    def _serve(self, until_s: float) -> None:
        """Wait for requests no longer than until the next physics step or due answer."""
        wires = self._plugged()
        due = [s for s in (wire.emulator.next_due_s for wire in wires) if s is not None]
        wait_s = max(0.0, min([until_s, *due]) - time.monotonic())
        everybody: list[PtyWire | Mailbox] = [*wires, self.mailbox]
        ready, _, _ = select.select(everybody, [], [], wait_s)
        for wire in wires:
            if wire in ready:
                wire.receive(time.monotonic())
            wire.send_due(time.monotonic())
        if self.mailbox in ready:
            for payload, address in self.mailbox.drain():
                self.mailbox.reply(address, self._answer(payload))

    def _plug(self, arm: Arm, joints: list[str] | None) -> None:
        names = list(JOINTS) if joints is None else joints
        unknown = set(names) - set(JOINTS)
        if unknown:
            raise CommandError(f"no joints {sorted(unknown)}, there are {list(JOINTS)}", code="malformed")
        self.banks[arm].plug({JOINTS.index(name) for name in names})

    def _mend_buses(self, seed: int) -> None:
        for index, wire in enumerate(self.wires.values()):
            wire.emulator.faults = BusFaults(rng=np.random.default_rng([seed, index]))

    def _plugged(self) -> list[PtyWire]:
        return [wire for wire in self.wires.values() if wire.plugged]

    def _publish(self) -> None:
        render_state.publish(self.block, time.monotonic(), self.world.render_state())

    def _apply(self, event: Event) -> None:
        if isinstance(event, CameraEvent):
            self.camera_trouble.happen(event)
            return
        match event.kind:
            case "unplug" | "replug" | "rename" | "swap" as kind:
                self.adapters.happen(kind, event.arm)
            case _:
                event.apply(self.banks[event.arm], self.wires[event.arm].emulator.faults)

    def _apply_scripted(self, event: Event) -> None:
        """As :meth:`_apply`; a servo may have got another id meanwhile, which ends no session."""
        try:
            self._apply(event)
        except (So101Error, OSError) as error:
            sys.stderr.write(f"fault at {event.at_s:g} s left out: {error}\n")

    def _answer(self, payload: bytes) -> bytes:
        try:
            return to_json({"ok": True} | self._command(from_json(payload)))
        except CommandError as error:
            return _refusal(error.code, str(error))
        except (So101Error, OSError) as error:  # the machine may have no port left to give
            return _refusal("refused", str(error))
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            return _refusal("malformed", f"{type(error).__name__}: {error}")

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        world = self.world
        match command.pop("op", None):
            case "truth":
                return world.truth() | {"time_s": world.time_s, "skipped_s": self.skipped_s}
            case "place_cube":
                world.place_cube(**_floats(command, "x_m", "y_m", "yaw_rad"))
            case "place_confuser":
                world.place_confuser(**_floats(command, "x_m", "y_m", "yaw_rad"))
            case "remove_confuser":
                world.remove_confuser()
            case "place_board":
                world.place_board(**command)
            case "place_marker":
                marker = int(command.pop("marker"))
                world.props.place_marker(marker, **_floats(command, "x_m", "y_m", "yaw_rad"))
            case "place_disc":
                world.props.place_disc(**_floats(command, "x_m", "y_m"))
            case "remove_disc":
                world.props.remove_disc()
            case "remove_props":
                world.props.remove()
            case "leader":
                world.set_leader(np.array(command["user"], dtype=np.float64))
            case "hand":
                user = command["user"]
                world.hold(_arm(command), None if user is None else np.array(user, dtype=np.float64))
            case "plug":
                self._plug(_arm(command), command["joints"])
            case "reset":
                self._mend_buses(int(command.get("seed", 0)))
                world.reset()
                self.adapters.mend()
                self.camera_trouble.happen(CameraEvent(kind="camera_ok"))
            case "fault":
                self._apply(parse_fault(command))
                return world.truth() | {"applied_s": time.monotonic()}
            case "goal_log":
                return self.goal_log.page(int(command.get("after", 0)))
            case unknown:
                raise CommandError(f"no operation {unknown!r}", code="unknown_op")
        return world.truth()


def _refusal(code: str, message: str) -> bytes:
    """The answer to a command that was not carried out; what it quotes is cut to what a datagram carries."""
    return to_json({"ok": False, "code": code, "message": message[:MAX_MESSAGE]})


def _arm(command: dict[str, Any]) -> Arm:
    match command["arm"]:
        case "follower":
            return "follower"
        case "leader":
            return "leader"
        case other:
            raise CommandError(f"no arm {other!r}: follower and leader are", code="malformed")


def _floats(command: dict[str, Any], *names: str) -> dict[str, float]:
    unknown = set(command) - set(names)
    if unknown:
        raise CommandError(f"unknown keys {sorted(unknown)}, known are {list(names)}", code="malformed")
    return {name: float(value) for name, value in command.items()}


def run_live(options: LiveOptions) -> None:
    """Run a twin until SIGTERM or SIGINT; its first line on stdout says where everything is.

    The line is ``{"follower", "leader", "by_id": {arm: link}, "cameras": {name: url}, "control", "pid"}``.
    A link of ``by_id`` goes on leading to an arm's port when its adapter was plugged in anew.

    Raises:
        ConfigError: the fault script cannot be read or names a servo that is not there.
        TwinError: the cameras cannot render; the message names what to install.
    """
    if options.die_with_parent:
        child.die_with_parent()
    faults = [] if options.faults is None else load_faults(options.faults)
    # From here on a signal only asks: what has been made is removed again, however far the start has come.
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    folder = Path(tempfile.mkdtemp(prefix="so101-twin-"))
    twin: LiveTwin | None = None
    try:
        world = World(WorldConfig(bare=options.bare, factory=options.factory))
        twin = LiveTwin(world, folder, faults, options.seed)
        urls: dict[str, str] = {}
        if options.cameras:
            urls = twin.open_cameras(options.camera_delay_ms, options.camera_port, ended)
        twin.warm_up()
        child.announce(
            {
                "follower": twin.wires["follower"].path,
                "leader": twin.wires["leader"].path,
                "by_id": twin.adapters.by_id,
                "cameras": urls,
                "control": str(twin.mailbox.path),
                "pid": os.getpid(),
            }
        )
        twin.run(ended)
    except TwinError:
        if not ended.is_set():
            raise
    finally:
        if twin is not None:
            twin.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Entry of ``python -m robot.twin.live``; people use ``so101 twin``."""
    parser = argparse.ArgumentParser(description="The live digital twin of an SO-101.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--camera-port", type=int, default=0)
    parser.add_argument("--no-cameras", action="store_true")
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--die-with-parent", action="store_true")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--factory", action="store_true")
    given = parser.parse_args()
    options = LiveOptions(
        seed=given.seed,
        camera_delay_ms=given.delay_ms,
        cameras=not given.no_cameras,
        camera_port=given.camera_port,
        faults=given.faults,
        die_with_parent=given.die_with_parent,
        bare=given.bare,
        factory=given.factory,
    )
    try:
        run_live(options)
    except So101Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
