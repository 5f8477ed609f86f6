"""``so101 calibrate table``: from pixels of a camera to points of the table."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

from robot.errors import CalibrationError, ConfigError
from services.cli.arm_port import interruptible
from services.cli.camera_source import (
    SHOWN_S,
    JsonOption,
    OutOption,
    SourceOption,
    Target,
    open_camera,
    read_away,
    today,
    twin_of,
)

if TYPE_CHECKING:
    from calibration.camera_file import TableCalibration
    from robot.seams import ByteArray, FloatArray
    from robot.twin.client import TwinProcess

CUBE_MIDDLE_M = 0.014
"""Half of a 28 mm cube: what is clicked on is seen about there."""
PICTURES = 15


def table(
    name: Annotated[str, typer.Argument(help="Camera of the robot, for instance overhead.")],
    robot: Annotated[
        str, typer.Option(help="Robot file, or 'twin': then an imaginary hand lays paper and leads the arm.")
    ] = "twin",
    touch: Annotated[
        bool,
        typer.Option(
            "--touch/--markers",
            help="Touch single markers with the closed fingertip, or lay the board at a known place.",
        ),
    ] = False,
    board_at: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            help="With --markers: x, y of the board's middle in metres, base frame, and its yaw in degrees. "
            "By default its lower edge lies against the base's front, centred."
        ),
    ] = None,
    square_mm: Annotated[
        float | None, typer.Option(min=5.0, max=200.0, help="Side of a square as measured on the print.")
    ] = None,
    height_m: Annotated[
        float, typer.Option(min=0.0, max=0.3, help="Height of the mapped plane over the table, in metres.")
    ] = CUBE_MIDDLE_M,
    source: SourceOption = None,
    port: Annotated[str | None, typer.Option(help="With --touch: serial port of the arm.")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure where on the table each pixel of a camera looks; the error is told in millimetres.

    The camera's lens comes first (`so101 calibrate camera`): with it the map is made for a plane at
    --height-m, where the things stand that are picked up.
    """
    from calibration.camera_file import CameraCalibration, load_camera_file, update_camera_file
    from calibration.plane import fit_table

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    target = Target.find(name, robot, out)
    known = load_camera_file(target.out, target.camera) if target.out.exists() else CameraCalibration()
    if known.lens is None and height_m != 0.0:
        raise CalibrationError(
            f"{target.out} has no lens yet, and a plane {1000 * height_m:.0f} mm over the table needs one: "
            f"run `so101 calibrate camera {name} --robot {shlex.quote(robot)}` first, or take --height-m 0 "
            "for the table itself"
        )
    with interruptible("nothing was written"), twin_of(target, source) as twin:
        look = partial(_pictures, target, source, twin)
        if touch:
            points, pixels = _touched(console, look, target, twin, port)
        else:
            points, pixels = _board(console, look, twin, target, board_at, square_mm)
        found = fit_table(
            points,
            pixels,
            known.lens,
            size_px=(target.camera.width_px, target.camera.height_px),
            height_m=height_m,
            method="touch" if touch else "markers",
            date=today(),
        )
    update_camera_file(target.out, table=found)
    _report(console, found, target, as_json)


def _board(
    console: Console,
    look: Callable[[], list[ByteArray]],
    twin: TwinProcess | None,
    target: Target,
    board_at: tuple[float, float, float] | None,
    square_mm: float | None,
) -> tuple[FloatArray, FloatArray]:
    """Corners of the board that lies on the table, and their pixels."""
    from calibration.markers import steady_board
    from calibration.plane import BOARD_AT_BASE, board_on_table
    from calibration.views import BoardFinder
    from robot import printed

    at = BOARD_AT_BASE if board_at is None else board_at
    if twin is not None:
        from calibration.twin_person import TwinPerson

        person = TwinPerson(twin, target.camera.name)
        person.prepare()
        person.lay_board(at)
    else:
        _ask(console, "Lay the board flat where you said, the arm out of its sight; then press ENTER.")
    finder = BoardFinder(square_mm or printed.SQUARE_MM)
    seen = steady_board(look(), finder)
    if len(seen) < 8:
        raise CalibrationError(
            f"camera {target.camera.name} sees {len(seen)} corners of the board, 8 are needed: lay it in "
            "view, printed side up, without glare, the arm out of its sight"
        )
    corners = finder.corners_m[list(seen)]
    return board_on_table(corners, finder.middle_m, at), np.array(list(seen.values()))


def _touched(
    console: Console,
    look: Callable[[], list[ByteArray]],
    target: Target,
    twin: TwinProcess | None,
    port: str | None,
) -> tuple[FloatArray, FloatArray]:
    """Middles of single markers as the fingertip found them, and their pixels."""
    from calibration.markers import require_limp, steady_markers, touched_point_m
    from robot.calibration_file import load_calibration
    from robot.kinematics import Kinematics
    from robot.servo_arm import ServoArm

    person = None
    if twin is not None:
        from calibration.twin_person import TwinPerson

        person = TwinPerson(twin, target.camera.name)
        person.prepare()
        person.lay_markers()
        port = twin.follower
    else:
        _ask(console, "Tape at least four single markers down, the arm out of their sight; then press ENTER.")
    port = port or target.config.port
    if port is None:
        raise ConfigError("--touch needs the arm: give --port, `so101 ports` lists what is there")
    seen = steady_markers(look())
    if len(seen) < 4:
        raise CalibrationError(
            f"camera {target.camera.name} sees {len(seen)} single markers, 4 are needed: lay them in view, "
            "with their white around them, the arm out of their sight"
        )
    arm = ServoArm.connect(port, load_calibration(target.folder / target.config.calibration))
    try:
        require_limp(arm)
        kinematics, points = Kinematics(), []
        for marker in seen:
            if person is not None:
                person.touch(marker)
            else:
                _ask(
                    console,
                    f"Close the gripper, its tip on the middle of marker {marker}; then ENTER.",
                )
            points.append(touched_point_m(arm, kinematics))
            console.print(f"marker {marker}: x {points[-1][0]:.4f} m, y {points[-1][1]:.4f} m")
    finally:
        arm.bus.close()
    return np.array(points), np.array(list(seen.values()))


def _pictures(target: Target, source: str | None, twin: TwinProcess | None) -> list[ByteArray]:
    """A handful, of now. The camera is closed again, so that nothing queues while a person is busy."""
    with contextlib.closing(open_camera(target, source, twin)) as opened:
        read_away(opened, SHOWN_S)
        return [opened.read().image for _ in range(PICTURES)]


def _ask(console: Console, what: str) -> None:
    if not sys.stdin.isatty():
        raise CalibrationError(f"this needs a person at a terminal ({what})")
    console.input(f"{what} ")


def _report(console: Console, found: TableCalibration, target: Target, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"table": found.model_dump(mode="json"), "file": str(target.out)}) + "\n")
        return
    left_out = "" if found.left_out_rms_mm is None else f", {found.left_out_rms_mm:.2f} mm at points left out"
    console.print(
        f"{found.points} points, error {found.rms_mm:.2f} mm (rms), worst {found.worst_mm:.2f} mm{left_out}; "
        f"plane {1000 * found.height_m:.0f} mm over the table"
    )
    console.print(f"Written to {target.out}. {target.advice()}")
