"""The dashboard at ``/``: cameras, joints, runs, faults, and a stop button that is always in reach.

What a person commands goes over plain HTTP to the same routes as everybody's requests (page.js, drive.js);
what the page shows is pushed to it. Nothing is loaded from outside: it works without a network.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from nicegui import ui

from services.api.context import Context
from services.dashboard.page import build
from services.dashboard.words import as_script

FOLDER = Path(__file__).resolve().parent


def mount(app: FastAPI, context: Context) -> None:
    """Add the dashboard to the API's app. After this, no route can be added to ``app``."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    files = [(FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "drive.js")]

    @ui.page("/", title=f"SO-101 {context.config.name}", response_timeout=10.0)  # type: ignore[untyped-decorator]
    def page() -> None:
        ui.add_css(style)
        for script in (as_script(), *files):
            ui.add_body_html(f"<script>{script}</script>")
        build(context)

    ui.run_with(
        app, title="SO-101", dark=None, favicon="🦾", show_welcome_message=False, reconnect_timeout=5.0
    )
