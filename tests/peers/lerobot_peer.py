"""LeRobot's interpreter, as bin/setup-lerobot makes it, and a process in it that is asked to do things."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.bench.bus import lerobot_python

ASKED = os.environ.get("SO101_LEROBOT_PYTHON")
PYTHON = lerobot_python(Path(ASKED) if ASKED else None)


def has(*packages: str) -> bool:
    """Whether LeRobot's interpreter is there and has these."""
    if PYTHON is None:
        return False
    code = f"import importlib.metadata as m; [m.version(name) for name in {packages!r}]"
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, check=False).returncode == 0


class LeRobot:
    """LeRobot's interpreter with a script that answers JSON requests, line by line."""

    def __init__(self, script: Path, home: Path, more: Mapping[str, str] | None = None) -> None:
        self.environment = {
            **os.environ,
            "HF_HOME": str(home / "hf"),
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "OMP_NUM_THREADS": "1",  # on a busy machine, threads that wait for each other take minutes
            **(more or {}),
        }
        self.environment.pop("PYTHONPATH", None)
        self._log = (home / "lerobot.log").open("w+b")
        self._process = subprocess.Popen(
            [str(PYTHON), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.environment,
        )

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **request}, default=str).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            pytest.fail(f"LeRobot died: {self._log.read().decode()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            pipe.close()
