"""``so101 calibrate arm``: move every joint from stop to stop, and the servos know their ranges and zeros."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from robot.calibration_file import Calibration, replace_calibration
from robot.config import load_robot
from robot.errors import CalibrationError, ConfigError
from robot.fingerprint import FOLLOWER_GRIPPER
from robot.joints import GRIPPER, JOINTS, SERVO_IDS
from services.cli.arm_port import Arm, ArmPort, arm_port, interruptible
from services.cli.sweep_view import ImaginaryHand, watch_sweep

if TYPE_CHECKING:
    from calibration.arm import Stored
    from robot.eeprom import SetupBus


def arm(
    port: Annotated[str | None, typer.Option(help="Serial port of the arm, see `so101 ports`.")] = None,
    robot: Annotated[
        str | None, typer.Option(help="Robot file, or 'twin': then an imaginary hand moves the joints.")
    ] = None,
    arm: Annotated[Arm, typer.Option(help="Which arm of the robot.")] = Arm.FOLLOWER,
    out: Annotated[
        Path | None, typer.Option(help="Calibration file to write (LeRobot's format, JSON).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking once the sweep is done.")] = False,
    foreign: Annotated[
        Path | None,
        typer.Option("--import", help="Instead of a sweep: a file of LeRobot (new or old) or phosphobot."),
    ] = None,
    nominal_ranges: Annotated[
        bool, typer.Option("--nominal-ranges", help="With --import: the model's ranges where none are known.")
    ] = False,
) -> None:
    """Measure an arm's ranges and zeros: homing offsets and limits into the servos, and a file.

    Torque is off; you move every joint from stop to stop and press ENTER. Only then is the homing computed,
    so no range can cross the servos' 0/4095. Nothing is written before you have agreed, and the servos get
    their old values back if anything goes wrong in between.
    """
    console = Console(highlight=False, soft_wrap=True)
    target = _target(out, robot, arm)
    with interruptible("nothing was written") as last_words:
        if foreign is not None:
            _import(console, foreign, target, port, robot, arm, nominal_ranges, yes, last_words)
            return
        with arm_port(port, robot, arm) as found:
            _calibrate(console, found, target, yes, last_words)


def _target(out: Path | None, robot: str | None, arm: Arm) -> Path:
    if out is not None:
        return out
    missing = ""
    if robot is not None:
        config, folder = load_robot(robot)
        named = config.calibration if arm is Arm.FOLLOWER else config.leader_calibration
        if config.kind == "serial" and named is not None:
            return folder / named
        missing = f"{robot} names no {arm.value}'s file: " if named is None else ""
    raise ConfigError(f"{missing}say with --out FILE where the calibration goes")


def _calibrate(console: Console, found: ArmPort, target: Path, yes: bool, last_words: list[str]) -> None:
    from calibration.arm import ArmSweep, energised, read_stored
    from calibration.sweep import FULL_TURN_JOINT, calibration_from, roll_limits_deg
    from robot.eeprom import SetupBus

    with SetupBus(found.path) as bus:
        stored = read_stored(bus)
        console.print(f"Six servos answer on {bus.path}.")
        if found.twin is None:  # whose leader has a follower's gripper
            _require_arm(console, bus, found.arm, yes)
        driven = energised(stored)
        if driven:
            _ask_to_hold(console, driven)
            bus.release()
        sweep = ArmSweep(bus, stored)
        watch_sweep(console, sweep, None if found.twin is None else ImaginaryHand(found.twin, found.arm))
        calibration = calibration_from(sweep.joints, sweep.offsets, str(target))
        spans_deg = {joint: one.span_deg for joint, one in sweep.joints.items()}
        console.print(_summary(calibration, spans_deg, stored))
        _write(console, bus, calibration, stored, target, yes, last_words)
    if found.arm is Arm.FOLLOWER:
        low, high = roll_limits_deg(spans_deg[FULL_TURN_JOINT])
        console.print(
            f"The gate keeps {FULL_TURN_JOINT} off its stops. In the robot's file: "
            f"gate.min_position.{FULL_TURN_JOINT}: {low:g}, gate.max_position.{FULL_TURN_JOINT}: {high:g}."
        )


def _require_arm(console: Console, bus: SetupBus, arm: Arm, yes: bool) -> None:
    """Ask where the gripper's servo is set up for the other arm: its calibration would be lost."""
    held = {name: bus.read(SERVO_IDS[JOINTS[GRIPPER]], name) for name in FOLLOWER_GRIPPER}
    found = Arm.FOLLOWER if held == FOLLOWER_GRIPPER else Arm.LEADER
    if found is arm:
        return
    has = "the limits" if found is Arm.FOLLOWER else "none of the limits"
    console.print(f"[yellow]Its gripper has {has} that `so101 setup-motors` gives a follower's.[/yellow]")
    if not yes and not typer.confirm(f"Is it the {arm.value} nevertheless?"):
        raise CalibrationError(f"nothing was written: give the {arm.value}'s port, or --arm {found.value}")


def _ask_to_hold(console: Console, driven: list[str]) -> None:
    if not sys.stdin.isatty():
        raise CalibrationError(
            f"the arm is energised ({', '.join(driven)}) and falls when it is released: park it first, "
            "or run this in a terminal with somebody to hold it"
        )
    console.print(
        f"[yellow]The arm is energised ({', '.join(driven)}) and falls when it is released.[/yellow]"
    )
    if not typer.confirm("Release it? You then have three seconds to hold it with both hands."):
        raise CalibrationError("the arm stays energised and was not calibrated")
    for second in (3, 2, 1):
        console.print(f"  released in {second} s")
        time.sleep(1.0)


def _summary(
    calibration: Calibration, spans_deg: dict[str, float], stored: dict[str, Stored] | None
) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("joint")
    for name in ("span", "range", "homing offset", "was"):
        table.add_column(name, justify="right")
    for joint, entry in calibration.joints.items():
        table.add_row(
            joint,
            f"{spans_deg[joint]:.1f}°",
            f"{entry.range_min}..{entry.range_max}",
            str(entry.homing_offset),
            "unknown" if stored is None else str(stored[joint].homing_offset),
        )
    return table


def _write(
    console: Console,
    bus: SetupBus,
    calibration: Calibration,
    stored: dict[str, Stored],
    target: Path,
    yes: bool,
    last_words: list[str],
) -> None:
    from calibration.arm import write_calibration
    from robot.eeprom import undisturbed

    _agree(f"Write this into the servos and to {target}?", yes)
    with undisturbed():  # less than a second; the servos and the file shall not disagree
        written = write_calibration(bus, calibration, stored)
        try:
            backup = replace_calibration(calibration, target)
        except CalibrationError as error:
            content = json.dumps(calibration.as_json())
            raise CalibrationError(
                f"{error}. The servos hold the new calibration; save it: {content}"
            ) from error
        last_words[0] = f"the calibration is in the servos and in {target}"
    console.print(f"Servos: {written} registers written, locked, read back. File: {target}.")
    _tell_backup(console, backup)
    console.print(f"The arm now reads {_pose(bus, calibration)}.")


def _tell_backup(console: Console, backup: Path | None) -> None:
    if backup is not None:
        console.print(f"The file that was there is now {backup}.")


def _agree(question: str, yes: bool) -> None:
    if yes:
        return
    if not typer.confirm(question):
        raise CalibrationError("nothing was written")


def _pose(bus: SetupBus, calibration: Calibration) -> str:
    import numpy as np

    ticks = np.array([bus.read(entry.id, "present_position") for entry in calibration.joints.values()])
    user = calibration.to_user(ticks)
    units = ["%" if i == GRIPPER else "°" for i in range(len(JOINTS))]
    return ", ".join(
        f"{joint} {value:.1f}{unit}" for joint, value, unit in zip(JOINTS, user, units, strict=True)
    )


def _import(
    console: Console,
    path: Path,
    target: Path,
    port: str | None,
    robot: str | None,
    arm: Arm,
    nominal: bool,
    yes: bool,
    last_words: list[str],
) -> None:
    from calibration.arm import energised, read_positions, read_stored
    from calibration.fitting import require_inside, require_possible, spans_deg
    from calibration.foreign import read_foreign
    from robot.eeprom import SetupBus

    foreign = read_foreign(path)
    console.print(f"{path} is in {foreign.title}.")
    for line in foreign.unknown:
        console.print(f"  It does not say {line}.")
    if port is None and robot is None:
        calibration = foreign.convert(nominal=nominal)
        require_possible(calibration)
        console.print(_summary(calibration, spans_deg(calibration), None))
        _agree(f"Write it to {target}?", yes)
        backup = replace_calibration(calibration, target)
        last_words[0] = f"the calibration is in {target}"
        _tell_backup(console, backup)
        console.print(f"Wrote {target}. The servos hold it once it is imported with --port.")
        return
    with arm_port(port, robot, arm) as found, SetupBus(found.path) as bus:
        stored = read_stored(bus)
        calibration = foreign.convert(stored, nominal=nominal)
        if energised(stored):
            raise CalibrationError(f"the arm is energised ({', '.join(energised(stored))}): park it first")
        require_possible(calibration)
        require_inside(calibration, stored, read_positions(bus))
        console.print(_summary(calibration, spans_deg(calibration), stored))
        _write(console, bus, calibration, stored, target, yes, last_words)
