from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli import COMMANDS, app, load_command

ROOT = Path(__file__).resolve().parents[2]


def so101(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_help_lists_the_commands_without_loading_them() -> None:
    code = (
        "import sys\nsys.argv = ['so101', '--help']\nfrom services.cli import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mujoco', 'fastapi', 'nicegui', 'onnxruntime', 'cv2'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for name in COMMANDS:
        assert name in run.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    command = load_command(name)
    assert command.help or command.commands


def test_an_error_of_ours_is_one_line_and_exit_1(tmp_path: Path) -> None:
    run = so101("serve", "--policy", "none", "--robot", str(tmp_path / "none.yaml"))
    assert run.returncode == 1
    assert run.stderr.startswith("so101: ") and "Traceback" not in run.stderr


def test_a_wrong_option_is_exit_2() -> None:
    run = so101("serve", "--port", "many")
    assert run.returncode == 2 and "Traceback" not in run.stderr


def test_a_port_in_use_is_said_before_anything_is_started() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = so101("serve", "--policy", "none", "--port", str(taken.getsockname()[1]))
    assert run.returncode == 1 and "--port" in run.stderr and "twin" not in run.stdout


def test_policies_for_programs() -> None:
    run = CliRunner().invoke(app, ["policies", "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    for entry in found:
        assert {"name", "parameters", "inputs", "action_space"} <= set(entry)
    assert any(entry["name"] == "act_small" and entry["parameters"] > 1_000_000 for entry in found)
    by_name = {entry["name"]: entry for entry in found if entry["kind"] == "architecture"}
    assert by_name["vit_planar"]["action_space"] == "tool_delta_xy"
    assert set(by_name["vit_planar"]["inputs"]) == {"image_overhead"}  # only what it reads
    assert by_name["visuomotor_cnn_gru"]["inputs"]["state"] == [4, 6]  # four observations


def test_pictures_without_width_are_refused() -> None:
    run = so101("eval", "policies/pick_place", "--episodes", "1", "--width", "0")
    assert run.returncode == 2 and "--width" in run.stderr, run.stderr
