"""A camera's calibration file: ``{"lens": ... | null, "table": ... | null, "reference": ...}``.

``so101 calibrate camera`` writes the lens, ``so101 calibrate table`` the table, and each keeps what else is
there; ``reference`` is :mod:`robot.camera_reference`'s.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from calibration.lens import Lens
from calibration.table import Matrix, TableMap
from robot.config import CameraConfig, Finite, RobotConfig, StrictModel
from robot.errors import CalibrationError


class TableCalibration(StrictModel):
    """The block ``table``: how a plane parallel to the table is seen. It needs nothing else of the file."""

    pixel_to_table: tuple[
        tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite]
    ]
    """Straightened pixel (u, v, 1) to (x_m, y_m, 1), row by row."""
    lens: Lens | None = None
    """With which it was measured: a lens that is measured anew later makes no map wrong."""
    width_px: int = Field(ge=16)
    height_px: int = Field(ge=16)
    height_m: Finite
    """Of the plane over the table."""
    method: Literal["markers", "touch"]
    points: int = Field(ge=4)
    rms_mm: float = Field(ge=0, allow_inf_nan=False)
    worst_mm: float = Field(ge=0, allow_inf_nan=False)
    left_out_rms_mm: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Error at each point of a map from all the others, which is what a new point may expect."""
    date: str = ""

    def map(self) -> TableMap:
        """For use. Raises CalibrationError for a matrix that cannot be inverted."""
        return TableMap(self.pixel_to_table, self.lens)


class CameraCalibration(StrictModel):
    """All that a camera's calibration file holds."""

    lens: Lens | None = None
    table: TableCalibration | None = None
    reference: dict[str, Any] | None = None


def load_camera_file(path: Path, camera: CameraConfig) -> CameraCalibration:
    """Read a camera's calibration.

    Raises:
        CalibrationError: it cannot be read, says something impossible, or was made with pictures of
            another size; the message says which, and the command that makes it anew.
    """
    remedy = (
        f"make it anew with `so101 calibrate camera {camera.name} --robot FILE` and "
        f"`so101 calibrate table {camera.name} --robot FILE`"
    )
    try:
        found = CameraCalibration.model_validate_json(path.read_bytes(), strict=False)
    except OSError as error:
        raise CalibrationError(
            f"the calibration of camera {camera.name} cannot be read: {error}; {remedy}"
        ) from error
    except ValidationError as error:
        raise CalibrationError(
            f"the calibration of camera {camera.name}, {path}, is wrong ({_wrong(error)}): {remedy}"
        ) from error
    for name, block in (("lens", found.lens), ("table", found.table)):
        _require_size(name, block, path, camera, remedy)
    return found


def load_lens(path: Path, camera: CameraConfig, remedy: str) -> Lens | None:
    """The lens of a camera, whatever the rest of its file says: that is about to be measured anew.

    Args:
        path: of its calibration file, which may not exist yet.
        camera: whose it is.
        remedy: the command that measures the lens.

    Raises:
        CalibrationError: as :func:`load_camera_file`, of the lens alone.
    """
    block = read_blocks(path).get("lens")
    try:
        lens = None if block is None else Lens.model_validate(block)
    except ValidationError as error:
        raise CalibrationError(f"the lens in {path} is wrong ({_wrong(error)}): {remedy}") from error
    _require_size("lens", lens, path, camera, remedy)
    return lens


def _wrong(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())


def _require_size(
    name: str, block: Lens | TableCalibration | None, path: Path, camera: CameraConfig, remedy: str
) -> None:
    if block is not None and (block.width_px, block.height_px) != (camera.width_px, camera.height_px):
        raise CalibrationError(
            f"the {name} in {path} was measured with {block.width_px}x{block.height_px} pictures, camera "
            f"{camera.name} is set to {camera.width_px}x{camera.height_px}: {remedy}"
        )


def read_blocks(path: Path) -> dict[str, Any]:
    """What a file holds, unchecked; no blocks where there is none.

    Raises:
        CalibrationError: what is there is no JSON object, so that nothing can be added to it.
    """
    try:
        blocks = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(blocks, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise CalibrationError(
            f"{path} cannot be added to: {error}; move it away or give another --out"
        ) from error
    return blocks


def update_camera_file(path: Path, **blocks: StrictModel | dict[str, Any]) -> None:
    """Replace blocks of a file, keep the others. The old file stays until the new one is whole.

    Raises:
        CalibrationError: what is there is no JSON object, or the file cannot be written.
    """
    new = {"lens": None, "table": None} | read_blocks(path)
    for name, block in blocks.items():
        new[name] = block.model_dump(mode="json") if isinstance(block, StrictModel) else block
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error}; give another --out") from error


def table_maps(config: RobotConfig, folder: Path) -> dict[str, TableMap]:
    """Camera name -> its table map, for the cameras that have one, inline or in their file.

    Args:
        config: of the robot.
        folder: from which its relative paths start.

    Raises:
        CalibrationError: a file is wrong, or a camera has two maps.
    """
    maps: dict[str, TableMap] = {}
    for camera in config.cameras:
        inline: Matrix | None = camera.table_map
        if inline is not None:
            maps[camera.name] = TableMap(inline)
        if camera.calibration is None:
            continue
        table = load_camera_file(folder / camera.calibration, camera).table
        if table is None:
            continue
        if inline is not None:
            raise CalibrationError(
                f"camera {camera.name} has a table_map in the robot's YAML and another in "
                f"{camera.calibration}: "
                "take table_map out of the YAML; the file's is the one that `so101 calibrate table` made"
            )
        maps[camera.name] = table.map()
    return maps
