from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from services.console.terminal import usable
from services.shipped import ROOT
from tests.services.pty_rig import at_terminal, script

READER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from services.console.terminal import Terminal

pressed = []

def key(name):
    pressed.append(name)
    sys.stdout.write(f"<{{name}}>")
    sys.stdout.flush()

with Terminal(0, key, lambda: key("suspends"), lambda: key("resumes")):
    key("up")
    END
"""


def test_keys_come_as_they_are_pressed_and_the_terminal_is_as_it_was(tmp_path: Path) -> None:
    text = READER.replace("END", "while 'escape' not in pressed: time.sleep(0.01)")
    with at_terminal("python", script(tmp_path, text)) as person:
        assert person.edits
        person.until("<up>")
        assert not person.edits
        person.types("w", "\x1b", "[", "C", " \x7f")
        person.until("<w><right><space><backspace>")
        person.types("\x1b")
        person.until("<escape>")
        assert person.gone() == 0
        assert person.edits


@pytest.mark.parametrize(
    ("end", "status"), [("raise RuntimeError", 1), ("sys.exit(7)", 7), ("time.sleep(60)", 130)]
)
def test_the_terminal_is_as_it_was_however_it_ends(tmp_path: Path, end: str, status: int) -> None:
    with at_terminal("python", script(tmp_path, READER.replace("END", end))) as person:
        person.until("<up>")
        if status == 130:
            person.types("\x03")  # Ctrl-C is a signal still
        assert person.gone() in (status, -signal.SIGINT)
        assert person.edits


def test_a_suspended_process_leaves_the_terminal_to_the_shell(tmp_path: Path) -> None:
    file = script(tmp_path, READER.replace("END", "time.sleep(60)"))
    with at_terminal("bash", "--norc", "-i") as person:
        person.types(f"{sys.executable} {file}\n")
        person.until("<up>")
        person.types("\x1a")
        person.until("<suspends>")
        person.until("Stopped")
        person.types("echo $((6 * 7))\n")
        person.until("42")
        assert "<" not in person.seen, "the shell's keys are not ours"
        person.types("fg\n")
        person.until("<resumes>")
        person.types("x")
        person.until("<x>")
        assert not person.edits


def test_without_a_terminal_there_are_no_keys() -> None:
    ends = os.pipe()
    assert not usable(ends[0])
    for end in ends:
        os.close(end)
    assert not usable(ends[0]), "closed"
