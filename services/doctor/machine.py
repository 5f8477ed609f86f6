"""Judges the machine: real-time permission, disk, what policies run on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from services.doctor.report import Scope

FULL_GIB = 1.0
"""The recorder stops before a disk is fuller than this."""
TIGHT_GIB = 5.0
"""An hour of episodes with two cameras takes some 4 GiB."""
_ROOT = Path(__file__).resolve().parents[2]
_ASK_KERNEL = (
    "import json\nfrom robot.realtime import favour_this_process\n"
    "print(json.dumps(favour_this_process().as_json()))"
)


def check_machine(scope: Scope, folder: Path) -> None:
    """All of it; ``folder`` is where episodes would be recorded."""
    _check_disk(scope, folder)
    found = find_spec("onnxruntime") is not None
    scope.measured("onnxruntime", found, "installed" if found else "not installed")
    if not found:
        remedy = "`make setup`, or install the extra cpu or gpu of this project"
        scope.find("onnxruntime_missing", "onnxruntime is not installed: no policy can run", remedy)
    _check_real_time(scope)


def _check_disk(scope: Scope, folder: Path) -> None:
    free_gib = shutil.disk_usage(folder).free / 2**30
    scope.measured("disk", free_gib >= FULL_GIB, f"{free_gib:.0f} GiB free", free_gib=round(free_gib, 1))
    message, remedy = f"only {free_gib:.1f} GiB are free at {folder}", "delete what is not needed"
    if free_gib < FULL_GIB:
        scope.find("disk_full", message, remedy)
    elif free_gib < TIGHT_GIB:
        scope.advise("disk_tight", message, remedy)


def _check_real_time(scope: Scope) -> None:
    """What the kernel would grant the controller, asked for in a process of its own; advice."""
    command = [sys.executable, "-c", _ASK_KERNEL]
    try:  # from where our packages lie: `-c` looks for them, and for json, in the folder it runs in first
        asked = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        scope.measured("real time", False, "cannot be asked for")
        return
    if asked.returncode != 0:
        scope.measured("real time", False, "cannot be asked for")
        return
    got = json.loads(asked.stdout)
    memory = "memory locked" if got["memory_locked"] else "memory not locked"
    granted = got["scheduling"].startswith("fifo") and got["memory_locked"]
    scope.measured("real time", granted, f"{got['scheduling']}, {memory}", **got)
    if not granted:
        remedy = "give the user `rtprio 50` and `memlock unlimited` in /etc/security/limits.d; log in again"
        message = f"the controller would not get {'; '.join(got['refused'])}"
        scope.advise("real_time", message, remedy)
