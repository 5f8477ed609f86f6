"""What a person sees: a few lines that stay at the bottom, and above them what happened.

On a terminal the lines are drawn anew five times a second by a thread of the drawing itself, so nothing that
drives the arm waits for a slow terminal. Where the output is no terminal, lines say what has changed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from robot.joints import GRIPPER, JOINTS
from services.console.status import Status

REFRESH_HZ = 5
MODE_STYLES = {"running": "bold green", "ready": "green", "hold": "yellow", "fault": "bold red", "off": "dim"}


class View(Protocol):
    """Where the session shows itself."""

    def say(self, line: str) -> None:
        """Tell that something happened. From any thread; never raises."""

    def show(self, status: Status) -> None:
        """The newest state. From any thread."""


class PlainView:
    """Lines for a log or a pipe: what happened, and what has changed.

    Args:
        write: takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._known: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """See View."""
        with self._lock, contextlib.suppress(OSError):
            self._write(line)

    def show(self, status: Status) -> None:
        """See View. Repeats nothing that changes all the time, such as the number of frames."""
        if status.error is not None:
            gone = "the service has ended" if status.mode == "parking" else status.error
            words: tuple[str, ...] = (gone,)
        else:
            words = (arm_words(status), recording_words(status.recording, counting=False))
        new = [word for word in words if word and word not in self._known]
        self._known = words
        for word in new:
            self.say(word)


class ScreenView:
    """The lines on a terminal.

    Args:
        console: of the terminal.
        title: first line: what this is and who drives.
        hints: keys.
    """

    def __init__(self, console: Console, title: str, hints: tuple[str, ...]) -> None:
        self._title, self._hints = title, hints
        self._status = Status()
        self._began = False
        self._live = Live(
            console=console,
            refresh_per_second=REFRESH_HZ,
            get_renderable=self._picture,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def say(self, line: str) -> None:
        """See View."""
        self._live.console.print(line, markup=False, highlight=False)

    def show(self, status: Status) -> None:
        """See View."""
        self._began = True
        self._status = status

    def __enter__(self) -> ScreenView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _picture(self) -> RenderableType:
        return picture(self._title, self._status if self._began else None, self._hints)


def picture(title: str, status: Status | None, hints: tuple[str, ...]) -> RenderableType:
    """The lines that stay."""
    lines: list[RenderableType] = [Text(title, "bold", overflow="ellipsis", no_wrap=True)]
    if status is None:
        lines.append(Text("the service is being started", "dim"))
    elif status.error is not None and status.mode == "parking":  # the last that it does
        lines.append(Text("the service has ended", "dim"))
    elif status.error is not None:
        lines.append(Text(status.error, "red", overflow="ellipsis", no_wrap=True))
    else:
        lines.append(Text.assemble((f"{status.mode:8}", MODE_STYLES.get(status.mode, "")), arm_rest(status)))
        away = status.teleop.get("away")
        if away:
            lines.append(_away(away))
        if status.recording is not None:
            lines += _recording(status.recording)
    lines += [Text(hint, "dim", overflow="fold") for hint in hints]
    return Group(*lines)


def arm_words(status: Status) -> str:
    """The arm in words."""
    faults = f" ({', '.join(status.faults)})" if status.faults else ""
    return f"arm: {status.mode}{faults}"


def arm_rest(status: Status) -> str:
    """What stands behind the mode: who drives, how late the arm is, what holds it back."""
    teleop, parts = status.teleop, []
    if status.faults:
        parts.append(f"fault: {', '.join(status.faults)}: k clears it once its cause is gone")
    if teleop.get("active"):
        parts.append(f"driven by {teleop.get('source')}")
    elif teleop.get("intervening"):
        parts.append("corrected by a person")
    lag_ms = teleop.get("lag_ms")
    if lag_ms is not None:
        parts.append(f"{lag_ms:.0f} ms behind")
    if teleop.get("limited"):
        parts.append(f"held back: {teleop['limited']}")
    return "  ".join(parts)


def _away(away: dict[str, float]) -> Table:
    """How far the leader is from the follower, joint by joint, while it is not engaged."""
    table = Table.grid(padding=(0, 2))
    names, values = [Text("bring the leader nearer:", "yellow")], [Text("")]
    for i, joint in enumerate(JOINTS):
        if joint in away:
            names.append(Text(joint, "dim"))
            values.append(Text(f"{away[joint]:+.0f}{' %' if i == GRIPPER else '°'}"))
    table.add_row(*names)
    table.add_row(*values)
    return table


def _recording(recording: dict[str, Any]) -> list[RenderableType]:
    """The session's line, what it said last, and cameras that do not keep their rate."""
    now = recording["state"] == "recording"
    sign = ("● ", "bold red") if now else ("○ ", "dim")
    notes = [f"{name}: {one['note']}" for name, one in recording.get("cameras", {}).items() if one["note"]]
    said = [Text(recording["message"], overflow="fold")] if recording.get("message") else []
    return [
        Text.assemble(sign, recording_words(recording), overflow="fold"),
        *said,
        *(Text(note, "yellow", overflow="fold") for note in notes),
    ]


def recording_words(recording: dict[str, Any] | None, *, counting: bool = True) -> str:
    """The recording session in words, with the numbers that change all the time if ``counting``."""
    if recording is None:
        return ""
    state, wanted = str(recording["state"]), recording.get("episodes")
    words = [f"{recording['kept']}{f' of {wanted}' if wanted else ''} episodes kept", state]
    if counting and state == "recording":
        seconds, frames, fps = recording["seconds"], recording["frames"], recording["fps"]
        words += [f"{seconds:.1f} s", f"{frames} frames", f"{fps:.1f} a second"]
    said = (recording.get("last") or {}).get("label") is not None
    if counting and recording.get("can_label") and state != "recording" and not said:
        words.append("1 success, 0 failure?")
    if counting and recording.get("next_in_s") is not None:
        words.append(f"next in {recording['next_in_s']:.0f} s")
    if counting and recording.get("free_gb") is not None:
        words.append(f"{recording['free_gb']:.0f} GB free")
    if not counting and recording.get("message"):
        words.append(str(recording["message"]))
    return " · ".join(words)
