"""The twin's world: MuJoCo physics of the arm, the table and what lies on it, driven by servo banks.

One world serves both gaits: the live gait steps it in real time behind a pty, the lockstep gait as
fast as the machine goes. It is deterministic, and draws no random numbers: the same calls give the same
states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from robot.config import config_root
from robot.errors import TwinError
from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.kinematics import FINGERTIP_SITES, GRIPPER_CLOSED_RAD, rad_to_user, user_to_rad
from robot.registers import TICKS_PER_TURN, encode_signed
from robot.seams import FloatArray
from robot.twin.hand import Hand
from robot.twin.motor import TICKS_PER_RAD, ServoParameters
from robot.twin.props import FLAT, Props
from robot.twin.register_files import FACTORY
from robot.twin.scene import dof_addresses, joint_addresses, load_scene
from robot.twin.servo import Drive, ServoBank

CONFUSER_AWAY = (-0.1, 0.9, -0.736)
"""Where the confuser lies when it takes no part: on the floor, outside every picture."""
CUBE_HALF_M = 0.014
WIDEST = 720.0
"""Degrees and percent that no pose exceeds; a joint turns by less than 360 and opens to 100."""
TABLE_X_M = (-0.20, 0.64)
TABLE_Y_M = (-0.57, 0.57)
STUCK_KG_M2 = 1e4
"""Armature of a joint that something blocks: no torque in the arm moves so much within hours. Friction would
be the likelier picture, but MuJoCo's is soft: a joint that is stopped by it at speed rings by degrees.
"""

LEADER_CALIBRATION = "twin_leader_calibration.json"
"""The leader's: no two arms' horns are put on alike, which is how they are told apart."""

GRIPPER_EEPROM = {"max_torque": 500, "protection_current": 250, "overload_torque": 25}
"""What LeRobot's configure() leaves in the gripper servo."""


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """What may differ between twins."""

    follower: ServoParameters = field(default_factory=ServoParameters)
    leader: ServoParameters = field(default_factory=ServoParameters)
    park_rad: tuple[float, ...] = (0.0, -1.7279, 1.6057, 1.0472, 0.0, -0.0785)
    """Joint angles at reset: folded, just above the table."""
    bare: bool = False
    """Nothing can be touched: for replays of arms whose table stands elsewhere than the twin's."""
    factory: bool = False
    """All servos are as they left the factory (id 1, nothing set, horns at any angle), and only the grippers'
    are connected."""


def twin_calibration(name: str = "twin_calibration.json") -> dict[str, dict[str, int]]:
    """The follower's calibration, LeRobot schema, as shipped; the leader's by the name of its file."""
    text = (config_root() / "robots" / name).read_text(encoding="utf-8")
    values: dict[str, dict[str, int]] = json.loads(text)
    return values


class World:
    """Arm, table, bowl and cube, with a follower and a leader servo bank.

    Args:
        config: servo parameters and start pose.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.model = load_scene()
        self.data = mujoco.MjData(self.model)
        self.timestep_s = float(self.model.opt.timestep)
        self._qpos = np.array(joint_addresses(self.model))
        self._qvel = np.array(dof_addresses(self.model))
        self._cube = int(self.model.joint("cube").qposadr[0])
        self._confuser = int(self.model.joint("confuser").qposadr[0])
        self._cube_dof = int(self.model.joint("cube").dofadr[0])
        self._confuser_dof = int(self.model.joint("confuser").dofadr[0])
        self._bowl_xy = self.model.body("bowl").pos[:2].copy()
        hand = [int(self.model.body(name).id) for name in ("gripper", "moving_jaw")]
        self._hand_geoms = frozenset(np.flatnonzero(np.isin(self.model.geom_bodyid, hand)).tolist())
        self._confuser_present = False
        self.props = Props()
        self._last_drive: Drive | None = None
        self.follower = self._bank(self.config.follower, twin_calibration())
        self.leader = self._bank(self.config.leader, twin_calibration(LEADER_CALIBRATION))
        self._leader_rad = np.zeros(N_JOINTS)
        self._leader_velocity = np.zeros(N_JOINTS)
        self._leader_pose: FloatArray | None = None
        self.hands = {"follower": Hand(), "leader": Hand()}
        self.model.dof_frictionloss[self._qvel] = self.config.follower.coulomb_nm
        if self.config.bare:
            self.model.geom_contype[:] = 0
            self.model.geom_conaffinity[:] = 0
        self.reset()

    def _bank(self, parameters: ServoParameters, calibration: dict[str, dict[str, int]]) -> ServoBank:
        eeprom, zero = [], np.zeros(N_JOINTS)
        for i, name in enumerate(JOINTS):
            entry = calibration[name]
            values = {
                "id": entry["id"],
                "homing_offset": encode_signed(entry["homing_offset"], 11),
                "min_position": entry["range_min"],
                "max_position": entry["range_max"],
            }
            eeprom.append(values | (GRIPPER_EEPROM if i == GRIPPER else {}))
            middle = (entry["range_min"] + entry["range_max"]) / 2.0
            zero[i] = middle if i != GRIPPER else entry["range_min"] - GRIPPER_CLOSED_RAD * TICKS_PER_RAD
        if self.config.factory:
            offsets = [calibration[name]["homing_offset"] for name in JOINTS]
            bank = ServoBank([FACTORY] * N_JOINTS, (zero + offsets) % TICKS_PER_TURN, parameters)
            bank.plug({GRIPPER})
            return bank
        return ServoBank(eeprom, zero, parameters)

    # -- time ----------------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated time since the last reset."""
        return float(self.data.time)

    def reset(self, stiffness: float = 1.0) -> None:
        """Park the arm at rest, put the cube in front of it, take the confuser away.

        Args:
            stiffness: factor on the position stiffness of the follower's servos until the next reset.
        """
        mujoco.mj_resetData(self.model, self.data)
        self._last_drive = None
        park = np.array(self.config.park_rad)
        self.data.qpos[self._qpos] = park
        for bank in (self.follower, self.leader):
            bank.power_cycle()
            bank.reset_pose(park)
        self.follower.set_stiffness(stiffness)
        self._leader_rad = park.copy()
        self._leader_velocity[:] = 0.0
        self._leader_pose = None
        for hand in self.hands.values():
            hand.let_go()
        self.place_cube(0.24, 0.0)
        self.remove_confuser()
        self.props.remove()

    def step(self) -> None:
        """Advance the physics by one step of ``timestep_s``."""
        dt = self.timestep_s
        drive = self.follower.before_step(dt)
        if self._last_drive is None or drive.stiffness is not self._last_drive.stiffness:
            self._apply_gains(drive)
        self._last_drive = drive
        self.data.ctrl[:] = drive.setpoint_rad
        if self.hands["follower"].holds:
            self._push(drive)
        mujoco.mj_step(self.model, self.data)
        self.follower.after_step(
            self.data.qpos[self._qpos], self.data.qvel[self._qvel], self.data.actuator_force, dt
        )
        self._step_leader(dt)

    def _push(self, drive: Drive) -> None:
        """The hand on the follower does its part of the coming step."""
        position, velocity = self.data.qpos[self._qpos], self.data.qvel[self._qvel]
        weight, limp = self.data.qfrc_bias[self._qvel], drive.stiffness == 0.0
        force = self.hands["follower"].force_nm(position, velocity, weight, limp, self.timestep_s)
        self.data.qfrc_applied[self._qvel] = force

    def _apply_gains(self, drive: Drive) -> None:
        self.model.actuator_gainprm[:, 0] = drive.stiffness
        self.model.actuator_biasprm[:, 1] = -drive.stiffness
        self.model.actuator_forcelimited[:] = 1
        self.model.actuator_forcerange[:, 0] = -drive.force_limit
        self.model.actuator_forcerange[:, 1] = drive.force_limit
        self.model.dof_damping[self._qvel] = drive.damping
        stuck = self.follower.stuck
        self.model.dof_armature[self._qvel] = np.where(
            stuck, STUCK_KG_M2, self.config.follower.armature_kg_m2
        )
        self.data.qvel[self._qvel] = np.where(stuck, 0.0, self.data.qvel[self._qvel])

    def _step_leader(self, dt_s: float) -> None:
        """The leader is six free joints without gravity: a hand holds it, or its servos drive it."""
        hand = self.hands["leader"]
        if self._leader_pose is None and not hand.holds and self.leader.idle:
            return
        drive, before = self.leader.before_step(dt_s), self._leader_rad
        limp = drive.stiffness == 0.0
        force = np.clip(
            drive.stiffness * (drive.setpoint_rad - before), -drive.force_limit, drive.force_limit
        )
        inertia = self.config.leader.armature_kg_m2
        velocity = (self._leader_velocity + force / inertia * dt_s) / (1 + drive.damping / inertia * dt_s)
        self._leader_rad = np.where(limp, hand.step(before, limp, dt_s), before + velocity * dt_s)
        if self._leader_pose is not None:
            self._leader_rad, force = self._leader_pose.copy(), np.zeros(N_JOINTS)
            self._leader_pose = None
        self._leader_rad = np.where(self.leader.stuck, before, self._leader_rad)
        self._leader_velocity = (self._leader_rad - before) / dt_s
        self.leader.after_step(self._leader_rad, self._leader_velocity, force, dt_s)

    # -- things --------------------------------------------------------------------------------------

    def place_cube(self, x_m: float, y_m: float, yaw_rad: float = 0.0) -> None:
        """Put the cube down on the table, at rest. Raises TwinError for a point off the table."""
        self._place(self._cube, self._cube_dof, x_m, y_m, yaw_rad)

    def place_confuser(self, x_m: float, y_m: float, yaw_rad: float = 0.0) -> None:
        """Put the confuser, which looks like the cube, down on the table."""
        self._place(self._confuser, self._confuser_dof, x_m, y_m, yaw_rad)
        self._confuser_present = True

    def remove_confuser(self) -> None:
        """Take the confuser out of every picture."""
        self.data.qpos[self._confuser : self._confuser + 7] = (*CONFUSER_AWAY, 1, 0, 0, 0)
        self.data.qvel[self._confuser_dof : self._confuser_dof + 6] = 0.0
        self._confuser_present = False

    def place_board(
        self,
        position_m: Sequence[float],
        rotation: Sequence[float] = FLAT,
        before: str | None = None,
    ) -> None:
        """Show the printed board, see :meth:`robot.twin.props.Props.place_board`.

        Args:
            position_m: middle of its squares.
            rotation: quaternion (w, x, y, z), by default flat, to be read from the base.
            before: camera in whose frame both are (x right, y up, z towards it); ``None``: the base's.

        Raises:
            TwinError: there is no such camera, or a number is missing or not finite.
        """
        if before is None:
            self.props.place_board(position_m, rotation)
        else:
            self.props.place_board_before(self.data, before, position_m, rotation)

    def _place(self, qpos: int, dof: int, x_m: float, y_m: float, yaw_rad: float) -> None:
        if not all(math.isfinite(v) for v in (x_m, y_m, yaw_rad)):
            raise TwinError("a place needs finite x_m, y_m and yaw_rad")
        if not (TABLE_X_M[0] <= x_m <= TABLE_X_M[1] and TABLE_Y_M[0] <= y_m <= TABLE_Y_M[1]):
            raise TwinError(
                f"({x_m:.3f}, {y_m:.3f}) is off the table: x_m {TABLE_X_M[0]}..{TABLE_X_M[1]}, "
                f"y_m {TABLE_Y_M[0]}..{TABLE_Y_M[1]}"
            )
        half = yaw_rad / 2.0
        self.data.qpos[qpos : qpos + 7] = (x_m, y_m, CUBE_HALF_M, math.cos(half), 0.0, 0.0, math.sin(half))
        self.data.qvel[dof : dof + 6] = 0.0
        mujoco.mj_kinematics(self.model, self.data)

    def set_leader(self, user: FloatArray) -> None:
        """A person's hand puts the leader into this pose at once, user units, shape (6,)."""
        self._leader_pose = _pose_rad(user)

    def hold(self, arm: str, user: FloatArray | None) -> None:
        """A person's hand leads an arm's limp joints to a pose and keeps them there, until ``None`` lets go.

        Args:
            arm: ``follower`` or ``leader``.
            user: user units (degrees and percent of the model), shape (6,).
        """
        if user is None:
            self.hands[arm].let_go()
            if arm == "follower":
                self.data.qfrc_applied[self._qvel] = 0.0
            return
        present = self.data.qpos[self._qpos] if arm == "follower" else self._leader_rad
        self.hands[arm].take(_pose_rad(user), present)

    # -- what is true --------------------------------------------------------------------------------

    @property
    def joint_user(self) -> FloatArray:
        """True joint positions in user units, unrounded, shape (6,)."""
        return rad_to_user(self.data.qpos[self._qpos])

    @property
    def cube_xyz_m(self) -> FloatArray:
        """Middle of the cube, base frame, shape (3,)."""
        return np.array(self.data.qpos[self._cube : self._cube + 3])

    @property
    def cube_yaw_rad(self) -> float:
        """Yaw of the cube about the vertical."""
        w, x, y, z = self.data.qpos[self._cube + 3 : self._cube + 7]
        return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))

    @property
    def tool_m(self) -> FloatArray:
        """Point between the fingertips where a grasped cube sits, base frame, shape (3,)."""
        return np.array(self.data.site("grasp").xpos)

    @property
    def fingertips_m(self) -> FloatArray:
        """Middle of the two fingertips, base frame, shape (3,)."""
        tips = [self.data.site(name).xpos for name in FINGERTIP_SITES]
        middle: FloatArray = np.mean(tips, axis=0)
        return middle

    @property
    def bowl_xy_m(self) -> FloatArray:
        """Middle of the bowl, base frame, shape (2,)."""
        return np.array(self._bowl_xy)

    @property
    def cube_in_bowl(self) -> bool:
        """Whether the cube lies in the bowl, let go of."""
        return self._in_bowl("cube", self._cube, self._cube_dof)

    @property
    def confuser_in_bowl(self) -> bool:
        """The same of the confuser; ``False`` where there is none."""
        return self._confuser_present and self._in_bowl("confuser", self._confuser, self._confuser_dof)

    @property
    def confuser_xyz_m(self) -> FloatArray | None:
        """Middle of the confuser, base frame, shape (3,); ``None`` where there is none."""
        return (
            np.array(self.data.qpos[self._confuser : self._confuser + 3]) if self._confuser_present else None
        )

    def _in_bowl(self, geom: str, qpos: int, dof: int) -> bool:
        x, y, z = self.data.qpos[qpos : qpos + 3].tolist()
        inside = math.dist((x, y), self._bowl_xy) < 0.05 and z < 0.045
        speed = float(np.linalg.norm(self.data.qvel[dof : dof + 3]))
        return inside and speed < 0.05 and not self._is_touched(geom)

    def _is_touched(self, geom: str) -> bool:
        """Whether the gripper or its jaw touched this in the last step."""
        pairs = self.data.contact.geom
        others = pairs[(pairs == self.model.geom(geom).id).any(axis=1)].ravel().tolist()
        return not self._hand_geoms.isdisjoint(others)

    def truth(self) -> dict[str, Any]:
        """What a measurement cannot know, for tests and evaluation only."""

        def place(address: int) -> dict[str, float]:
            x, y, z = (float(v) for v in self.data.qpos[address : address + 3])
            return {"x_m": x, "y_m": y, "z_m": z}

        disc = self.props.disc_xy_m
        return {
            "cube": place(self._cube) | {"yaw_rad": self.cube_yaw_rad},
            "confuser": place(self._confuser) if self._confuser_present else None,
            "disc": None if disc is None else {"x_m": float(disc[0]), "y_m": float(disc[1])},
            "bowl": {"x_m": float(self._bowl_xy[0]), "y_m": float(self._bowl_xy[1])},
            "cube_in_bowl": self.cube_in_bowl,
        }

    @property
    def render_size(self) -> int:
        """Length of :meth:`render_state`."""
        return int(self.model.nq) + self.props.state.size

    def render_state(self) -> FloatArray:
        """All positions, then where the paper is, for the renderer, shape (render_size,)."""
        return np.concatenate([self.data.qpos, self.props.state])


def _pose_rad(user: FloatArray) -> FloatArray:
    values = np.asarray(user, dtype=np.float64)
    if values.shape != (N_JOINTS,) or not np.isfinite(values).all():
        raise TwinError("a pose needs six finite numbers: degrees, gripper percent")
    if np.abs(values).max() > WIDEST:
        raise TwinError(f"a pose is within {WIDEST:g} degrees, or percent, of zero: no joint turns so far")
    return user_to_rad(values)


def write_twin_calibration(path: Path) -> None:
    """Write the twin's calibration as a LeRobot file, for instance for a LeRobot client of the twin."""
    path.write_text(json.dumps(twin_calibration(), indent=4), encoding="utf-8")
