"""``so101 bench``: figures of this machine, side by side with what a peer would do where it is installed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.cli.serve import ExecutionProvider, ProviderOption, ThreadsOption

app = typer.Typer(
    help="Figures of this machine, side by side with peers that are installed.", no_args_is_help=True
)

Execution = Annotated[
    str | None, typer.Option(help="receding, ensemble or open_loop; default what the bundle recommends")
]
LeRobotPython = Annotated[
    Path | None,
    typer.Option(
        envvar="SO101_LEROBOT_PYTHON",
        help="interpreter that has LeRobot; default .venv-lerobot's (bin/setup-lerobot) where that is",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def _show(title: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(title)
    for key, value in result.items():
        if key != "peers":
            typer.echo(f"  {key}: {json.dumps(value) if isinstance(value, dict) else value}")
    if result.get("peers"):
        Console().print(_side_by_side({"so101": result, **result["peers"]}))
        for name, peer in result["peers"].items():
            if "failed" in peer:
                typer.echo(f"  {name}: {peer['failed']}")


def _side_by_side(results: dict[str, dict[str, Any]]) -> Table:
    """One column for each of them, one row for each figure that the peers have too."""
    columns = {name: _figures(result) for name, result in results.items()}
    own, *others = columns.values()
    table = Table()
    table.add_column(no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for figure in own:
        if any(figure in other for other in others):
            cells = (f"{column[figure]:.3g}" if figure in column else "" for column in columns.values())
            table.add_row(figure, *cells)
    return table


def _figures(result: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Its numbers; those inside others by both names."""
    found: dict[str, float] = {}
    for key, value in result.items():
        if isinstance(value, dict) and key != "peers":
            found |= _figures(value, f"{prefix}{key} ")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found


@app.command()
def bus(
    port: Annotated[
        str | None, typer.Option(help="serial port; default a twin that is started for it")
    ] = None,
    cycles: Annotated[int, typer.Option(min=10, help="cycles to time")] = 1000,
    lerobot_python: LeRobotPython = None,
    as_json: Json = False,
) -> None:
    """Time of a cycle: block read of six servos and sync write of six goals. The arm holds its pose."""
    from services.bench.bus import bench_bus

    _show("bus", bench_bus(port, cycles, lerobot_python), as_json)


@app.command()
def inference(
    bundle: Annotated[Path | None, typer.Argument(help="policy bundle; default the shipped one")] = None,
    runs: Annotated[int, typer.Option(min=10, help="runs to time")] = 300,
    threads: ThreadsOption = 1,
    provider: ProviderOption = ExecutionProvider.CPU,
    as_json: Json = False,
) -> None:
    """Latency of one chunk, images as the cameras give them."""
    from services.bench.inference import bench_inference

    _show("inference", bench_inference(bundle, runs, threads, provider.value), as_json)


@app.command()
def loop(
    hz: Annotated[int | None, typer.Option(min=10, max=500, help="control rate; default the robot's")] = None,
    seconds: Annotated[float, typer.Option(min=2.0, help="how long")] = 20.0,
    execution: Execution = None,
    plot: Annotated[Path | None, typer.Option(help="write a histogram of the lateness here (PNG)")] = None,
    as_json: Json = False,
) -> None:
    """Lateness of control ticks while twin, cameras, policy worker and API run and a pickup is under way."""
    from services.bench.loop import bench_loop

    _show("loop", bench_loop(hz, seconds, execution, plot), as_json)


@app.command()
def record(
    minutes: Annotated[float, typer.Option(min=0.2, help="length of all episodes together")] = 2.0,
    episode_s: Annotated[float, typer.Option(min=2.0, help="length of an episode, seconds")] = 20.0,
    hz: Annotated[int, typer.Option(min=10, max=500, help="control rate of ours")] = 50,
    codec: Annotated[str, typer.Option(help="as so101 record has it")] = "h264",
    peer_minutes: Annotated[float, typer.Option(min=0.2, help="as --minutes, for each peer")] = 2.0,
    lerobot_python: LeRobotPython = None,
    as_json: Json = False,
) -> None:
    """Two cameras of 640x480 at 30 pictures a second and a leader, on the live twin, and LeRobot beside it.

    Pictures come out of files.
    """
    from services.bench.record import RecordOptions, bench_record

    options = RecordOptions(minutes, episode_s, hz, codec, peer_minutes)
    with Console(stderr=True).status("") as status:
        result = bench_record(options, lerobot_python, status.update)
    _show("record", result, as_json)


@app.command()
def train(
    steps: Annotated[int, typer.Option(min=1, help="steps to time, each way")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="samples in a step")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16, of ours")] = "fp32",
    lerobot_python: LeRobotPython = None,
    as_json: Json = False,
) -> None:
    """Samples a second in training LeRobot's ACT: two cameras of 640x480, ours beside LeRobot's own.

    The first column is what is advised, pictures of 240x320; "480x640" is like for like.
    """
    from services.bench.train import TrainBenchOptions, bench_train

    options = TrainBenchOptions(steps, batch_size, device, precision)
    with Console(stderr=True).status("") as status:
        result = bench_train(options, lerobot_python, status.update)
    _show("train", result, as_json)


@app.command()
def soak(
    hours: Annotated[float, typer.Option(min=0.01, help="how long")] = 1.0,
    hz: Annotated[int, typer.Option(min=10, max=500, help="control rate")] = 100,
    lose_share: Annotated[float, typer.Option(min=0, max=0.2, help="share of answers that get lost")] = 0.01,
    corrupt_share: Annotated[
        float, typer.Option(min=0, max=0.2, help="share of answers that arrive with a wrong byte")
    ] = 0.01,
    seed: Annotated[
        int, typer.Option(min=0, help="seed of what is drawn: which answers get lost or spoiled")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="write the result here (JSON)")] = None,
    log: Annotated[
        Path | None, typer.Option(help="write a line a minute here, and one for each fault")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hours on the live twin with a bad bus: no fault, no late tick, no growth; exit 1 otherwise."""
    from services.bench.soak import SoakOptions, bench_soak

    options = SoakOptions(3600.0 * hours, hz, lose_share, corrupt_share, seed)
    with contextlib.ExitStack() as stack:
        lines = None if log is None else stack.enter_context(log.open("w", encoding="utf-8", buffering=1))
        console = Console(stderr=True)
        bar = stack.enter_context(Progress(*Progress.get_default_columns(), console=console))
        task = bar.add_task("soak", total=options.seconds)

        def report(elapsed_s: float, line: str) -> None:
            bar.update(task, completed=elapsed_s)
            if line:
                bar.console.print(line, highlight=False, soft_wrap=True)
                if lines is not None:
                    lines.write(line + "\n")

        result = bench_soak(options, report)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _show("soak", result, as_json)
    if not result["ok"]:
        raise typer.Exit(1)


@app.command()
def pickups(
    policy: Annotated[Path | None, typer.Option(help="policy bundle; default the shipped one")] = None,
    trials: Annotated[int, typer.Option(min=1, help="pickups, one after the other")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the places")] = 0,
    execution: Execution = None,
    as_json: Json = False,
) -> None:
    """Pickups at random points through HTTP on the live twin: in the bowl, and whether the service knew."""
    from services.bench.served import bench_pickups

    _show("pickups", bench_pickups(policy, trials, seed, execution), as_json)


@app.command(name="all")
def everything() -> None:
    """Bus, inference and loop, one after the other."""
    bus(None, 1000, None, False)
    inference(None, 300, 1, ExecutionProvider.CPU, False)
    loop(None, 20.0, None, None, False)
