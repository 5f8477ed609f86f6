"""``so101 replay``: a recorded episode to the twin or an arm, and how the servos took it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from robot.calibration_file import load_calibration
from robot.config import RobotConfig, load_robot
from robot.errors import ConfigError, So101Error
from robot.joints import GRIPPER, JOINTS
from robot.model import load_arm
from robot.recording.compare import Comparison, compare, plot
from robot.recording.play import play
from robot.recording.reader import Dataset
from robot.recording.replay import Episode, UnitMap, load_episode, units_of
from robot.safety.clearance import ArmClearance, Clearance, unlimited
from robot.seams import FloatArray
from robot.servo_arm import ServoArm
from robot.twin.client import TwinProcess

REAL_MARGIN_S = 0.004
TWIN_MARGIN_S = 0.1
"""How long an answer may be late. Emulated servos share the processor with whatever else runs here, and a
late tick does no harm to a comparison, which goes by the times of the readings."""


def replay(
    dataset: Annotated[Path, typer.Argument(help="LeRobot dataset v3.0, or a parquet file with its columns")],
    episode: Annotated[int, typer.Option(min=0, help="number of the episode, from 0")] = 0,
    robot: Annotated[str, typer.Option(help="twin (started for this), or a robot's YAML file")] = "twin",
    comparing: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="compare the servos with the recorded ones; a twin then has no table or things to touch",
        ),
    ] = False,
    units: Annotated[
        str | None,
        typer.Option(help="degrees or m100_100 (-100..100 of the swept range), if the dataset does not say"),
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="PNG of goals, recorded and played positions")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="figures as JSON, in the recording's units and frames")
    ] = False,
) -> None:
    """Play an episode's actions at its frame rate, through the controller and its gate.

    The arm starts softly, goes to the episode's first pose, plays, parks and lets go.
    """
    console = Console(stderr=True)
    try:
        opened = Dataset(dataset)
        recorded = load_episode(opened, episode)
        config, folder = load_robot(robot)
        unit_map = UnitMap(units_of(opened, units), load_calibration(folder / config.calibration))
        console.print(f"episode {episode}: {recorded.frames} frames at {recorded.fps:g} Hz")
        played = _play(recorded, unit_map, config, bare=comparing)
        result = compare(recorded, played)
        if plot_file is not None:
            plot(plot_file, recorded, played, result, _unit(unit_map))
    except So101Error as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(result.as_json() if comparing else {"frames": recorded.frames}, indent=2))
    elif comparing:
        console.print(_table(result, unit_map))
    if plot_file is not None:
        console.print(f"plot: {plot_file}")


def _play(recorded: Episode, units: UnitMap, config: RobotConfig, *, bare: bool) -> FloatArray:
    clearance: Clearance = ArmClearance(load_arm(), config.gate)
    with ExitStack() as stack:
        port, margin_s = config.port, REAL_MARGIN_S
        if config.kind == "twin":
            margin_s = TWIN_MARGIN_S
            port = stack.enter_context(TwinProcess(cameras=False, bare=bare)).follower
            clearance = unlimited if bare else clearance
        if port is None:
            raise ConfigError(f"robot {config.name} has no port")
        arm = ServoArm.connect(port, units.calibration, margin_s=margin_s)
        stack.callback(arm.close)
        return play(recorded, units, config, arm, clearance=clearance)


def _unit(units: UnitMap) -> str:
    return "degrees" if units.units == "degrees" else "-100..100"


def _table(result: Comparison, units: UnitMap) -> Table:
    table = Table(title=f"played against recorded, {_unit(units)} (gripper: percent)")
    table.add_column("joint")
    for name in ("rmse", "lag real", "lag played", "static real", "static played"):
        table.add_column(name, justify="right")
    for name, joint in result.joints.items():
        figures = (
            joint.rmse,
            joint.lag_real_frames,
            joint.lag_twin_frames,
            joint.static_error_real,
            joint.static_error_twin,
        )
        table.add_row(name, *("-" if figure is None else f"{figure:.2f}" for figure in figures))
    table.caption = "lag in frames"
    held = result.joints[JOINTS[GRIPPER]].blocked_frames
    if held:
        table.caption += f"; the gripper's rmse is without the {held} frames in which it held something"
    return table
