"""Pickups on disk: a JSON line when one begins and one when it ends, so that a killed API leaves a trace."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from services.pickups.model import Pickup

log = logging.getLogger(__name__)
INTERRUPTED = "the API process was restarted while this pickup ran; the arm was held"


class Journal:
    """An append-only file of pickups; the last line of an id counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, pickup: Pickup) -> None:
        """Write the pickup's present state. One line goes to the file in one write.

        A disk that is full is logged and keeps no pickup from its end: the journal is for later.
        """
        line = json.dumps(pickup.as_dict(), allow_nan=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.error("pickup %s is not kept in %s (%s): make room there", pickup.id, self.path, error)

    def load(self) -> list[Pickup]:
        """All pickups in the order of their creation; those that never ended have failed as interrupted.

        A line that was cut off by a kill is left out.
        """
        known: dict[str, Pickup] = {}
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")  # so that the next line does not become part of the one that was cut off
        for line in text.splitlines():
            try:
                pickup = Pickup.from_dict(json.loads(line))
            except (ValueError, TypeError):
                continue
            known[pickup.id] = pickup
        for pickup in known.values():
            if not pickup.done:
                pickup.finish("failed", "interrupted", INTERRUPTED)
                self.append(pickup)
        return list(known.values())
