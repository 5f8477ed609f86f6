"""Judges who is on the bus: cabling, ids, baud rate, model, firmware, and what set-up left in the servos."""

from __future__ import annotations

from collections import Counter

from calibration.motors import MULTI_TURN, gripper_leftovers, settings
from robot.bus import JOINT_OF_ID
from robot.fingerprint import Servo
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import MODEL_STS3215
from services.doctor.report import Scope
from services.doctor.survey import Survey


def check_presence(scope: Scope, found: Survey, port: str) -> None:
    """Ids, cabling and baud rates: one finding for each cause."""
    usual = tuple(SERVO_IDS.values())
    extra = sorted(set(found.servos) - set(usual))
    dead = [i for i in found.silent if i not in found.elsewhere]
    one_at_a_time = f"{scope.set_up} gives the servos their ids, one connected at a time"
    for servo_id, baud in found.elsewhere.items():
        scope.find(
            "wrong_baud",
            f"{_name(servo_id)} answers at {baud} baud instead of 1000000",
            f"{scope.set_up} brings it to 1000000 baud",
            JOINT_OF_ID[servo_id],
        )
    for servo_id in found.colliding:
        culprit = dead.pop() if len(dead) == 1 and len(found.colliding) == 1 else None
        if culprit is None:
            message = f"several servos answer to id {servo_id} ({JOINT_OF_ID[servo_id]}) at once"
            scope.find("duplicate_id", message, one_at_a_time, JOINT_OF_ID[servo_id])
        else:
            message = f"two servos have id {servo_id} ({JOINT_OF_ID[servo_id]}) and none has id {culprit}"
            remedy = f"the {JOINT_OF_ID[culprit]}'s is set wrong: {one_at_a_time}"
            scope.find("wrong_id", message, remedy, JOINT_OF_ID[culprit])
    if len(extra) == 1 and len(dead) == 1:
        culprit, now = dead.pop(), extra.pop()
        message = f"nothing answers to id {culprit} ({JOINT_OF_ID[culprit]}), but a servo has id {now}"
        scope.find("wrong_id", message, one_at_a_time, JOINT_OF_ID[culprit])
    if extra:
        listed = ", ".join(map(str, extra))
        message = f"servos with id {listed} are on the bus, which an SO-101 has not"
        scope.find("unknown_servo", message, f"take them off the bus, or: {one_at_a_time}")
    _silent(scope, dead, port)
    ok = not (found.silent or found.colliding or extra)
    listed = ", ".join(str(i) for i in sorted(found.servos)) or "none"
    scope.measured("servos", ok, f"{len(found.ids)} of 6 answer (ids {listed})", ids=sorted(found.servos))


def _silent(scope: Scope, dead: list[int], port: str) -> None:
    """The cable runs from the adapter to servo 1 and on from servo to servo: what is behind a break is
    silent.
    """
    usual = list(SERVO_IDS.values())
    if dead == usual:
        remedy = "switch the arm's supply on, and check the cable from the adapter to the first servo"
        scope.find("no_servos", f"no servo answers on {port}", remedy)
    elif len(dead) > 1 and dead == usual[-len(dead) :]:
        first, before = dead[0], dead[0] - 1
        names = ", ".join(JOINT_OF_ID[i] for i in dead)
        message = f"everything after {_name(before)} is silent: {names}"
        remedy = f"check the cable from {JOINT_OF_ID[before]} to {JOINT_OF_ID[first]} and its two plugs"
        scope.find("chain_broken", message, remedy, JOINT_OF_ID[first])
    else:
        for servo_id in dead:
            before_it = "the adapter" if servo_id == 1 else JOINT_OF_ID[servo_id - 1]
            remedy = (
                f"check its plugs and the cable from {before_it}; switch the supply off and on, as an "
                "overloaded servo may have gone deaf; if it stays silent, replace it"
            )
            message = f"{_name(servo_id)} does not answer"
            scope.find("servo_silent", message, remedy, JOINT_OF_ID[servo_id])


def check_models(scope: Scope, found: Survey) -> None:
    """Model and firmware."""
    for servo_id in found.ids:
        model = found.servos[servo_id].registers["model_number"]
        if model != MODEL_STS3215:
            message = f"{_name(servo_id)} says model {model}, an STS3215 says {MODEL_STS3215}"
            scope.find("wrong_model", message, "put an STS3215 there", JOINT_OF_ID[servo_id])
    versions = {i: found.servos[i].firmware for i in found.ids}
    if not versions:
        return
    usual = Counter(versions.values()).most_common(1)[0][0]
    odd = {i: version for i, version in versions.items() if version != usual}
    for servo_id, version in odd.items():
        message = f"{_name(servo_id)} has firmware {version}, the others have {usual}"
        remedy = "bring all servos to one version with Feetech's FD software (Windows)"
        scope.find("firmware_differs", message, remedy, JOINT_OF_ID[servo_id])
    listed = ", ".join(sorted(set(versions.values())))
    scope.measured("firmware", not odd, listed, versions=sorted(set(versions.values())))


def check_registers(scope: Scope, found: Survey) -> None:
    """What `so101 setup-motors` writes, and the lock over it."""
    wrong = {i: _differences(found.servos[i], i, driven=scope.arm == "follower") for i in found.ids}
    for servo_id, differences in wrong.items():
        if differences:
            message = f"{_name(servo_id)} is not set up: {', '.join(differences)}"
            remedy = f"{scope.set_up} writes what an SO-101's servos need"
            scope.find("register_wrong", message, remedy, JOINT_OF_ID[servo_id])
    unlocked = [i for i in found.ids if found.servos[i].registers["lock"] == 0]
    for servo_id in unlocked:
        scope.find(
            "eeprom_unlocked",
            f"the EEPROM of {_name(servo_id)} is unlocked: any program may change its settings for good",
            "switch the arm's supply off and on, which locks it; so does starting the arm in `so101 serve`",
            JOINT_OF_ID[servo_id],
        )
    if found.ids:
        n_wrong = sum(map(bool, wrong.values()))
        ok = not (n_wrong or unlocked)
        state = "as set up, locked" if ok else f"{n_wrong} servos wrong, {len(unlocked)} unlocked"
        scope.measured("registers", ok, state)


def _differences(servo: Servo, servo_id: int, *, driven: bool) -> list[str]:
    joint, held = JOINT_OF_ID[servo_id], servo.registers
    wanted = settings(joint, follower=driven)
    if joint != JOINTS[-1]:  # nothing drives a leader's gripper, so its limits do no harm
        wanted |= gripper_leftovers(joint, held, follower=driven)
    found = [
        f"{name} is {held[name]} instead of {value}" for name, value in wanted.items() if held[name] != value
    ]
    if held["phase"] & MULTI_TURN:
        found.append(f"phase is {held['phase']}, with its multi-turn bit")
    return found


def _name(servo_id: int) -> str:
    return f"{JOINT_OF_ID[servo_id]} (servo {servo_id})"
