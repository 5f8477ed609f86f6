"""The PDF that is printed: the board, and single markers to cut out. All lines are vectors, to scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot import printed
from robot.errors import CalibrationError
from robot.seams import ByteArray

MM_PER_INCH = 25.4
RULER_MM = 100.0
_MARKER_GAP_MM = 14.0
_NAME = f"ArUco {printed.DICTIONARY}"


def write_sheets(path: Path) -> None:
    """Write two pages of A4: the ChArUco board with a check ruler, and the single markers.

    Raises:
        CalibrationError: the file cannot be written.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    try:
        with PdfPages(path, metadata={"Title": "SO-101 calibration sheets", "CreationDate": None}) as pages:
            for draw in (_board_page, _marker_page):
                figure, axes = _page()
                draw(axes)
                pages.savefig(figure)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error}") from error


def _page() -> tuple[Any, Any]:
    """A sheet whose axes are millimetres from its upper left corner, y down."""
    from matplotlib.figure import Figure

    width_mm, height_mm = printed.SHEET_MM
    figure = Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0))
    axes.set_axis_off()
    return figure, axes


def _board_page(axes: Any) -> None:
    left, top = printed.BOARD_LEFT_TOP_MM
    _ink(axes, printed.board_image(), left, top)
    _ruler(axes, left, 191.0)
    across, down = printed.SQUARES
    _text(
        axes, left + RULER_MM + 8, 190.0,
        f"so101 ChArUco board {across} x {down}, squares {printed.SQUARE_MM:g} mm, markers "
        f"{printed.MARKER_MM:g} mm, {_NAME}, ids 0 to {across * down // 2 - 1}.\n"
        "Print at 100 % (actual size). The ruler must measure 100 mm. Glue it to something flat.\n"
        "For the table: this edge against the front of the arm's base, centred on the mark.",
    )  # fmt: skip
    middle = left + across * printed.SQUARE_MM / 2
    axes.plot([middle, middle], [203.0, 206.0], color="black", linewidth=0.8)


def _marker_page(axes: Any) -> None:
    side, cut = printed.TOUCH_MM, printed.TOUCH_CUT_MM
    step = cut + _MARKER_GAP_MM
    for index, marker in enumerate(printed.TOUCH_IDS):
        x, y = 45.0 + step * (index % 3), 25.0 + step * (index // 3)
        margin = (cut - side) / 2
        _ink(axes, printed.marker_image(marker), x + margin, y + margin)
        outline_x, outline_y = [x, x + cut, x + cut, x, x], [y, y, y + cut, y + cut, y]
        axes.plot(outline_x, outline_y, color="0.6", linewidth=0.4)
        _text(axes, x + margin, y + cut - 2.0, f"{marker}")
    _ruler(axes, 45.0, 180.0)
    _text(
        axes, 45.0 + RULER_MM + 8, 179.0,
        f"so101 single markers, {side:g} mm, {_NAME}, ids {printed.TOUCH_IDS[0]} to "
        f"{printed.TOUCH_IDS[-1]}.\n"
        "Print at 100 % (actual size). Cut along the grey lines: a marker needs its white.\n"
        "Lay them anywhere in view and in reach; tape them down.",
    )  # fmt: skip


def _ink(axes: Any, image: ByteArray, left_mm: float, top_mm: float) -> None:
    """Black pixels of an image as one filled path, so that no hairlines show between them."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    # Runs of rows that are alike make tall rectangles: 1 to 3 hundred instead of thousands.
    changes = np.flatnonzero(np.any(np.diff(image, axis=0) != 0, axis=1)) + 1
    tops, bottoms = [0, *changes.tolist()], [*changes.tolist(), len(image)]
    corners: list[tuple[float, float]] = []
    for top, bottom in zip(tops, bottoms, strict=True):
        edges = np.flatnonzero(np.diff(np.pad((image[top] == 0).astype(np.int8), 1)))
        for start, end in edges.reshape(-1, 2).tolist():
            corners += [(start, top), (end, top), (end, bottom), (start, bottom), (start, top)]
    points = np.array(corners) / printed.PIXELS_PER_MM + [left_mm, top_mm]
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    path = Outline(points, codes * (len(corners) // 5))
    axes.add_patch(PathPatch(path, facecolor="black", edgecolor="none", linewidth=0))


def _ruler(axes: Any, x_mm: float, y_mm: float) -> None:
    """A line of 100 mm with a tick each 10 mm."""
    axes.plot([x_mm, x_mm + RULER_MM], [y_mm, y_mm], color="black", linewidth=0.5, solid_capstyle="butt")
    for tick in np.arange(0.0, RULER_MM + 1, 10.0):
        length = 4.0 if tick % 50 == 0 else 2.5
        axes.plot([x_mm + tick] * 2, [y_mm, y_mm + length], color="black", linewidth=0.5)
    _text(axes, x_mm + 2, y_mm + 9.0, f"{RULER_MM:g} mm")


def _text(axes: Any, x_mm: float, y_mm: float, text: str) -> None:
    axes.text(x_mm, y_mm, text, fontsize=7, verticalalignment="top" if "\n" in text else "baseline")
