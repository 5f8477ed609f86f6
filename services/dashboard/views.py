"""Camera pictures with what is drawn over them, as HTML."""

from __future__ import annotations

import json
from html import escape

import numpy as np

from calibration.table import TableMap
from robot.config import BowlConfig, CameraConfig
from robot.seams import FloatArray


def camera_view(
    camera: CameraConfig, table_map: TableMap | None, outline_m: FloatArray, bowl: BowlConfig | None
) -> str:
    """One camera: its picture, and over a calibrated one the reachable area, the bowl and the crosshair.

    Args:
        camera: Name and size.
        table_map: Of this camera; ``None`` where it is not calibrated, which then cannot be clicked.
        outline_m: Corners of the reachable area on the table, shape (n, 2).
        bowl: Where things go.
    """
    size = f"{camera.width_px} {camera.height_px}"
    drawing = "" if table_map is None else _drawing(table_map, outline_m, bowl)
    kind = "view stale pick" if table_map is not None else "view stale"
    maps = "" if table_map is None else _maps(table_map)
    return (
        f'<div class="{kind}" data-camera="{escape(camera.name)}" {maps}data-width="{camera.width_px}" '
        f'data-height="{camera.height_px}" style="aspect-ratio: {camera.width_px} / {camera.height_px}">'
        f'<img alt="" aria-label="Picture of the {escape(camera.name)} camera">'
        f'<svg viewBox="-0.5 -0.5 {size}" preserveAspectRatio="none">{drawing}</svg>'
        '<div class="gone">no picture</div></div>'
    )


def _drawing(table_map: TableMap, outline_m: FloatArray, bowl: BowlConfig | None) -> str:
    shapes = ""
    if len(outline_m):
        shapes += f'<polygon class="reach" points="{_points(table_map, outline_m)}"/>'
    if bowl is not None:
        angles = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
        rim = np.stack([np.cos(angles), np.sin(angles)], axis=1) * bowl.radius_m + [bowl.x_m, bowl.y_m]
        shapes += f'<polygon class="bowl" points="{_points(table_map, rim)}"/>'
    cross = '<circle r="9"/><path d="M-16 0H-4M4 0H16M0 -16V-4M0 4V16"/>'
    ring = '<g class="tool"><circle r="22"/><circle class="dot" r="3"/></g>'
    return f'{shapes}<g class="cross" style="display: none">{cross}</g>{ring}'


def _maps(table_map: TableMap) -> str:
    """Both ways between pixels and the table, for the script; a lens, which bends little, is left out."""
    to_table = np.array(table_map.matrix)
    ways = (("to-table", to_table), ("to-pixel", np.linalg.inv(to_table)))
    return "".join(f'data-{name}="{json.dumps(way.tolist())}" ' for name, way in ways)


def _points(table_map: TableMap, corners_m: FloatArray) -> str:
    pixels = (table_map.to_pixel(float(x), float(y)) for x, y in corners_m)
    return " ".join(f"{u:.1f},{v:.1f}" for u, v in pixels)
