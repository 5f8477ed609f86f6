"""``so101 setup-motors``: six servos fresh from the bag become the six joints of an arm."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from robot.errors import BusError, ConfigError, PortError
from robot.joints import JOINTS, SERVO_IDS
from services.cli.arm_port import Arm, ArmPort, arm_port, interruptible

if TYPE_CHECKING:
    from calibration.motors import FoundServo
    from robot.eeprom import SetupBus


STOPPED = "no servo was left half written; run this again to go on"


def setup_motors(
    port: Annotated[str | None, typer.Option(help="Serial port of the arm, see `so101 ports`.")] = None,
    robot: Annotated[
        str | None,
        typer.Option(help="Robot file, or 'twin': servos fresh from the factory, and an imaginary hand."),
    ] = None,
    arm: Annotated[Arm, typer.Option(help="Which arm the servos are for.")] = Arm.FOLLOWER,
) -> None:
    """Give each servo its id, its baud rate and the settings of its joint, one servo at a time.

    From the gripper down to shoulder_pan: plug in the cable of that servo alone and press ENTER. Settings are
    written only where they differ, locked and read back. You may break off at any time and begin again.
    """
    console = Console(highlight=False, soft_wrap=True)
    with interruptible(STOPPED), arm_port(port, robot, arm, factory=True) as found:
        from calibration.motors import SETUP_ORDER
        from robot.eeprom import SetupBus

        follower = arm is Arm.FOLLOWER
        with SetupBus(found.path) as bus:
            console.print(f"Six servos of a {arm.value} on {bus.path}. Ctrl-C ends this at any time.")
            for number, joint in enumerate(SETUP_ORDER, start=1):
                _one(console, bus, found, number, joint, follower=follower)
            _together(console, bus, found, follower=follower)
    whose = "--robot twin" if found.twin is not None else f"--port {shlex.quote(found.path)}"
    console.print(f"[green]Done.[/green] Next: so101 calibrate arm --arm {arm.value} {whose} --out FILE")


def _one(console: Console, bus: SetupBus, found: ArmPort, number: int, joint: str, *, follower: bool) -> None:
    """Set up one joint's servo; what a person can mend is asked for again."""
    from calibration.motors import find_servo, set_up

    while True:
        _plug(
            console, found, f"[bold]{number}/{len(JOINTS)}  Connect only the {joint}'s servo[/bold]", [joint]
        )
        try:
            servo = find_servo(bus, joint, lambda what: console.print(f"  [dim]{what}[/dim]"))
            if not _is_right(console, servo, joint):
                continue
            changed = set_up(bus, joint, servo, follower=follower)
        except PortError:
            raise
        except BusError as error:
            if found.twin is not None:
                raise
            console.print(f"  [yellow]{error}[/yellow]")
            continue
        console.print(
            f"  found as servo {servo.servo_id} at {servo.baud} baud, becomes servo {SERVO_IDS[joint]}"
        )
        console.print(f"  [green]✓[/green] {', '.join(changed) or 'nothing to change'}")
        return


def _is_right(console: Console, servo: FoundServo, joint: str) -> bool:
    """Whether a servo that already has another joint's id is nevertheless meant; 1 is every new servo's."""
    taken = {servo_id: name for name, servo_id in SERVO_IDS.items()}.get(servo.servo_id)
    if servo.servo_id == 1 or taken in (None, joint):
        return True
    console.print(f"  [yellow]This servo has id {servo.servo_id}, which is the {taken}'s.[/yellow]")
    return typer.confirm(f"  Is it really to be the {joint}'s?")


def _together(console: Console, bus: SetupBus, found: ArmPort, *, follower: bool) -> None:
    from calibration.motors import check_all

    while True:
        _plug(
            console, found, "[bold]Connect all six in a chain: board, shoulder_pan, ..., gripper[/bold]", None
        )
        problems = check_all(bus, follower=follower)
        if not problems:
            console.print("  [green]✓[/green] all six answer, hold their settings and are locked")
            return
        for problem in problems:
            console.print(f"  [yellow]{problem}[/yellow]")
        if found.twin is not None:
            raise BusError("the six servos do not work together: " + "; ".join(problems))
        console.print("  A wrong value is not mended here: Ctrl-C, and run this again from the start.")


def _plug(console: Console, found: ArmPort, what: str, joints: list[str] | None) -> None:
    """Have cables plugged in, by a person or by the twin's imaginary hand."""
    if found.twin is not None:
        console.print(f"{what} [dim](an imaginary hand does)[/dim]")
        found.twin.plug(found.arm.value, joints)
        return
    console.print(f"{what}, then press ENTER.")
    if not sys.stdin.readline():
        raise ConfigError("stdin has ended, so nobody can press ENTER: run this in a terminal")
