"""Everything that can be known to be wrong with a run before it begins, said at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.action_space import ACTION_WIDTHS
from robot.errors import ConfigError, DatasetError
from robot.joints import N_JOINTS
from robot.recording.reader import Dataset
from training.config import TrainConfig
from training.data_checks import Found, check_frames
from training.frames import PICKUP, Frames
from training.image_cache import free_bytes, missing_bytes
from training.policies.base import COORDINATES, Inputs, Labels, PolicyShape, Stats
from training.policies.registry import build

FLOAT_BYTES = 4
CERTAIN = 1.5
"""Attention that a device does in one piece keeps less than is counted here: by no more than this factor."""
MOMENTS = 2
"""Numbers that Adam keeps for each parameter."""


@dataclass(frozen=True)
class Need:
    """What a run takes, bytes."""

    parameters: int
    """Weights alone."""
    cache: int
    """On the disk of ``cache_dir``: pictures that have not been decoded yet."""
    checkpoints: int
    """On the disk of ``output_dir``: all that the run will write."""
    memory: int | None
    """On the device: weights, gradients, moments, running mean, and what a step keeps for its gradients;
    ``None`` where that cannot be told without doing the step."""


@dataclass(frozen=True)
class Preflight:
    """A run that may begin."""

    frames: list[Frames]
    """The datasets' numbers, read."""
    need: Need
    notes: list[str]
    """What is worth knowing and does not forbid the run."""


def check(
    config: TrainConfig, policy: PolicyShape, device: torch.device, *, processes: int = 1, done: int = 0
) -> Preflight:
    """Look at datasets, disk and memory.

    Args:
        config: the run.
        policy: its policy's configuration.
        device: where it trains.
        processes: how many share each batch.
        done: steps that were done before, in a run that goes on.

    Raises:
        ConfigError: something forbids the run; the message names everything that does, each with its remedy.
    """
    found = Found()
    frames = []
    for root in map(Path, config.datasets):
        try:
            frames.append(Frames.read(Dataset(root)))
        except DatasetError as error:
            found.problems.append(str(error))
        else:
            check_frames(frames[-1], policy, found)
    rates = {part.dataset.fps for part in frames}
    if len(rates) > 1:
        each = ", ".join(f"{part.dataset.root} {part.dataset.fps:g}" for part in frames)
        found.problems.append(f"datasets must have one frame rate, got {each} Hz")
    told = any(np.isfinite(part.pickup).all(1).any() for part in frames)
    if frames and policy.needs_pickup and not told and config.init_from is None:
        found.problems.append(
            f"no dataset says where to pick up ({PICKUP}), and the policy uses the coordinates in metres "
            "(coordinates.crop, tool_frame or encoding raw): add them to the data, or train one with "
            "reads_pickup: false and without these"
        )
    need = needed(config, policy, frames, processes=processes, done=done)
    _disk(config, need, found)
    _memory(need, device, processes, found)
    if found.problems:
        listed = "".join(f"\n  - {problem}" for problem in found.problems)
        raise ConfigError(f"this run cannot begin:{listed}")
    return Preflight(frames, need, found.notes)


def needed(
    config: TrainConfig, policy: PolicyShape, frames: list[Frames], *, processes: int = 1, done: int = 0
) -> Need:
    """What a run takes on disk and device."""
    with torch.device("meta"):
        network = build(policy.untrained(), Stats.identity(policy.action_width))
    weights = FLOAT_BYTES * sum(parameter.numel() for parameter in network.parameters())
    state = FLOAT_BYTES * sum(value.numel() for value in network.state_dict().values())
    averaged = config.optimiser.ema_decay > 0
    sizes = {camera: policy.picture_size_px(camera) for camera in policy.cameras}
    cache = 0
    for part in frames:
        present = {camera: size for camera, size in sizes.items() if camera in part.dataset.cameras}
        cache += missing_bytes(part.dataset, present, Path(config.cache_dir))
    written = math.ceil(config.steps / config.checkpoint_every) - done // config.checkpoint_every
    each = state * (1 + averaged) + MOMENTS * weights
    kept = _kept_for_gradients(policy, max(1, config.batch_size // processes))
    memory = None
    if kept is not None:
        memory = weights * (2 + MOMENTS + averaged) + (kept // 2 if config.precision == "bf16" else kept)
    return Need(weights, cache, max(0, written) * each, memory)


def _kept_for_gradients(policy: PolicyShape, batch: int) -> int | None:
    """Bytes that a step of so many samples keeps for its backward pass in fp32; found with tensors that have
    a shape and no content. ``None`` where a policy looks at the content.
    """
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    steps = (policy.observation_steps,) if policy.observation_steps > 1 else ()
    with torch.device("meta"):
        network = build(policy.untrained(), Stats.identity(policy.action_width)).train()
        own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        pictures = {
            camera: torch.empty(batch, *steps, *policy.picture_size_px(camera), 3, dtype=torch.uint8)
            for camera in policy.cameras
        }
        inputs = Inputs(
            pictures,
            torch.empty(batch, *steps, N_JOINTS),
            torch.empty(batch, COORDINATES),
            torch.empty(batch, dtype=torch.bool),
        )
        actions = torch.empty(batch, policy.chunk_size, ACTION_WIDTHS[policy.action_space])
        labels = Labels(actions, torch.empty(batch, policy.chunk_size, dtype=torch.bool))
        try:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                network.loss(inputs, labels)
        except RuntimeError:  # an operation that meta tensors do not have: the need stays unknown
            return None
    return sum(size for storage, (_, size) in kept.items() if storage not in own)


def _disk(config: TrainConfig, need: Need, found: Found) -> None:
    places = {"cache_dir": (Path(config.cache_dir), need.cache)}
    places["output_dir"] = (Path(config.output_dir), need.checkpoints)
    same = _disk_of(places["cache_dir"][0]) == _disk_of(places["output_dir"][0])
    for key, (folder, size) in places.items():
        free = free_bytes(folder)
        wanted = need.cache + need.checkpoints if same else size
        if wanted > free:
            found.problems.append(
                f"{key} {folder} has {free / 1e9:.1f} GB free: the run needs {need.cache / 1e9:.1f} GB for "
                f"decoded pictures and {need.checkpoints / 1e9:.1f} GB for checkpoints. Make room, choose "
                "another disk, or raise checkpoint_every"
            )
            if same:
                return
    if need.cache:
        found.notes.append(f"decoding takes {need.cache / 1e9:.2f} GB in {config.cache_dir}")
    found.notes.append(f"checkpoints take {need.checkpoints / 1e9:.2f} GB in {config.output_dir}")


def _disk_of(folder: Path) -> int:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.stat().st_dev


def _memory(need: Need, device: torch.device, processes: int, found: Found) -> None:
    if need.memory is None:
        return
    free, wanted, name = _free_memory(device), need.memory, str(device)
    if device.type == "cpu":
        wanted *= processes  # they share it
    said = f"a step takes about {wanted / 1e9:.1f} GB of memory on {name}, free are {free / 1e9:.1f} GB"
    if wanted > CERTAIN * free:
        found.problems.append(f"{said}: lower batch_size or the policy's image size")
    else:
        found.notes.append(said if wanted <= free else f"{said}: if it fails for that, lower batch_size")


def _free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ConfigError("/proc/meminfo does not say MemAvailable: so101 runs on Linux")
