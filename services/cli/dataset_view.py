"""``so101 dataset view``: look at episodes, in a page or in Rerun."""

from __future__ import annotations

import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from robot.errors import ConfigError, DatasetError, So101Error

if TYPE_CHECKING:
    from inference.bundle import Bundle
    from robot.recording.reader import Dataset
    from services.view.chunks import Predictions
    from services.view.episode import Episode
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

    console = Console(stderr=True)
    try:
        if save is not None and rerun:
            raise ConfigError("--rerun shows and --save writes: give one of them")
        if (save is not None or rerun) and (out is not None or opening):
            raise ConfigError("--out and --open are of the page: leave --rerun and --save out")
        opened = Dataset(dataset)
        numbers = list(dict.fromkeys(episode or [each.index for each in opened.episodes]))
        if not numbers:
            raise DatasetError(f"{dataset} has no episodes")
        bundle = None
        if policy is not None:
            from inference.bundle import load_bundle

            bundle = load_bundle(policy)
        if save is not None or rerun:
            if len(episode or ()) > 1:
                raise ConfigError("Rerun shows one episode: give --episode once")
            _rerun(opened, *_read(opened, numbers[0], units, bundle, every, console), save, console)
            return
        target = out or Path(f"{dataset.resolve().stem}.html")
        shown = _show(opened, numbers, units, bundle, every, console, chosen=bool(episode))
        _write(opened, shown, target, console)
        if opening:
            webbrowser.open(target.resolve().as_uri())
    except So101Error as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error


def _read(
    dataset: Dataset, number: int, units: str | None, bundle: Bundle | None, every: int, console: Console
) -> tuple[Episode, Predictions | None]:
    from services.view.episode import read_episode

    episode = read_episode(dataset, number, units)
    if bundle is None:
        return episode, None
    from services.cli.progress import counting
    from services.view.chunks import predict

    with counting(f"chunks of episode {number}", -(-episode.frames // every), console) as (progress, bar):
        advance = partial(progress.advance, bar)
        return episode, predict(bundle, dataset, episode, every=every, on_chunk=advance)


def _show(
    dataset: Dataset,
    numbers: list[int],
    units: str | None,
    bundle: Bundle | None,
    every: int,
    console: Console,
    *,
    chosen: bool,
) -> list[Shown]:
    """The episodes of the page: all that were chosen, or as many as make a page of sensible size."""
    from services.view.page import show

    shown: list[Shown] = []
    size = 0
    for number in numbers:
        each = show(dataset, *_read(dataset, number, units, bundle, every, console))
        size += each.size_bytes
        if shown and size > LARGE_BYTES and not chosen:
            console.print(
                f"episodes {numbers[0]} to {shown[-1].episode.number} of {len(dataset.episodes)}: more would "
                "make a page that is slow to open; choose others with --episode"
            )
            break
        shown.append(each)
    return shown


def _write(dataset: Dataset, shown: list[Shown], target: Path, console: Console) -> None:
    from services.view.page import render

    page = render(dataset.root.resolve().stem, shown).encode()
    try:
        target.write_bytes(page)
    except OSError as error:
        raise DatasetError(f"{target} cannot be written: {error}") from error
    console.print(f"{target}: {len(shown)} episodes, {len(page) / 1e6:.1f} MB")
    if len(page) > LARGE_BYTES:
        console.print("[yellow]a page of this size is slow to open: choose fewer with --episode[/yellow]")


def _rerun(
    dataset: Dataset, episode: Episode, predictions: Predictions | None, save: Path | None, console: Console
) -> None:
    from services.view.page import show
    from services.view.rerun_log import save_recording, spawn_viewer

    shown = show(dataset, episode, predictions)
    if save is None:
        spawn_viewer(dataset.root.resolve().stem, shown)
        return
    save_recording(save, dataset.root.resolve().stem, shown)
    console.print(f"{save}: episode {episode.number}, {save.stat().st_size / 1e6:.1f} MB")
