"""Where the arms of a running service are: the twin's own ports, or those of the robot's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot.config import RobotConfig


def follower_port(description: Mapping[str, Any], config: RobotConfig) -> str | None:
    """Port of the follower; ``None`` where the robot's file names none. ``description``: runtime.json."""
    return _twin_port(description, "follower") or config.port


def leader_port(description: Mapping[str, Any], config: RobotConfig) -> str | None:
    """Port of the leader arm; ``None`` where there is none, or none that is calibrated."""
    if config.leader_calibration is None:
        return None
    return _twin_port(description, "leader") or config.leader_port


def _twin_port(description: Mapping[str, Any], arm: str) -> str | None:
    twin = description.get("twin") or {}
    port = (twin.get("by_id") or twin).get(arm)
    return None if port is None else str(port)
