"""The scripted demonstrator: picks the cube up and puts it into the bowl.

It plans from wherever the arm is, so the same code starts an episode, takes over from a policy that is
going wrong, and tries again after a miss. It knows the truth of the world (cube, bowl, gravity); what it
teaches is only what the images, the joints and the coordinates can say.

Commands hold the sag back: a position servo under load stands at ``goal - torque / stiffness``, so the
command is ``q + g(q) / kp``, the feed-forward that makes a soft servo arrive.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from robot.errors import UnreachableError
from robot.joints import GRIPPER, JOINTS
from robot.kinematics import GRASP_HEIGHT_M, PAN_AXIS_X_M, Kinematics, rad_to_user, user_to_rad
from robot.seams import FloatArray
from robot.trajectory import Trajectory
from robot.twin.world import World

WRIST_ROLL = JOINTS.index("wrist_roll")
OPEN_PCT = 45.0
"""Jaws some 70 mm apart: room for a 28 mm cube at any of the four grasps a square offers."""
CLOSED_PCT = 13.0
"""Goal of the closed gripper: about 6 deg inside a 28 mm cube, a firm grip below the overload torque."""
CLOSING_PCT = 38.0
"""A goal below this says that the jaws are being closed."""
HOVER_M = 0.075
TURNED_M = 0.035
"""This high over the grasp the jaws are turned as they will grasp; the fingertips still clear the cube."""
CARRY_M = 0.085
BOWL_M = 0.105
BOWL_INSIDE_M = 0.05
RETREAT_M = 0.150
CLEAR_M = 0.055
"""Below this height the gripper first rises before it travels."""
MAX_TURN_RAD = math.radians(140)
"""The wrist rolls a little further than this either way."""
FIXED_JAW_M, MOVING_JAW_M, JAW_HALF_M = (-0.031, -0.021), (0.014, 0.050), 0.010
"""What the jaws take below the height of the bowl while they come down open and close: from and to along
the direction in which they open, and to either side of it; the origin is the grasp point.
"""
BOWL_RADIUS_M, CUBE_RADIUS_M = 0.066, 0.019
ROOM_M = 0.006
"""What is to be left between the jaws and other things; the arm arrives within some millimetres."""
LEANING_M = 0.020
"""How far the grasp point would give way to the side of the fixed jaw for a hand that lay flat; less for one
that leans, and not at all for one that points down.
"""
CRUISE_DPS = 75.0
"""Mean speed of the fastest joint between waypoints."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a plan: a curve in user units and what it is for."""

    name: str
    curve: Trajectory


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments one after the other."""

    segments: tuple[Segment, ...]

    @property
    def duration_s(self) -> float:
        """Length of all segments."""
        return sum(segment.curve.duration_s for segment in self.segments)

    def begins(self, name: str) -> float:
        """Seconds until the first segment of a name, or until the end where there is none."""
        before = itertools.takewhile(lambda segment: segment.name != name, self.segments)
        return sum(segment.curve.duration_s for segment in before)

    def at(self, time_s: float) -> tuple[FloatArray, str]:
        """Command in user units, shape (6,), and the name of the segment."""
        for segment in self.segments:
            if time_s <= segment.curve.duration_s:
                return segment.curve.at(time_s), segment.name
            time_s -= segment.curve.duration_s
        last = self.segments[-1]
        return last.curve.at(last.curve.duration_s), last.name


class PickPlaceExpert:
    """Plans for one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kinematics = Kinematics()
        parameters = world.config.follower
        volts = np.full(6, parameters.supply_v)
        self._modelled = parameters.stiffness_nm_per_rad(volts, np.full(6, 16.0))

    @property
    def _stiffness(self) -> FloatArray:
        """What the servos of this trial have, N m / rad, shape (6,)."""
        return self._modelled * self.world.follower.stiffness_factor

    # -- commands ------------------------------------------------------------------------------------

    def command(self, rad: FloatArray, gripper_pct: float) -> FloatArray:
        """User-unit command that makes the arm stand at ``rad`` in spite of gravity."""
        pose = rad.copy()
        torque = self.kinematics.gravity_torque_nm(pose)
        torque[GRIPPER] = 0.0
        user = rad_to_user(pose + torque / self._stiffness)
        user[GRIPPER] = gripper_pct
        return user

    def _turns(self, x_m: float, y_m: float) -> list[float]:
        """Turns of the jaws that meet two faces of the cube, the best first: room, then little wrist roll."""
        azimuth = math.atan2(y_m, x_m - PAN_AXIS_X_M)
        quarter = math.pi / 2
        least = (self.world.cube_yaw_rad - azimuth + quarter / 2) % quarter - quarter / 2
        turns = [least + k * quarter for k in (0, -1, 1, -2, 2) if abs(least + k * quarter) <= MAX_TURN_RAD]

        def cost(turn: float) -> tuple[float, float]:
            tight_m = ROOM_M - self.room_m(x_m, y_m, azimuth + turn)
            return max(0.0, tight_m), abs(turn)

        return sorted(turns, key=cost)

    def has_room(self, x_m: float, y_m: float) -> bool:
        """Whether the jaws can come down here without touching anything but the cube."""
        azimuth = math.atan2(y_m, x_m - PAN_AXIS_X_M)
        return self.room_m(x_m, y_m, azimuth + self._turns(x_m, y_m)[0]) >= 0.0

    def room_m(self, x_m: float, y_m: float, jaws_rad: float) -> float:
        """Between the open jaws over a point and what stands on the table beside the cube.

        Args:
            x_m: point over which the jaws close, base frame.
            y_m: the same.
            jaws_rad: direction in which they open, from the fixed jaw to the moving one.
        """
        obstacles = [(self.world.bowl_xy_m, BOWL_RADIUS_M)]
        if (confuser := self.world.confuser_xyz_m) is not None:
            obstacles.append((confuser[:2], CUBE_RADIUS_M))
        c, s = math.cos(jaws_rad), math.sin(jaws_rad)
        room_m = math.inf
        for middle, radius_m in obstacles:
            dx, dy = (middle - (x_m, y_m)).tolist()
            along, across = c * dx + s * dy, abs(c * dy - s * dx)
            for first, last in (FIXED_JAW_M, MOVING_JAW_M):
                beside = max(first - along, along - last, 0.0)
                room_m = min(room_m, math.hypot(beside, max(0.0, across - JAW_HALF_M)) - radius_m)
        return room_m

    def _over(
        self, x_m: float, y_m: float, z_m: float, pitch: float, yaw: float | None, seed: FloatArray
    ) -> FloatArray:
        """Joint angles over a point; the pitch is relaxed until the point can be reached."""
        for pitch_deg in (pitch, pitch - 10.0, pitch - 20.0, pitch - 30.0):
            try:
                return self.kinematics.solve(
                    np.array([x_m, y_m, z_m]), pitch_deg=pitch_deg, jaw_yaw_rad=yaw, seed_rad=seed
                )
            except UnreachableError:
                continue
        return self.kinematics.solve(
            np.array([x_m, y_m, z_m]), pitch_deg=None, jaw_yaw_rad=None, seed_rad=seed
        )

    # -- plans ---------------------------------------------------------------------------------------

    def plan(
        self,
        start: FloatArray,
        aim_xy_m: FloatArray | None = None,
        speed: float = 1.0,
        velocity: FloatArray | None = None,
    ) -> Plan:
        """What to do from here.

        Args:
            start: the last command, user units, shape (6,).
            aim_xy_m: where to grasp instead of where the cube is (a deliberate miss).
            speed: factor on the cruising speed.
            velocity: of the command, user units per second, shape (6,); ``None`` for an arm at rest. A plan
                that always began at rest would teach a policy to stop wherever it is.

        Raises:
            UnreachableError: the cube lies where no grasp reaches.
        """
        if self.world.cube_in_bowl:
            return Plan((self._retreat(start, speed, velocity),))
        if aim_xy_m is None and self._letting_go(start):
            return Plan(self._release(start, speed))
        if aim_xy_m is None and (self.holding() or self._gripped(start)):
            return Plan(self._place(start, speed, velocity))
        segments = self._pick(start, aim_xy_m, speed, velocity)
        if aim_xy_m is not None:
            return Plan(segments)
        return Plan((*segments, *self._place(segments[-1].curve.at(1e9), speed)))

    def holding(self) -> bool:
        """Whether the cube hangs in the gripper."""
        here = rad_to_user(self.world.data.qpos[:6])
        return self._at_cube(here) < 0.022 and self.world.cube_xyz_m[2] > 0.022 and here[GRIPPER] < 30.0

    def _gripped(self, start: FloatArray) -> bool:
        """Whether the jaws are closed around the cube, which may still stand on the table."""
        here = rad_to_user(self.world.data.qpos[:6])
        squeezing = start[GRIPPER] < CLOSED_PCT + 3.0 and here[GRIPPER] - start[GRIPPER] > 2.5
        return squeezing and self._at_cube(here) < 0.022

    def _letting_go(self, start: FloatArray) -> bool:
        """Whether the jaws open over the bowl, or the cube is on its way into it."""
        aside_m = float(np.hypot(*(self.world.cube_xyz_m[:2] - self.world.bowl_xy_m)))
        return aside_m < BOWL_INSIDE_M and start[GRIPPER] > CLOSED_PCT + 3.0

    def distance_to_cube_m(self) -> float:
        """From the grasp point to the middle of the cube."""
        return self._at_cube(rad_to_user(self.world.data.qpos[:6]))

    def _at_cube(self, here: FloatArray) -> float:
        return float(np.linalg.norm(self.kinematics.tool_position_m(here) - self.world.cube_xyz_m))

    def _pick(
        self, start: FloatArray, aim_xy_m: FloatArray | None, speed: float, velocity: FloatArray | None
    ) -> tuple[Segment, ...]:
        here = rad_to_user(self.world.data.qpos[:6])
        if aim_xy_m is None and start[GRIPPER] < CLOSING_PCT and self._at_cube(here) < 0.015:
            return (self._close(start),)
        cube = self.world.cube_xyz_m
        x, y = (cube[:2] if aim_xy_m is None else aim_xy_m).tolist()
        x, y, grasp, pitch, jaw = self._grasp(x, y)
        turned = self._over(x, y, GRASP_HEIGHT_M + TURNED_M, pitch, jaw, grasp)
        hover = self._over(x, y, GRASP_HEIGHT_M + HOVER_M, pitch, jaw, grasp)
        over, above, down = (self.command(pose, OPEN_PCT) for pose in (hover, turned, grasp))
        over[WRIST_ROLL] = start[WRIST_ROLL]
        way = self._way_down(start, here, np.array([x, y]), (over, above, down))
        approach = _curve([start, *way], speed, 0.45, velocity)
        # Wait for the servos, which lag about a tenth of a second, before the jaws close.
        settle = Trajectory.through(np.stack([down, down]), np.array([0.16]))
        return (Segment("approach", approach), Segment("settle", settle), self._close(down))

    def _grasp(self, x_m: float, y_m: float) -> tuple[float, float, FloatArray, float, float]:
        """Point, joint angles, pitch (degrees) and turn of the jaws (radians) of the best grasp in reach.

        Far out the hand leans, and its fixed jaw would come down on the cube's edge: the point gives way.
        """
        azimuth = math.atan2(y_m, x_m - PAN_AXIS_X_M)
        failure: UnreachableError | None = None
        for turn in self._turns(x_m, y_m):
            try:
                grasp, pitch_deg = self.kinematics.grasp(x_m, y_m, turn)
                aside_m = LEANING_M * math.cos(math.radians(pitch_deg))
                x_aside_m = x_m - aside_m * math.cos(azimuth + turn)
                y_aside_m = y_m - aside_m * math.sin(azimuth + turn)
                if pitch_deg < 90.0:
                    grasp, pitch_deg = self.kinematics.grasp(x_aside_m, y_aside_m, turn)
                return x_aside_m, y_aside_m, grasp, pitch_deg, turn
            except UnreachableError as error:
                failure = failure or error
        raise failure or UnreachableError("a square offers no grasp")

    def _close(self, pose: FloatArray) -> Segment:
        """Close from where the jaws are; what is half closed takes half the time."""
        closed = pose.copy()
        closed[GRIPPER] = CLOSED_PCT
        share = float(np.clip((pose[GRIPPER] - CLOSED_PCT) / (OPEN_PCT - CLOSED_PCT), 0.15, 1.0))
        legs = np.array([0.35 * share, 0.10])
        return Segment("close", Trajectory.through(np.stack([pose, closed, closed]), legs))

    def _way_down(
        self,
        start: FloatArray,
        here: FloatArray,
        aim_m: FloatArray,
        way: tuple[FloatArray, FloatArray, FloatArray],
    ) -> list[FloatArray]:
        """Waypoints to the grasp: straight on from where the open jaws are over it already.

        The jaws turn on the way down from the hover. Earlier nobody could say how the cube lies: from above
        it is four pixels wide, and the wrist camera sees it only when it hovers over it. An expert that
        always rose to its hover first would teach a policy that is about to grasp to rise, for ever.
        """
        over, above, down = way
        tool = self.kinematics.tool_position_m(here)
        height_m, aside_m = tool[2] - GRASP_HEIGHT_M, float(np.hypot(*(tool[:2] - aim_m)))
        if start[GRIPPER] > CLOSING_PCT:
            if aside_m < 0.012 and height_m < TURNED_M + 0.01:
                return [down]
            if aside_m < 0.05 and TURNED_M <= height_m < HOVER_M + 0.01:
                return [above, down]
        return [*self._rise(start), over, above, down]

    def _rise(self, start: FloatArray) -> list[FloatArray]:
        """A waypoint straight up if the gripper is too low to travel."""
        rad = user_to_rad(start)
        rad[:5] -= (self.kinematics.gravity_torque_nm(rad) / self._stiffness)[:5]
        tool = self.kinematics.tool_position_m(rad_to_user(rad))
        if tool[2] >= CLEAR_M or math.hypot(tool[0], tool[1]) < 0.10:
            return []
        try:
            up = self.kinematics.solve(
                np.array([tool[0], tool[1], CLEAR_M + 0.01]), pitch_deg=None, jaw_yaw_rad=None, seed_rad=rad
            )
        except UnreachableError:
            return []
        return [self.command(up, max(start[GRIPPER], OPEN_PCT))]

    def _place(
        self, start: FloatArray, speed: float, velocity: FloatArray | None = None
    ) -> tuple[Segment, ...]:
        rad = user_to_rad(start)
        tool = self.kinematics.tool_position_m(start)
        bowl = self.world.bowl_xy_m
        pitch = self.kinematics._pitch_deg(rad)
        points = [start]
        if tool[2] < GRASP_HEIGHT_M + CARRY_M - 0.02:
            lift = self._over(tool[0], tool[1], GRASP_HEIGHT_M + CARRY_M, min(pitch, 88.0), None, rad)
            lift[WRIST_ROLL] = rad[WRIST_ROLL]
            points.append(self.command(lift, CLOSED_PCT))
        over = self._over(
            bowl[0], bowl[1], BOWL_M, 80.0, None, np.array([math.radians(61), -0.3, 0.6, 1.2, 0.0, 0.0])
        )
        over[WRIST_ROLL] = rad[WRIST_ROLL]
        points.append(self.command(over, CLOSED_PCT))
        carry = _curve(points, speed, 0.4, velocity)
        end = points[-1]
        settle = Trajectory.through(np.stack([end, end]), np.array([0.12]))
        return (Segment("carry", carry), Segment("settle", settle), *self._release(end, speed))

    def _release(self, start: FloatArray, speed: float) -> tuple[Segment, ...]:
        """Open the jaws where they are, and go."""
        opened = start.copy()
        opened[GRIPPER] = OPEN_PCT
        share = float(np.clip((OPEN_PCT - start[GRIPPER]) / (OPEN_PCT - CLOSED_PCT), 0.15, 1.0))
        release = Trajectory.through(np.stack([start, opened, opened]), np.array([0.25 * share, 0.20]))
        return (Segment("release", release), self._retreat(opened, speed))

    def _retreat(self, start: FloatArray, speed: float, velocity: FloatArray | None = None) -> Segment:
        bowl = self.world.bowl_xy_m
        away = self._over(
            bowl[0] - 0.02,
            bowl[1] + 0.02,
            RETREAT_M,
            70.0,
            None,
            np.array([math.radians(61), -0.5, 0.4, 1.0, 0.0, 0.0]),
        )
        away[WRIST_ROLL] = user_to_rad(start)[WRIST_ROLL]
        end = self.command(away, OPEN_PCT)
        return Segment("retreat", _curve([start, end], speed, 0.45, velocity))


def _curve(points: list[FloatArray], speed: float, least_s: float, velocity: FloatArray | None) -> Trajectory:
    """Curve through user-unit waypoints at cruising speed; goes on from a velocity, eases out."""
    stack = np.stack(points)
    spans = np.abs(np.diff(stack, axis=0)).max(axis=1)
    durations = np.maximum(spans / (CRUISE_DPS * speed), least_s / speed)
    return Trajectory.through(stack, durations, velocity)
