"""Judges the cameras: whether they open, their rate, and what their pictures say about them.

What is wrong with a picture is told by :mod:`robot.camera_health`, the same as in the running service.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.camera_file import load_camera_file
from robot.camera_health import (
    IDENTICAL_FRAMES,
    SLOW_SHARE,
    CameraFinding,
    CameraHealth,
    exchanged,
    measured_fps,
    sharpness,
    slow,
)
from robot.camera_reference import Reference, swapped
from robot.cameras import OpenCvCamera
from robot.config import CameraConfig, RobotConfig
from robot.errors import CalibrationError, CameraError
from robot.seams import ByteArray, Frame
from services.doctor.report import Check, Finding, Report

WATCH_S = 2.0
"""Time over which the rate is taken: less than CameraHealth, which runs for ever, takes for it."""
SETTLE_FRAMES = 10
"""First pictures, which say nothing about rate and exposure."""
EVEN = 1.4
"""A slow camera takes its time for every picture, a busy machine only misses some: so many times the time
between two pictures even the quickest quarter of a slow one take."""
SLOW = "camera_slow"
ATTEMPTS = 3
"""A camera that is too slow once may have met a busy machine."""
BLURRED, SOFT = 8.0, 40.0
"""Variance of the Laplacian at 640x480: sharp pictures of a table have 100 and more; a lens that is turned
away leaves the sensor's noise, below 8."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What one camera gave.

    ``image`` is ``None`` where it could not be opened or stopped, for the reason in ``error``.
    """

    found: tuple[CameraFinding, ...] = ()
    fps: float = 0.0
    image: ByteArray | None = None
    repeats: bool = False
    """Whether its last pictures were equal to the bit."""
    error: str | None = None
    uneven: bool = False
    """Whether too few pictures came, but some of them at the right pace."""

    @property
    def slow(self) -> bool:
        """Whether it gave too few pictures a second."""
        return self.uneven or any(finding.code == SLOW for finding in self.found)


def watch(config: CameraConfig, source: str | None) -> Watched:
    """Look at a camera for some seconds."""
    try:
        camera = OpenCvCamera(config, source)
    except CameraError as error:
        return Watched(error=str(error))
    health, repeats = CameraHealth(config.name, config.fps), 0
    times_s: list[float] = []
    try:
        last: Frame = camera.read()
        while len(times_s) < 2 or times_s[-1] - times_s[0] < WATCH_S:
            frame = camera.read()
            if frame.index > SETTLE_FRAMES:
                health.update(frame.image, frame.time_s, None)
                times_s.append(frame.time_s)
            repeats = repeats + 1 if np.array_equal(last.image, frame.image) else 0
            last = frame
    except CameraError as error:
        return Watched(error=str(error))
    finally:
        camera.close()
    fps = measured_fps(times_s)
    found = tuple(finding for finding in health.findings() if finding.code != SLOW)
    late = fps < SLOW_SHARE * config.fps
    evenly = float(np.percentile(np.diff(times_s), 25)) > EVEN / config.fps
    if late and evenly:
        found += (slow(config.name, fps, config.fps),)
    return Watched(found, fps, last.image, repeats >= IDENTICAL_FRAMES, uneven=late and not evenly)


def read_calibrations(
    report: Report, config: RobotConfig | None, folder: Path, robot: str
) -> dict[str, Reference]:
    """Camera name -> its reference, of the calibration files that can be used; the others are told.

    Args:
        report: where it is told.
        config: of the robot.
        folder: from which its relative paths start.
        robot: as ``--robot`` takes it, for the remedy.
    """
    references = {}
    for camera in config.cameras if config is not None else ():
        if camera.calibration is None:
            continue
        try:
            found = load_camera_file(folder / camera.calibration, camera)
            if found.reference is not None:
                references[camera.name] = Reference.from_json(found.reference)
        except (CalibrationError, ValueError) as error:
            whose = f"{camera.name} --robot {shlex.quote(robot)}"
            remedy = (
                f"move the file away if it is there, and make it anew: `so101 calibrate camera {whose}`, "
                f"then `so101 calibrate reference {whose}`"
            )
            report.findings.append(Finding("camera_calibration", str(error), remedy, camera=camera.name))
    return references


def check_cameras(
    report: Report,
    cameras: tuple[CameraConfig, ...],
    sources: Mapping[str, str],
    references: Mapping[str, Reference],
) -> None:
    """All cameras at once, as the service uses them.

    Args:
        report: where it is told.
        cameras: which there are, and what is wanted of them.
        sources: camera name -> URL or device, over that of the configuration.
        references: camera name -> what it has shown while all was well.
    """
    with ThreadPoolExecutor(len(cameras)) as pool:
        watched = list(pool.map(lambda camera: watch(camera, sources.get(camera.name)), cameras))
        for _ in range(ATTEMPTS - 1):
            if not any(one.slow for one in watched):
                break
            again = pool.map(lambda camera: watch(camera, sources.get(camera.name)), cameras)
            watched = [max(pair, key=lambda one: one.fps) for pair in zip(watched, again, strict=True)]
    seen = dict(zip([camera.name for camera in cameras], watched, strict=True))
    for camera in cameras:
        _judge(report, camera, seen[camera.name], sources.get(camera.name, camera.source))
    good = {name: one.image for name, one in seen.items() if one.image is not None and not _blind(one)}
    for a, b in swapped(good, references):
        _tell(report, a, exchanged(a, b))


def _blind(one: Watched) -> bool:
    return any(finding.blinds for finding in one.found)


def _tell(report: Report, camera: str, found: CameraFinding) -> None:
    report.findings.append(Finding(found.code, found.message, found.remedy, camera=camera))


def _judge(report: Report, camera: CameraConfig, one: Watched, source: str | None) -> None:
    name = camera.name
    if one.image is None:
        remedy = "put it right as it says; `so101 doctor` looks again"
        why = one.error or f"camera {name} gives no pictures"
        report.findings.append(Finding("camera_lost", why, remedy, camera=name))
        report.checks.append(Check("camera", False, f"{name}: no pictures", camera=name))
        return
    before = len(report.findings)
    for found in one.found:
        _tell(report, name, found)
    if one.uneven:
        message = f"only {one.fps:.0f} pictures a second of camera {name} arrived, unevenly"
        remedy = "see what else keeps this machine busy, or give the camera a USB port of its own; look again"
        report.advice.append(Finding("camera_uneven", message, remedy, camera=name))
    sharp = sharpness(one.image)
    if not _blind(one):
        remedy = "turn the lens until edges are sharp; wipe it"
        if sharp < BLURRED:
            message = f"camera {name} is out of focus (sharpness {sharp:.0f}, below {BLURRED:g})"
            report.findings.append(Finding("camera_blurred", message, remedy, camera=name))
        elif sharp < SOFT:
            message = f"camera {name} may be out of focus (sharpness {sharp:.0f})"
            report.advice.append(Finding("camera_soft", message, remedy, camera=name))
        if one.repeats and "://" not in (source or ""):
            # Noise makes any two pictures of a sensor differ; only rendered ones are equal to the bit.
            message = f"camera {name} repeats one picture"
            remedy = "unplug the camera and plug it in again"
            report.findings.append(Finding("camera_frozen", message, remedy, camera=name))
    height_px, width_px = one.image.shape[:2]
    measured = f"{name}: {width_px}x{height_px}, {one.fps:.0f} a second, sharpness {sharp:.0f}"
    values = {"fps": round(one.fps, 1), "sharpness": round(sharp, 1), "size_px": [width_px, height_px]}
    ok = len(report.findings) == before
    report.checks.append(Check("camera", ok, measured, camera=name, values=values))
