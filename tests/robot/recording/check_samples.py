"""A small dataset in which nothing is wrong, and ways to make something wrong in a copy of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot.recording.features import Feature
from robot.recording.fragments import copy_video
from robot.recording.video import CODECS, VideoWriter
from robot.recording.writer import DatasetWriter

LENGTHS = (90, 75, 100)
CAMERAS = ("wrist", "overhead")
SIZE_PX = (48, 64)
DEG_PER_TICK = 360.0 / 4096.0
LAG_FRAMES = 4
"""From goals to joints, as on a real arm."""
LATE_FRAMES = 2
"""From joints to pictures."""
EXTRA = (
    Feature("success", "int64", (1,)),
    Feature("timing.time_s", "float64", (1,)),
    Feature("timing.state_age_s", "float32", (1,)),
    Feature("timing.wrist_age_s", "float32", (1,)),
    Feature("timing.overhead_age_s", "float32", (1,)),
)


def goals(seed: int, length: int) -> np.ndarray:
    """Moves from pose to pose with a rest now and then, degrees and percent, shape (length, 6)."""
    rng = np.random.default_rng(seed)
    poses, path = [np.array([0.0, -60.0, 40.0, 50.0, 0.0, 20.0])], []
    while len(path) < length:
        pose = rng.uniform([-60, -80, -60, 0, -80, 5], [60, 30, 60, 80, 80, 90])
        n = int(rng.integers(12, 24))
        s = np.linspace(0, 1, n)[:, None]
        path += list(poses[-1] + (pose - poses[-1]) * (10 * s**3 - 15 * s**4 + 6 * s**5))
        path += [pose] * int(rng.integers(0, 8))
        poses.append(pose)
    return np.array(path[:length])


def joints(seed: int, length: int) -> np.ndarray:
    """What servos make of the goals: later, in steps of theirs; shape (length, 6)."""
    path = goals(seed, length)
    late = np.concatenate([np.repeat(path[:1], LAG_FRAMES, axis=0), path])[:length]
    return np.round(late / DEG_PER_TICK) * DEG_PER_TICK


def view(pose: np.ndarray, camera: str) -> np.ndarray:
    """A picture of the arm: three blobs that the joints move, RGB uint8."""
    y, x = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]].astype(np.float64)
    a, b, c, d, e, _ = pose * (1.0 if camera == "overhead" else -0.8)
    image = np.full((*SIZE_PX, 3), 70.0)
    spots = ((32 + a / 4, 20 + b / 8), (32 + c / 4 + a / 8, 30 + d / 6), (30 + e / 5, 24 + a / 5))
    for k, (u, v) in enumerate(spots):
        image[..., k] += 150 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 40)
    return np.clip(image, 0, 255).astype(np.uint8)


def pictures(seed: int, length: int, camera: str, late: int = LATE_FRAMES) -> list[np.ndarray]:
    """What a camera saw, ``late`` frames after the joints were there."""
    poses = joints(seed, length)
    return [view(poses[min(length - 1, max(0, k - late))], camera) for k in range(length)]


def extra(frame: int) -> dict[str, np.ndarray]:
    ages = {f"timing.{name}_age_s": np.float32(0.02) for name in ("state", *CAMERAS)}
    return {"timing.time_s": np.float64(frame / 30), **ages}


def write(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    sizes = dict.fromkeys(CAMERAS, SIZE_PX)
    with DatasetWriter.create(
        root, fps=30, cameras=sizes, environment_state=False, extra_features=EXTRA
    ) as writer:
        for seed, length in enumerate(lengths):
            writer.begin_episode("pick up the cube")
            states, actions = joints(seed, length), goals(seed, length)
            shown = {camera: pictures(seed, length, camera) for camera in CAMERAS}
            for k in range(length):
                images = {camera: shown[camera][k] for camera in CAMERAS}
                writer.add_frame(states[k], actions[k], images, extra=extra(k))
            writer.save_episode("success")
    return root


# -- something wrong -----------------------------------------------------------------------------------------


def data_file(root: Path, episode: int) -> Path:
    return root / f"data/chunk-000/file-{episode:03d}.parquet"


def row_file(root: Path, episode: int) -> Path:
    return root / f"meta/episodes/chunk-000/file-{episode:03d}.parquet"


def video_file(root: Path, episode: int, camera: str = "wrist") -> Path:
    return root / f"videos/observation.images.{camera}/chunk-000/file-{episode:03d}.mp4"


def edit_info(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_column(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a column of a parquet file; vectors come as (rows, n)."""
    table = pq.read_table(path)
    field = table.schema.field(name)
    column = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(field.type):
        values = np.array(column.flatten()).reshape(len(column), -1)
        values = change(values.copy())
        new = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), field.type.value_type), 6)
    else:
        new = pa.array(change(np.array(column).copy()), field.type)
    pq.write_table(table.set_column(table.schema.get_field_index(name), field, new), path)


def footerless(path: Path) -> None:
    """Cut the end of a parquet file off, as a killed writer does."""
    path.write_bytes(path.read_bytes()[:-12])


def encode(path: Path, images: list[np.ndarray], fps: int = 30) -> None:
    growing = path.with_suffix(".part.mp4")
    writer = VideoWriter(growing, *SIZE_PX, fps, CODECS["h264"])
    for image in images:
        writer.add(image)
    writer.close()
    copy_video(growing, path, len(images))
    growing.unlink()


def pack(root: Path) -> Path:
    """Put all episodes into one data file, one mp4 a camera and one table, as LeRobot does."""
    rows = [pq.read_table(path) for path in sorted((root / "meta/episodes/chunk-000").glob("*"))]
    tables = [pq.read_table(data_file(root, k)) for k in range(len(rows))]
    lengths = [table.num_rows for table in tables]
    starts = np.cumsum([0, *lengths[:-1]])
    table = pa.concat_tables(rows)
    for camera in CAMERAS:
        key = f"videos/observation.images.{camera}"
        joined = root / f"{key}/joined.mp4"
        _join([video_file(root, k, camera) for k in range(len(rows))], joined)
        for k in range(len(rows)):
            video_file(root, k, camera).unlink()
        joined.rename(video_file(root, 0, camera))
        for name, values in (("from", starts), ("to", starts + lengths)):
            index = table.schema.get_field_index(f"{key}/{name}_timestamp")
            table = table.set_column(index, table.schema.field(index), pa.array(values / 30.0))
    for name in [n for n in table.column_names if n.endswith("/file_index")]:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array([0] * len(rows)))
    for k in range(len(rows)):
        data_file(root, k).unlink()
        row_file(root, k).unlink()
    pq.write_table(pa.concat_tables(tables), data_file(root, 0))
    pq.write_table(table, row_file(root, 0))
    return root


def _join(parts: list[Path], target: Path) -> None:
    with av.open(str(target), "w") as out:
        copy: Any = None
        done = 0
        for part in parts:
            with av.open(str(part)) as file:
                stream = file.streams.video[0]
                copy = copy or out.add_stream_from_template(stream, opaque=True)
                first, step = done, 1 / 30 / stream.time_base
                for packet in file.demux(stream):
                    if packet.size:
                        packet.pts = packet.dts = round(int(packet.pts) + first * step)
                        packet.stream = copy
                        out.mux(packet)
                        done += 1
