"""Judges whether the arm is the one that its calibration file was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from robot.bus import JOINT_OF_ID
from robot.calibration_file import Calibration, load_calibration
from robot.errors import CalibrationError
from robot.fingerprint import CALIBRATED, KnownArm, Servo, identify
from services.doctor.report import Scope
from services.doctor.survey import Survey


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of an arm's calibration before its servos are asked."""

    path: Path | None
    calibration: Calibration | None
    error: CalibrationError | None = None

    @classmethod
    def from_file(cls, path: Path | None) -> Held:
        """Read the file, if there is one; an error is kept and told with the findings."""
        if path is None:
            return cls(None, None)
        try:
            return cls(path, load_calibration(path))
        except CalibrationError as error:
            return cls(path, None, error)


def check_calibration(scope: Scope, found: Survey, held: Held, known: list[KnownArm]) -> None:
    """Missing, unreadable, another arm's, or the other arm's of the two.

    Args:
        scope: of this arm.
        found: its servos.
        held: its file.
        known: files of arms that it may be mixed up with.
    """
    if held.error is not None:
        exists = held.path is not None and held.path.exists()
        code = "calibration_unreadable" if exists else "calibration_missing"
        scope.find(code, str(held.error), f"{scope.calibrate} makes a new one")
        scope.measured("calibration", False, "no file that can be used")
        return
    if not found.ids:
        return
    identity = identify(found.servos.values(), known)
    if held.calibration is None:
        _without_file(scope, found.servos, identity.role, identity.files)
        return
    differing = _differing(found.servos, held.calibration)
    scope.measured(
        "calibration",
        not differing,
        f"servos hold {held.path}" if not differing else f"{len(differing)} servos differ from {held.path}",
        hash=held.calibration.hash,
        differing=sorted(differing),
    )
    if not differing:
        return
    if identity.role not in ("unknown", scope.arm):
        _swapped(scope, identity.role, identity.files)
        return
    details = "; ".join(f"{joint}: {what}" for joint, what in differing.items())
    whose = f" They hold {identity.files[0]}." if identity.files else ""
    scope.find(
        "calibration_foreign",
        f"the servos do not hold {held.path}: {details}.{whose}",
        "give this arm's file with --calibration (the leader's with --leader-calibration), or calibrate it: "
        f"{scope.calibrate}",
        next(iter(differing)) if len(differing) == 1 else None,
    )


def _without_file(scope: Scope, servos: Mapping[int, Servo], role: str, files: tuple[str, ...]) -> None:
    if role not in ("unknown", scope.arm):
        _swapped(scope, role, files)
    elif files:
        scope.measured("calibration", True, f"servos hold {files[0]}")
    elif all(servo.registers["homing_offset"] == 0 for servo in servos.values()):
        scope.find(
            "calibration_missing", "the arm is not calibrated: no servo has a homing offset", scope.calibrate
        )
        scope.measured("calibration", False, "none")
    else:
        message = "the arm is calibrated, but no file known here is its own"
        option = "--leader-calibration" if scope.arm == "leader" else "--calibration"
        scope.advise("calibration_unknown", message, f"give its file with {option}, or {scope.calibrate}")


def _swapped(scope: Scope, role: str, files: tuple[str, ...]) -> None:
    if scope.report.has("arms_swapped", arm="follower") or scope.report.has("arms_swapped", arm="leader"):
        return  # two arms that changed places are one mistake
    why = f" (its servos hold {files[0]})" if files else ""
    scope.find(
        "arms_swapped",
        f"the arm on the {scope.arm}'s port is the {role}{why}",
        "exchange the two ports (port and leader_port in the robot's file, --port and --leader-port), or the "
        "two USB plugs",
    )


def _differing(servos: Mapping[int, Servo], calibration: Calibration) -> dict[str, str]:
    """Joint -> what its servo holds otherwise, for the servos that answer."""
    differing = {}
    for entry in calibration.joints.values():
        servo = servos.get(entry.id)
        if servo is None:
            continue
        wanted = zip(CALIBRATED, (entry.homing_offset, entry.range_min, entry.range_max), strict=True)
        wrong = [
            f"{name} is {servo.registers[name]}, not {value}"
            for name, value in wanted
            if servo.registers[name] != value
        ]
        if wrong:
            differing[JOINT_OF_ID.get(entry.id, f"servo {entry.id}")] = ", ".join(wrong)
    return differing
