"""Pickups: requested over HTTP, run by the controller and the policy worker, judged by evidence."""

from __future__ import annotations

from services.pickups.journal import Journal
from services.pickups.model import Pickup, Refusal
from services.pickups.service import PickupService

__all__ = ["Journal", "Pickup", "PickupService", "Refusal"]
