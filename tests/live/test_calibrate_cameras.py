"""Camera and table calibration against a live twin, with nobody there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.camera_file import load_camera_file
from calibration.table import TableMap
from robot.config import load_robot

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(500)]

TRUE_FOCAL_PX = 240 / np.tan(np.radians(52 / 2))


def calibrate(*arguments: str) -> Any:
    command = [sys.executable, "-m", "services.cli", "calibrate", *arguments, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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


def test_lens_and_table_of_the_twin_are_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    lens = calibrate("camera", "overhead", "--out", str(path))["lens"]
    assert lens["fx_px"] == pytest.approx(TRUE_FOCAL_PX, rel=0.01)
    assert lens["fy_px"] == pytest.approx(TRUE_FOCAL_PX, rel=0.01)
    assert lens["rms_px"] < 0.3
    table = calibrate("table", "overhead", "--touch", "--out", str(path))["table"]
    assert table["rms_mm"] < 1.0
    assert table["height_m"] == 0.014
    assert disagreement_mm(path) < 2.0
    assert json.loads(path.read_text())["lens"] == lens
