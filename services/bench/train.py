"""Samples a second in training, ours and LeRobot's, on the same episodes and machine, one after the other.

Both are the commands that people run, ``so101 train`` and ``lerobot-train``, timed step by step with all
that a step takes: pictures, network, optimiser. Three runs: LeRobot's ACT as LeRobot trains it, the same
network on the same pictures by ours, and what we advise, the network on pictures of 240x320.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import yaml

from robot.config import config_root
from robot.errors import ConfigError
from robot.recording.writer import DatasetWriter
from robot.seams import ByteArray
from services.bench.bus import ROOT, lerobot_python
from services.bench.clips import make_clips, sway

WIDTH_PX, HEIGHT_PX, FPS = 640, 480, 30
EPISODES, EPISODE_FRAMES = 2, 120
"""Longer than a chunk."""
WARM_UP = 1
"""Steps at the start that are not timed: the first one allocates."""
CHUNK = 100
"""LeRobot's default; the same for all, so that the networks are the same."""
LONGEST_STEP_S = 300.0
START_S = 300.0
PEER_STEP = re.compile(r"updt_s:([\d.]+)\s+data_s:([\d.]+)")
"""In ``lerobot-train``'s log: seconds of the update, and of the wait for its batch."""


@dataclass(frozen=True, slots=True)
class TrainBenchOptions:
    """How much is trained, and how."""

    steps: int = 4
    """That are timed, in each run."""
    batch_size: int = 8
    """LeRobot's default."""
    device: str = "auto"
    precision: str = "fp32"
    """Of ours; LeRobot's is its default."""


def bench_train(
    options: TrainBenchOptions, python: Path | None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train a few steps each way.

    ``ratio`` is our samples a second through LeRobot's: ``like_for_like`` with the same network on the same
    480x640 pictures, ``as_advised`` with the same network on 240x320.

    Args:
        options: how much, and how.
        python: interpreter that has LeRobot, see :func:`lerobot_python`; without one ours is timed alone.
        say: takes a line as each begins.

    Raises:
        ConfigError: a run ended before its last step; the message is its last words.
    """
    python = lerobot_python(python)
    with tempfile.TemporaryDirectory(prefix="so101-bench-") as scratch:
        folder = Path(scratch)
        say("episodes")
        dataset = folder / "dataset"
        make_dataset(dataset, make_clips(folder, WIDTH_PX, HEIGHT_PX, FPS))
        peers = {}
        if python is not None:
            say("lerobot, 480x640")
            peers["lerobot"] = time_lerobot(options, dataset, folder / "lerobot", python)
        runs = {}
        for name, policy in (("480x640", "lerobot_act"), ("240x320", "lerobot_act_240x320")):
            say(f"so101, {name}")
            runs[name] = time_ours(options, dataset, folder / name, policy)
    result = {**runs["240x320"], "pictures": runs, "batch_size": options.batch_size, "cpus": os.cpu_count()}
    if python is not None:
        theirs = peers["lerobot"]["samples_per_s"]
        result["ratio"] = {
            "like_for_like": runs["480x640"]["samples_per_s"] / theirs,
            "as_advised": runs["240x320"]["samples_per_s"] / theirs,
        }
    return {**result, "peers": peers}


def make_dataset(root: Path, clips: dict[str, Path]) -> None:
    """Episodes of an arm that sways, seen by two cameras: LeRobot v3.0, as ``so101 record`` writes it."""
    pictures = {camera: _frames(path) for camera, path in clips.items()}
    sizes = dict.fromkeys(clips, (HEIGHT_PX, WIDTH_PX))
    with DatasetWriter.create(root, fps=FPS, cameras=sizes, environment_state=False) as writer:
        for episode in range(EPISODES):
            writer.begin_episode("Sway.")
            for frame in range(EPISODE_FRAMES):
                index = episode * EPISODE_FRAMES + frame
                phase = index / (EPISODES * EPISODE_FRAMES)
                seen = {camera: frames[index % len(frames)] for camera, frames in pictures.items()}
                writer.add_frame(sway(phase), sway(phase + 0.01), seen)
            writer.save_episode()


def _frames(path: Path) -> list[ByteArray]:
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def time_ours(options: TrainBenchOptions, dataset: Path, folder: Path, policy: str) -> dict[str, Any]:
    """``so101 train`` with a shipped policy's shape; its pictures are decoded once, before the first step."""
    folder.mkdir()
    shape = yaml.safe_load((config_root() / "policies" / f"{policy}.yaml").read_text(encoding="utf-8"))
    shape |= {"pretrained": False, "chunk_size": CHUNK}
    (folder / "policy.yaml").write_text(yaml.safe_dump(shape), encoding="utf-8")
    run = {
        "datasets": [str(dataset)],
        "policy": str(folder / "policy.yaml"),
        "output_dir": str(folder / "run"),
        "cache_dir": str(folder / "cache"),
        "steps": WARM_UP + options.steps,
        "batch_size": options.batch_size,
        "validation_share": 0.0,
        "log_every": 1,
        "device": options.device,
        "precision": options.precision,
        "threads": os.cpu_count() or 1,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    command = [sys.executable, "-m", "services.cli", "train", str(folder / "run.yaml"), "--json"]
    done = _ran(command, options, {})
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    speeds = [entry["samples_per_s"] for entry in entries if entry["event"] == "train"][WARM_UP:]
    caches = [path.stat() for path in (folder / "cache").rglob("*.npy")]
    return {
        **_figures([options.batch_size / speed for speed in speeds], options),
        "parameters": entries[0]["parameters"],
        "cache_bytes": sum(stat.st_size for stat in caches),
    }


def time_lerobot(options: TrainBenchOptions, dataset: Path, folder: Path, python: Path) -> dict[str, Any]:
    """``lerobot-train`` with its defaults for ACT, less what it would download."""
    command = [
        str(python), "-m", "lerobot.scripts.lerobot_train",
        "--dataset.repo_id=bench/train", f"--dataset.root={dataset}", f"--output_dir={folder}",
        "--policy.type=act", "--policy.push_to_hub=false", "--policy.pretrained_backbone_weights=null",
        f"--policy.chunk_size={CHUNK}", f"--policy.n_action_steps={CHUNK}",
        f"--batch_size={options.batch_size}", f"--steps={WARM_UP + options.steps}", "--log_freq=1",
        "--save_checkpoint=false", "--wandb.enable=false",
    ]  # fmt: skip
    if options.device != "auto":
        command.append(f"--policy.device={options.device}")
    done = _ran(command, options, {"HF_HUB_OFFLINE": "1"})
    found = PEER_STEP.findall(done.stdout + done.stderr)
    steps = [(float(update_s), float(data_s)) for update_s, data_s in found][WARM_UP:]
    if len(steps) < options.steps:
        raise ConfigError(f"LeRobot told of {len(found)} steps: its log has changed, this needs 0.6")
    waiting = sum(data_s for _, data_s in steps) / sum(map(sum, steps))
    return {**_figures([sum(step) for step in steps], options), "waiting_share": waiting}


def _figures(steps_s: list[float], options: TrainBenchOptions) -> dict[str, Any]:
    return {
        "samples_per_s": options.batch_size / median(steps_s),
        "step_s": {"median": median(steps_s), "min": min(steps_s), "max": max(steps_s)},
    }


def _ran(
    command: list[str], options: TrainBenchOptions, more: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    limit_s = START_S + LONGEST_STEP_S * (WARM_UP + options.steps)
    begun_s = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=limit_s,
            env={**os.environ, **more}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        took_s = time.monotonic() - begun_s
        raise ConfigError(f"training could not be timed after {took_s:.0f} s: {error}") from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ConfigError(f"{' '.join(command[:3])} ended: {last}")
    return done
