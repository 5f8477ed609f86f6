"""Several processes that train one policy, as ``torchrun`` starts them; one alone is a group of one.

Each does its part of every batch, then gradients are averaged. A loss that divides by a count takes the
count's mean over the group (``mean_count``): the mean of the losses is then the loss of the whole batch.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from robot.errors import ConfigError

TIMEOUT = datetime.timedelta(hours=6)
"""The first process decodes pictures and does rollouts while the others wait."""


class Group:
    """The processes of a run, and which of them this is."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Connected with the others inside: NCCL between GPUs, Gloo between CPUs.

        Raises:
            ConfigError: the others cannot be reached.
        """
        if self.size == 1 or distributed.is_initialized():
            yield
            return
        try:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"process {self.rank} of {self.size} cannot join the others: start all of them with torchrun "
                f"({error})"
            ) from error
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def part(self, count: int) -> slice:
        """Which of so many samples are of this process. Raises ConfigError where they cannot be shared."""
        if count % self.size:
            raise ConfigError(
                f"a batch of {count} cannot be shared by {self.size} processes: make batch_size a multiple"
            )
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def summed(self, values: Tensor) -> Tensor:
        """Sum over the processes, the same in each."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def mean_gradients(self, parameters: Iterable[nn.Parameter], stop: bool) -> bool:
        """Put the mean over the processes in place of each gradient; whether any of them wants to stop.

        A parameter that has a gradient in no process keeps none.
        """
        if self.size == 1:
            return stop
        wanted = [p for p in parameters if p.requires_grad]
        has = [float(p.grad is not None) for p in wanted]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
        flat = torch.cat([*(piece.flatten() for piece in pieces), pieces[0].new_tensor([*has, float(stop)])])
        distributed.all_reduce(flat)
        *had, stops = flat[-len(has) - 1 :].tolist()
        start = 0
        for parameter, piece, count in zip(wanted, pieces, had, strict=True):
            mean = flat[start : start + piece.numel()].view(piece.shape) / self.size
            start += piece.numel()
            parameter.grad = piece.copy_(mean) if count else None
        return bool(stops > 0)


def mean_count(count: Tensor) -> Tensor:
    """Mean over the processes of what a loss divides by; the count itself where there is one process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    total = count.detach().float().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
