"""Whether there is a picture for each row: files, counts, spans, and black pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot.recording.check.findings import DELETE, REPAIR, Report
from robot.recording.check.pictures import Scan, Track, scan, watch
from robot.recording.check.survey import Survey
from robot.recording.check.timing import RATE_TOLERANCE, STAMP_TOLERANCE_S
from robot.recording.features import IMAGE_PREFIX
from robot.recording.meta import EpisodeMeta
from robot.seams import FloatArray


@dataclass(frozen=True)
class View:
    """One camera's pictures of one episode.

    Attributes:
        change, most: as in :class:`Track`, one fewer than the episode's frames.
    """

    camera: str
    episode: EpisodeMeta
    change: FloatArray
    most: FloatArray


class VideoCheck:
    """Looks at all videos of a dataset, file by file.

    Args:
        seen: the dataset.
        report: where to say what is wrong.
        decode: whether to look at pictures, not just at files.
        progress: called after each picture.

    Attributes:
        views: cameras of episodes whose pictures are whole and not black.
        colours: video feature -> mean colour of all its pictures, where all could be decoded.
    """

    def __init__(
        self,
        seen: Survey,
        report: Report,
        *,
        decode: bool,
        progress: Callable[[], None],
    ) -> None:
        self._seen = seen
        self._report = report
        self._decode = decode
        self._progress = progress
        self.views: list[View] = []
        self.colours: dict[str, FloatArray] = {}

    def run(self) -> None:
        """Look at everything."""
        for camera in self._seen.cameras:
            key = f"{IMAGE_PREFIX}{camera}"
            colours: list[FloatArray] | None = []
            for path, episodes in self._by_file(camera, key).items():
                track = self._file(camera, key, path, episodes)
                whole = track is not None and len(track.colour) == sum(e.length for e in episodes)
                colours = [*colours, track.colour] if whole and track and colours is not None else None
            if colours:
                self.colours[key] = np.concatenate(colours).mean(axis=0)

    def _by_file(self, camera: str, key: str) -> dict[Path, list[EpisodeMeta]]:
        files: dict[Path, list[EpisodeMeta]] = {}
        for episode in self._seen.episodes:
            span = episode.videos.get(key)
            if span is None:
                message = f"the episode table does not say where the pictures of {camera} are"
                self._report.find("video_missing", message, REPAIR, episode=episode.index, camera=camera)
                continue
            files.setdefault(self._seen.video_file(span.slot, key), []).append(episode)
        for here in files.values():
            here.sort(key=lambda episode: (episode.videos[key].from_s, episode.index))
        return files

    def _file(self, camera: str, key: str, path: Path, episodes: list[EpisodeMeta]) -> Track | None:
        if not path.is_file():
            for episode in episodes:
                message = f"no {path}, which has the pictures of {camera}"
                self._report.find("video_missing", message, REPAIR, episode=episode.index, camera=camera)
            return None
        looked = scan(path)
        if looked.error is not None:
            self._broken(camera, path, episodes, looked.error)
            return None
        hz = looked.hz or self._seen.hz
        if abs(hz / self._seen.fps - 1.0) > RATE_TOLERANCE:
            if not self._report.has(episodes[0].index, "fps_wrong"):
                message = f"info.json has fps {self._seen.fps:g}, the video of {camera} {hz:.2f}"
                remedy = f"if {hz:.3g} is right write it as fps in meta/info.json, else record anew"
                self._report.find("fps_wrong", message, remedy, episode=episodes[0].index, camera=camera)
        else:
            self._spans(camera, key, episodes, looked)
        if not self._counts(camera, path, episodes, looked) or not self._decode:
            return None
        return self._pictures(camera, path, episodes, len(looked.times_s))

    def _spans(self, camera: str, key: str, episodes: list[EpisodeMeta], looked: Scan) -> None:
        """``from_timestamp`` and ``to_timestamp`` against lengths, each other and the pictures."""
        end_s, fps = 0.0, self._seen.hz
        closed = len(looked.times_s) == sum(episode.length for episode in episodes)
        for episode in episodes:
            span = episode.videos[key]
            length_s = episode.length / fps
            problem = ""
            if span.from_s < end_s - 0.5 / fps:
                problem = f"begin at {span.from_s:.3f} s, where those before go on to {end_s:.3f} s"
            elif closed and span.from_s > end_s + 0.5 / fps:
                problem = f"begin at {span.from_s:.3f} s, where those before end at {end_s:.3f} s"
            elif abs(span.to_s - span.from_s - length_s) > 0.5 / fps:
                problem = (
                    f"are {span.from_s:.3f} to {span.to_s:.3f} s, {episode.length} frames take "
                    f"{length_s:.3f} s"
                )
            elif len(looked.times_s):
                nearest_s = float(looked.times_s[np.abs(looked.times_s - span.from_s).argmin()])
                off_s = abs(nearest_s - span.from_s)
                if off_s > STAMP_TOLERANCE_S:
                    problem = (
                        f"begin at {span.from_s:.4f} s, the nearest picture is {off_s:.4f} s off: "
                        f"LeRobot refuses more than {STAMP_TOLERANCE_S} s"
                    )
            end_s = max(end_s, span.to_s)
            if problem:
                message = f"the pictures of {camera} {problem}"
                self._report.find("video_span", message, REPAIR, episode=episode.index, camera=camera)

    def _counts(self, camera: str, path: Path, episodes: list[EpisodeMeta], looked: Scan) -> bool:
        rows, pictures = sum(episode.length for episode in episodes), len(looked.times_s)
        if rows == pictures:
            return True
        first = 0
        for episode in episodes:
            first += episode.length
            if first > pictures or (episode is episodes[-1] and pictures != rows):
                has = pictures if len(episodes) == 1 else max(0, episode.length - (first - pictures))
                message = f"camera {camera} has {has} pictures for {episode.length} rows ({path})"
                remedy = f"nobody knows which row lacks its picture; {DELETE.format(episode.index)}"
                self._report.find("video_length", message, remedy, episode=episode.index, camera=camera)
        return False

    def _pictures(self, camera: str, path: Path, episodes: list[EpisodeMeta], count: int) -> Track | None:
        track = watch(path, self._progress)
        if track.error is not None or len(track.black) < count:
            error = track.error or f"of {count} pictures {len(track.black)} can be decoded"
            self._broken(camera, path, episodes, error)
            return None
        first = 0
        for episode in episodes:
            last = first + episode.length
            black = track.black[first:last]
            if black.any():
                message = (
                    f"camera {camera} shows nothing but black in {int(black.sum())} pictures, first in frame "
                    f"{int(black.argmax())}"
                )
                remedy = f"uncover the lens; {DELETE.format(episode.index)}"
                self._report.find("black", message, remedy, episode=episode.index, camera=camera)
            else:
                steps = slice(first, last - 1)
                self.views.append(View(camera, episode, track.change[steps], track.most[steps]))
            first = last
        return track

    def _broken(self, camera: str, path: Path, episodes: list[EpisodeMeta], error: str) -> None:
        for episode in episodes:
            message = f"the video of {camera} cannot be read to its end: {path}: {error}"
            self._report.find("video_broken", message, REPAIR, episode=episode.index, camera=camera)
