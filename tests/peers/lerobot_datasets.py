"""LeRobot's own datasets, in LeRobot's interpreter: JSON requests on stdin, JSON answers on stdout.

PYTHON lerobot_datasets.py
    {"do": "open", "root": FOLDER, "decoder": "torchcodec" | "pyav"}  every row and every picture
    {"do": "write", "root": FOLDER, "frames": [20, 25], "size": [48, 64], "videos": true}
    {"do": "resume", ...}              the same, appended to a dataset that is there
    {"do": "convert", "root": FOLDER}  v2.1 to v3.0 in place
    {"do": "delete" | "merge", "roots": [FOLDER, ...], "out": FOLDER}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from counted import number_of, picture, psnr_db
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets
from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

CAMERAS = ("wrist", "overhead")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NAMES = [f"{joint}.pos" for joint in JOINTS]


def opened(root: str, decoder: str = "pyav") -> dict:
    dataset = LeRobotDataset("so101/test", root=root, video_backend=decoder)
    rows: list[dict] = []
    for index in range(len(dataset)):
        item = dataset[index]
        row: dict = {"task": item["task"]}
        for name, value in item.items():
            if name.startswith("observation.images."):
                image = (value.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
                number = number_of(image)
                row[name] = [number, psnr_db(image, picture(number, *image.shape[:2]))]
            elif isinstance(value, torch.Tensor):
                row[name] = value.tolist()
        rows.append(row)
    stats = {
        feature: {name: np.asarray(value).reshape(-1).tolist() for name, value in part.items()}
        for feature, part in (dataset.meta.stats or {}).items()
    }
    columns = {name: feature["dtype"] for name, feature in dataset.features.items()}
    return {
        "rows": rows,
        "stats": stats,
        "features": columns,
        "episodes": dataset.num_episodes,
        "robot_type": dataset.meta.robot_type,
        "fps": dataset.fps,
    }


def fill(dataset: LeRobotDataset, frames: list[int], size: list[int], first: int) -> None:
    number = first
    for episode, length in enumerate(frames):
        for _ in range(length):
            vector = np.arange(6, dtype=np.float32) + number / 8
            frame = {"action": vector + 1, "observation.state": vector, "task": f"task {episode % 2}"}
            frame |= {f"observation.images.{camera}": picture(number, *size) for camera in CAMERAS}
            dataset.add_frame(frame)
            number += 1
        dataset.save_episode()
    dataset.finalize()


def write(root: str, frames: list[int], size: list[int], videos: bool = True) -> dict:
    vector = {"dtype": "float32", "shape": (6,), "names": NAMES}
    features = {"action": vector, "observation.state": dict(vector)}
    for camera in CAMERAS:
        features[f"observation.images.{camera}"] = {
            "dtype": "video" if videos else "image",
            "shape": (*size, 3),
            "names": ["height", "width", "channels"],
        }
    dataset = LeRobotDataset.create(
        "so101/test", fps=30, features=features, root=root, robot_type="so_follower", use_videos=videos
    )
    fill(dataset, frames, size, 0)
    return {}


def resume(root: str, frames: list[int], size: list[int], first: int) -> dict:
    fill(LeRobotDataset.resume("so101/test", root=root), frames, size, first)
    return {}


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # what LeRobot prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "open":
                answer = opened(**request)
            case "write":
                answer = write(**request)
            case "resume":
                answer = resume(**request)
            case "convert":
                convert_dataset("so101/test", root=request["root"], push_to_hub=False)
                answer = {}
            case "delete":
                dataset = LeRobotDataset("so101/test", root=request["roots"][0])
                delete_episodes(dataset, [1], output_dir=Path(request["out"]), repo_id="so101/less")
                answer = {}
            case "merge":
                parts = [LeRobotDataset(f"so101/{k}", root=root) for k, root in enumerate(request["roots"])]
                merge_datasets(parts, "so101/all", output_dir=Path(request["out"]))
                answer = {}
            case unknown:
                answer = {"error": f"cannot {unknown}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
