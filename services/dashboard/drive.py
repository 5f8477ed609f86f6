"""The panel of a person who drives: what drives, buttons that are held, and what keeps the arm from it.

What it commands goes straight from the page to the API (drive.js); here is only what it shows.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from nicegui import ui

from services.api.context import Context
from services.dashboard.panels import Panel

SPEED_MPS, TURN_DPS = 0.08, 40.0
"""Of a held button: the tool point's, and the hand's turns."""

_ARROWS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("◀", "left", {"vy_mps": SPEED_MPS}),
    ("▲", "forward", {"vx_mps": SPEED_MPS}),
    ("▼", "back", {"vx_mps": -SPEED_MPS}),
    ("▶", "right", {"vy_mps": -SPEED_MPS}),
    ("⤒", "up", {"vz_mps": SPEED_MPS}),
    ("⤓", "down", {"vz_mps": -SPEED_MPS}),
    ("⤵", "point down", {"pitch_dps": TURN_DPS}),
    ("⤴", "point up", {"pitch_dps": -TURN_DPS}),
    ("↺", "roll left", {"roll_dps": -TURN_DPS}),
    ("↻", "roll right", {"roll_dps": TURN_DPS}),
)


class DrivePanel(Panel):
    """Sessions, takeovers and the pad. Its classes tell the page's script who drives."""

    def __init__(self, context: Context) -> None:
        super().__init__("Drive by hand")
        self._context = context
        self.card.classes("drive")
        with self.card:
            ui.html(_pad(), sanitize=False).classes("pad")
            self._words = ui.label("").classes("soft")

    def update(self, state: dict[str, Any]) -> None:
        """Show who drives now."""
        told = self._context.teleop.describe()
        source, correcting = told["source"], bool(told["intervening"])
        pickup = self._context.pickups.active
        policy = pickup is not None and not correcting
        self.card.classes(replace=f"panel drive {source or 'nobody'}")
        self._words.set_text(in_a_line(told))
        if self.changed((source, correcting, policy, tuple(told["available"]))):
            buttons = _buttons(told["available"], source, correcting=correcting, policy=policy)
            with self.body:
                ui.html(buttons, sanitize=False).classes("row")


def in_a_line(told: dict[str, Any]) -> str:
    """What a person has to know while driving, in a line."""
    if not told["active"]:
        return str(told["reason"] or "")
    parts = []
    if told["source"] == "leader" and not told["engaged"]:
        off = sorted(told["away"].items(), key=lambda item: -abs(item[1]))[:2]
        what = ", ".join(f"{joint.replace('_', ' ')} {value:+.0f}" for joint, value in off if abs(value) >= 1)
        who = told["limited"] or "the arm comes to the leader"
        parts.append(f"{who}: {what}" if what else str(who))
    elif told["limited"]:
        parts.append(f"held back: {told['limited'].replace('_', ' ')}")
    if told["lag_ms"] is not None:
        parts.append(f"arm {told['lag_ms']:.0f} ms behind")
    return " · ".join(parts)


def _buttons(available: list[str], source: str | None, *, correcting: bool, policy: bool) -> str:
    """The buttons that make sense now."""
    names = {"teleop": "this page", "leader": "the leader"}
    if correcting:
        return _button("Hand back", "hand_back")
    if source is not None:
        return _button("End driving", "stop")
    op, words = ("take_over", "Take over with") if policy else ("start", "Drive with")
    return "".join(
        _button(f"{words} {names.get(one, one)}", op, {"source": one})
        for one in sorted(available, reverse=True)
    )


def _button(text: str, op: str, body: dict[str, Any] | None = None) -> str:
    call = f"so101.post('/v1/teleop/{op}', {json.dumps(body or {})})"
    return f'<button class="quiet" onclick="{escape(call)}">{escape(text)}</button>'


def _pad() -> str:
    """Buttons that move the arm while they are held, and the gripper's slider."""
    keys = "".join(
        f'<button class="key {name.replace(" ", "-")}" title="{name}" aria-label="{name}" '
        f'data-jog="{escape(json.dumps(intent))}">{sign}</button>'
        for sign, name, intent in _ARROWS
    )
    return (
        f'<div class="keys">{keys}</div>'
        '<label class="row soft">gripper <input class="jaws" type="range" min="0" max="100" step="1" '
        'aria-label="Gripper, percent open"></label>'
        '<div class="soft">Hold a button (or Enter on it), drag the ring in the picture, '
        "or move a gamepad's sticks.</div>"
    )
