from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli import app


def test_help_names_options() -> None:
    for command in ("train", "export"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert "--json" in result.stdout


def test_errors_are_one_line_and_exit_1_as_of_every_command(tmp_path: Path) -> None:
    runner = CliRunner()
    bad = tmp_path / "bad.yaml"
    bad.write_text("datasets: [x]\noutput_dir: y\nstepz: 3\n")
    good = tmp_path / "good.yaml"
    good.write_text("datasets: [x]\noutput_dir: y\n")
    bundle = str(tmp_path / "b")
    for arguments, told in (
        (["train", str(tmp_path / "none.yaml")], "no configuration"),
        (["train", str(bad)], "did you mean 'steps'"),
        (["train", str(good), "--set", "optimizer.lr=1"], "did you mean 'optimiser.lr'"),
        (["train", str(good), "--set", "optimiser.lr=-1"], "optimiser.lr: "),
        (["export", str(tmp_path), bundle], "no checkpoint"),
        (["export", str(tmp_path), bundle, "--best"], "the run's section 'rollouts'"),
        (["export", str(tmp_path), bundle, "--mode", "closed_eyes"], "mode: "),
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 1 and told in result.output, result.output
        assert result.output.count("\n") == 1


def test_every_key_is_told_with_its_meaning() -> None:
    result = CliRunner().invoke(app, ["train", "--help-config"])
    assert result.exit_code == 0
    assert "| `optimiser.plateau_patience` | `2` | Validations without progress" in result.stdout


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
    arguments += ["--dataset", str(tmp_path / "set"), "--set", "optimiser.lr=3e-4"]
    result = CliRunner().invoke(app, [*arguments, "--set", "optimiser.warmup_steps=0"])
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert told[1]["lr"] == pytest.approx(3e-4 * (0.02 + 0.98 * 0.5))
    events = [json.loads(line)["event"] for line in result.stdout.splitlines() if line.startswith("{")]
    assert events == ["start", "train", "end"]
    assert (tmp_path / "run" / "checkpoints" / "step_00000002" / "model.safetensors").is_file()
    again = CliRunner().invoke(app, [*arguments, "--set", "optimiser.warmup_steps=0"])
    assert again.exit_code == 0 and "was finished before, at step 2" in again.output
    assert "samples/s" not in again.output


def test_the_commands_can_be_imported_without_torch() -> None:
    code = "import sys, services.cli.train, services.cli.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
