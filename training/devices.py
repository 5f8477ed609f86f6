"""What a run works on, and how torch is told to work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from robot.errors import ConfigError
from training.policies.base import Inputs, Labels, TrainablePolicy

Loss = Callable[[Inputs, Labels], dict[str, Tensor]]


def device_of(name: str, local_rank: int) -> torch.device:
    """The device of a process: each of several on one machine has a GPU of its own.

    Raises:
        ConfigError: there is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not count:
        raise ConfigError("device 'cuda' was asked for, but torch sees no CUDA device: use 'cpu' or 'auto'")
    if name == "cpu" or not count:
        return torch.device("cpu")
    if local_rank >= count:
        raise ConfigError(
            f"process {local_rank} of this machine finds {count} CUDA devices: start so many with torchrun"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def set_up(threads: int) -> None:
    """Threads on the CPU; TF32 for what CUDA multiplies in fp32, and its convolutions chosen by trying."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def compiled_loss(policy: TrainablePolicy, choice: Literal["auto"] | bool, device: torch.device) -> Loss:
    """The policy's loss, through ``torch.compile`` where that is chosen.

    Raises:
        ConfigError: it is chosen and there is no C++ compiler.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if choice == "auto":
        choice = device.type == "cuda" and compiler is not None
    if not choice:
        return policy.loss
    if compiler is None:
        raise ConfigError("compile needs a C++ compiler (g++ or clang++): install one, or set compile: false")
    compiled: Any = torch.compile(policy.loss)
    return compiled  # type: ignore[no-any-return]
