"""LeRobot's recorder on a twin; see :mod:`services.bench.record`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np

from robot.config import load_robot
from robot.errors import ConfigError
from robot.recording.features import IMAGE_PREFIX
from robot.twin.client import TwinProcess
from services.bench.bus import LEROBOT_START_S, ROOT
from services.bench.ticks import spread

SLOWER = 3.0
"""So many times the length of its episodes LeRobot may take: by default it encodes after each of them."""


def record_with_lerobot(
    twin: TwinProcess,
    clips: dict[str, Path],
    folder: Path,
    python: Path,
    *,
    fps: int,
    episodes: int,
    episode_s: float,
    streaming: bool,
) -> dict[str, Any]:
    """Figures as :func:`services.bench.record.bench_record` has them, or ``failed`` with its last words.

    Args:
        twin: whose leader is led meanwhile.
        clips: camera -> mp4.
        folder: for its dataset and its calibrations.
        python: interpreter that has LeRobot.
        fps: rate of its loop and its pictures.
        episodes: how many.
        episode_s: how long each.
        streaming: whether it encodes while it records.
    """
    order = {
        "follower": twin.follower,
        "leader": twin.leader,
        "clips": {camera: str(path) for camera, path in clips.items()},
        "out": str(folder / "dataset"),
        "fps": fps,
        "episodes": episodes,
        "episode_s": episode_s,
        "streaming": streaming,
    }
    # Ours comes last on its path: what LeRobot imports is its own.
    script = f"import sys; sys.path.append({str(ROOT)!r})\n"
    script += f"from services.bench.lerobot_record import main; main({order!r})"
    environment = {**os.environ, "HF_LEROBOT_CALIBRATION": str(_calibrations(folder)), "HF_HUB_OFFLINE": "1"}
    limit_s = LEROBOT_START_S + SLOWER * episodes * episode_s
    try:
        done = subprocess.run(
            [str(python), "-c", script], capture_output=True, text=True, timeout=limit_s, check=False,
            env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"LeRobot could not be timed with {python}: {error}") from error
    if done.returncode != 0:
        return {"failed": done.stderr.strip().rpartition("\n")[2]}
    said = json.loads(done.stdout.splitlines()[-1])
    rows = int(said["rows"])
    counts = {camera: count_frames(folder / "dataset", camera) for camera in clips}
    return {
        "version": said["version"],
        "hz": fps,
        "rows": rows,
        "rows_short": episodes * round(episode_s * fps) - rows,
        "frames_lost": sum(rows - count for count in counts.values()),
        "step_over_ms": spread(np.abs(np.array(said["steps_ms"]) - 1e3 / fps)),
        "end_to_start_ms": spread(said["pauses_ms"]),
        "cpu_share": said["cpu_share"],
    }


def _calibrations(folder: Path) -> Path:
    """The twin's calibrations where LeRobot looks for them."""
    config, shipped = load_robot("twin")
    for kind, name in (
        ("robots/so_follower", config.calibration),
        ("teleoperators/so_leader", config.leader_calibration),
    ):
        (folder / kind).mkdir(parents=True)
        shutil.copy(shipped / str(name), folder / kind / "twin.json")
    return folder


def count_frames(dataset: Path, camera: str) -> int:
    """Pictures in all videos of a camera."""
    count = 0
    for path in (dataset / "videos" / f"{IMAGE_PREFIX}{camera}").rglob("*.mp4"):
        with av.open(str(path)) as video:
            count += sum(1 for packet in video.demux(video=0) if packet.size)
    return count
