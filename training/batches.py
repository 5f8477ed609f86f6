"""The batches of a run, prepared ahead by threads; batch k is a function of the seed and k alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from training.augment import Noise, augmented, draw
from training.config import TrainConfig
from training.data import Batch, Corpus, rows_of_step
from training.frames import IntArray
from training.parallel import Group
from training.policies.base import Inputs, Labels

MAX_READERS = 4


class Batches:
    """The part of each batch that this process does, on its device.

    Args:
        corpus: with open pictures.
        rows: what is trained on.
        config: the run.
        group: who shares the batches.
        device: where they are wanted.
    """

    def __init__(
        self, corpus: Corpus, rows: IntArray, config: TrainConfig, group: Group, device: torch.device
    ) -> None:
        self._corpus, self._rows, self._config, self._device = corpus, rows, config, device
        self.size = min(config.batch_size, len(rows))
        """Samples of a batch, those of all processes together."""
        self._part = group.part(self.size)

    def rng(self, step: int) -> np.random.Generator:
        """Where a step's random numbers come from."""
        return np.random.default_rng([self._config.seed, 2, step])

    def read(self, step: int) -> tuple[Batch, Noise]:
        """What a step sees, as it lies on the disk, and the noise to come on it."""
        config = self._config
        rows = rows_of_step(self._rows, config.batch_size, config.seed, step)[self._part]
        noise = draw(config.augment, self._corpus.policy, self.size, self.rng(step)).rows(self._part)
        return self._corpus.gather(rows, noise.delay_frames), noise

    def __call__(self, step: int) -> tuple[Inputs, Labels]:
        """What a step sees, made now."""
        return augmented(*self.read(step), self._config.augment.blur_px, self._device)

    def _prepared(self, step: int) -> Callable[[], tuple[Inputs, Labels]]:
        """What a thread can do ahead. A GPU gets its work from one thread alone, and is quick at noise."""
        if self._device.type == "cuda":
            batch, noise = self.read(step)
            return lambda: augmented(batch, noise, self._config.augment.blur_px, self._device)
        made = self(step)
        return lambda: made

    @contextmanager
    def ahead(self, first: int) -> Iterator[Iterator[tuple[Inputs, Labels]]]:
        """All batches from a step on, prepared while those before them are used."""
        depth, last = self._config.prefetch, self._config.steps
        if depth == 0:
            yield (self(step) for step in range(first, last))
            return
        with ThreadPoolExecutor(min(depth, MAX_READERS), thread_name_prefix="batches") as readers:
            queue: deque[Future[Callable[[], tuple[Inputs, Labels]]]] = deque()

            def made() -> Iterator[tuple[Inputs, Labels]]:
                for step in range(first, last):
                    while len(queue) <= depth and step + len(queue) < last:
                        queue.append(readers.submit(self._prepared, step + len(queue)))
                    yield queue.popleft().result()()

            try:
                yield made()
            finally:
                for waiting in queue:
                    waiting.cancel()
