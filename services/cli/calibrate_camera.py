"""``so101 calibrate camera``: a printed board in many poses, and the lens is known."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

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
    from calibration.intrinsics import LensResult
    from calibration.views import ViewCollector
    from robot.twin.client import TwinProcess

WANTED_VIEWS = 20
PATIENCE_S = 300.0
"""After this a person has given up, or the board is the wrong one."""
LOOKS_PER_POSE = 6
MAX_TWIN_POSES = 150


def camera(
    name: Annotated[str | None, typer.Argument(help="Camera of the robot, for instance overhead.")] = None,
    robot: Annotated[
        str, typer.Option(help="Robot file, or 'twin': then an imaginary hand holds the board.")
    ] = "twin",
    source: SourceOption = None,
    out: OutOption = None,
    images: Annotated[
        Path | None, typer.Option(help="Instead of a camera: a folder of pictures of the board.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--print", help="Only write the sheets to print, as a PDF of A4 pages.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a camera's lens with the printed board: focal length, centre and distortion in pixels.

    Move the board before the camera, to every edge, near and far, tilted every way, and hold it still a
    moment each time; good views are taken by themselves. Or move the arm, for the camera at its wrist.
    """
    console = Console(highlight=False, soft_wrap=True, stderr=as_json)
    if sheet is not None:
        from calibration.sheets import write_sheets

        write_sheets(sheet)
        console.print(f"{sheet}: print both pages at 100 %, the rulers must measure 100 mm.")
        return
    if name is None:
        raise ConfigError(
            "say which camera (`so101 calibrate camera overhead --robot FILE`), or --print FILE.pdf"
        )
    from calibration.camera_file import update_camera_file
    from calibration.intrinsics import solve_lens
    from calibration.views import BoardFinder, ViewCollector

    target = Target.find(name, robot, source, out)
    size = (target.camera.width_px, target.camera.height_px)
    finder = BoardFinder()
    collector = ViewCollector(finder, *size, stills=images is not None)
    with interruptible("nothing was written"):
        if images is not None:
            _from_folder(console, collector, images)
        else:
            with twin_of(target) as twin:
                _from_camera(console, collector, target, twin)
        result = solve_lens(collector, finder, *size, today())
    update_camera_file(target.out, lens=result.lens)
    _report(console, result, target, as_json)


def _from_folder(console: Console, collector: ViewCollector, folder: Path) -> None:
    import cv2

    paths = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp")]
    if not paths:
        raise CalibrationError(f"{folder} holds no pictures (.png, .jpg, .bmp)")
    for path in paths:
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise CalibrationError(f"{path} is no picture that OpenCV can read")
        verdict = collector.offer(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        console.print(f"{path.name}: {verdict.value}")


def _from_camera(
    console: Console, collector: ViewCollector, target: Target, twin: TwinProcess | None
) -> None:
    """Look until the views suffice."""
    from calibration.intrinsics import missing

    poses = _twin_poses(twin, target.camera.name)
    opened = open_camera(target, twin)
    end_s = time.monotonic() + PATIENCE_S
    taken = 0
    with contextlib.closing(opened), Live(console=console, refresh_per_second=8) as live:
        looks = 0
        while missing(collector) is not None or len(collector.views) < WANTED_VIEWS:
            if time.monotonic() > end_s:
                break
            if poses is not None and (looks == 0 or looks > LOOKS_PER_POSE or len(collector.views) > taken):
                taken, looks = len(collector.views), 0
                if next(poses, False) is False:
                    break
                read_away(opened, SHOWN_S)
            looks += 1
            verdict = collector.offer(opened.read().image)
            live.update(_progress(collector, verdict.value, missing(collector) or "a few more like these"))


def _twin_poses(twin: TwinProcess | None, camera: str) -> Iterator[None] | None:
    """The imaginary hand's, ``None`` where a person holds the board."""
    if twin is None:
        return None
    from itertools import islice

    from calibration.twin_person import TwinPerson

    person = TwinPerson(twin, camera)
    person.prepare()
    return islice(person.show_board(), MAX_TWIN_POSES)


def _progress(collector: ViewCollector, verdict: str, advice: str) -> Group:
    rows = ["".join("██" if cell else "··" for cell in row) for row in collector.covered]
    return Group(
        *(Text(f"  {row}") for row in rows),
        Text(f"{len(collector.views)} views, {100 * collector.coverage:.0f} % of the picture · {verdict}"),
        Text(f"next: {advice}", style="bold"),
    )


def _report(console: Console, result: LensResult, target: Target, as_json: bool) -> None:
    lens = result.lens
    if as_json:
        answer = {
            "lens": lens.model_dump(mode="json"),
            "per_view_px": list(result.per_view_px),
            "dropped_views": result.dropped,
            "focal_std_px": result.focal_std_px,
            "file": str(target.out),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    worst = max(result.per_view_px)
    console.print(
        f"{lens.views} views, error {lens.rms_px:.2f} px (rms), worst view {worst:.2f} px, "
        f"{result.dropped} dropped"
    )
    console.print(
        f"focal length {lens.fx_px:.1f} x {lens.fy_px:.1f} px (± {result.focal_std_px:.1f}), centre "
        f"({lens.cx_px:.1f}, {lens.cy_px:.1f}) px, k1 {lens.k1:+.3f}, k2 {lens.k2:+.3f}"
    )
    console.print(f"Written to {target.out}. {target.advice()}")
    if target.camera.name == "overhead":
        console.print(f"Now the table: so101 calibrate table {target.asked}")
