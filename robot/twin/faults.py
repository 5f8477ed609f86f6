"""What can go wrong with the twin, switched on by tests, by hand, or by a script of faults.

A script is a YAML list, one mapping for each event::

    - {at_s: 5.0, kind: mute, servo_id: 4}
    - {at_s: 9.0, kind: unmute, servo_id: 4}
    - {at_s: 12.0, kind: supply, voltage_v: 5.1}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from robot.config import Finite, StrictModel
from robot.errors import ConfigError
from robot.packets import MAX_ID
from robot.twin.servo import ServoBank

Kind = Literal["mute", "unmute", "lose", "corrupt", "noise", "delay", "reboot", "heat", "supply"]

_NEEDS_SERVO = ("mute", "unmute", "lose", "corrupt", "reboot", "heat")


@dataclass(slots=True)
class BusFaults:
    """Faults of one emulated bus; the emulator looks at them whenever a servo answers."""

    muted: set[int] = field(default_factory=set)
    """Servos whose cable is out: they neither hear nor answer."""
    lose: dict[int, int] = field(default_factory=dict)
    """Servo id -> how many of its next answers are lost on the way."""
    corrupt: dict[int, int] = field(default_factory=dict)
    """Servo id -> how many of its next answers have a flipped bit."""
    noise: bytes = b""
    """Bytes that come once, before the next answer."""
    delay_s: float = 0.0
    """How late every answer arrives; a host that has long asked again gets the old answer first."""

    def on_the_way(self, servo_id: int, frame: bytes) -> bytes:
        """What is left of one answer when it reaches the host."""
        noise, self.noise = self.noise, b""
        if self._used_up(self.lose, servo_id):
            return noise
        if self._used_up(self.corrupt, servo_id):
            # The last data byte: header, id and length still look right, only the checksum knows.
            frame = frame[:-2] + bytes((frame[-2] ^ 0x10,)) + frame[-1:]
        return noise + frame

    @staticmethod
    def _used_up(counts: dict[int, int], servo_id: int) -> bool:
        left = counts.get(servo_id, 0)
        counts[servo_id] = max(0, left - 1)
        return left > 0


class FaultEvent(StrictModel):
    """One thing going wrong, or right again."""

    at_s: Finite = 0.0
    """Seconds after the twin started; of no meaning where the event is sent by hand."""
    arm: Literal["follower", "leader"] = "follower"
    kind: Kind
    """mute/unmute a servo; lose or corrupt ``count`` of its answers; ``count`` bytes of noise before the next
    answer; delay every answer; reboot a servo; heat one to ``temperature_c``; set all servos' supply."""
    servo_id: int | None = Field(None, ge=0, le=MAX_ID)
    count: int = Field(1, ge=0, le=1000)
    delay_ms: float = Field(0.0, ge=0, le=1000)
    temperature_c: float = Field(80.0, ge=-20, le=150)
    voltage_v: float = Field(7.4, ge=3, le=25)
    """Not below 3 V, where a servo browns out: ``mute`` is what such a servo does."""

    @model_validator(mode="after")
    def _check(self) -> FaultEvent:
        if self.kind in _NEEDS_SERVO and self.servo_id is None:
            raise ValueError(f"kind {self.kind!r} needs servo_id")
        return self

    def check(self, bank: ServoBank) -> None:
        """Raises ConfigError where the arm's bus has no such servo."""
        if self.kind in _NEEDS_SERVO and self.servo_id not in bank.ids:
            raise ConfigError(
                f"{self.kind}: no servo {self.servo_id} on the {self.arm}'s bus, it has {list(bank.ids)}"
            )

    def apply(self, bank: ServoBank, faults: BusFaults) -> None:
        """Let it happen to one arm's servos and bus. Raises as :meth:`check`."""
        self.check(bank)
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
            case "noise":
                faults.noise = b"\xff" * self.count
            case "delay":
                faults.delay_s = self.delay_ms / 1000.0
            case "reboot":
                bank.reboot(servo_id)
            case "heat":
                bank.temperature_c[bank.ids.index(servo_id)] = self.temperature_c
            case "supply":
                bank.set_supply(self.voltage_v)


def parse_fault(raw: Any) -> FaultEvent:
    """Check one decoded event. Raises ConfigError naming what is wrong."""
    event: FaultEvent = _validated(TypeAdapter(FaultEvent), raw, "fault")
    return event


def load_faults(path: Path) -> list[FaultEvent]:
    """Read a script of faults, in the order of their times.

    Raises:
        ConfigError: the file is absent, is no YAML list, or has an event that cannot be.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"no fault script can be read from {path}: {error}") from error
    events: list[FaultEvent] = _validated(TypeAdapter(list[FaultEvent]), raw, str(path))
    return sorted(events, key=lambda event: event.at_s)


def _validated(adapter: TypeAdapter[Any], raw: Any, name: str) -> Any:
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{name}: {problems}") from error
