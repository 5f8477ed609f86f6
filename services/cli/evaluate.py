"""``so101 eval``: how good a bundle is, on the lockstep twin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from robot.errors import ConfigError
from services.cli.progress import counting


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="folder of the policy bundle")],
    task: Annotated[str, typer.Option(help="task on the twin")] = "pick_place",
    episodes: Annotated[int, typer.Option(min=1, help="number of trials")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="seed of the trials")] = 1000,
    mode: Annotated[
        str | None, typer.Option(help="receding, ensemble or open_loop; default what the bundle recommends")
    ] = None,
    actions_per_inference: Annotated[
        int | None,
        typer.Option(min=1, help="receding horizon: policy steps before the next chunk takes over"),
    ] = None,
    m: Annotated[float | None, typer.Option(help="ensembling weights exp(-m i), i = 0 the oldest")] = None,
    coordinate_error: Annotated[
        float, typer.Option(min=0.0, help="standard deviation of the error of each coordinate, metres")
    ] = 0.0,
    camera_delay: Annotated[
        float | None,
        typer.Option(min=0.0, help="age of the pictures, seconds; default that of the live twin"),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            min=16, help="render pictures this wide and enlarge them: faster, not the same pictures"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Run trials on the twin in lockstep; success rate with its 95 % Wilson interval.

    Success: the cube lies in the bowl, let go of, at the end of the trial. Trials depend on the seed alone.
    """
    from dataclasses import replace

    from inference.manifest import read_manifest
    from robot.twin.tasks import TASKS
    from training.evaluation import EvaluationOptions, Trial, summary, wilson_95
    from training.evaluation import evaluate as run_trials

    if task not in TASKS:
        raise ConfigError(f"no task {task!r}, there is: {', '.join(TASKS)}")
    manifest = read_manifest(bundle)
    changes = {"mode": mode, "actions_per_inference": actions_per_inference, "m": m}
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        execution = type(manifest.execution).model_validate(manifest.execution.model_dump() | given)
    except ValidationError as error:
        raise ConfigError("; ".join(str(problem["msg"]) for problem in error.errors())) from error
    options = EvaluationOptions(
        task=task, seed=seed, execution=execution, coordinate_error_m=coordinate_error
    )
    if camera_delay is not None:
        options = replace(options, camera_delay_s=camera_delay)
    if width is not None:
        camera = manifest.cameras[0]
        if camera.width_px % width or (camera.height_px * width) % camera.width_px:
            raise ConfigError(f"--width must divide {camera.width_px}")
        options = replace(options, camera_px=(width, camera.height_px * width // camera.width_px))
    wins = [0, 0]
    with counting("trials", episodes) as (progress, bar):

        def advance(done: list[Trial]) -> None:
            wins[0] += sum(trial.success for trial in done)
            wins[1] += len(done)
            progress.update(bar, advance=len(done), description=f"{wins[0]}/{wins[1]} in the bowl")

        trials = run_trials(bundle, episodes, options, jobs=jobs, on_trials=advance)
    result = summary(trials)
    if as_json:
        typer.echo(json.dumps(result))
        return
    low, high = wilson_95(sum(trial.success for trial in trials), len(trials))
    typer.echo(
        f"{result['successes']}/{result['episodes']} in the bowl, "
        f"95 % interval {100 * low:.1f}..{100 * high:.1f} % ({execution.mode})"
    )
    for trial in trials:
        if not trial.success:
            typer.echo(
                f"  failed: trial {trial.number}, cube at ({trial.x_m:.3f}, {trial.y_m:.3f}) m, "
                f"ended at ({trial.end_x_m:.3f}, {trial.end_y_m:.3f}, {trial.end_z_m:.3f}) m"
            )
