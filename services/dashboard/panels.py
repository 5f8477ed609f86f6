"""The panels of the page: faults, runs, joints, events, the twin's table."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from nicegui import ui

from services.api import arm, twin
from services.api import state as view
from services.api.context import Context
from services.api.models import CubePlace, TwinRequest
from services.api.problems import Problem
from services.dashboard.words import plain

HIGH_LOAD_PCT = 60.0
SHOWN_RUNS = 12
SHOWN_EVENTS = 4
FIELD_M = ((0.18, 0.30), (-0.15, 0.15))
"""Where "place at random" puts the cube: x and y."""


class Panel:
    """A card with a heading that is rebuilt only when what it shows has changed."""

    def __init__(self, title: str) -> None:
        self.card = ui.element("div").classes("panel")
        with self.card:
            ui.html(f"<h2>{title}</h2>", sanitize=False)
            self.body = ui.element("div")
        self._shown: Any = object()

    def changed(self, content: Any) -> bool:
        """Whether this is not what is shown; it is taken as shown from now on."""
        if content == self._shown:
            return False
        self._shown = content
        self.body.clear()
        return True


class FaultsPanel(Panel):
    """What is wrong and what to do about it; hidden while nothing is."""

    def __init__(self, context: Context) -> None:
        super().__init__("Faults")
        self.card.classes("alarm")
        self._context = context

    def update(self, state: dict[str, Any]) -> None:
        """Show the faults of this state."""
        faults = state["faults"]
        self.card.set_visibility(bool(faults))
        key = [
            (f.get("id"), f.get("message"), f.get("active")) for f in faults if f.get("id") != view.SILENT_ID
        ]
        if not self.changed((key, len(faults))):
            return
        with self.body:
            for fault in faults:
                with ui.element("div").classes(f"fault {fault.get('severity')}"):
                    title = str(fault.get("code")).replace("_", " ")
                    joint = f" ({fault['joint']})" if fault.get("joint") else ""
                    gone = "" if fault.get("active") else ", cause gone"
                    ui.label(f"{title}{joint}{gone}").classes("name")
                    ui.label(str(fault.get("message")))
                    ui.label(plain(str(fault.get("remedy")))).classes("soft")
            if any(view.clearable(fault) for fault in faults):
                quiet_button("Clear faults", self._clear)

    async def _clear(self) -> None:
        await told(arm.clear_faults(self._context), "Cleared. Press Start to go on.")


class RunsPanel(Panel):
    """Pickups, newest first."""

    def __init__(self, context: Context) -> None:
        super().__init__("Pickups")
        self._context = context
        able = context.description.get("policy") is not None
        self._empty = (
            "Press Start, then click on something in the picture." if able else "No policy is loaded."
        )

    def update(self, state: dict[str, Any]) -> None:
        """Show the newest pickups."""
        pickups = self._context.pickups.newest_first()[:SHOWN_RUNS]
        if not self.changed([(p.id, p.status, p.detail) for p in pickups]):
            return
        with self.body.classes("runs"):
            if not pickups:
                ui.label(self._empty).classes("soft")
            for pickup in pickups:
                with ui.element("div").classes("row"):
                    ui.label(pickup.status).classes(f"chip {pickup.status}")
                    ui.label(f"x {pickup.x_m:.3f}  y {pickup.y_m:.3f} m")
                    if pickup.duration_s is not None:
                        ui.label(f"{pickup.duration_s:.1f} s").classes("soft")
                    if pickup.done:
                        ui.label(pickup.detail).classes("soft")
                    else:
                        quiet_button("Cancel", partial(self._context.pickups.cancel, pickup))


class JointsPanel(Panel):
    """Position, load, temperature and voltage of every joint."""

    def __init__(self, joints: tuple[str, ...]) -> None:
        super().__init__("Joints")
        self._rows: dict[str, tuple[Any, Any, Any, Any, Any]] = {}
        with self.body.classes("joints"):
            for head in ("", "position", "load", "°C", "V"):
                ui.label(head).classes("head" if head in ("", "load") else "head num")
            for name in joints:
                ui.label(name.replace("_", " "))
                position = ui.label("–").classes("num")
                with ui.element("div").classes("bar") as bar:
                    fill = ui.element("div")
                self._rows[name] = (
                    position,
                    bar,
                    fill,
                    ui.label("–").classes("num"),
                    ui.label("–").classes("num"),
                )

    def update(self, state: dict[str, Any]) -> None:
        """Show the newest readings."""
        for name, readings in state["joints"].items():
            position, bar, fill, temperature, voltage = self._rows[name]
            if "position_deg" in readings:
                position.set_text(f"{readings['position_deg']:.1f}°")
            else:
                position.set_text(f"{readings['position_pct']:.0f} %")
            load_pct = min(100.0, abs(readings["load_pct"]))
            fill.style(f"width: {load_pct:.0f}%")
            bar.classes(replace="bar high" if load_pct > HIGH_LOAD_PCT else "bar")
            temperature.set_text(f"{readings['temperature_c']:.0f}")
            voltage.set_text(f"{readings['voltage_v']:.1f}")


class EventsPanel(Panel):
    """What happened to the processes of the service; hidden while nothing has."""

    def __init__(self) -> None:
        super().__init__("Events")

    def update(self, state: dict[str, Any]) -> None:
        """Show the newest events."""
        events = state["events"][:SHOWN_EVENTS]
        self.card.set_visibility(bool(events))
        if not self.changed(events):
            return
        with self.body.classes("runs"):
            for event in events:
                with ui.element("div").classes("row"):
                    ui.label(str(event["time"])[11:19]).classes("soft")
                    ui.label(str(event["message"]))


def twin_panel(context: Context) -> None:
    """Where the cube lies on the twin's table."""
    panel = Panel("Twin: put the cube somewhere")
    with panel.body.classes("row"):
        x = (
            ui.number("x in m", value=0.24, step=0.01, format="%.3f")
            .props("dense outlined")
            .classes("metres")
        )
        y = ui.number("y in m", value=0.0, step=0.01, format="%.3f").props("dense outlined").classes("metres")

        async def place() -> None:
            if x.value is None or y.value is None or not math.isfinite(x.value + y.value):
                ui.notify("x and y must be numbers")
                return
            await put(float(x.value), float(y.value))

        async def place_at_random() -> None:
            x.value = round(random.uniform(*FIELD_M[0]), 3)  # noqa: S311  not a secret
            y.value = round(random.uniform(*FIELD_M[1]), 3)  # noqa: S311
            await put(x.value, y.value)

        async def put(x_m: float, y_m: float) -> None:
            try:
                request = TwinRequest(cube=CubePlace(x_m=x_m, y_m=y_m))
            except ValueError:
                ui.notify("that is not on the table")
                return
            await told(twin.place(request, context), "The cube lies there now.")

        quiet_button("Place", place)
        quiet_button("Place at random", place_at_random)


def quiet_button(text: str, action: Callable[[], Any]) -> None:
    """A button that does not shout."""
    ui.button(text, on_click=action, color=None).props("unelevated no-caps").classes("quiet")


async def told(command: Awaitable[Any], done: str) -> None:
    """Await a command and say how it went."""
    try:
        await command
    except Problem as problem:
        ui.notify(plain(f"{problem.detail}: {problem.remedy}"), type="warning")
    else:
        ui.notify(done)
