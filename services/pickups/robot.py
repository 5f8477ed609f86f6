"""What pickups and people who drive need of the other processes."""

from __future__ import annotations

from typing import Any, Protocol

from robot.seams import Frame
from robot.telemetry import Record


class Robot(Protocol):
    """The link to the other processes, as far as a run needs it."""

    def newest(self) -> Record | None:
        """The newest telemetry record."""

    def since(self, tick: int) -> list[Record]:
        """Records after a tick, oldest first."""

    def status(self) -> dict[str, Any]:
        """The controller's status."""

    def worker(self) -> dict[str, Any]:
        """The policy worker's status."""

    def service(self) -> dict[str, Any]:
        """The supervisor's board."""

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera."""

    def controller_alive(self) -> bool:
        """Whether the controller wrote telemetry a moment ago."""

    def camera(self, name: str) -> dict[str, Any]:
        """What the camera process says of one camera: ``state``, ``error``, ``findings`` and more."""

    async def controller(self, op: str, timeout_s: float = 1.0, **arguments: Any) -> dict[str, Any]:
        """Command the controller."""

    async def policy_worker(self, op: str, timeout_s: float = 1.0, **arguments: Any) -> dict[str, Any]:
        """Command the policy worker."""
