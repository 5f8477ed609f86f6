"""Trials of bundles under conditions, each kept in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from inference.manifest import MANIFEST_FILE, sha256_of
from training.evaluation import EvaluationOptions, evaluate
from training.studies.kept import kept_trials, trials_once
from training.studies.show import Show
from training.trials import Trial


@dataclass(frozen=True)
class Trying:
    """Trials of one bundle under one condition."""

    name: str
    bundle: Path
    options: EvaluationOptions

    @property
    def settings(self) -> dict[str, Any]:
        """What its results depend on."""
        options = TypeAdapter(EvaluationOptions).dump_python(self.options, mode="json")
        return {"bundle": sha256_of(self.bundle / MANIFEST_FILE), "options": options}


def try_all(
    folder: Path, wanted: Sequence[Trying], count: int, show: Show, *, jobs: int
) -> dict[str, list[Trial]]:
    """Trials of all that is wanted, those of an earlier start from their files.

    Args:
        folder: of the files.
        wanted: what is tried.
        count: trials of each.
        show: who watches.
        jobs: processes.
    """
    settings = {trying.name: trying.settings | {"trials": count} for trying in wanted}
    files = {trying.name: folder / f"{trying.name}.json" for trying in wanted}
    left = sum(kept_trials(files[name], settings[name]) is None for name in files)
    with show.counting("trials", left * count) as advance:

        def run(trying: Trying) -> list[Trial]:
            return evaluate(
                trying.bundle,
                count,
                trying.options,
                jobs=jobs,
                on_trials=lambda trials: advance(len(trials)),
            )

        return {
            trying.name: trials_once(files[trying.name], settings[trying.name], partial(run, trying))
            for trying in wanted
        }
