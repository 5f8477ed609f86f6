"""``so101 calibrate table``: from pixels of a camera to points of the table."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from robot.errors import CalibrationError, ConfigError, ServoError
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
    from calibration.twin_person import TwinPerson
    from robot.kinematics import Kinematics
    from robot.seams import ByteArray, FloatArray
    from robot.servo_arm import ServoArm
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
    from calibration.camera_file import load_lens, update_camera_file
    from calibration.plane import fit_table

    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    target = Target.find(name, robot, source, out)
    measure_lens = f"`so101 calibrate camera {target.asked}`"
    lens = load_lens(target.out, target.camera, f"measure it anew with {measure_lens}")
    if lens is None and height_m != 0.0:
        raise CalibrationError(
            f"{target.out} has no lens yet, and a plane {1000 * height_m:.0f} mm over the table needs one: "
            f"run {measure_lens} first, or take --height-m 0 for the table itself"
        )
    with interruptible("nothing was written"), twin_of(target) as twin:
        look = partial(_pictures, target, twin)
        if touch:
            points, pixels = _touched(console, look, target, twin, port)
        else:
            points, pixels = _board(console, look, twin, target, board_at, square_mm)
        found = fit_table(
            points,
            pixels,
            lens,
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
        place = (
            "its lower edge against the front of the base, centred on the mark"
            if board_at is None
            else f"its middle at x {at[0]:g} m, y {at[1]:g} m, turned by {at[2]:g} degrees"
        )
        _ask(console, f"Lay the board flat, {place}, the arm out of its sight; then press ENTER.")
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
    from calibration.markers import require_limp, steady_markers
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
            points.append(_touch(console, arm, kinematics, marker, person))
            console.print(f"marker {marker}: x {points[-1][0]:.4f} m, y {points[-1][1]:.4f} m")
    finally:
        arm.bus.close()
    return np.array(points), np.array(list(seen.values()))


def _touch(
    console: Console, arm: ServoArm, kinematics: Kinematics, marker: int, person: TwinPerson | None
) -> tuple[float, float]:
    """Where the tip is that was put on a marker; a person is asked again for what was no touch."""
    from calibration.markers import touched_point_m

    if person is not None:
        person.touch(marker)
        return touched_point_m(arm, kinematics)
    while True:
        _ask(console, f"Close the gripper, its tip on the middle of marker {marker}; then ENTER.")
        try:
            return touched_point_m(arm, kinematics)
        except (CalibrationError, ServoError) as error:
            console.print(f"[yellow]{escape(str(error))}[/yellow]")


def _pictures(target: Target, twin: TwinProcess | None) -> list[ByteArray]:
    """A handful, of now. The camera is closed again, so that nothing queues while a person is busy."""
    with contextlib.closing(open_camera(target, twin)) as opened:
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
