"""``so101 dataset view``: look at episodes, in a page or in Rerun."""

from __future__ import annotations

import math
import webbrowser
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from robot.errors import ConfigError, DatasetError
from services.cli.progress import counting

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from robot.recording.reader import Dataset
    from services.view.page import Shown

LARGE_BYTES = 50_000_000
"""Larger pages are slow to open in a browser."""


def view(
    dataset: Annotated[Path, typer.Argument(help="LeRobot dataset v3.0, or a parquet file with its columns")],
    episode: Annotated[
        list[int] | None,
        typer.Option(min=0, help="number of an episode, from 0; may be given again; default all that fit"),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="policy bundle whose chunks are drawn over the actions")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="frames from one chunk to the next")] = 1,
    units: Annotated[
        str | None,
        typer.Option(help="degrees or m100_100 (-100..100 of the swept range), if the dataset does not say"),
    ] = None,
    pickup: Annotated[
        str | None, typer.Option(help="X,Y in metres for the policy, if the dataset does not say it")
    ] = None,
    checking: Annotated[
        bool, typer.Option("--check/--no-check", help="findings of dataset check --fast on the page")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="the page; default NAME.html in the current folder")
    ] = None,
    opening: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="in Rerun's viewer instead of a page")] = False,
    save: Annotated[Path | None, typer.Option(help="as a Rerun recording (.rrd) instead of a page")] = None,
) -> None:
    """Videos, joints, timing and labels of episodes in step, as one page that needs only a browser.

    With --policy also what the policy would have done at each moment, and how far it is from what was done.
    """
    from robot.recording.reader import Dataset

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if save is not None and rerun:
        raise ConfigError("--rerun shows and --save writes: give one of them")
    if (save is not None or rerun) and (out is not None or opening):
        raise ConfigError("--out and --open are of the page: leave --rerun and --save out")
    opened = Dataset(dataset)
    numbers = list(dict.fromkeys(episode or [each.index for each in opened.episodes]))
    if not numbers:
        raise DatasetError(f"{dataset} has no episodes")
    look = _Look(opened, units, _point(pickup), _load(policy), every, console)
    if save is not None or rerun:
        if len(episode or ()) > 1:
            raise ConfigError("Rerun shows one episode: give --episode once")
        _rerun(look, numbers[0], save)
        return
    target = out or Path(f"{dataset.resolve().stem}.html")
    _page(look, numbers, target, chosen=bool(episode), checking=checking)
    if opening and not webbrowser.open(target.resolve().as_uri()):
        console.print("no browser here: copy the page to where there is one")


@dataclass(frozen=True)
class _Look:
    """What is looked at, and how."""

    dataset: Dataset
    units: str | None
    pickup_xy_m: tuple[float, float] | None
    bundle: Bundle | None
    every: int
    console: Console

    @property
    def title(self) -> str:
        """Name of the dataset."""
        return self.dataset.root.resolve().stem

    def at(self, number: int) -> Shown:
        """One episode, with the policy's chunks."""
        from services.view.chunks import predict
        from services.view.episode import read_episode
        from services.view.page import show

        episode = read_episode(self.dataset, number, self.units)
        if episode.pickup_xy_m is None and self.pickup_xy_m is not None:
            told = np.tile(np.array(self.pickup_xy_m, np.float32), (episode.frames, 1))
            episode = replace(episode, pickup_xy_m=told)
        if self.bundle is None:
            return show(self.dataset, episode)
        steps = -(-episode.frames // self.every)
        with counting(f"chunks of episode {number}", steps, self.console) as (progress, bar):
            advance = partial(progress.advance, bar)
            found = predict(self.bundle, self.dataset, episode, every=self.every, on_chunk=advance)
        return show(self.dataset, episode, found)


def _page(look: _Look, numbers: list[int], target: Path, *, chosen: bool, checking: bool) -> None:
    """All episodes that were chosen, or as many as make a page of sensible size."""
    from services.view.page import render

    shown: list[Shown] = []
    size = 0
    for number in numbers:
        each = look.at(number)
        size += each.size_bytes
        if shown and size > LARGE_BYTES and not chosen:
            look.console.print(
                f"episodes {numbers[0]} to {shown[-1].episode.number} of {len(look.dataset.episodes)}: more "
                "would make a page that is slow to open; choose others with --episode"
            )
            break
        shown.append(each)
    findings = _findings(look.dataset.root) if checking else []
    page = render(look.title, shown, findings).encode()
    try:
        target.write_bytes(page)
    except OSError as error:
        raise DatasetError(f"{target} cannot be written: {error}") from error
    look.console.print(f"{escape(str(target))}: {len(shown)} episodes, {len(page) / 1e6:.1f} MB")
    if len(page) > LARGE_BYTES:
        look.console.print(
            "[yellow]a page of this size is slow to open: choose fewer with --episode[/yellow]"
        )


def _rerun(look: _Look, number: int, save: Path | None) -> None:
    from services.view.rerun_log import save_recording, spawn_viewer

    shown = look.at(number)
    if save is None:
        spawn_viewer(look.title, shown)
        return
    save_recording(save, look.title, shown)
    look.console.print(f"{escape(str(save))}: episode {number}, {save.stat().st_size / 1e6:.1f} MB")


def _findings(root: Path) -> list[dict[str, Any]]:
    from robot.recording.check import examine

    return [finding.as_json() for finding in examine(root, decode=False).findings]


def _load(policy: Path | None) -> Bundle | None:
    if policy is None:
        return None
    from inference.bundle import load_bundle

    return load_bundle(policy)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        x_m, y_m = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(f"--pickup is X,Y in metres, for instance 0.22,0.03, not {text!r}") from error
    if not (math.isfinite(x_m) and math.isfinite(y_m)):
        raise ConfigError(f"--pickup must be finite, not {text!r}")
    return x_m, y_m
