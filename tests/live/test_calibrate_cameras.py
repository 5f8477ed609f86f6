"""Table calibration by touch against a live twin, with nobody there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.camera_file import load_camera_file, update_camera_file
from calibration.lens import Lens
from calibration.table import TableMap
from robot.config import load_robot

pytestmark = [pytest.mark.live, pytest.mark.slow]

FOCAL_PX = 240 / np.tan(np.radians(52 / 2))
LENS = Lens(width_px=640, height_px=480, fx_px=FOCAL_PX, fy_px=FOCAL_PX, cx_px=319.5, cy_px=239.5)


def disagreement_mm(path: Path) -> float:
    """Greatest distance from the shipped map over the field of pickups."""
    config, _ = load_robot("twin")
    overhead = next(camera for camera in config.cameras if camera.name == "overhead")
    assert overhead.table_map is not None
    found = load_camera_file(path, overhead).table
    assert found is not None
    shipped, new = TableMap(overhead.table_map), found.map()
    points = [(x, y) for x in np.arange(0.12, 0.38, 0.05) for y in np.arange(-0.3, 0.31, 0.1)]
    return max(1000 * float(np.hypot(*np.subtract(new.to_table(*shipped.to_pixel(*p)), p))) for p in points)


def test_the_table_of_the_twin_is_where_a_finger_finds_it(tmp_path: Path) -> None:
    """The lens, and the table with the board: ``tests/calibration/test_camera_commands.py``."""
    path = tmp_path / "overhead.json"
    update_camera_file(path, lens=LENS)
    options = ("--touch", "--out", str(path), "--json")
    command = [sys.executable, "-m", "services.cli", "calibrate", "table", "overhead", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)["table"]
    assert table["points"] == 6 and table["rms_mm"] < 1.0
    assert table["height_m"] == 0.014
    assert disagreement_mm(path) < 2.0
    assert json.loads(path.read_text())["lens"] == LENS.model_dump(mode="json")
