"""One examination: which robot, then check after check."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from robot.adapters import find_adapters
from robot.calibration_file import load_calibration
from robot.config import CameraConfig, RobotConfig, config_root, load_robot
from robot.errors import PortError, So101Error
from robot.fingerprint import KnownArm, identify, known_arms
from robot.safety.limits import SupervisionLimits, supply
from robot.servo_arm import ServoArm
from robot.twin.client import TwinProcess
from services.doctor import condition, identity, machine, pictures, ports, servos
from services.doctor.report import Report, Role, Scope
from services.doctor.survey import MARGIN_S, Survey, sample, survey

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What ``so101 doctor`` was asked; see its ``--help``."""

    port: str | None = None
    leader_port: str | None = None
    calibration: Path | None = None
    leader_calibration: Path | None = None
    robot: str | None = None
    cameras: dict[str, str] = field(default_factory=dict)
    move: bool = False


@dataclass(slots=True)
class Patient:
    """What is examined, as far as it is known beforehand or found out on the way."""

    ports: dict[Role, str] = field(default_factory=dict)
    files: dict[Role, Path | None] = field(default_factory=dict)
    config: RobotConfig | None = None
    folder: Path = field(default_factory=Path)
    cameras: tuple[CameraConfig, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    robot: str | None = None
    """Where ``config`` is from, as ``--robot`` takes it."""

    def scope(self, report: Report, role: Role) -> Scope:
        """The report as seen from one arm."""
        return Scope(report, role, self.ports.get(role), self.files.get(role))


def examine(options: Options, progress: Progress = lambda _: None) -> Report:
    """Look at everything. Without ``move`` nothing is written to any servo.

    Raises:
        ConfigError, CalibrationError: a robot file that was named cannot be read.
        TwinError: the twin did not start.
    """
    with ExitStack() as stack:
        patient, name = _patient(options, stack, progress)
        report = Report(name)
        known = _known(patient)
        surveys: dict[Role, Survey] = {}
        for role, port in patient.ports.items():
            progress(f"{role} on {port}")
            found = _survey(patient.scope(report, role), port)
            if found is not None:
                surveys[role] = found
        for found in surveys.values():
            _adopt_robot(patient, known, found)
        for role, found in surveys.items():
            _examine_arm(patient.scope(report, role), patient, found, known)
        if options.move:
            progress("moving the follower")
            _move(patient.scope(report, "follower"), patient)
        if any(ports.is_usb(port) for port in patient.ports.values()):
            ports.check_rules(Scope(report))
        progress("cameras")
        references = pictures.read_calibrations(
            report, patient.config, patient.folder, patient.robot or "FILE"
        )
        if patient.cameras:
            pictures.check_cameras(report, patient.cameras, patient.sources, references)
        progress("machine")
        machine.check_machine(Scope(report), Path.cwd())
        return report


# -- which robot -------------------------------------------------------------------------------------------


def _patient(options: Options, stack: ExitStack, progress: Progress) -> tuple[Patient, str]:
    """What was asked for; without any port or robot, the adapters that are plugged in, else a twin."""
    patient = Patient(files={"follower": options.calibration, "leader": options.leader_calibration})
    given: dict[Role, str | None] = {"follower": options.port, "leader": options.leader_port}
    patient.ports = {role: port for role, port in given.items() if port is not None}
    name = options.robot
    if name is None and not patient.ports and not options.cameras:
        patient.ports = _plugged_in()
        name = None if patient.ports else "twin"
    if name is not None:
        patient.robot = name
        patient.config, patient.folder = load_robot(name)
        _of_config(patient, patient.config)
        if patient.config.kind == "twin" and not patient.ports:
            progress("starting a twin")
            twin = stack.enter_context(TwinProcess())
            patient.ports = {"follower": twin.by_id["follower"], "leader": twin.by_id["leader"]}
            patient.sources |= twin.cameras
    _cameras(patient, options, named=name is not None)
    return patient, name or ", ".join(patient.ports.values()) or "cameras"


def _of_config(patient: Patient, config: RobotConfig) -> None:
    """Fill what was not given with what the robot's file says."""
    by_config: dict[Role, str | None] = {"follower": config.port, "leader": config.leader_port}
    if not patient.ports:
        patient.ports = {role: port for role, port in by_config.items() if port is not None}
    files = {"follower": config.calibration, "leader": config.leader_calibration}
    for role in patient.files:
        name = files[role]
        if patient.files[role] is None and name is not None:
            patient.files[role] = patient.folder / name


def _cameras(patient: Patient, options: Options, *, named: bool) -> None:
    """Those given with ``--camera``, else those of a robot file that was named; a twin's only if it runs."""
    patient.sources |= options.cameras
    known = {camera.name: camera for camera in (patient.config.cameras if patient.config else ())}
    if options.cameras:
        patient.cameras = tuple(
            known.get(name) or CameraConfig(name=name, width_px=640, height_px=480, fps=30)
            for name in options.cameras
        )
    elif named:
        brings = patient.config is not None and patient.config.kind == "twin"  # where there is a twin
        there = [c for c in known.values() if not brings or c.source or c.name in patient.sources]
        patient.cameras = tuple(there)


def _plugged_in() -> dict[Role, str]:
    """Ports of the adapters that servo boards are built with; which arm is which is told by its servos."""
    from services.cli.ports import look, tell_apart

    known = known_arms()
    adapters = [adapter for adapter in find_adapters() if adapter.chip is not None]
    found = tell_apart([look(adapter, known) for adapter in adapters])
    chosen: dict[Role, str] = {}
    for one in sorted(found, key=lambda one: one.identity.role == "unknown"):
        role = one.identity.role
        free: list[Role] = [r for r in ("follower", "leader") if r not in chosen]
        if free:
            chosen[role if role != "unknown" and role in free else free[0]] = one.adapter.stable
    return chosen


def _known(patient: Patient) -> list[KnownArm]:
    """Files of arms that the servos may hold; those that cannot be read are told of elsewhere."""
    files: list[KnownArm] = []
    for role, path in patient.files.items():
        calibration = identity.Held.from_file(path).calibration
        if path is not None and calibration is not None:
            files.append(KnownArm(calibration, path, role))
    hashes = {arm.calibration.hash for arm in files}
    return [*(arm for arm in known_arms() if arm.calibration.hash not in hashes), *files]


def _adopt_robot(patient: Patient, known: list[KnownArm], found: Survey) -> None:
    """A robot's file whose calibration the servos hold says what their supply should be, and more."""
    if patient.config is not None:
        return
    held = set(identify(found.servos.values(), known).files)
    hashes = {arm.calibration.hash for arm in known if str(arm.path) in held}
    hashes |= {arm.calibration.hash for arm in known if arm.path in patient.files.values()}
    for file in sorted((config_root() / "robots").glob("*.yaml")):
        try:
            config, folder = load_robot(str(file))
            mine = identity.Held.from_file(folder / config.calibration).calibration
        except So101Error:
            continue
        if mine is not None and mine.hash in hashes:
            patient.config, patient.folder, patient.robot = config, folder, str(file)
            return


# -- one arm -----------------------------------------------------------------------------------------------


def _survey(scope: Scope, port: str) -> Survey | None:
    if not ports.check_port(scope, port):
        return None
    try:
        found = survey(port)
    except PortError as error:
        scope.find("port_failed", str(error), "unplug the adapter and plug it in again; try another cable")
        return None
    servos.check_presence(scope, found, port)
    return found


def _examine_arm(scope: Scope, patient: Patient, found: Survey, known: list[KnownArm]) -> None:
    port = patient.ports[scope.arm or "follower"]
    held = identity.Held.from_file(patient.files.get(scope.arm or "follower"))
    servos.check_models(scope, found)
    identity.check_calibration(scope, found, held, known)
    servos.check_registers(scope, found)
    if not found.ids:
        return
    try:
        timer_ms = ports.latency_timer_ms(port)
        samples = sample(port, found.ids)
    except PortError as error:
        scope.find("port_failed", str(error), "unplug the adapter and plug it in again; try another cable")
        return
    config = patient.config
    limit_c = SupervisionLimits().max_temperature_c if config is None else config.max_temperature_c
    follower = scope.arm == "follower"
    condition.check_supply(scope, samples, config.supply_v if config is not None and follower else None)
    condition.check_heat(scope, samples, found.servos, limit_c)
    condition.check_alarms(scope, samples)
    condition.check_bus(scope, samples, timer_ms)


def _move(scope: Scope, patient: Patient) -> None:
    """Move the follower, where all that is known of it is well."""
    port, config = patient.ports.get("follower"), patient.config
    path = patient.files["follower"]
    if port is None or config is None or path is None:
        scope.advise("not_moved", "limits or calibration are not known", "give --robot and --calibration")
        return
    if any(finding.arm == "follower" for finding in scope.report.findings):
        scope.advise("not_moved", "an arm with findings is not moved", "mend what was found first")
        return
    from services.doctor.motion import check_motion

    try:
        arm = ServoArm.connect(port, load_calibration(path), margin_s=MARGIN_S)
    except So101Error as error:
        scope.find("port_failed", str(error), "look again without --move")
        return
    try:
        check_motion(scope, arm, config, supply(config.supply_v))
    finally:
        arm.close()
