from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from camera_rig import LENS, SIZE

from calibration.camera_file import TableCalibration, load_camera_file, table_maps, update_camera_file
from calibration.plane import BOARD_AT_BASE, board_on_table, fit_table
from calibration.views import BoardFinder
from robot.config import CameraConfig, load_robot
from robot.errors import CalibrationError

# Looks down from 0.7 m, a little aslant: columns are the camera's x, y and z in the base frame.
ROTATION = (
    np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    @ cv2.Rodrigues(np.array([0.1, -0.15, 0.05]))[0]
)
POSITION_M = np.array([0.20, -0.05, 0.70])
SPREAD = np.array([[0.15, -0.15], [0.3, -0.14], [0.34, 0.0], [0.3, 0.1], [0.2, 0.16], [0.2, 0.03]])


def seen(points_m: np.ndarray, height_m: float = 0.0, noise_px: float = 0.0) -> np.ndarray:
    spatial = np.column_stack([points_m, np.full(len(points_m), height_m)])
    turn = cv2.Rodrigues(ROTATION.T)[0]
    pixels, _ = cv2.projectPoints(spatial, turn, -ROTATION.T @ POSITION_M, LENS.matrix, LENS.distortion)
    return pixels.reshape(-1, 2) + np.random.default_rng(0).normal(0, noise_px, (len(points_m), 2))


def fit(points: np.ndarray, pixels: np.ndarray, **changes: object) -> TableCalibration:
    values = {"lens": LENS, "size_px": SIZE, "height_m": 0.014, "method": "markers", "date": ""} | changes
    return fit_table(points, pixels, values.pop("lens"), **values)  # type: ignore[arg-type]


def test_the_plane_over_the_table_is_mapped_through_a_bent_lens() -> None:
    found = fit(SPREAD, seen(SPREAD, noise_px=0.05))
    assert found.rms_mm < 0.3 and found.left_out_rms_mm is not None
    anywhere = np.array([[0.1, 0.25], [0.38, -0.2], [0.25, 0.0]])
    table = found.map()
    for point, pixel in zip(anywhere, seen(anywhere, height_m=0.014), strict=True):
        assert np.linalg.norm(np.subtract(table.to_table(*pixel), point)) < 0.0015
        assert np.linalg.norm(np.subtract(table.to_pixel(*point), pixel)) < 1.5
        u, v = np.rint(pixel).astype(int)
        if 0 <= u < 640 and 0 <= v < 480:
            assert np.linalg.norm(table.table_grid(640, 480)[v, u] - point) < 0.003


def test_height_matters() -> None:
    points, pixels = SPREAD, seen(SPREAD)
    low, high = fit(points, pixels, height_m=0.0).map(), fit(points, pixels, height_m=0.05).map()
    assert np.linalg.norm(np.subtract(low.to_table(50, 50), high.to_table(50, 50))) > 0.01


def test_a_height_needs_a_lens_and_the_table_itself_does_not() -> None:
    pinhole = LENS.model_copy(update={"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0})
    straight = LENS.straighten(seen(SPREAD))
    with pytest.raises(CalibrationError, match="so101 calibrate camera"):
        fit(SPREAD, straight, lens=None)
    plain, with_lens = (
        fit(SPREAD, straight, lens=None, height_m=0.0),
        fit(SPREAD, straight, lens=pinhole, height_m=0.0),
    )
    assert np.allclose(plain.map().to_table(300, 200), with_lens.map().to_table(300, 200), atol=1e-5)


def test_what_cannot_be_a_map_is_refused() -> None:
    pixels = seen(SPREAD)
    with pytest.raises(CalibrationError, match="needs 4"):
        fit(SPREAD[:3], pixels[:3])
    line = np.column_stack([np.linspace(0.15, 0.35, 6), np.zeros(6)])
    with pytest.raises(CalibrationError, match="in a line"):
        fit(line, seen(line))
    wrong = SPREAD.copy()
    wrong[2] += [0.02, 0.0]
    with pytest.raises(CalibrationError, match=r"at most 4 is accepted.*touch it again"):
        fit(wrong, pixels, method="touch")


CORNERS = np.array([[0.15, -0.12], [0.15, 0.12], [0.3, -0.12], [0.3, 0.12], [0.225, 0.0]])


@pytest.mark.parametrize("lens", [LENS, None])
def test_points_of_which_one_is_needed_give_a_map_without_an_error_at_points_left_out(lens: object) -> None:
    """Four corners and the middle: without a corner three of them lie in a line. Two rows 2 cm apart and one
    point far off: without that one they are as good as a line.
    """
    changes = {} if lens else {"lens": None, "height_m": 0.0, "method": "touch"}
    rows = [[x, y] for x in (0.15, 0.25, 0.35) for y in (0.0, 0.02)]
    for points in (CORNERS, np.array([*rows, [0.2, 0.2]])):
        pixels = seen(points, noise_px=0.1) if lens else LENS.straighten(seen(points, noise_px=0.1))
        assert fit(points, pixels, **changes).left_out_rms_mm is None


def test_a_board_lies_where_it_is_said_to_lie() -> None:
    finder = BoardFinder()
    flat = board_on_table(finder.corners_m, finder.middle_m, BOARD_AT_BASE)
    assert np.allclose(flat.mean(axis=0), BOARD_AT_BASE[:2])
    assert flat[0, 0] > flat[-1, 0] and flat[0, 1] > flat[-1, 1]  # its upper left is far and to the left
    turned = board_on_table(finder.corners_m, finder.middle_m, (0.2, 0.1, 90.0))
    across = turned[1] - turned[0]
    assert np.allclose(across, [finder.corners_m[1, 0] - finder.corners_m[0, 0], 0.0], atol=1e-9)


def camera(**changes: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "overhead", "calibration": "overhead.json"} | changes)


def test_each_command_keeps_what_the_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    update_camera_file(path, lens=LENS)
    update_camera_file(path, reference={"mean": [], "std": []})
    found = fit(SPREAD, seen(SPREAD))
    update_camera_file(path, table=found)
    loaded = load_camera_file(path, camera())
    assert loaded.lens == LENS and loaded.table == found and loaded.reference == {"mean": [], "std": []}
    assert [p.name for p in tmp_path.iterdir()] == ["overhead.json"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "is wrong.*so101 calibrate camera overhead"),
        ('{"lense": null}', "lense"),
        (json.dumps({"lens": LENS.model_dump() | {"fx_px": -1}}), "lens.fx_px"),
        (json.dumps({"lens": LENS.model_dump() | {"width_px": 800}}), "800x480 pictures"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "overhead.json").write_text(content)
    with pytest.raises(CalibrationError, match=match):
        load_camera_file(tmp_path / "overhead.json", camera())


def test_two_maps_of_one_camera_are_refused_and_one_is_used(tmp_path: Path) -> None:
    config, _ = load_robot("twin")
    update_camera_file(tmp_path / "overhead.json", table=fit(SPREAD, seen(SPREAD)))
    inline = config.cameras[1].table_map
    twice = config.model_copy(update={"cameras": (camera(table_map=inline),)})
    with pytest.raises(CalibrationError, match="take table_map out of the YAML"):
        table_maps(twice, tmp_path)
    once = config.model_copy(update={"cameras": (camera(),)})
    pixel = seen(SPREAD, height_m=0.014)[0]
    assert np.allclose(table_maps(once, tmp_path)["overhead"].to_table(*pixel), SPREAD[0], atol=5e-4)
    assert set(table_maps(*load_robot("twin"))) == {"overhead"}
    (tmp_path / "latin.json").write_bytes(b'{"lens": "\xe9"}')
    latin = config.model_copy(update={"cameras": (camera(calibration="latin.json"),)})
    with pytest.raises(
        CalibrationError, match=r"latin\.json, is wrong.*calibrate camera overhead --robot FILE"
    ):
        table_maps(latin, tmp_path)
    absent = config.model_copy(update={"cameras": (camera(calibration="gone.json"),)})
    with pytest.raises(CalibrationError, match="so101 calibrate"):
        table_maps(absent, tmp_path)
