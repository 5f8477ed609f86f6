"""``so101 calibrate reference`` on the twin, whose arm an imaginary hand leads about."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robot.camera_reference import Reference


@pytest.mark.live
@pytest.mark.slow
def test_the_reference_joins_what_the_file_holds(tmp_path: Path) -> None:
    out = tmp_path / "overhead.json"
    out.write_text(json.dumps({"lens": None, "table": {"kept": True}}))
    command = ["calibrate", "reference", "overhead", "--seconds", "3", "--out", str(out), "--json"]
    program = [sys.executable, "-m", "services.cli", *command]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["file"] == str(out) and answer["spread"] > 1.0
    held = json.loads(out.read_text())
    assert held["table"] == {"kept": True}
    assert Reference.from_json(held["reference"]).std.mean() > 1.0
