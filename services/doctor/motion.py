"""Moves the follower a little, through the gate: play of the joints, and the supply under load.

Only for ``--move``. Each joint in turn goes some degrees to where there is room, and comes to one place from
both sides; where it then stands differs by what gears, dead zone and friction leave. Every tick is watched as
in the running service, and what would make that hold the arm ends the move here.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.config import RobotConfig
from robot.errors import BusError, So101Error
from robot.joints import GRIPPER, JOINTS
from robot.model import load_arm
from robot.safety.clearance import ArmClearance, Clearance
from robot.safety.faults import Finding, Severity
from robot.safety.gate import Gate
from robot.safety.limits import SupervisionLimits, Supply
from robot.safety.supervision import Supervisor
from robot.seams import ArmState, FloatArray, MonotonicClock
from robot.servo_arm import ServoArm
from services.doctor.report import Scope

STEP = 4.0
"""User units to either side of the place that is approached."""
SPEED = 20.0
"""User units per second."""
SETTLE_S = 0.5
"""The servos need a tenth of a second to follow, a swinging arm some more."""
BACKLASH_DEG = 6.0
"""Gears have 0.6 to 1.3 degrees; friction at the servos' low gain adds to it, on the healthy twin up to 4 at
the pan, which nothing pulls to one side. The figures are told in any case."""
STUCK = 5.0
"""User units by which a joint may stay behind: twice the sag of a loaded one, less than it is sent."""
ROUNDING_M = 1e-4
_GLANCES = 3
"""Voltages of which the middle one counts: single readings lie."""
_SUPPLY = "use a supply that gives 5 A, and shorter or thicker wires to it"
_OBSTACLE = "look for an obstacle, a cable that holds it, or a loose horn"
_CODES = {
    "overheated": "servo_hot",
    "voltage_low": "supply_sags",
    "voltage_high": "supply_high",
    "encoder_error": "encoder_alarm",
    "over_current": "over_current_latched",
    "overload": "overload_latched",
    "following_error": "joint_stuck",
    "stalled": "joint_stuck",
}
"""What the supervisor calls it -> what the doctor calls it, where that differs."""
_REMEDIES = {"supply_sags": _SUPPLY} | dict.fromkeys(
    ("over_current_latched", "overload_latched", "joint_stuck"), _OBSTACLE
)
"""The supervisor's own are for a running service."""


class StoppedError(So101Error):
    """The arm may not be moved on."""

    def __init__(self, code: str, message: str, remedy: str, joint: str | None) -> None:
        super().__init__(message)
        self.code, self.remedy, self.joint = code, remedy, joint

    @classmethod
    def by(cls, finding: Finding) -> StoppedError:
        """For what the supervisor has found."""
        code = _CODES.get(finding.code, finding.code)
        remedy = _REMEDIES.get(code, finding.remedy)
        return cls(code, f"{finding.message}, while the arm moved", remedy, finding.joint)


class Mover:
    """Drives an energised arm slowly from pose to pose, under supervision.

    Attributes:
        lowest_v: lowest voltage that any servo has shown, as the middle one of three readings.
    """

    def __init__(self, arm: ServoArm, config: RobotConfig, clearance: Clearance, start: FloatArray) -> None:
        self._arm, self._dt_s, self._clock = arm, config.dt_s, MonotonicClock()
        self._gate = Gate(config.gate, config.dt_s, clearance)
        self._gate.reset(start)
        self._gate.top_speed = SPEED
        limits = SupervisionLimits(max_temperature_c=config.max_temperature_c, supply_v=config.supply_v)
        self._supervisor = Supervisor(limits, config.dt_s)
        self._volts: deque[FloatArray] = deque(maxlen=_GLANCES)
        self.lowest_v = np.inf

    def go(self, pose: FloatArray) -> FloatArray:
        """Go there and come to rest; where the joints then are, user units.

        Raises:
            BusError: a servo, or the port, is lost.
            StoppedError: something is wrong from which a service would hold the arm: it stays where it is.
        """
        resting, deadline_s = 0, self._clock.now_s()
        while True:
            command = self._gate.check(pose).command
            self._arm.write(command)
            state = self._arm.read()
            self._look(state, command)
            resting = resting + 1 if self._gate.at_rest else 0
            if resting * self._dt_s > SETTLE_S:
                break
            deadline_s = max(deadline_s + self._dt_s, self._clock.now_s())
            self._clock.sleep_until_s(deadline_s)
        limp = self._arm.limp_joints()
        if limp:  # and no goal any more: a servo that restarted is where it has fallen to
            raise StoppedError(
                "supply_sags", f"{', '.join(limp)} lost torque while the arm moved", _SUPPLY, limp[0]
            )
        return state.position

    def _look(self, state: ArmState, command: FloatArray) -> None:
        self._volts.append(state.voltage_v)
        if len(self._volts) == _GLANCES:
            self.lowest_v = min(self.lowest_v, float(np.median(self._volts, axis=0).min()))
        found = self._supervisor.look(state, command)
        worst = max(found, key=lambda finding: finding.severity, default=None)
        if worst is not None and worst.severity >= Severity.HOLD:
            self._arm.write(state.position)
            raise StoppedError.by(worst)


def check_motion(scope: Scope, arm: ServoArm, config: RobotConfig, row: Supply) -> None:
    """Energise, move each joint to and fro, go back; limp afterwards if no joint held anything before.

    Args:
        scope: of the follower.
        arm: it, standing or held so that it does not fall.
        config: limits, rate, margins.
        row: what its supply should be.
    """
    clearance = ArmClearance(load_arm(), config.gate)
    limp = False
    try:
        limp = set(arm.limp_joints()) == set(JOINTS)
        rest_v = float(np.median([arm.read().voltage_v for _ in range(_GLANCES)], axis=0).min())
        start = arm.enable()
        mover = Mover(arm, config, clearance, start)
        play = _play(scope, mover, config, clearance, start)
        mover.go(start)
    except BusError as error:
        _lost(scope, "while the arm moved", error)
        return
    except StoppedError as stopped:
        scope.find(stopped.code, str(stopped), stopped.remedy, stopped.joint)
        return
    finally:
        if limp:
            _release(scope, arm)
    loose = {joint: degrees for joint, degrees in play.items() if degrees > BACKLASH_DEG}
    for joint, degrees in loose.items():
        remedy = "tighten the screws of its horn and of the links; if that does not help, replace its servo"
        scope.find("backlash", f"{joint} has {degrees:.1f} degrees of play", remedy, joint)
    worst = ", ".join(f"{joint} {degrees:.1f}" for joint, degrees in play.items())
    scope.measured(
        "backlash", not loose, f"degrees: {worst}", degrees={j: round(d, 2) for j, d in play.items()}
    )
    sag_v = rest_v - mover.lowest_v
    ok = mover.lowest_v >= row.sag_v
    measured = f"{mover.lowest_v:.1f} V while moving, {sag_v:.1f} V less than at rest"
    scope.measured("supply under load", ok, measured, lowest_v=mover.lowest_v, sag_v=round(sag_v, 2))
    if not ok:
        scope.find("supply_sags", f"the servos have only {mover.lowest_v:.1f} V while they move", _SUPPLY)


def _release(scope: Scope, arm: ServoArm) -> None:
    try:
        arm.release()
    except BusError as error:
        if not scope.has("lost_moving"):
            _lost(scope, "while the arm was released", error)


def _lost(scope: Scope, when: str, error: BusError) -> None:
    scope.find("lost_moving", f"{when}: {error}", "check the plugs that move with the arm")


def _play(
    scope: Scope, mover: Mover, config: RobotConfig, clearance: Clearance, start: FloatArray
) -> dict[str, float]:
    """Joint -> difference between the places it stands at, for the joints that have room."""
    play: dict[str, float] = {}
    for i, joint in enumerate(JOINTS):
        place = _room(config, clearance, start, i)
        if place is None:
            continue
        ends = [_at(place, i, place[i] + side * STEP) for side in (-1.0, 1.0)]
        stood = []
        for end in ends:
            mover.go(end)
            stood.append(float(mover.go(place)[i]))
        mover.go(start)
        if max(abs(where - float(place[i])) for where in stood) > STUCK and i != GRIPPER:
            scope.find("joint_stuck", f"{joint} does not go where it is sent", _OBSTACLE, joint)
        elif i != GRIPPER:
            play[joint] = abs(stood[1] - stood[0])
    return play


def _room(config: RobotConfig, clearance: Clearance, start: FloatArray, i: int) -> FloatArray | None:
    """A place near the start around which the joint can move by ``STEP``; ``None`` where there is none."""
    low, high = config.gate.min_position.array()[i], config.gate.max_position.array()[i]
    least = min(0.0, *clearance(start)) - ROUNDING_M
    for side in (1.0, -1.0):
        place = _at(start, i, float(start[i]) + side * 2.0 * STEP)
        around = [_at(place, i, float(place[i]) + way * STEP) for way in (-1.0, 0.0, 1.0)]
        if all(low <= pose[i] <= high and min(clearance(pose)) >= least for pose in around):
            return place
    return None


def _at(pose: FloatArray, i: int, value: float) -> FloatArray:
    moved = pose.copy()
    moved[i] = value
    return moved
