"""The expert in the person's place, at the twin: it drives whole episodes, or corrects a policy's.

As a corrector it does what ``training.dagger`` does in lockstep: it takes over at a random moment, or when
the policy has had its time, and an episode in which there was nothing to correct is not kept. It stops when
the arm is taken from it: nothing moves again before a person has asked for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from robot.errors import CommandError
from robot.mailbox import from_json
from robot.seams import FloatArray
from robot.twin.tasks import CubePlace, PickPlace
from services.console.arm import Arm
from services.console.client import IntentStream, ServiceClient
from services.console.episodes import FINAL, Episodes
from services.recording.options import PickupPoint
from training.dagger import COORDINATE_NOISE_M, PATIENCE_S
from training.experts.live import LiveExpert, Seen
from training.variety import episode_rng

TELEMETRY_HZ = 60
FRESH_S = 1.0
"""Telemetry older than this is none: nobody knows where the arm is."""
SPEED = (0.9, 1.1)
RETRY_S = 0.1
PASSING = frozenset({"recorder_unavailable", "opening", "pickup_over"})
"""Worth another episode: a recorder that is started again and recovers what it had, a policy that gave up."""
PASSING_S = 2.0
MOST_SPOILED = 3
"""So many episodes in a row that could not be recorded to their end, and something is wrong."""
TAKEN = frozenset({"hold", "parking", "fault", "off"})
"""Modes that are not of the expert's doing."""


class LiveScene:
    """The twin as the expert sees it through the API; see ``training.experts.live.Scene``.

    Args:
        client: the service.
        ended: set at the end of the session.
        say: told what is refused.
    """

    def __init__(self, client: ServiceClient, ended: threading.Event, say: Callable[[str], None]) -> None:
        self._client, self._ended = client, ended
        self._stream = IntentStream(client, say)
        self._newest: tuple[float, dict[str, Any]] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="telemetry", daemon=True)

    def __enter__(self) -> LiveScene:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._stream.close()

    def seen(self) -> Seen:
        """See Scene. Raises CommandError (``blind``) where telemetry has stopped."""
        newest = self._newest
        if newest is None or time.monotonic() - newest[0] > FRESH_S:
            raise CommandError("telemetry has stopped: see so101 serve's log", code="blind")
        return Seen(np.array(newest[1]["position"]), np.array(newest[1]["goal"]))

    def truth(self) -> dict[str, Any]:
        """See Scene. Raises CommandError."""
        return self._client.get("/v1/twin")

    def send(self, pose: FloatArray) -> None:
        """See Scene."""
        self._stream.send({"kind": "pose", "position": [round(float(value), 4) for value in pose]})

    def ended(self) -> bool:
        """See Scene."""
        return self._ended.is_set() or self._newest is None or self._newest[1]["mode"] != "running"

    def _follow(self) -> None:
        url = f"{self._client.ws_url}/v1/telemetry?hz={TELEMETRY_HZ}"
        while not self._closed.is_set():
            try:
                with connect(url, compression=None, proxy=None, open_timeout=2.0) as socket:
                    while not self._closed.is_set():
                        record = from_json(str(socket.recv(timeout=FRESH_S)).encode())
                        if "goal" in record:
                            self._newest = (time.monotonic(), record)
            except (OSError, TimeoutError, WebSocketException):
                self._newest = None
                self._closed.wait(RETRY_S)


class Unattended:
    """Makes episodes one after the other.

    Args:
        arm: what is driven.
        episodes: the recorder's part; ``None`` where nothing is recorded.
        corrections: a policy drives, the expert takes over.
        seed: episode k of a seed begins the same whenever it is made.
        wanted: so many episodes; ``None`` for no end.
        ended: set at the end of the session.
        say: told how each one went.
    """

    def __init__(
        self,
        arm: Arm,
        episodes: Episodes | None,
        *,
        corrections: bool,
        seed: int,
        wanted: int | None,
        ended: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._arm, self._client, self._episodes = arm, arm.client, episodes
        self._corrections, self._seed, self._wanted = corrections, seed, wanted
        self._ended, self._say = ended, say
        self._number = self._made = self._spoiled = 0
        self._first = True
        """Since a person asked for it; only then the arm may be started."""

    def run(self) -> bool:
        """Go on until all episodes are made; ``False`` when something kept it from that, which was said."""
        self._first = True
        with LiveScene(self._client, self._ended, self._say) as scene, LiveExpert(scene) as expert:
            while self._wanted is None or self._made < self._wanted:
                rng = episode_rng(self._seed, self._number)
                try:
                    kept = (self._correct if self._corrections else self._demonstrate)(expert, scene, rng)
                except CommandError as error:
                    if error.code == "all_recorded":  # one that a killed recorder left counts as well
                        return True
                    if not self._passes(error):
                        return False
                    kept = False
                self._first = False
                self._number += 1
                self._made += kept
        return True

    def _passes(self, error: CommandError) -> bool:
        """Whether it is worth another episode; says so, or why not."""
        if self._ended.is_set():
            return False
        self._spoiled += error.code in PASSING
        if error.code not in PASSING or self._spoiled >= MOST_SPOILED:
            self._say(f"the expert stops: {error}")
            return False
        self._say(f"episode {self._number} of seed {self._seed}: not kept, {error}")
        return not self._ended.wait(PASSING_S)

    def _demonstrate(self, expert: LiveExpert, scene: LiveScene, rng: np.random.Generator) -> bool:
        self._arm.ready(start=self._first)
        self._put(PickPlace().place(rng))
        if self._episodes is None:
            self._arm.drive()
        else:
            self._episodes.begin()
        self._arm.until(lambda: not scene.ended(), "nobody sees the arm driven")
        expert.perform(float(rng.uniform(*SPEED)))
        kept = self._judge()
        self._arm.release()
        return kept

    def _correct(self, expert: LiveExpert, scene: LiveScene, rng: np.random.Generator) -> bool:
        """One corrected episode; whether it was kept."""
        if self._episodes is None:
            raise CommandError("corrections are for recording: so101 record", code="not_recorded")
        self._arm.ready(start=self._first)
        place = PickPlace().place(rng)
        self._put(place)
        error_m = rng.normal(0.0, COORDINATE_NOISE_M, 2) * (rng.random() < 0.5)
        until_s = float(rng.uniform(0.5, 5.0)) if rng.random() < 0.5 else PATIENCE_S
        told = PickupPoint(x_m=place.x_m + float(error_m[0]), y_m=place.y_m + float(error_m[1]))
        column = self._client.get("/v1/recording")["pickup"] != "none"
        self._episodes.begin(told, PickupPoint(x_m=place.x_m, y_m=place.y_m) if column else None)
        self._arm.until(lambda: not scene.ended(), "the policy did not begin")
        began_s = time.monotonic()
        while time.monotonic() - began_s < until_s:
            over = self._over()
            if over or scene.truth()["cube_in_bowl"]:
                self._episodes.discard()
                if over not in ("", "succeeded"):
                    raise CommandError(f"the pickup {over} before anybody took over", code="pickup_over")
                self._say("nothing to correct: not kept")
                return False
            self._arm.pause()
        self._episodes.take_over()
        expert.perform(float(rng.uniform(*SPEED)))
        return self._judge()

    def _put(self, place: CubePlace) -> None:
        """Put the cube there."""
        self._client.call("PUT", "/v1/twin", {"cube": asdict(place)})

    def _over(self) -> str:
        """How the pickup has come to its end; empty while it goes on, and where there is none."""
        pickup = None if self._episodes is None else self._episodes.pickup()
        if pickup is None or pickup["status"] not in FINAL:
            return ""
        succeeded = pickup["status"] == "succeeded"
        return "succeeded" if succeeded else f"{pickup['status']} ({pickup['detail']})"

    def _judge(self) -> bool:
        """Finish the episode by what is true; whether it was kept.

        Raises:
            CommandError: the arm was taken away, or episode after episode was spoiled.
        """
        if self._ended.is_set():
            raise CommandError("the session ends", code="ended")
        label = "success" if self._client.get("/v1/twin")["cube_in_bowl"] else "failure"
        spoiled = self._finish(label)
        mode = self._arm.mode()
        if mode in TAKEN:
            raise CommandError(f"the arm was taken from it (mode {mode})", code="taken")
        self._spoiled = self._spoiled + 1 if spoiled else 0
        if self._spoiled >= MOST_SPOILED:
            raise CommandError(f"{self._spoiled} episodes in a row: {spoiled}", code="spoiled")
        self._say(
            f"episode {self._number} of seed {self._seed}: {f'not kept, {spoiled}' if spoiled else label}"
        )
        return not spoiled

    def _finish(self, label: str) -> str:
        """Label the episode; why it was thrown away instead, where the recorder had to stop it half-way."""
        if self._episodes is None:
            return ""
        recording = self._client.get("/v1/recording")
        if recording["state"] != "recording" and not self._over():
            # Only what is this episode's: one that never got a row, or a recorder that died, has left none,
            # and then the last one is a good one.
            if recording["can_label"] or (recording["last"] or {}).get("reason"):
                self._episodes.discard()
            return str(recording["message"])
        self._episodes.finish(label)
        return ""
