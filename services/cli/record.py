"""``so101 record``: episodes to disk, by a person, by the expert, or by a policy that is corrected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from robot.errors import ConfigError
from services import hub
from services.cli.progress import counting
from services.cli.record_live import record_live
from services.cli.teleop import Driver, HostOption, PortOption, UrlOption
from services.cli.variety import ConfuserOption, LookOption, StiffnessOption, variety_of
from services.cli.workers import ClusterOption, WorkersOption, pool_of
from services.console.run import Place
from services.recording.options import PickupPoint, RecordingOptions
from services.serving import ServeOptions

if TYPE_CHECKING:
    from training.episodes import DemonstrationOrder
    from training.pool import Pool
    from training.variety import Variety

IMAGE_SIZE = "256x192"
EPISODES = 10
FPS = 30
CODEC = "auto"
SENTENCE_REMEDY = (
    "without --live the expert does a task of the twin by its name, for instance pick_place_confuser"
)
LIVE_REMEDY = "only for the lockstep twin, without --live and with --teleop expert"
LOCKSTEP_REMEDY = "only in real time, add --live (a policy is corrected in lockstep by so101 correct)"
URL_REMEDY = "the service at --url was told what it records, leave it out"


def record(
    out: Annotated[
        Path | None, typer.Option(help="folder of the dataset (LeRobot v3.0): made, or appended to")
    ] = None,
    robot: Annotated[str, typer.Option(help="twin, or the YAML file of a robot")] = "twin",
    teleop: Annotated[
        Driver | None,
        typer.Option(help="who drives; if not given, the expert at the twin, the leader at an arm"),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="in real time; only the expert can do without")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="bundle that drives until it is taken over: corrections (DAgger)")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="a sentence that says what is done, the twin has one; without --live the name of a task, "
            "pick_place if not given"
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help=f"so many; if not given, {EPISODES} by the expert, else until it is ended"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the expert: the same one, the same episodes")] = 0,
    confusers: ConfuserOption = None,
    looks: LookOption = None,
    stiffness: StiffnessOption = None,
    pickup: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="where the object lies, metres; the twin knows where its cube lies"),
    ] = None,
    no_pickup: Annotated[bool, typer.Option("--no-pickup", help="no column with where to pick up")] = False,
    episode_s: Annotated[
        float | None, typer.Option(min=0.5, help="finish an episode by itself after so many seconds")
    ] = None,
    reset_s: Annotated[
        float | None,
        typer.Option(min=0.0, help="begin the next by itself so many seconds later"),
    ] = None,
    fps: Annotated[int, typer.Option(min=1, max=120, help="rows a second")] = FPS,
    codec: Annotated[str, typer.Option(help="auto, h264, av1, or one that is in hardware")] = CODEC,
    push: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="upload to the Hugging Face hub afterwards")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="with --push: for everybody to see")] = False,
    url: UrlOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    image_size: Annotated[
        str | None,
        typer.Option(help=f"WIDTHxHEIGHT in pixels, even, without --live; {IMAGE_SIZE} if not given"),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="processes, without --live; the result does not depend on it")
    ] = 1,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="what was recorded, as JSON")] = False,
) -> None:
    """Record episodes: teleoperated, by the expert, or corrections of a policy.

    Without --live the expert records on the lockstep twin, faster than real time and without a person. All
    else starts the service with a recorder (or attaches to one with --url): → or Enter begins the next
    episode, ← does one again, Delete throws it away, 1 and 0 finish it as success or failure, p finishes it,
    i takes over from a policy, b hands back, space stops the arm, q ends. What has been recorded is on disk
    at every moment, and a folder that is there is gone on with.
    """
    driver = teleop or (Driver.EXPERT if robot == "twin" else Driver.LEADER)
    if driver is Driver.EXPERT and robot != "twin":
        raise ConfigError("the expert knows only the twin: --teleop leader, keyboard, gamepad or dashboard")
    if reset_s is not None and episode_s is None:
        raise ConfigError("--reset-s begins the next episode after one that --episode-s has ended: give both")
    if public and push is None:
        raise ConfigError("--public is for --push USER/NAME; without it nothing is uploaded")
    if push is not None:
        hub.check_repo_id(push)
    if driver is Driver.EXPERT and pickup is not None:
        raise ConfigError("--pickup: the expert puts the cube somewhere else each time, leave it out")
    variety = {"confusers": confusers, "looks": looks, "stiffness": stiffness}
    about: dict[str, object] = {
        "policy": policy,
        "pickup": pickup,
        "no_pickup": no_pickup,
        "episode_s": episode_s,
        "reset_s": reset_s,
        "fps": None if fps == FPS else fps,
        "codec": None if codec == CODEC else codec,
    }
    if url is not None:
        _refuse({"out": out, "episodes": episodes, "task": task, **about, **variety}, URL_REMEDY)
        result = record_live(driver, Place(url=url), seed=seed)
    elif out is None:
        raise ConfigError("--out DIR is missing: the folder of the dataset")
    elif driver is Driver.EXPERT and not live:
        _refuse(about, LOCKSTEP_REMEDY)
        size = IMAGE_SIZE if image_size is None else image_size
        order = _order(task or "pick_place", seed, size, variety_of(confusers, looks, stiffness))
        with pool_of(cluster, workers) as pool:
            result = _lockstep(out, episodes or EPISODES, order, jobs, pool)
    else:
        simulated = {"image_size": image_size, "jobs": None if jobs == 1 else jobs}
        _refuse({**simulated, "cluster": cluster, "workers": workers, **variety}, LIVE_REMEDY)
        options = _options(
            out=out.resolve(),
            task=task or _task_of(robot),
            fps=fps,
            codec=codec,
            teleop=driver.value,
            corrections=policy is not None,
            pickup=_pickup(pickup, no_pickup, robot, policy),
            episode_s=episode_s,
            reset_s=reset_s,
            episodes=episodes or (EPISODES if driver is Driver.EXPERT else None),
            seed=seed,
        )
        own = ServeOptions(robot=robot, policy=policy, host=host, port=port, recording=options)
        result = record_live(driver, Place(own=own), seed=seed)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(f"{result['episodes']} episodes in {result['out']}")
    if driver is Driver.EXPERT and url is None and result["episodes"] != (episodes or EPISODES):
        raise typer.Exit(1)  # nobody sits there to see that it stopped before its time
    if push is not None:
        typer.echo(f"uploaded: {hub.push(Path(str(result['out'])), push, private=not public)}")


def _refuse(options: Mapping[str, object], remedy: str) -> None:
    """Refuse options that mean nothing here. Raises ConfigError with what to do instead."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise ConfigError(f"{', '.join(given)}: {remedy}")


def _order(task: str, seed: int, image_size: str, variety: Variety) -> DemonstrationOrder:
    size = re.fullmatch(r"(\d+)x(\d+)", image_size)
    if size is None:
        raise ConfigError(f"--image-size is WIDTHxHEIGHT, for instance {IMAGE_SIZE}, not {image_size!r}")
    from robot.twin.tasks import TASKS
    from training.episodes import DemonstrationOrder

    if task not in TASKS:
        raise ConfigError(f"--task {task!r}: {SENTENCE_REMEDY}; there is: {', '.join(TASKS)}")
    width, height = int(size[1]), int(size[2])
    try:
        return DemonstrationOrder(task=task, seed=seed, variety=variety, width_px=width, height_px=height)
    except ValidationError as error:
        raise ConfigError(f"--image-size {image_size}: sides are even and at least 16 pixels") from error


def _lockstep(
    out: Path, episodes: int, order: DemonstrationOrder, jobs: int, pool: Pool | None
) -> dict[str, object]:
    from training.recorder import record_episodes

    with counting("episodes", episodes) as (progress, bar):
        tried = record_episodes(
            out, order, episodes, jobs=jobs, pool=pool, on_episode=lambda: progress.advance(bar)
        )
    return {"out": str(out), "episodes": episodes, "attempts": tried}


def _task_of(robot: str) -> str:
    if robot != "twin":
        raise ConfigError(
            '--task is missing: a sentence that says what is done, such as "Pick up the screw."'
        )
    from training.episodes import TASK

    return TASK


def _pickup(given: str | None, none: bool, robot: str, policy: Path | None) -> PickupPoint | str:
    """See ``RecordingOptions.pickup``."""
    if given is not None and none:
        raise ConfigError("--pickup and --no-pickup exclude each other: give one")
    if given is not None:
        numbers = re.fullmatch(r"\s*([-+.\d]+)\s*,\s*([-+.\d]+)\s*", given)
        try:
            if numbers is not None:
                return PickupPoint(x_m=float(numbers[1]), y_m=float(numbers[2]))
        except ValueError:  # two signs, two points
            pass
        raise ConfigError(f"--pickup is X,Y in metres, for instance 0.24,-0.05, not {given!r}")
    if robot == "twin":
        return "none" if none else "required"
    if policy is not None:
        raise ConfigError("a policy has to be told where the object lies: --pickup X,Y")
    return "none"


def _options(**values: object) -> RecordingOptions:
    try:
        return RecordingOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).replace("_", "-") if first["loc"] else "options"
        raise ConfigError(f"--{name}: {first['msg']}") from error
