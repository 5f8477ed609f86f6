"""Puts the API together: routers, errors, heartbeat, and what has to be ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.routing import Match

from calibration.camera_file import table_maps
from robot.config import RobotConfig, load_robot
from robot.errors import CommandError, ConfigError
from robot.kinematics import Kinematics
from robot.runtime import Runtime
from robot.teleop.intents import TeleopClient
from services import dashboard
from services.api import arm, cameras, docs, meta, pickups, problems, recording, telemetry, teleop, twin
from services.api.context import Context
from services.api.feeds import CameraFeed
from services.api.guard import Guard
from services.api.link import RobotLink
from services.evidence import EvidenceConfig
from services.metrics import ArmCollector, Metrics
from services.pickups import Journal, PickupService
from services.teleop import TeleopService, available_sources

log = logging.getLogger(__name__)
HEARTBEAT_S = 0.5
DESCRIPTION = """Pick things up by saying where. Lengths in metres in the arm's base frame (x forward,
y left), angles in degrees, the gripper in percent. `POST /v1/start`, then `POST /v1/pickups`;
`POST /v1/stop` at any time. A person drives with `POST /v1/teleop/start`."""


def read_description(runtime: Runtime) -> dict[str, Any]:
    """runtime.json. Raises ConfigError where it is not there or not JSON."""
    try:
        value = json.loads(runtime.description.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no description of a running service at {runtime.description}: so101 serve writes it"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{runtime.description} must hold a JSON object")
    return value


def make_context(
    runtime: Runtime,
    description: dict[str, Any],
    config: RobotConfig,
    evidence: EvidenceConfig | None = None,
    folder: Path | None = None,
) -> Context:
    """Everything the routes need, for one running service; ``folder`` is where the config's paths start."""
    names = tuple(camera.name for camera in config.cameras)
    link = RobotLink(runtime, names)
    thinker = ThreadPoolExecutor(1, thread_name_prefix="thinker")
    encoder = ThreadPoolExecutor(1, thread_name_prefix="jpeg")
    metrics = Metrics([ArmCollector(link, names, config.control_hz, lambda: driven.lag_ms)])
    maps = table_maps(config, folder or Path())
    overhead = next(iter(maps.items()), None)
    service = PickupService(
        link,
        config,
        Journal(runtime.pickup_journal),
        thinker,
        execution=description.get("execution"),
        overhead=overhead,
        evidence=evidence,
        on_finished=lambda pickup: metrics.pickup(pickup.status),
    )
    client = TeleopClient(runtime.teleop_socket)
    available = available_sources(description, config)
    driven = TeleopService(link, service, client, available, config.control_hz)
    return Context(
        link=link,
        config=config,
        description=description,
        pickups=service,
        teleop=driven,
        metrics=metrics,
        feeds={name: CameraFeed(link, name, encoder) for name in names},
        table_maps=maps,
        kinematics=Kinematics(config.workspace),
        thinker=thinker,
    )


async def end_orphaned_run(link: RobotLink) -> None:
    """Hold the arm if a run of an API process that was killed still goes on."""
    with contextlib.suppress(CommandError):
        if link.controller_alive() and link.status().get("mode") == "running":
            log.warning("a run of a former API process still goes on: holding the arm")
            await link.controller("stop", level="hold")
            await link.policy_worker("end", timeout_s=0.3)


async def _heartbeat(link: RobotLink) -> None:
    while True:
        # Whatever keeps one beat from being sent, the next is tried: without them the controller ends a run.
        with contextlib.suppress(CommandError, OSError):
            await link.controller("heartbeat", timeout_s=HEARTBEAT_S)
        await asyncio.sleep(HEARTBEAT_S)


def create_app(context: Context) -> FastAPI:
    """The API over a context. The lifespan sends heartbeats and ends what is open."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await end_orphaned_run(context.link)
        heartbeat = asyncio.create_task(_heartbeat(context.link), name="heartbeat")
        try:
            yield
        finally:
            await context.teleop.close()
            await context.pickups.close()
            heartbeat.cancel()
            context.thinker.shutdown(wait=False, cancel_futures=True)
            context.link.close()

    app = FastAPI(
        title="SO-101",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # see services/api/docs.py
        redoc_url=None,
    )
    app.state.context = context
    for module in (arm, pickups, teleop, recording, cameras, twin, telemetry, meta, docs):
        app.include_router(module.router)
    app.add_api_route("/v1/{path:path}", _unknown, methods=[*problems.METHODS], include_in_schema=False)
    problems.install(app)
    host = str(context.description.get("api", {}).get("host", ""))
    app.add_middleware(Guard, metrics=context.metrics, name=host)
    return app


async def _unknown(request: Request) -> None:
    """What no route below /v1 takes; without this it would fall through to the dashboard's pages."""
    app: FastAPI = request.app
    partial = any(route.matches(request.scope)[0] == Match.PARTIAL for route in app.router.routes)
    raise HTTPException(405 if partial else 404)


def app_of(runtime: Runtime) -> FastAPI:
    """API and dashboard of a running service, from what its supervisor wrote. Raises ConfigError."""
    description = read_description(runtime)
    config, folder = load_robot(str(description.get("robot", "twin")))
    context = make_context(runtime, description, config, folder=folder)
    app = create_app(context)
    dashboard.mount(app, context)
    return app
