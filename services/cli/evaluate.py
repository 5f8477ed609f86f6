"""``so101 eval``: how good a bundle is, on the lockstep twin."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from robot.errors import ConfigError
from services.cli.progress import counting
from services.cli.workers import ClusterOption, WorkersOption, pool_of

if TYPE_CHECKING:
    from inference.ensembler import ExecutionConfig
    from inference.manifest import Manifest
    from training.trials import Trial

ALL = "all"


class Looks(StrEnum):
    """What the trials look like."""

    SCENE = "scene"
    TRAINING = "training"
    UNSEEN = "unseen"


class Told(StrEnum):
    """Whose coordinates a policy is told."""

    TARGET = "target"
    CONFUSER = "confuser"


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="folder of the policy bundle")],
    task: Annotated[
        str | None, typer.Option(help="task on the twin; if not given, what the policy was made for")
    ] = None,
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
    tell: Annotated[
        Told, typer.Option(help="whose coordinates are told; that cube is then the one for the bowl")
    ] = Told.TARGET,
    looks: Annotated[
        Looks,
        typer.Option(
            help="the scene as it is, or in each trial drawn as for training, or as never seen there"
        ),
    ] = Looks.SCENE,
    stiffness: Annotated[
        float,
        typer.Option(min=0.0, max=0.5, help="the servos' stiffness differs by up to this share either way"),
    ] = 0.0,
    blackout: Annotated[
        str | None, typer.Option(help="a camera whose pictures are black, or all of them: all")
    ] = None,
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
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    trials_out: Annotated[Path | None, typer.Option(help="file for all trials, a JSON object a line")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="picture of the table: where trials succeed and where they fail")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Run trials on the twin in lockstep; success rate with its 95 % Wilson interval.

    Success is the task's, at the end of the trial; of pick_place: the cube lies in the bowl, let go of.
    Trial k of a seed has its cube in the same place and its arm in the same pose whatever else is asked for.
    The first grasp is where open jaws closed at first.
    """
    from dataclasses import replace

    from inference.manifest import read_manifest
    from robot.twin.tasks import TASKS
    from training.evaluation import EvaluationOptions, summary
    from training.evaluation import evaluate as run_trials
    from training.variety import Variety

    manifest = read_manifest(bundle)
    task = task or manifest.task or "pick_place"
    if task not in TASKS:
        raise ConfigError(f"no task {task!r}, there is: {', '.join(TASKS)}")
    if tell is Told.CONFUSER and task != "pick_place_confuser":
        raise ConfigError("--tell confuser needs a second cube: --task pick_place_confuser")
    for option, file in (("--trials-out", trials_out), ("--plot", plot)):
        if file is not None and not file.parent.is_dir():
            raise ConfigError(f"{option} {file}: there is no folder {file.parent}")
    execution = _execution(manifest, {"mode": mode, "actions_per_inference": actions_per_inference, "m": m})
    options = EvaluationOptions(
        task=task,
        seed=seed,
        execution=execution,
        coordinate_error_m=coordinate_error,
        tell_other=tell is Told.CONFUSER,
        variety=Variety(
            look_share=float(looks is not Looks.SCENE),
            unseen_looks=looks is Looks.UNSEEN,
            stiffness_spread=stiffness,
        ),
        blackout=_blackout(blackout, manifest),
    )
    if camera_delay is not None:
        options = replace(options, camera_delay_s=camera_delay)
    if width is not None:
        camera = manifest.cameras[0]
        if camera.width_px % width or (camera.height_px * width) % camera.width_px:
            raise ConfigError(f"--width must divide {camera.width_px}")
        options = replace(options, camera_px=(width, camera.height_px * width // camera.width_px))
    wins = [0, 0]
    with pool_of(cluster, workers) as pool, counting("trials", episodes) as (progress, bar):

        def advance(done: list[Trial]) -> None:
            wins[0] += sum(trial.success for trial in done)
            wins[1] += len(done)
            progress.update(bar, advance=len(done), description=f"{wins[0]}/{wins[1]} succeeded")

        trials = run_trials(bundle, episodes, options, jobs=jobs, pool=pool, on_trials=advance)
    if trials_out is not None:
        from training.trials import write_trials

        write_trials(trials_out, trials)
    if plot is not None:
        from training.trial_map import plot_trials

        plot_trials(plot, trials, f"{manifest.name}, {task}")
    result = summary(trials)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _say(trials, execution.mode)


def _execution(manifest: Manifest, changes: dict[str, object]) -> ExecutionConfig:
    """What the bundle recommends, with changes."""
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return type(manifest.execution).model_validate(manifest.execution.model_dump() | given)
    except ValidationError as error:
        raise ConfigError("; ".join(str(problem["msg"]) for problem in error.errors())) from error


def _blackout(given: str | None, manifest: Manifest) -> tuple[str, ...]:
    """Names of the cameras with black pictures."""
    names = tuple(camera.name for camera in manifest.cameras)
    if given is None or given == ALL:
        return () if given is None else names
    if given not in names:
        raise ConfigError(f"--blackout {given}: the policy sees {', '.join(names)}; {ALL} is all of them")
    return (given,)


def _say(trials: list[Trial], mode: str) -> None:
    """How it went, for a person."""
    from training.evaluation import wilson_95
    from training.trials import GRASPED

    successes = sum(trial.success for trial in trials)
    low, high = wilson_95(successes, len(trials))
    typer.echo(
        f"{successes}/{len(trials)} succeeded, 95 % interval {100 * low:.1f}..{100 * high:.1f} % ({mode})"
    )
    places = {place: sum(trial.grasped == place for trial in trials) for place in GRASPED}
    typer.echo("  first grasp: " + ", ".join(f"{place} {count}" for place, count in places.items() if count))
    for trial in trials:
        if not trial.success:
            typer.echo(
                f"  failed: trial {trial.number}, at ({trial.x_m:.3f}, {trial.y_m:.3f}) m, "
                f"grasped {trial.grasped}, "
                f"ended at ({trial.end_x_m:.3f}, {trial.end_y_m:.3f}, {trial.end_z_m:.3f}) m"
            )
