from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from services.cli.export import export
from services.cli.train import train

app = typer.Typer()
app.command()(train)
app.command()(export)


def test_help_names_options() -> None:
    for command in ("train", "export"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "--json" in result.stdout


def test_errors_are_one_line_and_exit_2(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["train", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2 and "no configuration" in result.output
    bad = tmp_path / "bad.yaml"
    bad.write_text("datasets: [x]\noutput_dir: y\nstepz: 3\n")
    result = runner.invoke(app, ["train", str(bad)])
    assert result.exit_code == 2 and "'steps'" in result.output
    result = runner.invoke(app, ["export", str(tmp_path), str(tmp_path / "b")])
    assert result.exit_code == 2 and "no checkpoint" in result.output


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    import numpy as np

    from robot.recording.writer import DatasetWriter

    with DatasetWriter.create(tmp_path / "set", fps=30, cameras={"wrist": (32, 32)}) as writer:
        writer.begin_episode("x")
        for t in range(8):
            picture = np.full((32, 32, 3), t, np.uint8)
            writer.add_frame(np.full(6, float(t)), np.full(6, float(t)), {"wrist": picture}, [0.2, 0.1])
        writer.save_episode()
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "type: act\ncameras: [wrist]\nimage_height_px: 32\nimage_width_px: 32\nchunk_size: 4\n"
        "d_model: 16\nheads: 2\nd_ff: 16\nencoder_layers: 1\n"
    )
    config = tmp_path / "run.yaml"
    config.write_text(
        f"datasets: [{tmp_path / 'absent'}]\npolicy: {policy}\noutput_dir: {tmp_path / 'unused'}\n"
        f"cache_dir: {tmp_path / 'cache'}\nsteps: 50\nbatch_size: 4\ndevice: cpu\nthreads: 1\n"
    )
    arguments = ["train", str(config), "--json", "--steps", "2", "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--dataset", str(tmp_path / "set")])
    assert result.exit_code == 0, result.output
    events = [json.loads(line)["event"] for line in result.stdout.splitlines() if line.startswith("{")]
    assert events == ["start", "train", "end"]
    assert (tmp_path / "run" / "checkpoints" / "step_00000002" / "model.safetensors").is_file()


def test_the_commands_can_be_imported_without_torch() -> None:
    code = "import sys, services.cli.train, services.cli.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
