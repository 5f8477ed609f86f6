"""``so101 ports``: the serial adapters of this machine, and which arm is behind which."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from robot.adapters import Adapter, find_adapters, given_adapters
from robot.bus import JOINT_OF_ID, FeetechBus
from robot.errors import PortError
from robot.fingerprint import Identity, KnownArm, Servo, identify, known_arms, read_servos
from robot.registers import MODEL_STS3215


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter and what is behind it; ``problem`` says why nobody could look."""

    adapter: Adapter
    servos: tuple[Servo, ...] = ()
    identity: Identity = field(default_factory=lambda: Identity("unknown", "not asked"))
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {
            "path": self.adapter.stable,
            "device": self.adapter.device,
            "chip": self.adapter.chip,
            "serial": self.adapter.serial,
            "role": self.identity.role,
            "evidence": self.identity.evidence,
            "calibrations": list(self.identity.files),
            "problem": self.problem,
            "servos": [
                {
                    "id": servo.servo_id,
                    "joint": JOINT_OF_ID.get(servo.servo_id),
                    "model": servo.registers["model_number"],
                    "firmware": servo.firmware,
                    "voltage_v": round(servo.voltage_v, 1),
                    "temperature_c": servo.registers["present_temperature"],
                    "homing_offset": servo.registers["homing_offset"],
                    "min_position": servo.registers["min_position"],
                    "max_position": servo.registers["max_position"],
                }
                for servo in self.servos
            ],
        }


def ports(
    port: Annotated[
        list[str] | None,
        typer.Option(help="Look at this port too, for instance the twin's; may be repeated."),
    ] = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="Calibration file that one of the arms may hold; may be repeated."),
    ] = None,
    robot: Annotated[
        list[str] | None, typer.Option(help="Robot file whose arm it may be; may be repeated.")
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install udev rules and join the serial group (needs root).")
    ] = False,
    root: Annotated[
        Path, typer.Option(help="With --install: the machine's root folder, for images.", hidden=True)
    ] = Path("/"),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Find the serial adapters and say which arm is behind which.

    Servos are read, never written. A port that is in use is named with its owner and left alone. The path
    printed for an arm is the one to put into a robot file: it stays when the adapter is plugged in anew.
    """
    if install:
        _install(root)
        return
    known = known_arms(calibration or (), robot or ())
    named = given_adapters(port or ())
    adapters = named + [a for a in find_adapters() if a.device not in {given.device for given in named}]
    found = tell_apart([look(adapter, known, asked=adapter in named) for adapter in adapters])
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in found], indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    if not found:
        console.print("No serial adapter is plugged in. Is the USB cable one that carries data?")
    for one in found:
        _show(console, one)


def look(adapter: Adapter, known: list[KnownArm], *, asked: bool = False) -> Found:
    """Read the servos behind an adapter; those of unknown make only where somebody ``asked`` for them."""
    if adapter.chip is None and not asked:
        return Found(adapter, problem="no chip that servo boards use: give --port to look nevertheless")
    try:
        with FeetechBus(adapter.stable) as bus:
            servos = read_servos(bus)
            illegible = bus.counters.dropped_bytes > 0
    except PortError as error:
        return Found(adapter, problem=str(error))
    return Found(adapter, servos, identify(servos, known, illegible=illegible))


def tell_apart(found: list[Found]) -> list[Found]:
    """Two arms that hold one calibration cannot be told apart by it; a guess would drive the wrong one."""
    files = [file for one in found for file in one.identity.files[:1]]
    double = {file for file in files if files.count(file) > 1}

    def honest(one: Found) -> Found:
        if not double & set(one.identity.files[:1]):
            return one
        why = f"{one.identity.evidence}, and so do another arm's: which is which cannot be told"
        return replace(one, identity=replace(one.identity, role="unknown", evidence=why))

    return [honest(one) for one in found]


def _show(console: Console, found: Found) -> None:
    adapter, identity = found.adapter, found.identity
    tags = [adapter.chip, None if adapter.device == adapter.stable else adapter.device]
    about = ", ".join(filter(None, tags))
    console.print(f"[bold]{adapter.stable}[/bold]" + (f"  [dim]{about}[/dim]" if about else ""))
    if found.problem is not None:
        console.print(f"  [yellow]{found.problem}[/yellow]\n")
        return
    colour = "yellow" if identity.role == "unknown" else "green"
    console.print(f"  [{colour}]{identity.role}[/{colour}]: {identity.evidence}")
    if found.servos:
        volts = [servo.voltage_v for servo in found.servos]
        ids = ", ".join(str(servo.servo_id) for servo in found.servos)
        firmware = ", ".join(sorted({servo.firmware for servo in found.servos}))
        span = f"{min(volts):.1f}" + (f" to {max(volts):.1f}" if max(volts) > min(volts) else "")
        console.print(f"  servos {ids}; {span} V; firmware {firmware}")
        for servo in found.servos:
            model = servo.registers["model_number"]
            if model != MODEL_STS3215:
                console.print(
                    f"  [yellow]servo {servo.servo_id} is no STS3215, its model is {model}[/yellow]"
                )
    console.print()


def _install(root: Path) -> None:
    from services import udev

    console = Console(soft_wrap=True, highlight=False)
    planned = udev.plan(root)
    if planned.done:
        console.print(
            f"Nothing to do: {planned.rules} is up to date and {planned.user} is in {planned.group}."
        )
        return
    machine = root == Path("/")
    if machine and os.geteuid() != 0:
        console.print("This needs root. It would")
        if planned.write:
            console.print(f"  write {planned.rules}:\n")
            console.print("\n".join(f"    {line}" for line in planned.text.splitlines()), markup=False)
            console.print()
        for command in planned.commands:
            console.print(f"  run {shlex.join(command)}")
        again = [sys.executable, "-m", "services.cli", "ports", "--install"]
        console.print(f"\nDo it with\n  sudo {shlex.join(again)}")
        raise typer.Exit(1)
    udev.install(planned, run=machine)
    if planned.write:
        console.print(f"Wrote {planned.rules}.")
    for command in planned.commands:
        console.print(f"{'Ran' if machine else 'Left out (another root)'}: {shlex.join(command)}")
    if any(command[0] == "usermod" for command in planned.commands):
        console.print(f"{planned.user} is in {planned.group} from the next login on: log out and in again.")
    console.print("Plug the adapters out and in again; then `so101 ports`.")
