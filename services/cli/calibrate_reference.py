"""``so101 calibrate reference``: what a camera shows while all is well, so that a swap is noticed."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

from robot.errors import CalibrationError
from services.cli.arm_port import interruptible
from services.cli.camera_source import JsonOption, OutOption, SourceOption, Target, open_camera, twin_of

if TYPE_CHECKING:
    from robot.camera_reference import Reference
    from robot.cameras import OpenCvCamera
    from robot.config import RobotConfig
    from robot.seams import FloatArray
    from robot.twin.client import TwinProcess

LOOK_S = 0.5
"""Between two pictures that are taken: the arm should be somewhere else in the next."""
MOVE_S = 1.5
"""How long the imaginary hand has for each way."""
LEAST_SPREAD = 1.0
"""Mean spread, of 255, under which nothing has moved before the camera: sensor noise averages out to less."""


def reference(
    name: Annotated[str, typer.Argument(help="Camera of the robot, for instance overhead.")],
    robot: Annotated[
        str, typer.Option(help="Robot file, or 'twin': then an imaginary hand moves the arm.")
    ] = "twin",
    source: SourceOption = None,
    out: OutOption = None,
    seconds: Annotated[float, typer.Option(min=2.0, max=600.0, help="How long to look, in seconds.")] = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Keep what a camera shows while the arm is moved about, as it will move at work.

    Move the limp arm by hand meanwhile, with the table as it is at work. From then on the service and the
    doctor notice when two cameras have changed places.
    """
    from calibration.camera_file import update_camera_file

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    target = Target.find(name, robot, source, out)
    with interruptible("nothing was written"), twin_of(target) as twin:
        poses = [] if twin is None else _poses(target.config, math.ceil(seconds / MOVE_S))
        console.print(f"Looking for {seconds:.0f} s: move the arm about as it moves at work.")
        with contextlib.closing(open_camera(target, twin)) as opened:
            found = _watch(opened, twin, poses, seconds)
    update_camera_file(target.out, reference=found.as_json())
    if as_json:
        sys.stdout.write(json.dumps({"file": str(target.out), "spread": float(found.std.mean())}) + "\n")
        return
    console.print(f"Written to {target.out}. {target.advice()}")


def _watch(
    opened: OpenCvCamera, twin: TwinProcess | None, poses: list[FloatArray], duration_s: float
) -> Reference:
    """Pictures meanwhile; the twin's arm is led through the poses. Raises CameraError, CalibrationError."""
    from robot.camera_reference import Reference

    images, end_s, look_s, move_s = [], time.monotonic() + duration_s, 0.0, 0.0
    while (now_s := time.monotonic()) < end_s:
        if twin is not None and poses and now_s >= move_s:
            twin.hand("follower", poses.pop())
            move_s = now_s + MOVE_S
        image = opened.read().image
        if now_s >= look_s:
            images.append(image)
            look_s = now_s + LOOK_S
    found = Reference.of(images)
    if found.std.mean() < LEAST_SPREAD:
        raise CalibrationError(
            f"nothing has moved before camera {opened.name}: release the arm (its supply off, or "
            "POST /v1/stop with level release) and move it by hand meanwhile"
        )
    return found


def _poses(config: RobotConfig, count: int) -> list[FloatArray]:
    """Where the twin's arm is led: between its ready pose and places it can pick from, user units."""
    from robot.errors import UnreachableError
    from robot.kinematics import Kinematics, rad_to_user

    kinematics, random = Kinematics(config.workspace), np.random.default_rng(0)
    near_m, far_m = config.workspace.min_radius_m, config.workspace.max_radius_m
    poses: list[FloatArray] = []
    while len(poses) < count:
        x_m, y_m = random.uniform([near_m, -far_m], far_m)
        with contextlib.suppress(UnreachableError):
            grasp, _ = kinematics.grasp(x_m, y_m, gripper_rad=random.uniform(0.0, 1.5))
            poses += [config.ready_pose.array(), rad_to_user(grasp)]
    return poses
