"""Forward and inverse kinematics of the arm, and what points it can pick up.

Radians live here and in the twin only. User vectors are degrees and gripper percent (robot/joints.py);
zero degrees is taken to be the model's zero, as LeRobot's calibration in the middle of each range has it.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from robot.config import WorkspaceConfig
from robot.errors import UnreachableError
from robot.joints import GRIPPER
from robot.model import load_arm
from robot.seams import FloatArray

GRIPPER_CLOSED_RAD = -0.174533
"""Model angle of the gripper at 0 percent: its lower stop."""
GRIPPER_SPAN_RAD = 1251 * 2.0 * math.pi / 4096
"""Model angle between 0 and 100 percent: 1251 ticks of the servo."""
LEROBOT_DEGREE_RAD = math.radians(1.0) * 4095 / 4096
"""LeRobot's degree is 4095/360 ticks of a servo that has 4096 to the turn."""
PAN_AXIS_X_M = 0.0388353
"""The pan axis stands here on the base frame's x axis."""
GRASP_HEIGHT_M = 0.018
"""Height of the grasp point for a cube on the table; leaves the fingertips some 6 mm above it."""
PITCHES_DEG = (90.0, 82.0, 74.0, 66.0, 58.0)
"""Approach angles below the horizontal, tried in this order: straight down where that reaches."""
POSITION_TOLERANCE_M = 0.0015
MAX_ITERATIONS = 80
FINGERTIP_SITES = ("fixed_fingertip", "moving_fingertip")


def user_to_rad(user: FloatArray) -> FloatArray:
    """User vector to model angles, shape (..., 6)."""
    rad = np.asarray(user, dtype=np.float64) * LEROBOT_DEGREE_RAD
    rad[..., GRIPPER] = GRIPPER_CLOSED_RAD + np.asarray(user)[..., GRIPPER] / 100.0 * GRIPPER_SPAN_RAD
    return rad


def rad_to_user(rad: FloatArray) -> FloatArray:
    """Model angles to a user vector, shape (..., 6)."""
    user = np.asarray(rad, dtype=np.float64) / LEROBOT_DEGREE_RAD
    user[..., GRIPPER] = (np.asarray(rad)[..., GRIPPER] - GRIPPER_CLOSED_RAD) / GRIPPER_SPAN_RAD * 100.0
    return user


class Kinematics:
    """One arm model with its scratch space; not for use from two threads at once.

    Args:
        workspace: ring sector in which pickups are offered; ``None`` offers all that IK can reach.
    """

    def __init__(self, workspace: WorkspaceConfig | None = None) -> None:
        self.workspace = workspace
        self.model = load_arm()
        self.data = mujoco.MjData(self.model)
        self._grasp = self.model.site("grasp").id
        self._tips = [self.model.site(name).id for name in FINGERTIP_SITES]
        self.min_rad = self.model.jnt_range[:, 0].copy()
        self.max_rad = self.model.jnt_range[:, 1].copy()

    # -- forward -------------------------------------------------------------------------------------

    def _forward(self, rad: FloatArray) -> None:
        self.data.qpos[:] = rad
        mujoco.mj_kinematics(self.model, self.data)

    def site_position_m(self, site: str, user: FloatArray) -> FloatArray:
        """Position of a named site, base frame, shape (3,)."""
        self._forward(user_to_rad(user))
        return np.array(self.data.site(site).xpos)

    def tool_position_m(self, user: FloatArray) -> FloatArray:
        """Point between the fingertips where a grasped cube sits, base frame, shape (3,)."""
        self._forward(user_to_rad(user))
        return np.array(self.data.site_xpos[self._grasp])

    def tool_positions_m(self, user: FloatArray) -> FloatArray:
        """As :meth:`tool_position_m` of many poses at once, user units (N, 6), shape (N, 3)."""
        angles = user_to_rad(user) - self.model.qpos0
        point = np.broadcast_to(self.model.site_pos[self._grasp], (len(angles), 3)).astype(np.float64)
        body = int(self.model.site_bodyid[self._grasp])
        while body:  # from the jaws to the base: each joint turns what hangs on it about its axis
            for joint in range(
                self.model.body_jntadr[body], self.model.body_jntadr[body] + self.model.body_jntnum[body]
            ):
                anchor, angle = self.model.jnt_pos[joint], angles[:, joint, None]
                cross = np.cross(self.model.jnt_axis[joint], np.eye(3))  # v @ cross is axis x v
                arm = point - anchor
                point = point + arm @ cross * np.sin(angle) + arm @ cross @ cross * (1.0 - np.cos(angle))
            turn = np.empty(9)
            mujoco.mju_quat2Mat(turn, self.model.body_quat[body])
            point = point @ turn.reshape(3, 3).T + self.model.body_pos[body]
            body = int(self.model.body_parentid[body])
        return np.asarray(point)

    def lowest_point_m(self, user: FloatArray) -> float:
        """Height of the lower fingertip over the table."""
        self._forward(user_to_rad(user))
        return float(min(self.data.site_xpos[tip][2] for tip in self._tips))

    def gravity_torque_nm(self, rad: FloatArray) -> FloatArray:
        """Torque that gravity puts on each joint at standstill, shape (6,)."""
        self.data.qpos[:] = rad
        self.data.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)
        return np.array(self.data.qfrc_bias)

    # -- inverse -------------------------------------------------------------------------------------

    def solve(
        self,
        position_m: FloatArray,
        *,
        pitch_deg: float | None = 90.0,
        jaw_yaw_rad: float | None = None,
        gripper_rad: float = 0.0,
        seed_rad: FloatArray | None = None,
    ) -> FloatArray:
        """Joint angles that put the grasp point somewhere, shape (6,), radians.

        Args:
            position_m: grasp point, base frame.
            pitch_deg: approach below the horizontal, 90 is straight down; ``None`` leaves it free.
            jaw_yaw_rad: turn of the jaws about the approach, relative to the arm's own plane; ``None``
                leaves it free.
            gripper_rad: passed through.
            seed_rad: where the search starts.

        Raises:
            UnreachableError: no joint angles within the limits come closer than 1.5 mm.
        """
        # It brings scipy: who only looks forward, as controller and twin do, starts in half the time without.
        import mink

        position = np.asarray(position_m, dtype=np.float64)
        azimuth = math.atan2(position[1], position[0] - PAN_AXIS_X_M)
        start = self._seed(azimuth) if seed_rad is None else np.array(seed_rad, dtype=np.float64)
        start[GRIPPER] = gripper_rad
        configuration = mink.Configuration(self.model, np.clip(start, self.min_rad, self.max_rad))
        pitch_cost = 0.0 if pitch_deg is None else 0.05
        yaw_cost = 0.0 if jaw_yaw_rad is None else 0.05
        task = mink.FrameTask(
            "grasp", "site", 1.0, np.array([pitch_cost, pitch_cost, yaw_cost]), lm_damping=1e-3
        )
        rotation = _tool_rotation(
            azimuth, math.radians(90.0 if pitch_deg is None else pitch_deg), jaw_yaw_rad or 0.0
        )
        task.set_target(mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position))
        still = mink.DofFreezingTask(self.model, [GRIPPER])
        limits = [mink.ConfigurationLimit(self.model)]
        for _ in range(MAX_ITERATIONS):
            velocity = mink.solve_ik(
                configuration, [task], 1.0, "daqp", damping=1e-6, limits=limits, constraints=[still]
            )
            configuration.integrate_inplace(velocity, 1.0)
            if float(np.abs(velocity).max()) < 1e-5:
                break
        reached = configuration.get_transform_frame_to_world("grasp", "site").translation()
        error_m = float(np.linalg.norm(reached - position))
        if error_m > POSITION_TOLERANCE_M:
            raise UnreachableError(
                f"the gripper cannot be at ({position[0]:.3f}, {position[1]:.3f}, {position[2]:.3f}) m: "
                f"the nearest pose within the joint limits is {1000 * error_m:.0f} mm away"
            )
        solution: FloatArray = np.array(configuration.q)
        return solution

    @staticmethod
    def _seed(azimuth_rad: float) -> FloatArray:
        # Positive pan turns towards -y. The rest is a reaching pose over the middle of the table.
        return np.array([-azimuth_rad, -0.3, 0.6, 1.2, 0.0, 0.0])

    def grasp(
        self, x_m: float, y_m: float, jaw_yaw_rad: float | None = None, gripper_rad: float = 0.5
    ) -> tuple[FloatArray, float]:
        """Joint angles for a grasp at table height and the approach pitch that reaches it.

        Raises:
            UnreachableError: as :meth:`check_pickup`.
        """
        self._check_workspace(x_m, y_m)
        failure: UnreachableError | None = None
        for pitch_deg in PITCHES_DEG:
            try:
                target = np.array([x_m, y_m, GRASP_HEIGHT_M])
                rad = self.solve(
                    target, pitch_deg=pitch_deg, jaw_yaw_rad=jaw_yaw_rad, gripper_rad=gripper_rad
                )
            except UnreachableError as error:
                failure = error
                continue
            if self._pitch_deg(rad) > pitch_deg - 8.0:
                return rad, pitch_deg
            failure = UnreachableError(
                f"({x_m:.3f}, {y_m:.3f}) m is reached only with the gripper lying too flat"
            )
        raise failure or UnreachableError("no approach was tried")

    def _pitch_deg(self, rad: FloatArray) -> float:
        self._forward(rad)
        down = self.data.site_xmat[self._grasp].reshape(3, 3)[2, 2]
        return math.degrees(math.asin(float(np.clip(down, -1.0, 1.0))))

    def check_pickup(self, x_m: float, y_m: float) -> None:
        """Return if a cube at this point of the table can be grasped.

        Raises:
            UnreachableError: it cannot; the message says whether the point is inside the base, too far,
                too far round, or without a pose.
        """
        self.grasp(x_m, y_m)

    def _check_workspace(self, x_m: float, y_m: float) -> None:
        if not (math.isfinite(x_m) and math.isfinite(y_m)):
            raise UnreachableError("a pickup needs finite x_m and y_m")
        radius, point = math.hypot(x_m - PAN_AXIS_X_M, y_m), f"({x_m:.3f}, {y_m:.3f}) m"
        if abs(x_m) < 0.06 and abs(y_m) < 0.06:
            raise UnreachableError(f"{point} is inside the robot's base")
        if self.workspace is None:
            return
        w = self.workspace
        if radius < w.min_radius_m:
            raise UnreachableError(
                f"{point} is {radius:.3f} m from the pan axis, too close: at least {w.min_radius_m} m"
            )
        if radius > w.max_radius_m:
            raise UnreachableError(
                f"{point} is {radius:.3f} m from the pan axis, too far: at most {w.max_radius_m} m"
            )
        pan_deg = math.degrees(math.atan2(y_m, x_m - PAN_AXIS_X_M))
        if abs(pan_deg) > w.max_pan_deg:
            raise UnreachableError(
                f"{point} lies {pan_deg:.0f} deg round, at most {w.max_pan_deg} deg either way"
            )

    def reachable_outline(self, steps: int = 48) -> FloatArray:
        """Outline of the workspace on the table, shape (n, 2), for drawing. Needs a workspace."""
        if self.workspace is None:
            return np.zeros((0, 2))
        w = self.workspace
        angles = np.radians(np.linspace(-w.max_pan_deg, w.max_pan_deg, steps))
        arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ring = np.concatenate([arc * w.max_radius_m, arc[::-1] * w.min_radius_m])
        outline: FloatArray = ring + np.array([PAN_AXIS_X_M, 0.0])
        return outline


def _tool_rotation(azimuth_rad: float, pitch_rad: float, jaw_yaw_rad: float) -> FloatArray:
    """Rotation of the grasp frame: its -z is the approach, its x the direction in which the jaws open."""
    c, s = math.cos(azimuth_rad), math.sin(azimuth_rad)
    cp, sp = math.cos(pitch_rad), math.sin(pitch_rad)
    z = np.array([-c * cp, -s * cp, sp])
    x = np.array([c * sp, s * sp, cp])
    y = np.cross(z, x)
    turned = x * math.cos(jaw_yaw_rad) + y * math.sin(jaw_yaw_rad)
    rotation: FloatArray = np.stack([turned, np.cross(z, turned), z], axis=1)
    return rotation
