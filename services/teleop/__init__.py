"""People who drive the arm through the service: sessions of their own, and corrections of pickups."""

from __future__ import annotations

from services.teleop.service import TeleopService, available_sources

__all__ = ["TeleopService", "available_sources"]
