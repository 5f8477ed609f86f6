from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.console.screen import PlainView, ScreenView, picture
from services.console.status import Status
from services.shipped import ROOT
from tests.services.console_rig import FakeService
from tests.services.pty_rig import at_terminal, script

DRIVEN = {"active": True, "source": "leader", "lag_ms": 83.4, "limited": "table", "away": {}}


def shown(status: Status | None, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(picture("so101 record · leader", status, ("keys",)))
    return capture.get()


def recording(**values: Any) -> dict[str, Any]:
    return (FakeService().recording or {}) | values


def test_what_matters_stands_there() -> None:
    cameras = {"wrist": {"note": "21 pictures a second instead of 30"}, "overhead": {"note": None}}
    now = recording(
        state="recording", kept=2, episodes=10, seconds=12.44, frames=373, fps=29.9, cameras=cameras
    )
    text = shown(Status("running", {}, DRIVEN, now))
    for words in (
        "running",
        "leader",
        "83 ms",
        "table",
        "2 of 10",
        "12.4 s",
        "373 frames",
        "50 GB",
        "21 pict",
    ):
        assert words in text, words
    assert "overhead" not in text
    text = shown(
        Status(
            "fault", {"servo_lost": "look"}, {}, recording(message="episode 3 was stopped: the disk is full")
        )
    )
    assert "servo_lost" in text and "the disk is full" in text
    away = {"shoulder_pan": -12.6, "gripper": 8.2}
    text = shown(Status("running", {}, DRIVEN | {"away": away, "lag_ms": None, "limited": None}))
    assert "-13°" in text and "+8 %" in text and "ms" not in text


@pytest.mark.parametrize("width", [20, 60])
def test_a_narrow_terminal_breaks_nothing(width: int) -> None:
    for status in (
        None,
        Status("running", {}, DRIVEN, recording()),
        Status(error="the service is gone " * 9),
    ):
        assert all(len(line) <= width for line in shown(status, width).splitlines())


def test_without_a_terminal_a_line_comes_only_when_something_changes() -> None:
    lines: list[str] = []
    view = PlainView(lines.append)
    for frames in range(5):
        view.show(Status("running", {}, DRIVEN, recording(state="recording", frames=frames)))
    view.show(Status("hold", {"overload": "look"}, {}, recording(message="episode 0 has 4 rows")))
    view.show(Status(error="it does not answer"))
    assert len(lines) == 5, lines
    assert "running" in lines[0] and "overload" in lines[2] and "4 rows" in lines[3]


def test_a_pipe_that_is_closed_ends_nothing() -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError

    PlainView(broken).say("x")


def test_what_others_write_stands_above_the_screen_and_nothing_is_lost(tmp_path: Path) -> None:
    text = f"""
import os, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from services.console.capture import Capture
from services.console.screen import ScreenView
with Capture() as capture, ScreenView(capture.console, "the title", ("keys",)) as screen:
    capture.lead_to(screen.say)
    subprocess.run(["sh", "-c", "echo of a child; echo its error >&2"])
    sys.stderr.write("half a line")
    sys.stderr.flush()
    time.sleep(0.3)
os.write(1, b"stdout is back\\n")
"""
    with at_terminal("python", script(tmp_path, text)) as person:
        for words in ("the title", "of a child", "its error", "half a line", "stdout is back"):
            person.until(words)
        assert person.gone() == 0


def test_a_terminal_that_is_gone_ends_no_session(tmp_path: Path) -> None:
    text = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from services.console.capture import Capture
from services.console.screen import ScreenView
with Capture() as capture, ScreenView(capture.console, "the title", ()) as screen:
    capture.console.file.close()
    screen.say("into the void")
    time.sleep(0.3)
open({str(tmp_path / "end")!r}, "w").write("reached")
"""
    file = script(tmp_path, text)
    subprocess.run([sys.executable, file], check=True, stdout=subprocess.DEVNULL, timeout=20)
    assert (tmp_path / "end").read_text() == "reached"


def test_the_screen_draws_by_itself() -> None:
    file = io.StringIO()
    with ScreenView(Console(file=file, force_terminal=True, width=60), "the title", ()) as screen:
        screen.show(Status("hold"))
    assert "the title" in file.getvalue() and "hold" in file.getvalue()
