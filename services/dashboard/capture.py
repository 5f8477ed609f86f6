"""The panel of a recording session: the open episode, how well it is held, and the buttons of its keys."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from services.api.context import Context
from services.dashboard.panels import Panel
from services.dashboard.words import plain

_BUTTONS = (
    ("Next", "so101.next()", "end this episode and begin another"),
    ("Finish", "so101.record('finish')", "end this episode"),
    ("Redo", "so101.redo()", "throw it away and record it again"),
    ("Discard", "so101.record('discard')", "throw it away"),
    ("Success", "so101.record('label', {label: 'success'})", "say that it went well"),
    ("Failure", "so101.record('label', {label: 'failure'})", "say that it did not"),
    ("End session", "so101.record('stop')", "end the episode and the session"),
)


class CapturePanel(Panel):
    """Shown where the service records."""

    def __init__(self, context: Context) -> None:
        super().__init__("Recording")
        self._context = context
        asked = context.description["recording"]["pickup"] == "required" and context.twin_control is None
        self._places = asked and context.description.get("policy") is None
        self.card.classes("capture places" if self._places else "capture")
        with self.body.classes("stack"):
            with ui.element("div").classes("row"):
                self._state = ui.label("…").classes("chip")
                self._episode = ui.label("")
                self._held = ui.label("").classes("soft")
            buttons = "".join(
                f'<button class="quiet" title="{title}" onclick="{call}">{text}</button>'
                for text, call, title in _BUTTONS
            )
            ui.html(buttons, sanitize=False).classes("row")
            self._words = ui.label("").classes("soft")

    def update(self, state: dict[str, Any]) -> None:
        """Show the recorder's newest words."""
        told = self._context.link.recorder()
        if not told:
            self._state.set_text("starting")
            self._state.classes(replace="chip")
            return
        self._state.set_text(str(told["state"]))
        self._state.classes(replace=f"chip {told['state']}")
        of = "" if told["episodes"] is None else f" of {told['episodes']}"
        label = f", {told['label']}" if told["label"] else ""
        self._episode.set_text(
            f"{told['kept']}{of} kept · episode {told['episode']}: {told['seconds']:.1f} s, "
            f"{told['frames']} frames{label}"
        )
        self._held.set_text(_held(told))
        self._words.set_text(self._advice(told))

    def _advice(self, told: dict[str, Any]) -> str:
        words = [plain(str(told["message"]))] if told["message"] else []
        if told["state"] == "idle" and told["can_label"] and not (told["last"] or {}).get("label"):
            words.append("say how it went: Success or Failure")
        words += [f"{name}: {camera['note']}" for name, camera in told["cameras"].items() if camera["note"]]
        if told["state"] == "ended":
            words.append("what was recorded is kept; q or Ctrl-C in the terminal ends the rest")
        elif self._places:
            words.append("click in the picture where the next object lies, then Next")
        return " · ".join(words)


def _held(told: dict[str, Any]) -> str:
    """Whether the rates are held, and how much room there is."""
    parts = [f"{told['fps']:.1f} of {told['fps_wanted']} rows/s"] if told["state"] == "recording" else []
    parts += [
        f"{name} {camera['age_ms']:.0f} ms old"
        + (f", {camera['repeated']} twice" if camera["repeated"] else "")
        for name, camera in told["cameras"].items()
        if camera["age_ms"] is not None
    ]
    if told["free_gb"] is not None:
        parts.append(f"{told['free_gb']:.0f} GB free")
    return " · ".join(parts)
