"""LeRobot's own recorder on the twin, timed in LeRobot's interpreter; see :mod:`services.bench.record`.

Its follower, leader, dataset, encoders and ``record_loop`` run unchanged. Only the cameras are replaced by
ones that show a clip out of memory, which costs it less than any camera would. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from lerobot.cameras.opencv import OpenCVCameraConfig
from lerobot.datasets import (
    LeRobotDataset,
    VideoEncodingManager,
    aggregate_pipeline_dataset_features,
    create_initial_features,
)
from lerobot.processor import make_default_processors
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
from lerobot.scripts.lerobot_record import record_loop
from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig
from lerobot.utils.feature_utils import combine_feature_dicts

WIDTH_PX, HEIGHT_PX = 640, 480


class ClipCamera:
    """Shows the pictures of a clip, one after the other, at its rate and for ever."""

    use_rgb, use_depth = True, False

    def __init__(self, path: Path, fps: int) -> None:
        with av.open(str(path)) as clip:
            self._pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        self.height, self.width = self._pictures[0].shape[:2]
        self._dt_s = 1.0 / fps
        self._stop = threading.Event()
        self._newest = self._pictures[0]
        self.is_connected = False
        self._thread = threading.Thread(target=self._show, daemon=True)

    def connect(self, warmup: bool = True) -> None:
        """Begin."""
        self.is_connected = True
        self._thread.start()

    def read_latest(self, max_age_ms: int = 500) -> Any:
        """The picture of this moment."""
        return self._newest

    def disconnect(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        self.is_connected = False

    def _show(self) -> None:
        begun_s, shown = time.perf_counter(), 0
        while not self._stop.wait(max(0.0, begun_s + shown * self._dt_s - time.perf_counter())):
            self._newest = self._pictures[shown % len(self._pictures)]
            shown += 1


def main(order: dict[str, Any]) -> None:
    """Record episodes.

    Args:
        order: ``follower`` and ``leader`` (ports), ``clips`` (camera -> mp4), ``out`` (folder that does not
            exist), ``fps``, ``episodes``, ``episode_s``, ``streaming`` (encode while recording).
    """
    fps = order["fps"]
    cameras = {
        name: OpenCVCameraConfig(index_or_path=0, fps=fps, width=WIDTH_PX, height=HEIGHT_PX)
        for name in order["clips"]
    }
    robot = SO101Follower(SO101FollowerConfig(port=order["follower"], id="twin", cameras=cameras))
    robot.cameras = {name: ClipCamera(Path(path), fps) for name, path in order["clips"].items()}
    teleop = SO101Leader(SO101LeaderConfig(port=order["leader"], id="twin"))
    processors = make_default_processors()
    features = combine_feature_dicts(
        aggregate_pipeline_dataset_features(
            pipeline=processors[0],
            initial_features=create_initial_features(action=robot.action_features),
            use_videos=True,
        ),
        aggregate_pipeline_dataset_features(
            pipeline=processors[2],
            initial_features=create_initial_features(observation=robot.observation_features),
            use_videos=True,
        ),
    )
    dataset = LeRobotDataset.create(
        "bench/record",
        fps,
        root=order["out"],
        robot_type=robot.name,
        features=features,
        image_writer_threads=4 * len(cameras),
        streaming_encoding=order["streaming"],
    )
    teleop.connect()
    robot.connect()
    begun_s: list[float] = []
    observe = robot.get_observation

    def timed_observation() -> Any:
        begun_s.append(time.perf_counter())
        return observe()

    robot.get_observation = timed_observation
    steps_ms: list[float] = []
    pauses_ms: list[float] = []
    rows = 0
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    with VideoEncodingManager(dataset):
        for _ in range(order["episodes"]):
            last_s = begun_s[-1] if begun_s else None
            begun_s.clear()
            record_loop(
                robot,
                {"exit_early": False, "rerecord_episode": False, "stop_recording": False},
                fps,
                *processors,
                dataset=dataset,
                teleop=teleop,
                control_time_s=order["episode_s"],
                single_task="Bench",
            )
            if last_s is not None:
                pauses_ms.append(1e3 * (begun_s[0] - last_s))
            steps_ms += (1e3 * np.diff(begun_s)).tolist()
            rows += len(begun_s)
            dataset.save_episode()
    dataset.finalize()
    cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    robot.disconnect()
    teleop.disconnect()
    result = {"rows": rows, "steps_ms": steps_ms, "pauses_ms": pauses_ms, "cpu_share": cpu_share}
    sys.stdout.write(json.dumps({**result, "version": version("lerobot")}) + "\n")
