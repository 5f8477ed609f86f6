"""What every route needs, made once per API process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from calibration.table import TableMap
from robot.config import CameraConfig, RobotConfig
from robot.kinematics import Kinematics
from services.api.feeds import CameraFeed
from services.api.link import RobotLink
from services.api.problems import Problem
from services.metrics import Metrics
from services.pickups import PickupService
from services.teleop import TeleopService


@dataclass(slots=True)
class Context:
    """The service as the API's routes see it."""

    link: RobotLink
    config: RobotConfig
    description: dict[str, Any]
    """runtime.json."""
    pickups: PickupService
    teleop: TeleopService
    metrics: Metrics
    feeds: dict[str, CameraFeed]
    table_maps: dict[str, TableMap]
    kinematics: Kinematics
    thinker: ThreadPoolExecutor
    """One thread for inverse kinematics and for comparing pictures."""
    notes: list[str] = field(default_factory=list)

    @property
    def twin_control(self) -> Path | None:
        """The twin's control socket, ``None`` on a real arm."""
        twin = self.description.get("twin")
        return Path(str(twin["control"])) if isinstance(twin, dict) and "control" in twin else None

    def camera(self, name: str) -> CameraConfig:
        """Configuration of a camera. Raises Problem 404 for one that is not there."""
        for camera in self.config.cameras:
            if camera.name == name:
                return camera
        known = ", ".join(camera.name for camera in self.config.cameras) or "none"
        raise Problem(404, "no_such_camera", "there is no camera of this name", f"cameras: {known}")


async def get_context(connection: HTTPConnection) -> Context:
    """The context of the app that serves this connection."""
    context: Context = connection.app.state.context
    return context


Ctx = Annotated[Context, Depends(get_context)]
