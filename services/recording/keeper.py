"""The dataset on disk as the session has it: opened, closed and mended in the background."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from robot.errors import DatasetError, So101Error
from robot.recording.scratch import Label
from robot.recording.take import Take
from robot.recording.writer import DatasetWriter

OPEN_AGAIN_S = 5.0
"""Pause before a dataset that could not be opened, or failed, is tried again."""

Spawn = Callable[[Callable[[], Any]], Future[Any]]
"""Has something done in the background."""

log = logging.getLogger(__name__)


class Keeper:
    """One dataset. After an error of its disk it is closed and opened again, which recovers what was written.

    Args:
        open_writer: makes or opens the dataset. Raises So101Error.
        spawn: does what takes long.
        now_s: monotonic clock.
        first_of: number of the session's first episode, of the next one's at the time of opening. They differ
            where a recorder of the same session was killed.
    """

    def __init__(
        self,
        open_writer: Callable[[], DatasetWriter],
        spawn: Spawn,
        now_s: Callable[[], float],
        first_of: Callable[[int], int] = lambda number: number,
    ) -> None:
        self._open_writer, self._spawn, self._now_s = open_writer, spawn, now_s
        self._first_of = first_of
        self._writer: DatasetWriter | None = None
        self._job: tuple[str, Future[Any]] | None = None
        self._open_at_s = -math.inf
        self._closing = False
        self.problem: str | None = None
        """Why the dataset cannot be written; ``None``: it can, or is being opened."""
        self.recovered: list[dict[str, Any]] = []
        """What became of episodes that a killed recorder had left open."""
        self.number = 0
        """Of the next episode."""
        self.first: int | None = None
        """Of the session's first; ``None`` before the dataset was opened once."""
        self._newest_ours = False

    @property
    def ready(self) -> bool:
        """Whether a take can begin."""
        idle = self._job is None and not self._closing
        return self._writer is not None and idle and self.problem is None

    @property
    def opening(self) -> bool:
        """Whether it is being opened."""
        return self._writer is None and self.problem is None

    @property
    def closed(self) -> bool:
        """Whether nothing will be written any more."""
        return self._closing and self._writer is None and self._job is None

    @property
    def can_label(self) -> bool:
        """Whether the take that ended last can be labelled still: until the next begins."""
        return self._newest_ours and self._writer is not None and self._job is None

    @property
    def committed(self) -> int:
        """Episodes that are finished on the disk."""
        return 0 if self._writer is None else self._writer.total_episodes

    def poll(self, *, busy: bool) -> str | None:
        """Go on with what is to be done; news in words, where there are some.

        While it is ``busy``, an episode being open, the dataset is not closed.
        """
        news = None
        if self._job is not None and self._job[1].done():
            (what, future), self._job = self._job, None
            news = self._done(what, future)
        if self._job is not None:
            return news
        if self._writer is None:
            if not self._closing and self._now_s() >= self._open_at_s:
                self._do("open", self._open_writer)
            return news
        if self.problem is None and self._writer.failures:
            self.fail(self._writer.failures[-1])
            news = self.problem
        if not busy and (self._closing or self.problem is not None):
            self._do("close", self._writer.close)
        return news

    def begin(self, task: str) -> Take:
        """A new take; only where ``ready``. Raises DatasetError."""
        if self._writer is None:
            raise DatasetError("the dataset is not open")
        return self._writer.begin_take(task)

    def settle(self) -> None:
        """Another take is about to begin: how the last one went has been said."""
        self._newest_ours = False

    def ended(self) -> None:
        """A take has ended: it becomes the newest episode."""
        self.number += 1
        self._newest_ours = True

    def label_last(self, label: Label | None) -> None:
        """Label the take that ended last, or the episode that it is by now; only where ``can_label``."""
        if self._writer is not None:
            self._writer.label_last(label)

    def drop_last(self) -> None:
        """Remove the newest episode, in the background; only where ``ready``."""
        if self._writer is not None:
            self.number -= 1
            self._newest_ours = False
            self._do("drop", self._writer.drop_last)

    def fail(self, error: So101Error) -> None:
        """The disk or an encoder has failed: the dataset is closed, and opened again later."""
        log.error("%s", error)
        self.problem = str(error)

    def close(self) -> None:
        """Finish what has ended, and let go of the dataset; in the background."""
        self._closing = True

    def _do(self, what: str, call: Callable[[], Any]) -> None:
        self._job = (what, self._spawn(call))

    def _done(self, what: str, future: Future[Any]) -> str | None:
        try:
            result = future.result()
        except So101Error as error:
            self.fail(error)
            if what == "close":
                self._writer = None
            self._open_at_s = self._now_s() + OPEN_AGAIN_S
            return self.problem
        if what == "open":
            return self._opened(result)
        if what == "close":
            self._writer, self._open_at_s = None, self._now_s() + OPEN_AGAIN_S
            return None
        return "the last episode was thrown away"

    def _opened(self, writer: DatasetWriter) -> str | None:
        if self.first is None:
            self.first = self._first_of(writer.total_episodes)
        self._writer, self.problem, self.number = writer, None, writer.total_episodes
        self._newest_ours = False
        found = [
            {
                "frames": each.frames,
                "episode": each.episode,
                "set_aside": None if each.set_aside is None else str(each.set_aside),
                "lost": each.lost_reason,
            }
            for each in writer.recovered
        ]
        self.recovered += found
        for each in found:
            log.warning("recovered: %s", each)
        return f"recovered what a killed recorder had left: {len(found)} episodes" if found else None
