"""A recording session in real time, with its console."""

from __future__ import annotations

import logging

from robot.errors import CommandError, ConfigError
from services.cli.teleop import Driver
from services.console.client import ServiceClient
from services.console.run import Place, run_session
from services.console.session import SessionOptions
from services.recording.options import PickupPoint, RecordingOptions


def record_live(driver: Driver, place: Place, *, seed: int) -> dict[str, object]:
    """Record until the session ends; ``out``, and how many ``episodes`` this session has kept.

    Args:
        driver: who drives.
        place: the service, with a recorder.
        seed: of the expert.

    Raises:
        So101Error: nothing was started, or nothing is left running.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s record %(levelname)s %(message)s")
    recording = _told(place)
    options = SessionOptions(
        driver=driver.value,
        recording=True,
        corrections=recording.corrections,
        pickup=recording.pickup if isinstance(recording.pickup, PickupPoint) else None,
        begins=driver is Driver.EXPERT,
        seed=seed,
        episodes=recording.episodes,
    )
    what = "corrections of a policy" if recording.corrections else "demonstrations"
    last = run_session(options, place, f"so101 record · {driver.value} · {what}").recording or {}
    return {"out": str(recording.out), "episodes": last.get("kept", 0)}


def _told(place: Place) -> RecordingOptions:
    """What the service was told to record. Raises So101Error."""
    if place.own is not None and place.own.recording is not None:
        return place.own.recording
    try:
        told = ServiceClient(str(place.url)).get("/v1/recording")
    except CommandError as error:
        if error.code != "not_recording":
            raise
        raise ConfigError(
            f"the service at {place.url} records nothing: start it with so101 record"
        ) from error
    return RecordingOptions.model_validate(
        {key: told[key] for key in ("out", "task", "pickup", "corrections", "episodes")}
    )
