from __future__ import annotations

import numpy as np
import pytest

from calibration.table import TableMap
from robot.errors import CalibrationError


def looking_down(height_m: float = 0.7) -> TableMap:
    # x of the camera along -y of the base, y of the camera along -x: the usual overhead view.
    rotation = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    intrinsics = np.array([[500.0, 0.0, 319.5], [0.0, 500.0, 239.5], [0.0, 0.0, 1.0]])
    return TableMap.from_pinhole(intrinsics, rotation, [0.25, 0.0, height_m])


def test_the_middle_of_the_picture_is_below_the_camera() -> None:
    assert looking_down().to_table(319.5, 239.5) == pytest.approx((0.25, 0.0))


def test_a_step_on_the_table_is_focal_length_over_height_pixels() -> None:
    u, v = looking_down().to_pixel(0.25 + 0.07, 0.07)
    assert (u, v) == pytest.approx((319.5 - 50.0, 239.5 - 50.0))


def test_there_and_back() -> None:
    table = looking_down()
    for x, y in [(0.18, -0.15), (0.3, 0.15), (0.22, 0.01)]:
        assert table.to_table(*table.to_pixel(x, y)) == pytest.approx((x, y), abs=1e-9)


def test_a_tilted_mujoco_camera_agrees_with_projection_by_hand() -> None:
    pitch = np.radians(35.0)
    # MuJoCo camera: -z is the line of sight. Look along +x and down by (90 - 35) degrees.
    sight = np.array([np.sin(pitch), 0.0, -np.cos(pitch)])
    right = np.array([0.0, -1.0, 0.0])
    up = np.cross(right, sight)
    xmat = np.column_stack([right, up, -sight])
    position = np.array([0.0, 0.05, 0.6])
    table = TableMap.from_mujoco(52.0, 640, 480, xmat.ravel(), position)
    point = np.array([0.31, -0.04, 0.0])
    local = xmat.T @ (point - position)
    focal = 240.0 / np.tan(np.radians(26.0))
    expected = (319.5 + focal * local[0] / -local[2], 239.5 - focal * local[1] / -local[2])
    assert table.to_pixel(0.31, -0.04) == pytest.approx(expected)
    assert table.to_table(*expected) == pytest.approx((0.31, -0.04))


def test_above_the_horizon_there_is_no_table() -> None:
    sight = np.array([1.0, 0.0, 0.0])
    right = np.array([0.0, -1.0, 0.0])
    xmat = np.column_stack([right, np.cross(right, sight), -sight])
    table = TableMap.from_mujoco(50.0, 640, 480, xmat, [-0.5, 0.0, 0.3])
    with pytest.raises(CalibrationError, match="does not lie on the table"):
        table.to_table(320, 100)
    assert np.isnan(table.table_grid(640, 480)[100, 320]).all()
    assert table.to_table(320, 400)[0] > -0.5


def test_the_grid_is_the_map_of_every_pixel() -> None:
    table = looking_down()
    grid = table.table_grid(640, 480)
    assert grid.shape == (480, 640, 2)
    assert tuple(grid[77, 300]) == pytest.approx(table.to_table(300, 77))


def test_the_matrix_makes_the_same_map() -> None:
    table = looking_down()
    again = TableMap(table.matrix)
    assert again.to_table(10, 20) == pytest.approx(table.to_table(10, 20))


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0], [0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, float("nan")]],
        np.zeros((3, 3)),
        [[1, 2, 3], [2, 4, 6], [0, 0, 1]],
        [["a", 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_matrices_that_are_no_map_are_refused(matrix: object) -> None:
    with pytest.raises(CalibrationError):
        TableMap(matrix)  # type: ignore[arg-type]


def test_a_camera_in_the_table_plane_is_refused() -> None:
    with pytest.raises(CalibrationError, match="table plane"):
        TableMap.from_pinhole(np.eye(3), np.eye(3), [0.0, 0.0, 0.0])
