"""Episodes as a person's keys make them: begin, finish, do again, throw away.

The recorder and the arm are asked in the order in which nothing is lost: what drives comes before the first
row and goes after the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from robot.errors import CommandError
from services.console.arm import Arm
from services.recording.options import PickupPoint

FINAL = {"succeeded": "success", "failed": "failure", "cancelled": None}
"""Status of a pickup that has ended -> the label of its episode."""
SEES_S = 1.5


class Episodes:
    """A person's episodes.

    Args:
        arm: what is driven.
        corrections: a policy drives, the person takes over.
        point: where the object lies at the beginning of an episode; ``None`` where nobody says.
        say: told what happens.
    """

    def __init__(
        self,
        arm: Arm,
        *,
        corrections: bool,
        point: Callable[[], PickupPoint | None],
        say: Callable[[str], None],
    ) -> None:
        self._arm, self._client = arm, arm.client
        self._corrections, self._point, self._say = corrections, point, say
        self._pickup: str | None = None

    def next(self) -> None:
        """Finish what is open and begin the next episode. Raises CommandError."""
        if self._corrections:
            self.finish(None)
        self.begin(self._point() if self._corrections else None)

    def begin(self, told: PickupPoint | None = None, lies: PickupPoint | None = None) -> None:
        """Begin an episode; without corrections this finishes the open one.

        Args:
            told: where the policy is told that the object lies; only for corrections.
            lies: where it lies, if that differs from what the recorder finds by itself.

        Raises:
            CommandError: a refusal; nothing is open then.
        """
        if self._corrections:
            self._begin_pickup(told)
        else:
            self._arm.drive()
        try:
            self._ask_recorder("next", {} if lies is None else {"pickup": lies.model_dump()})
        except CommandError:
            self._end_pickup()
            raise

    def finish(self, label: str | None) -> None:
        """Finish what is open, or label what has just ended. Raises CommandError."""
        if label is not None and not self._client.get("/v1/recording").get("can_label"):
            raise CommandError("no episode is open: → or Enter begins one", code="no_episode")
        self._client.post("/v1/recording/finish", {"label": label})
        self._end_pickup()

    def redo(self) -> None:
        """Throw the open episode away, or the last one, and begin again. Raises CommandError."""
        if self._corrections:
            self.discard()
            self.begin(self._point())
        else:
            self._arm.drive()
            self._ask_recorder("redo", {})

    def discard(self) -> None:
        """Throw the open episode away, or the last one where none is open. Raises CommandError."""
        self._client.post("/v1/recording/discard")
        self._end_pickup()

    def stop(self) -> None:
        """Finish what is open; no more episodes. Raises CommandError."""
        self._client.post("/v1/recording/stop")

    def take_over(self) -> None:
        """Drive in the policy's place. Raises CommandError."""
        self._arm.command("/v1/teleop/take_over", {"source": self._arm.source})

    def hand_back(self) -> None:
        """Let the policy go on. Raises CommandError."""
        self._arm.command("/v1/teleop/hand_back")

    def pickup(self) -> dict[str, Any] | None:
        """The pickup that is being corrected. Raises CommandError."""
        return None if self._pickup is None else self._client.get(f"/v1/pickups/{self._pickup}")

    def look(self) -> None:
        """Finish the episode of a pickup that has come to its end by itself. Raises CommandError."""
        pickup = self.pickup()
        if pickup is None or pickup["status"] not in FINAL:
            return
        self._pickup = None
        self._say(f"pickup {pickup['status']}{': ' + pickup['detail'] if pickup.get('detail') else ''}")
        if self._client.get("/v1/recording").get("can_label"):
            self._client.post("/v1/recording/finish", {"label": FINAL[pickup["status"]]})

    def _ask_recorder(self, op: str, body: dict[str, Any]) -> None:
        """Begin a recording; the recorder may see a moment later than the API that somebody drives."""
        deadline_s = time.monotonic() + SEES_S
        while True:
            try:
                self._client.post(f"/v1/recording/{op}", body)
                return
            except CommandError as error:
                if error.code != "not_running" or time.monotonic() > deadline_s:
                    raise
            self._arm.pause()

    def _begin_pickup(self, told: PickupPoint | None) -> None:
        """Let the policy drive; rows begin with it."""
        if told is None:
            raise CommandError("nobody says where the object lies: give --pickup X,Y", code="no_pickup")
        self._arm.ready()
        self._pickup = str(self._arm.command("/v1/pickups", told.model_dump())["id"])
        self._arm.until(self._began, "the policy did not begin")

    def _began(self) -> bool:
        """Whether the pickup has come to its end before it was seen to drive. Raises CommandError then."""
        pickup = self.pickup()
        if pickup is not None and pickup["status"] in FINAL:
            self._pickup = None
            raise CommandError(f"the pickup ended at once: {pickup['detail']}", code="no_policy_run")
        return pickup is not None and pickup["status"] == "running"

    def _end_pickup(self) -> None:
        """The episode is over, so is the run: the arm goes back to its ready pose."""
        if self._pickup is not None:
            pickup, self._pickup = self._pickup, None
            self._client.post(f"/v1/pickups/{pickup}/cancel")
