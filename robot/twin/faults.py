"""What can go wrong with the twin, switched on by tests, by hand, or by a script of faults.

A script is a YAML list, one mapping for each event::

    - {at_s: 5.0, kind: mute, servo_id: 4}
    - {at_s: 9.0, kind: unmute, servo_id: 4}
    - {at_s: 12.0, kind: supply, voltage_v: 5.1}

docs/twin.md has the table of kinds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from robot.config import Finite, StrictModel
from robot.errors import ConfigError
from robot.packets import MAX_ID
from robot.twin.adapters import PortKind
from robot.twin.bus_faults import BusFaults
from robot.twin.camera_faults import CameraEvent
from robot.twin.servo import ServoBank

Arm = Literal["follower", "leader"]

BusKind = Literal[
    "mute", "unmute", "lose", "corrupt", "truncate", "garbage", "unreliable", "delay", "echo"
]  # fmt: skip
ServoKind = Literal[
    "duplicate", "model", "baud", "register", "overload", "overload_deaf", "heat", "glitch", "supply",
    "reboot", "power_cycle", "stuck", "encoder",
]  # fmt: skip

_NEEDS: dict[str, tuple[str, ...]] = {
    "duplicate": ("value",),
    "model": ("value",),
    "baud": ("value",),
    "register": ("name", "value"),
    "encoder": ("ticks",),
}
"""What a kind needs beside ``servo_id``."""

_WITHOUT_SERVO = frozenset(("garbage", "unreliable", "delay", "echo", "supply", "power_cycle"))
"""Kinds of the whole bus."""

PORT_KINDS: frozenset[str] = frozenset(get_args(PortKind))
"""Kinds that happen to a USB adapter; a twin in lockstep has none."""


class FaultEvent(StrictModel):
    """One thing going wrong, or right again."""

    at_s: Finite = 0.0
    """Seconds after the twin started; of no meaning where the event is sent by hand."""
    arm: Arm = "follower"
    kind: BusKind | ServoKind | PortKind
    servo_id: int | None = Field(None, ge=0, le=MAX_ID)
    count: int = Field(1, ge=0, le=1000)
    """How many answers, bytes or readings."""
    value: int | None = None
    """The id, model number, baud code or register value."""
    name: str | None = None
    """A register's, as in robot/registers.py."""
    on: bool = True
    """For ``echo`` and ``stuck``: false ends it."""
    ticks: int | None = Field(None, ge=-4095, le=4095)
    lose_share: float = Field(0.0, ge=0, le=1)
    corrupt_share: float = Field(0.0, ge=0, le=1)
    delay_ms: float = Field(0.0, ge=0, le=1000)
    temperature_c: float = Field(80.0, ge=-20, le=150)
    voltage_v: float = Field(7.4, ge=3, le=25)
    """Not below 3 V, where a servo browns out: ``mute`` is what such a servo does."""

    @model_validator(mode="after")
    def _check(self) -> FaultEvent:
        needed = _NEEDS.get(self.kind, ()) + (("servo_id",) if self._of_a_servo else ())
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"kind {self.kind!r} needs {' and '.join(missing)}")
        if self.kind == "duplicate" and not 0 <= (self.value or 0) <= MAX_ID:
            raise ValueError(f"value {self.value} is no servo id, 0..{MAX_ID} are")
        return self

    @property
    def _of_a_servo(self) -> bool:
        return self.kind not in _WITHOUT_SERVO | PORT_KINDS

    @property
    def new_id(self) -> int | None:
        """The id that a servo has afterwards, if this gives one."""
        gives = self.kind == "duplicate" or (self.kind == "register" and self.name == "id")
        return self.value if gives else None

    def check(self, bank: ServoBank) -> None:
        """Raises ConfigError where the arm's bus has no such servo."""
        if not self._of_a_servo or self.servo_id is None:
            return
        try:
            bank.slots(self.servo_id)
        except KeyError as error:
            raise ConfigError(
                f"{self.kind}: no servo {self.servo_id} on the {self.arm}'s bus, it has {list(bank.ids)}"
            ) from error

    def apply(self, bank: ServoBank, faults: BusFaults) -> None:
        """Let it happen to one arm's servos and bus.

        Raises:
            ConfigError: there is no such servo or register, or it is a kind that happens to a USB adapter.
        """
        self.check(bank)
        if self.kind in PORT_KINDS:
            raise ConfigError(f"{self.kind} happens to a USB adapter, and only a live twin has one")
        if not self._apply_to_bus(faults):
            self._apply_to_servos(bank)

    def _apply_to_bus(self, faults: BusFaults) -> bool:
        servo_id = -1 if self.servo_id is None else self.servo_id
        match self.kind:
            case "mute":
                faults.muted.add(servo_id)
            case "unmute":
                faults.muted.discard(servo_id)
            case "lose":
                faults.lose[servo_id] = self.count
            case "corrupt":
                faults.corrupt[servo_id] = self.count
            case "truncate":
                faults.truncate[servo_id] = self.count
            case "garbage":
                faults.make_garbage(self.count)
            case "unreliable":
                faults.lose_share, faults.corrupt_share = self.lose_share, self.corrupt_share
            case "delay":
                faults.delay_s = self.delay_ms / 1000.0
            case "echo":
                faults.echo = self.on
            case _:
                return False
        return True

    def _apply_to_servos(self, bank: ServoBank) -> None:
        servo_id = -1 if self.servo_id is None else self.servo_id
        value, ticks = self.value or 0, self.ticks or 0
        match self.kind:
            case "duplicate":
                bank.force(servo_id, "id", value)
            case "model":
                bank.force(servo_id, "model_number", value)
            case "baud":
                bank.force(servo_id, "baud_rate", value)
            case "register":
                bank.force(servo_id, self.name or "", value)
            case "overload" | "overload_deaf":
                bank.overload(servo_id, deaf=self.kind == "overload_deaf")
            case "heat":
                bank.temperature_c[bank.slots(servo_id)] = self.temperature_c
            case "glitch":
                bank.glitch_temperature(servo_id, self.temperature_c, self.count)
            case "supply":
                bank.set_supply(self.voltage_v)
            case "reboot":
                bank.reboot(servo_id)
            case "power_cycle":
                bank.power_cycle()
            case "stuck":
                bank.block(servo_id, blocked=self.on)
            case "encoder":
                bank.shift_encoder(servo_id, ticks, self.count)


Event = Annotated[FaultEvent | CameraEvent, Field(discriminator="kind")]
"""One of a servo, a bus or an adapter, or one of a camera."""


def parse_fault(raw: Any) -> Event:
    """Check one decoded event. Raises ConfigError naming what is wrong."""
    event: Event = _validated(TypeAdapter(Event), raw, "fault")
    return event


def load_faults(path: Path) -> list[Event]:
    """Read a script of faults, in the order of their times.

    Raises:
        ConfigError: the file is absent, is no YAML list, or has an event that cannot be.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"no fault script can be read from {path}: {error}") from error
    if isinstance(raw, list):
        raw = [_with_on(event) for event in raw]
    events: list[Event] = _validated(TypeAdapter(list[Event]), raw, str(path))
    return sorted(events, key=lambda event: event.at_s)


def _with_on(event: Any) -> Any:
    """YAML reads the key ``on`` as true."""
    return {"on" if key is True else key: event[key] for key in event} if isinstance(event, dict) else event


def _validated(adapter: TypeAdapter[Any], raw: Any, name: str) -> Any:
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{name}: {problems}") from error
