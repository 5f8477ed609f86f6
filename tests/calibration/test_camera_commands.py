"""``so101 calibrate camera`` and ``table`` in this process, on the twin's world without its processes."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from calibration.camera_file import load_camera_file, update_camera_file
from calibration.lens import Lens
from calibration.table import TableMap
from calibration.twin_person import OUT_OF_THE_WAY
from robot.config import load_robot
from robot.errors import CalibrationError
from robot.kinematics import user_to_rad
from robot.twin.render import Renderer
from robot.twin.world import World, WorldConfig
from services.cli import app, calibrate_camera, calibrate_table
from services.cli.camera_source import Target

FOCAL_PX = 240 / math.tan(math.radians(52 / 2))
LENS = Lens(width_px=640, height_px=480, fx_px=FOCAL_PX, fy_px=FOCAL_PX, cx_px=319.5, cy_px=239.5)
CONFIG, _ = load_robot("twin")
OVERHEAD = next(camera for camera in CONFIG.cameras if camera.name == "overhead")


class StillTwin:
    """A twin of which nothing moves: what a hand is asked for is done already. Its camera, too."""

    def __init__(self) -> None:
        self.world = World(WorldConfig(park_rad=tuple(user_to_rad(OUT_OF_THE_WAY))))
        self.place_cube = self.world.place_cube
        self.place_board = self.world.place_board
        mujoco.mj_forward(self.world.model, self.world.data)  # so that the cameras know where they are
        self._renderer = Renderer()
        self.shut_down = self._renderer.close

    def read(self) -> SimpleNamespace:
        return SimpleNamespace(image=self._renderer.render(self.world.render_state(), "overhead"))

    def close(self) -> None:
        """Of the camera."""

    def hand(self, arm: str, user: object) -> None:
        assert arm == "follower" and np.array_equal(user, OUT_OF_THE_WAY)

    def truth(self) -> dict[str, float]:
        return {"time_s": math.inf}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[StillTwin]:
    """The commands see this twin through its overhead camera, without delay."""
    twin = StillTwin()
    for module in (calibrate_camera, calibrate_table):
        monkeypatch.setattr(module, "twin_of", lambda _: contextlib.nullcontext(twin))
        monkeypatch.setattr(module, "open_camera", lambda *_: twin)
        monkeypatch.setattr(module, "SHOWN_S", 0.0)
    monkeypatch.setattr(calibrate_table, "PICTURES", 1)
    yield twin
    twin.shut_down()


def command(path: Path, *arguments: str, of: str = "table") -> Any:
    return CliRunner().invoke(app, ["calibrate", of, "overhead", "--out", str(path), *arguments])


def wrong_mm(path: Path) -> float:
    """Greatest distance of a file's map from the shipped one over the field of pickups."""
    found = load_camera_file(path, OVERHEAD).table
    assert found is not None and OVERHEAD.table_map is not None
    shipped, new = TableMap(OVERHEAD.table_map), found.map()
    points = [(x, y) for x in np.arange(0.12, 0.38, 0.05) for y in np.arange(-0.3, 0.31, 0.1)]
    beside_m = [np.subtract(new.to_table(*shipped.to_pixel(*point)), point) for point in points]
    return 1000 * float(np.linalg.norm(beside_m, axis=1).max())


def test_the_lens_and_then_the_table_are_what_they_are(still: StillTwin, tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    done = command(path, of="camera")
    assert done.exit_code == 0, done.output
    assert f"so101 calibrate table overhead --robot twin --out {path}" in done.output.replace("\n", "")
    lens = load_camera_file(path, OVERHEAD).lens
    assert lens is not None and lens.views >= 18 and lens.rms_px < 0.3
    assert (lens.fx_px, lens.fy_px) == pytest.approx((FOCAL_PX, FOCAL_PX), rel=0.01)
    assert command(path).exit_code == 0
    assert load_camera_file(path, OVERHEAD).lens == lens and wrong_mm(path) < 4.0


@pytest.mark.parametrize("place", [(), ("--board-at", "0.24", "0.06", "30")])
def test_the_board_gives_the_map_that_is_true(
    still: StillTwin, tmp_path: Path, place: tuple[str, ...]
) -> None:
    path = tmp_path / "overhead.json"
    update_camera_file(path, lens=LENS)
    done = command(path, "--json", *place)
    assert done.exit_code == 0, done.output
    found = load_camera_file(path, OVERHEAD).table
    assert found is not None and found.method == "markers" and found.rms_mm < 1.0 and found.points >= 15
    assert wrong_mm(path) < 3.0


def test_a_table_of_another_size_is_measured_anew_as_the_message_says(
    still: StillTwin, tmp_path: Path
) -> None:
    path = tmp_path / "overhead.json"
    update_camera_file(path, lens=LENS)
    assert command(path, "--json").exit_code == 0
    held = json.loads(path.read_text())
    path.write_text(json.dumps({name: held[name] | {"width_px": 800} for name in ("lens", "table")}))
    refused = command(path)
    assert refused.exit_code == 1 and "800x480 pictures" in refused.output
    assert f"`so101 calibrate camera overhead --robot twin --out {path}`" in refused.output
    with pytest.raises(CalibrationError, match="so101 calibrate table overhead"):
        load_camera_file(path, OVERHEAD)
    update_camera_file(path, lens=LENS)
    assert command(path).exit_code == 0
    assert load_camera_file(path, OVERHEAD).table is not None


def test_a_lens_that_is_missing_is_asked_for_with_what_was_given(tmp_path: Path) -> None:
    done = command(tmp_path / "none.json", "--source", "/dev/video7")
    assert done.exit_code == 1
    options = f"--robot twin --source /dev/video7 --out {tmp_path / 'none.json'}"
    assert f"`so101 calibrate camera overhead {options}`" in done.output


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"lens": "\xe9"}'])
def test_a_file_that_nothing_can_be_added_to_is_told_before_anything_is_measured(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "overhead.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"overhead\.json cannot be added to.*move it away"):
        Target.find("overhead", "twin", None, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (None, "lower edge against the front of the base"),
        ((0.2, 0.1, 90.0), "x 0.2 m, y 0.1 m, turned by 90"),
    ],
)
def test_a_person_is_told_where_the_board_goes(
    monkeypatch: pytest.MonkeyPatch, at: tuple[float, float, float] | None, said: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(calibrate_table, "_ask", lambda _, what: asked.append(what))
    target = SimpleNamespace(camera=OVERHEAD)
    with pytest.raises(CalibrationError, match="0 corners of the board"):
        calibrate_table._board(Console(), lambda: [np.zeros((480, 640, 3), np.uint8)], None, target, at, None)  # type: ignore[arg-type]
    assert said in asked[0]


def test_a_touch_that_was_none_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touches: list[str] = []

    def touched(*_: object) -> tuple[float, float]:
        if len(touches) == 1:
            raise CalibrationError("the gripper is 30 % open: close it and touch again")
        return 0.2, 0.1

    monkeypatch.setattr(calibrate_table, "_ask", lambda _, what: touches.append(what))
    monkeypatch.setattr("calibration.markers.touched_point_m", touched)
    found = calibrate_table._touch(Console(), None, None, 41, None)  # type: ignore[arg-type]
    assert found == (0.2, 0.1) and len(touches) == 2 and "marker 41" in touches[1]
    assert "30 % open" in capsys.readouterr().out
