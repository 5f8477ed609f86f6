"""One variant of a study, trained, exported and looked at, in a process of its own with one thread.

A process to each core is faster than one with two threads. What was found goes to a file when all is done; a
variant that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from robot.errors import So101Error
from robot.twin import child
from training.augment import to_device
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data import Corpus
from training.export import export_bundle
from training.frames import IntArray
from training.loop import Trainer
from training.policies.act import Act
from training.policies.attention import CoordinateAttention, attention_to_coordinates
from training.studies.kept import write_json
from training.train_log import LOG_FILE

COST_FILE = "cost.json"
ATTENTION_FRAMES = 256
LAST_ENTRIES = 10
"""Of the training log; their mean is the loss that training ended with."""


@dataclass(frozen=True)
class Findings:
    """What is known of a variant before it is tried."""

    parameters: int
    training_l1: float
    """Mean absolute error of normalised actions at the end of training."""
    validation_l1: float | None
    """The same on held-out episodes; ``None`` where none were held out."""
    samples: int
    """Trained on, in all."""
    samples_per_s: float
    cpu_s: float
    """Of one thread, for all the samples."""
    attention: tuple[float, ...] | None
    """Share that the decoder's queries give to the coordinate tokens, by layer."""
    attention_images: tuple[float, ...] | None
    """Share that the encoder's image tokens give to them, by layer."""
    attention_even: float | None
    """Share that they would have if everything were attended to alike."""


def learn(
    config: TrainConfig,
    bundle: Path,
    camera_size_px: tuple[int, int],
    stepped: Callable[[int], None] = lambda step: None,
) -> Findings:
    """Train (or go on training) a run, export it, and look at it.

    Args:
        config: the run.
        bundle: folder that is written.
        camera_size_px: (height, width) of the pictures that it takes.
        stepped: called with the number of steps that are done.

    Raises:
        So101Error: it was stopped, or cannot be trained.
    """
    run = Path(config.output_dir)
    trainer = Trainer(config)
    trainer.open_images()
    first, cpu_s, began_s = trainer.step, time.process_time(), time.monotonic()
    result = trainer.run(stepped=stepped)
    cost = _cost(run, result.step - first, time.process_time() - cpu_s, time.monotonic() - began_s)
    if not result.finished:
        raise So101Error(f"{run} was stopped at step {result.step}: start it again to go on")
    source = load_checkpoint(run)
    export_bundle(run, bundle, name=run.name, camera_size_px=camera_size_px)
    policy = source.build()
    rows = trainer.validation_rows if len(trainer.validation_rows) else trainer.train_rows
    attention = _attention(policy, trainer.corpus, rows) if isinstance(policy, Act) else None
    samples = config.steps * config.batch_size
    return Findings(
        parameters=sum(parameter.numel() for parameter in policy.parameters()),
        training_l1=_training_l1(run),
        validation_l1=source.metrics.get("val_l1"),
        samples=samples,
        samples_per_s=cost["steps"] * config.batch_size / max(1e-9, cost["wall_s"]),
        cpu_s=samples * cost["cpu_s"] / max(1.0, cost["steps"] * config.batch_size),
        attention=None if attention is None else attention.queries,
        attention_images=None if attention is None else attention.image_tokens,
        attention_even=None if attention is None else attention.even,
    )


def _cost(run: Path, steps: int, cpu_s: float, wall_s: float) -> dict[str, float]:
    """What the run has cost, this start and those before it."""
    path = run / COST_FILE
    cost = {"steps": float(steps), "cpu_s": cpu_s, "wall_s": wall_s}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        cost = {name: value + before[name] for name, value in cost.items()} if steps else before
    write_json(path, cost)
    return cost


def _training_l1(run: Path) -> float:
    entries = [json.loads(line) for line in (run / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    losses = [entry["l1"] for entry in entries if entry["event"] == "train"]
    return float(np.mean(losses[-LAST_ENTRIES:]))


def _attention(policy: Act, corpus: Corpus, rows: IntArray) -> CoordinateAttention:
    chosen = rows[np.linspace(0, len(rows) - 1, min(ATTENTION_FRAMES, len(rows))).astype(np.int64)]
    inputs, _ = to_device(corpus.gather(chosen), policy.state_mean.device)
    return attention_to_coordinates(policy, inputs)


def main() -> int:
    """Entry of ``python -m training.studies.variant``; a line for each step that was done."""
    parser = argparse.ArgumentParser(description="Train one variant of a study.")
    parser.add_argument("--config", type=TrainConfig.model_validate_json, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), required=True)
    parser.add_argument("--findings", type=Path, required=True)
    given = parser.parse_args()
    child.die_with_parent()
    try:
        size_px = given.size[0], given.size[1]
        findings = learn(given.config, given.bundle, size_px, lambda step: child.announce({"step": step}))
    except So101Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    settings = given.config.model_dump(mode="json")
    write_json(given.findings, {"settings": settings, "findings": asdict(findings)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
