"""The recorder's state machine: commands and inputs in, episodes out. No threads, sockets or clocks in here.

An episode begins when nothing speaks against it. It ends when somebody says so, when it is as long as it
should be, or when it could not be recorded without a gap any longer: then it is stopped, and the status says
why. What it has until then is kept, and becomes part of the dataset at once; how it went can still be said.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from robot.errors import DatasetError, RecordingOverloadError, So101Error
from robot.recording.align import Aligner, Row
from robot.recording.scratch import Label
from robot.telemetry import MODES
from services.recording.commands import Finish, RefusedError, SetLabel, Where, parse
from services.recording.episode import About, Episode
from services.recording.inputs import Inputs
from services.recording.keeper import Keeper
from services.recording.options import PickupPoint, RecordingOptions

ENDING_S = 0.6
"""Longest wait for the last rows of an episode: a little more than a camera may pause."""
DISK_LOOK_S = 1.0
RATE_S = 2.0
"""Time over which the rate of rows is measured."""
GB = 1e9

State = Literal["opening", "idle", "recording", "finishing", "failed", "ended"]
log = logging.getLogger(__name__)


class Session:
    """Records episodes into one dataset.

    Args:
        options: what was asked for.
        cameras: their names.
        inputs: pictures and ticks.
        keeper: the dataset.
        now_s: monotonic clock.
        free_bytes: room on the dataset's disk. Raises OSError.
        find_object: where the object lies, where the twin knows that; raises So101Error.
    """

    def __init__(
        self,
        options: RecordingOptions,
        cameras: tuple[str, ...],
        inputs: Inputs,
        keeper: Keeper,
        now_s: Callable[[], float],
        free_bytes: Callable[[], int],
        find_object: Callable[[], PickupPoint] | None = None,
    ) -> None:
        self.options, self.keeper = options, keeper
        self.aligner = Aligner(cameras, options.fps)
        self.episode: Episode | None = None
        self.last: dict[str, Any] | None = None
        """Summary of the episode that ended last; ``None`` where it is not of this session."""
        self.message = ""
        """What happened last, in words."""
        self.free_gb: float | None = None
        self._open_gb = 0.0
        self.end_to_start_ms: float | None = None
        """From the last row of an episode to the first of the next, where that followed at once."""
        self.again_s: float | None = None
        """When the next episode begins by itself."""
        self._inputs, self._now_s, self._free_bytes = inputs, now_s, free_bytes
        self._find_object = find_object
        self._next: About | None = None
        """What the next episode is about, once it can begin; ``None``: none is asked for."""
        self._after_s: float | None = None
        """No row of it before that; ``None``: before it begins."""
        self._ending_until_s = 0.0
        self._follows_s: float | None = None
        """Last row of the episode that the next one follows at once."""
        self._droppable: About | None = None
        """What the newest episode was about; ``None`` where it is not ours to drop."""
        self._stopping = False
        self._free_looked_s = -math.inf
        self._made_s: deque[float] = deque()

    @property
    def state(self) -> State:
        """What it is doing, in one word."""
        episode = self.episode
        if self._stopping and self.keeper.closed:
            return "ended"
        if episode is not None and episode.recording:
            return "recording"
        if self._stopping or self._next is not None or (episode is not None and episode.ending):
            return "finishing"
        if self.keeper.ready:
            return "idle"
        if self.keeper.opening:
            return "opening"
        return "failed" if self.keeper.problem is not None else "finishing"

    @property
    def kept(self) -> int:
        """Episodes of this session, those that a killed recorder has recorded in it included."""
        return self.keeper.number - (self.keeper.first or 0)

    @property
    def can_label(self) -> bool:
        """Whether there is an episode that a label would be for: the open one, or the one that ended last."""
        return not self._stopping and (self.episode is not None or self.keeper.can_label)

    @property
    def rate(self) -> float:
        """Rows that were made in the last seconds, a second."""
        return sum(self._now_s() - made_s <= RATE_S for made_s in self._made_s) / RATE_S

    # -- commands --------------------------------------------------------------------------------------------

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; ``{"ok", "state", "message"}``, with ``code`` and ``remedy`` if refused."""
        try:
            op, body = parse(command)
            if self._stopping and op != "stop":
                words = "the recording session has ended"
                raise RefusedError("ended", words, "begin another with `so101 record`")
            getattr(self, f"_do_{op}")(body)
        except RefusedError as error:
            refusal = {"code": error.code, "message": str(error), "remedy": error.remedy}
            return {"ok": False, "state": self.state, **refusal}
        return {"ok": True, "state": self.state, "message": self.message}

    def _do_next(self, body: Any) -> None:
        about = self._about(body, About(self.options.task, None))
        if self._all_recorded():
            was_open = self.episode is not None
            self._finish(body)
            if not was_open:
                remedy = "end the session, or redo the last episode"
                raise RefusedError("all_recorded", f"all {self.kept} episodes are recorded", remedy)
            return
        self._check_can_begin()
        self._finish(body)
        self._ask_for(about)

    def _do_finish(self, body: Finish) -> None:
        self._next = self.again_s = None
        self._finish(body)

    def _do_redo(self, body: Where) -> None:
        former = self._droppable if self.episode is None else self.episode.about
        if former is None:
            raise RefusedError("nothing_to_redo", "no episode is open, and the last is not to be dropped")
        about = self._about(body, former)
        self._check_can_begin()
        self._throw_away()
        self._ask_for(about)

    def _do_discard(self, body: Any) -> None:
        if self.episode is None and self._droppable is None:
            raise RefusedError("nothing_to_discard", "no episode is open, and the last is not to be dropped")
        if self.episode is None:
            self._check_dataset()
        self._next = self.again_s = None
        self._throw_away()

    def _do_label(self, body: SetLabel) -> None:
        if self.episode is not None:
            self.episode.label = body.label
        elif self.keeper.can_label:
            self._label_last(body.label)
        else:
            raise RefusedError("no_episode", "no episode is open", "label one before the next begins")

    def _do_stop(self, body: Finish) -> None:
        self._next = self.again_s = None
        self._finish(body)
        self._stopping = True

    def _about(self, body: Where, former: About) -> About:
        """What an episode is about. Raises RefusedError where it is not known where the object lies."""
        task = body.task or former.task
        asked = self.options.pickup
        if asked == "none":
            if body.pickup is not None:
                words = "this dataset does not say where the object lies"
                raise RefusedError("no_pickup_column", words, "leave pickup out, or record with --pickup")
            return About(task, None)
        if body.pickup is not None:
            return About(task, body.pickup)
        if isinstance(asked, PickupPoint):
            return About(task, former.pickup or asked)
        if self._find_object is not None:
            try:
                return About(task, self._find_object())
            except So101Error as error:
                raise RefusedError(
                    "no_pickup", f"the twin does not say where its cube lies: {error}"
                ) from error
        if former.pickup is None:
            remedy = 'say it with the command: {"pickup": {"x_m": 0.2, "y_m": 0.0}}'
            raise RefusedError("no_pickup", "it is not known where the object lies", remedy)
        return About(task, former.pickup)

    def _all_recorded(self) -> bool:
        return (
            self.options.episodes is not None
            and self.kept + (self.episode is not None) >= self.options.episodes
        )

    def _check_dataset(self) -> None:
        if self.keeper.opening:
            raise RefusedError("opening", "the dataset is being opened", "try again in a moment")
        if self.keeper.problem is not None:
            raise RefusedError("failed", self.keeper.problem, "it is tried again by itself")

    def _check_can_begin(self) -> None:
        """Raises RefusedError where something speaks against an episode that begins now."""
        self._check_dataset()
        self._look_at_disk()
        if self._disk_full:
            raise RefusedError(
                "disk_full", self._disk_words(), "make room on it, or record elsewhere (--out)"
            )
        missing = self.aligner.missing()
        if missing is not None:
            raise RefusedError("no_input", missing, "see GET /v1/faults and GET /v1/cameras")
        tick = self.aligner.newest_tick
        mode = "off" if tick is None else MODES[int(tick["mode"])]
        if mode != "running":
            words = f"nobody drives the arm (mode {mode})"
            raise RefusedError("not_running", words, "POST /v1/teleop/start first, or begin a pickup")

    def _ask_for(self, about: About) -> None:
        """Begin as soon as it can be done; without a gap, where an episode is just being ended."""
        follows = self.episode is not None and self.episode.ending
        self._next, self._after_s, self.again_s = about, self._now_s() if follows else None, None
        self.message = "the next episode begins"

    def _finish(self, body: Finish, at_s: float | None = None) -> None:
        """End the open episode now or at a time; where none is open, label the one that ended last."""
        episode = self.episode
        if episode is None:
            if body.label is not None and self.keeper.can_label:
                self._label_last(body.label)
            return
        episode.label = body.label or episode.label
        if episode.recording:
            episode.ending = True
            now_s = self._now_s()
            self._ending_until_s = now_s + ENDING_S
            self.aligner.end(now_s if at_s is None else at_s)

    def _label_last(self, label: Label | None) -> None:
        try:
            self.keeper.label_last(label)
        except DatasetError as error:
            raise RefusedError("failed", str(error)) from error
        if self.last is not None:
            self.last = {**self.last, "label": label}
            why = f", stopped: {self.last['reason']}" if self.last["reason"] else ""
            self.message = f"episode {self.last['episode']}: {label or 'no label'}{why}"

    def _throw_away(self) -> None:
        """Discard the open episode, or drop the last one."""
        episode, self.episode, self._follows_s = self.episode, None, None
        if episode is not None:
            episode.take.discard()
            self.aligner.release()
            self.message = f"episode {episode.number} was thrown away"
        else:
            self.keeper.drop_last()
            self.last = None
        self._droppable = None  # a key that is pressed twice costs no second episode

    # -- as time goes by -------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Take what has come and go on with what is to be done; a hundred times a second or so."""
        self._inputs.poll(self.aligner)
        news = self.keeper.poll(busy=self.episode is not None)
        self.message = news or self.message
        if self.keeper.problem is not None:
            self._droppable = None  # which episode is the newest is known only when the dataset is open again
        if self._now_s() - self._free_looked_s >= DISK_LOOK_S:
            self._look_at_disk()
        for row in self.aligner.rows():
            if self.episode is not None:
                self._add(self.episode, row)
        if self.episode is not None:
            self._watch(self.episode)
        if self.again_s is not None and self._now_s() >= self.again_s:
            self.again_s = None
            self.message = self.command({"op": "next"})["message"]
        if self._next is not None and self.episode is None and (self.keeper.ready or self.keeper.problem):
            self._start(self._next)
        if self._stopping and self.episode is None:
            self.keeper.close()

    def _add(self, episode: Episode, row: Row) -> None:
        mode, run_id = MODES[int(row.tick["mode"])], int(row.tick["run_id"])
        if mode != "running":
            self._stop(episode, f"nobody drove the arm any more (mode {mode})")
            return
        if episode.take.length == 0:
            episode.run_id = run_id
            if self._follows_s is not None:
                self.end_to_start_ms = round(1e3 * (row.time_s - self._follows_s), 1)
        elif run_id != episode.run_id:
            self._stop(episode, "another run began")
            return
        try:
            episode.add(row)
        except RecordingOverloadError as error:
            self._stop(episode, str(error))
        except DatasetError as error:
            self._lose(error)
        self._made_s.append(self._now_s())
        while self._made_s[0] < self._now_s() - RATE_S:
            self._made_s.popleft()

    def _watch(self, episode: Episode) -> None:
        """Whether the episode goes on."""
        if self.aligner.gap is not None:
            self._stop(episode, self.aligner.gap)
        elif episode.ending:
            if self.aligner.done:
                self._close(episode)
            elif self._now_s() > self._ending_until_s:
                self._stop(episode, self.aligner.missing() or "its last rows came too late")
        elif (missing := self.aligner.missing()) is not None:
            self._stop(episode, missing)
        elif self._disk_full:
            self._stop(episode, self._disk_words())
        elif self.keeper.problem is not None:
            self._stop(episode, self.keeper.problem)
        elif self._is_long_enough(episode):
            if self.options.reset_s is not None and not self._all_recorded():
                self.again_s = self._now_s() + self.options.reset_s
            self._finish(Finish(), episode.last_s)

    def _is_long_enough(self, episode: Episode) -> bool:
        """Whether it has all the rows of ``episode_s``."""
        longest_s, rows = self.options.episode_s, episode.take.length
        return longest_s is not None and rows >= max(1, round(longest_s * self.options.fps))

    def _stop(self, episode: Episode, reason: str) -> None:
        """End an episode that cannot go on; what it has is kept."""
        self.message = f"episode {episode.number} was stopped: {reason}"
        log.warning("%s", self.message)
        episode.reason = reason
        self._close(episode)

    def _close(self, episode: Episode) -> None:
        """No more rows: what there is becomes an episode."""
        self.aligner.release()
        self.episode = None
        at_once = self._next is not None and self._after_s is not None
        self._follows_s = episode.last_s if at_once else None
        why = f": {episode.reason}" if episode.reason else ""
        if episode.take.length == 0:
            episode.take.discard()
            self._droppable = None  # who throws this one away must not lose the one before
            self.message = f"episode {episode.number} has no rows and is not kept{why}"
            return
        try:
            episode.take.end(episode.label)
        except DatasetError as error:
            self._lose(error)
            return
        self.keeper.ended()
        self.last, self._droppable = episode.summary(), episode.about
        self.message = f"episode {episode.number} has {episode.take.length} rows{why}"

    def _lose(self, error: DatasetError) -> None:
        """The disk or an encoder has failed; what is written is recovered when the dataset opens again."""
        self.episode = self._next = self.again_s = self._droppable = None
        self.aligner.release()
        self.keeper.fail(error)
        self.message = str(error)

    def _start(self, about: About) -> None:
        self._next = None
        self.keeper.settle()
        try:
            self._check_can_begin()
            take = self.keeper.begin(about.task)
        except RefusedError as error:
            self.aligner.release()
            self._droppable = None  # as with one that has no rows
            self.message = f"the next episode did not begin: {error}"
            return
        except DatasetError as error:
            self._lose(error)
            return
        start_s = self.aligner.begin(self._now_s() if self._after_s is None else self._after_s)
        self.episode = Episode(self.keeper.number, about, take, start_s, self.options.corrections)
        self.message = f"episode {self.keeper.number} is being recorded"

    def _look_at_disk(self) -> None:
        self._free_looked_s = self._now_s()
        try:
            self._open_gb = 0.0 if self.episode is None else self.episode.take.size_bytes / GB
            self.free_gb = self._free_bytes() / GB
        except OSError as error:
            self.message = f"the disk of {self.options.out} cannot be looked at: {error}"

    @property
    def _disk_full(self) -> bool:
        """Whether there is no room any more; the open episode needs its own once more, when it is copied."""
        return self.free_gb is not None and self.free_gb < self.options.least_free_gb + self._open_gb

    def _disk_words(self) -> str:
        free, least = f"{self.free_gb:.1f}", f"{self.options.least_free_gb:g}"
        more = (
            f" beside the {self._open_gb:.1f} GB that the episode needs again" if self._open_gb > 0.05 else ""
        )
        return f"the disk of {self.options.out} has {free} GB left, and {least} GB are kept free{more}"
