"""Processes that must not be left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from robot.errors import TwinError
from robot.twin import child

SILENT = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_child_whose_parent_died_before_it_could_ask_ends() -> None:
    script = "from robot.twin import child\nchild.die_with_parent()\nchild.announce({'lives': True})\n"

    def said(parent: int) -> bytes:
        environment = os.environ | {"SO101_PARENT_PID": str(parent)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, check=False).stdout

    assert said(os.getpid()) == b'{"lives": true}\n'
    assert said(os.getppid()) == b""


def test_waiting_for_a_child_ends_when_nobody_wants_it_any_more() -> None:
    process = subprocess.Popen(SILENT, stdout=subprocess.PIPE)
    ended = threading.Event()
    threading.Timer(0.2, ended.set).start()
    before_s = time.monotonic()
    with pytest.raises(TwinError, match="not wanted"):
        child.read_json_line(process, 60.0, ended)
    with pytest.raises(TwinError, match="said nothing for 0 s"):
        child.read_json_line(process, 0.0)
    child.stop(process)
    assert time.monotonic() - before_s < 30.0
