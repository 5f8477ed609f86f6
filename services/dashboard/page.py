"""Layout of the page and what is pushed to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nicegui import ui

from robot.config import CameraConfig
from robot.joints import JOINTS
from services.api import state as view
from services.api.context import Context
from services.dashboard.capture import CapturePanel
from services.dashboard.drive import DrivePanel
from services.dashboard.panels import EventsPanel, FaultsPanel, JointsPanel, RunsPanel, twin_panel
from services.dashboard.views import camera_view

REFRESH_S = 0.25


def build(context: Context) -> None:
    """Put the page together for one visitor and keep it up to date."""
    with ui.element("div").classes("top"):
        ui.label("SO-101").classes("brand")
        chip = ui.label("…").classes("chip")
        reason = ui.label("").classes("soft")
        ui.space()
        figures = ui.label("").classes("soft wide")
    updates: list[Callable[[dict[str, Any]], None]] = []
    with ui.element("div").classes("board"):
        faults = FaultsPanel(context)
        faults.card.classes("across")
        updates.append(faults.update)
        with ui.element("div").classes("column"):
            calibrated = [camera for camera in context.config.cameras if camera.name in context.table_maps]
            others = [camera for camera in context.config.cameras if camera not in calibrated]
            for camera in calibrated:
                _camera_panel(context, camera)
            updates.append(RunsPanel(context).update)
        with ui.element("div").classes("column"):
            if context.description.get("recording"):
                updates.append(CapturePanel(context).update)
            updates.append(DrivePanel(context).update)
            for camera in others:
                _camera_panel(context, camera)
            updates.append(JointsPanel(JOINTS).update)
            if context.twin_control is not None:
                twin_panel(context)
            updates.append(EventsPanel().update)
    _footer()

    def refresh() -> None:
        state = view.state(context)
        mode = str(state["mode"])
        chip.set_text(mode)
        chip.classes(replace=f"chip {mode}")
        reason.set_text("" if mode == "ready" else str(state["reason"] or ""))
        figures.set_text(_figures(state))
        for update in updates:
            update(state)

    refresh()
    ui.timer(REFRESH_S, refresh)


def _camera_panel(context: Context, camera: CameraConfig) -> None:
    table_map = context.table_maps.get(camera.name)
    clickable = table_map is not None and context.description.get("policy") is not None
    hint = ": click on what to pick up" if clickable else ""
    outline = context.kinematics.reachable_outline()
    with ui.element("div").classes("panel"):
        ui.html(f"<h2>{camera.name} camera{hint}</h2>", sanitize=False)
        ui.html(camera_view(camera, table_map, outline, context.config.bowl), sanitize=False)


def _figures(state: dict[str, Any]) -> str:
    parts = []
    if state["policy"] is not None:
        latency = (state["policy"].get("latency_ms") or {}).get("median")
        shown = f", {latency:.1f} ms" if isinstance(latency, float) and math.isfinite(latency) else ""
        parts.append(f"policy {state['policy']['state']}{shown}")
    lateness = state["control"].get("lateness_ms")
    if lateness:
        parts.append(f"{state['control']['hz']:g} Hz, late p99 {lateness['p99']:.2f} ms")
    return " · ".join(parts)


def _footer() -> None:
    ui.html(
        '<div class="foot"><button class="go" onclick="so101.start()">Start</button>'
        '<button class="halt" onclick="so101.stop()" aria-label="Stop the arm">STOP'
        "<small>space or esc</small></button></div>"
        '<div id="toast" class="toast" role="status"></div>',
        sanitize=False,
    )
