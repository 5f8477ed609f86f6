"""The log of a run: ``log.jsonl``, TensorBoard and whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Log = dict[str, float | int | str]
"""One entry: ``event`` (start, train, validation, rollouts, end), ``step`` and numbers by name."""

LOG_FILE = "log.jsonl"
DRAWN = frozenset({"train", "validation", "rollouts"})


@contextmanager
def opened(folder: Path, step: int, report: Callable[[Log], None]) -> Iterator[Callable[[Log], None]]:
    """A function that takes entries.

    What a run that was killed had logged after the checkpoint at ``step`` is done again, so it is taken out.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    path = folder / LOG_FILE
    _keep_until(path, step)
    with (
        path.open("a", encoding="utf-8") as lines,
        SummaryWriter(folder / "tensorboard", purge_step=step + 1) as board,
    ):

        def log(entry: Log) -> None:
            lines.write(json.dumps(entry) + "\n")
            lines.flush()
            if entry["event"] in DRAWN:
                for name, value in entry.items():
                    if isinstance(value, float):
                        board.add_scalar(f"{entry['event']}/{name}", value, int(entry["step"]))
            report(entry)

        yield log


def _keep_until(path: Path, step: int) -> None:
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(path)


def _step_of(line: str) -> int:
    return int(json.loads(line)["step"])
