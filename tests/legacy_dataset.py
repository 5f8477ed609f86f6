"""Datasets as LeRobot wrote them before v3.0, with videos of many makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot.recording.features import MOTOR_NAMES
from robot.seams import ByteArray

SIZE_PX = (32, 48)
VECTOR = {"dtype": "float32", "shape": [6], "names": list(MOTOR_NAMES)}
NUMBERS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
           "task_index": "int64"}  # fmt: skip


def grey(number: int) -> ByteArray:
    """A picture of one colour that says its number (below 50)."""
    return np.full((*SIZE_PX, 3), 5 * number + 3, np.uint8)


def number_of(image: ByteArray) -> int:
    return round((float(image.mean()) - 3) / 5)


def write_video(
    path: Path,
    images: Iterable[ByteArray],
    *,
    fps: int = 30,
    time_base: Fraction | None = None,
    first_s: float = 0.0,
    gop: int = 2,
    b_frames: int = 0,
    codec: str = "libx264",
) -> None:
    """An mp4 by plain PyAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = time_base or Fraction(1, fps)
    with av.open(str(path), "w") as file:
        steady = {"x264-params": "scenecut=0:b-adapt=0"} if codec == "libx264" else {}
        stream: Any = file.add_stream(codec, rate=fps, options=steady)
        stream.width, stream.height, stream.pix_fmt = SIZE_PX[1], SIZE_PX[0], "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        stream.codec_context.thread_count = 1
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round((first_s + k / fps) / base), base
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)


def write_legacy(
    root: Path,
    lengths: Sequence[int],
    *,
    version: str = "v2.1",
    tasks: Sequence[str] = ("pick", "place"),
    cameras: Sequence[str] = ("wrist", "overhead"),
    images: bool = False,
    scale: float = 1.0,
    **video: Any,
) -> None:
    """Write a dataset whose row ``n``, counted over all episodes, has picture ``n`` and action ``n * scale``.

    ``images`` keeps pictures as PNG in the table; ``video`` goes to :func:`write_video`.
    """
    (root / "meta").mkdir(parents=True)
    keys = [f"observation.images.{camera}" for camera in cameras]
    first, episodes, statistics = 0, [], []
    for episode, length in enumerate(lengths):
        numbers = np.arange(first, first + length)
        vectors = (numbers[:, None] + np.arange(6) / 8).astype(np.float32) * np.float32(scale)
        task = episode % len(tasks)
        columns: dict[str, pa.Array] = {
            "action": pa.array(list(vectors), pa.list_(pa.float32())),
            "observation.state": pa.array(list(vectors - 1), pa.list_(pa.float32())),
            "timestamp": pa.array(np.arange(length) / 30, pa.float32()),
            "frame_index": pa.array(np.arange(length), pa.int64()),
            "episode_index": pa.array([episode] * length, pa.int64()),
            "index": pa.array(numbers, pa.int64()),
            "task_index": pa.array([task] * length, pa.int64()),
        }
        stats = {
            "action": _stats(vectors),
            "observation.state": _stats(vectors - 1),
            **{name: _stats(np.asarray(columns[name]).reshape(-1, 1)) for name in NUMBERS},
        }
        for key in keys:
            pictures = [grey(int(number)) for number in numbers]
            if images:
                kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
                columns[key] = pa.array(
                    [{"bytes": _png(picture), "path": None} for picture in pictures], kind
                )
            else:
                name = f"episode_{episode:06d}.mp4"
                write_video(root / "videos/chunk-000" / key / name, pictures, **video)
            values = np.stack(pictures).reshape(-1, 3) / 255.0
            stats[key] = _stats(values, images=length)
        path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        episodes.append({"episode_index": episode, "tasks": [tasks[task]], "length": length})
        statistics.append({"episode_index": episode, "stats": stats})
        first += length
    picture = {"dtype": "image" if images else "video", "shape": [*SIZE_PX, 3],
               "names": ["height", "width", "channels"]}  # fmt: skip
    pattern = "{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info = {
        "codebase_version": version,
        "robot_type": "so101_follower",
        "total_episodes": len(lengths),
        "total_frames": first,
        "total_tasks": len(tasks),
        "total_videos": 0 if images else len(lengths) * len(keys),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": 30,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": None if images else f"videos/chunk-{pattern}",
        "features": {
            "action": VECTOR,
            "observation.state": VECTOR,
            **dict.fromkeys(keys, picture),
            **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in NUMBERS.items()},
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    lines = [{"task_index": number, "task": task} for number, task in enumerate(tasks)]
    for name, rows in {"tasks": lines, "episodes": episodes, "episodes_stats": statistics}.items():
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _stats(values: np.ndarray, images: int = 0) -> dict[str, Any]:
    shape = (3, 1, 1) if images else values.shape[1:]
    parts = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {**{k: v.reshape(shape).tolist() for k, v in parts.items()}, "count": [images or len(values)]}


def _png(image: ByteArray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
