"""What a camera's pictures say about the camera: black, blank, frozen, slow, out of focus.

No I/O and no clock: pictures and their times go in, findings come out. The service's camera process and
``so101 doctor`` look with the same eyes; :mod:`robot.camera_reference` tells which camera is which. Pictures
are RGB uint8 of shape (height, width, 3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from robot.joints import GRIPPER
from robot.seams import ByteArray, Float32Array, FloatArray

BLACK_MEAN = 12.0
"""Mean luminance, of 255, up to which a picture is black: a covered lens gives 0 to 5 with its noise, the
darkest table that a policy could still work on some 30."""
BLACK_STD = 6.0
"""Spread of luminance, of 255, up to which it is: sensors at full gain have noise of 3 to 5."""
FLAT_STD = 4.0
"""Spread up to which a picture of any brightness shows nothing: noise and JPEG in the light make 1 to 3, an
arm on a table makes 15 and more, in a dim room 5."""
IDENTICAL_FRAMES = 5
"""So many equal pictures in a row are one picture (167 ms at 30 per second): a driver that fills a gap
repeats one or two."""
MOVED_DEG = 2.0
"""Motion of an arm joint that every camera which sees the arm must show: some pixels at the fingers."""
LATENCY_S = 0.1
"""How old the content of a picture can be on arrival; the twin has 0.03 s, USB cameras 0.05 to 0.1 s."""
SLOW_SHARE = 2.0 / 3.0
"""Share of the configured rate under which a camera is slow: one that is short of light halves its rate."""
BRISK_SHARE = 0.8
"""Share from which it no longer is."""
RATE_FRAMES = 60
"""Pictures over which the rate is taken: two seconds of a camera at 30 per second."""
GAP_S = 0.5
"""A longer gap between two pictures is not slowness: the camera was stale, or the machine stood still."""
BLIND_S = 0.5
"""How long a black or blank picture may pass: a hand before the lens is no fault of the camera."""
_STRIDE = 4
"""Every fourth pixel of every fourth row is enough for mean and spread."""


# -- one picture -------------------------------------------------------------------------------------------


def luminance(image: ByteArray) -> Float32Array:
    """Brightness of every pixel (ITU-R BT.601), 0 to 255, shape (height, width)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def is_black(image: ByteArray) -> bool:
    """Whether a picture is dark all over: a lens cap, no exposure, a sensor that has failed."""
    seen = luminance(np.ascontiguousarray(image[::_STRIDE, ::_STRIDE]))
    return float(seen.mean()) <= BLACK_MEAN and float(seen.std()) <= BLACK_STD


def is_blank(image: ByteArray) -> bool:
    """Whether a picture has one brightness all over, be it dark, grey or white: it shows nothing."""
    return float(luminance(np.ascontiguousarray(image[::_STRIDE, ::_STRIDE])).std()) <= FLAT_STD


def sharpness(image: ByteArray) -> float:
    """Variance of the Laplacian of luminance: falls when the lens is out of focus (Pech-Pacheco et al. 2000).

    Comparable only between pictures of the same scene and size; 0 for a blank one.
    """
    return float(cv2.Laplacian(luminance(image), cv2.CV_32F).var())


# -- several pictures --------------------------------------------------------------------------------------


def measured_fps(times_s: Sequence[float]) -> float:
    """Pictures per second from the rising times of their arrival; 0 for fewer than two."""
    span_s = times_s[-1] - times_s[0] if len(times_s) > 1 else 0.0
    return (len(times_s) - 1) / span_s if span_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CameraFinding:
    """Something that is wrong with a camera, and what to do about it."""

    code: str
    message: str
    remedy: str
    blinds: bool = True
    """Whether a policy must not act on its pictures: a run ends in a hold, and none begins."""

    def as_json(self) -> dict[str, Any]:
        """For a status block."""
        return asdict(self)


class FreezeWatch:
    """Tells a camera that repeats one picture from a scene in which nothing moves.

    Sensor noise makes any two pictures of a real camera differ, but those of a rendered still scene are
    equal to the bit. So equal pictures count only if the arm has moved while they were taken.
    """

    def __init__(self) -> None:
        self._image: ByteArray | None = None
        self._same: deque[tuple[float, FloatArray | None]] = deque(maxlen=256)

    def update(self, image: ByteArray, time_s: float, position_deg: FloatArray | None) -> bool:
        """Take the next picture; whether the camera is frozen.

        Args:
            image: the picture; it is kept and must not be changed.
            time_s: its arrival.
            position_deg: joints at that time, shape (6,); ``None`` where the arm is not read.
        """
        if self._image is None or not np.array_equal(self._image, image):
            self._image = image
            self._same.clear()
        self._same.append((time_s, position_deg))
        if len(self._same) <= IDENTICAL_FRAMES:
            return False
        # What the first shows is not newer than its arrival, what the last shows not older than LATENCY_S.
        poses = [pose for at_s, pose in self._same if at_s <= time_s - LATENCY_S and pose is not None]
        if len(poses) < 2:
            return False
        return bool(np.ptp(np.stack(poses)[:, :GRIPPER], axis=0).max() >= MOVED_DEG)


class CameraHealth:
    """What is wrong with one camera, judged picture by picture.

    Args:
        name: of the camera, for messages.
        fps: pictures per second that it was asked for.
    """

    def __init__(self, name: str, fps: float) -> None:
        self._name = name
        self._fps = fps
        self._times_s: deque[float] = deque(maxlen=RATE_FRAMES + 1)
        self._freeze = FreezeWatch()
        self._frozen = self._black = self._slow = False
        self._blind_since_s: float | None = None

    @property
    def fps(self) -> float:
        """Measured rate of the newest pictures."""
        return measured_fps(self._times_s)

    def update(self, image: ByteArray, time_s: float, position_deg: FloatArray | None) -> None:
        """Take the next picture; the arguments are those of :meth:`FreezeWatch.update`."""
        if self._times_s and time_s - self._times_s[-1] > GAP_S:
            self._times_s.clear()
        self._times_s.append(time_s)
        share = BRISK_SHARE if self._slow else SLOW_SHARE
        self._slow = len(self._times_s) > RATE_FRAMES and self.fps < share * self._fps
        self._black = is_black(image)
        if not self._black and not is_blank(image):
            self._blind_since_s = None
        elif self._blind_since_s is None:
            self._blind_since_s = time_s
        self._frozen = self._freeze.update(image, time_s, position_deg)

    def findings(self) -> tuple[CameraFinding, ...]:
        """What is wrong now, the gravest first."""
        name, found = self._name, []
        if self._blind_since_s is not None:  # and equal because of that, not because it is frozen
            if self._times_s[-1] - self._blind_since_s >= BLIND_S:
                found.append(_black(name) if self._black else _blank(name))
        elif self._frozen:
            found.append(_frozen(name))
        if self._slow:
            found.append(slow(name, self.fps, self._fps))
        return tuple(found)


# -- in words ----------------------------------------------------------------------------------------------


def lost(name: str, why: str) -> CameraFinding:
    """The finding for a camera that cannot be opened, or gives no pictures any more."""
    remedy = "put it right as it says; the camera is opened again by itself"
    return CameraFinding("camera_lost", why or f"camera {name} is not there", remedy)


def stale(name: str) -> CameraFinding:
    """The finding for a camera that is open and sends nothing."""
    words = f"camera {name} is open but sends no pictures"
    return CameraFinding("camera_stale", words, "check its cable and what else is on its USB bus")


def exchanged(a: str, b: str) -> CameraFinding:
    """The finding for two cameras whose pictures are exchanged."""
    words = f"cameras {a} and {b} are swapped: each shows what the other should"
    return CameraFinding(
        "camera_swapped", words, "exchange their sources in the robot's file, or their plugs"
    )


def _black(name: str) -> CameraFinding:
    remedy = "take the cap off, switch the light on, look at the exposure settings"
    return CameraFinding("camera_black", f"camera {name} gives black pictures", remedy)


def _blank(name: str) -> CameraFinding:
    words = f"camera {name} shows nothing: its pictures have one brightness all over"
    return CameraFinding("camera_blank", words, "look what covers the lens, and at the exposure settings")


def _frozen(name: str) -> CameraFinding:
    words = f"camera {name} repeats one picture although the arm moves"
    return CameraFinding("camera_frozen", words, "unplug the camera and plug it in again")


def slow(name: str, fps: float, wanted: float) -> CameraFinding:
    """The finding for a camera that gives fewer pictures a second than it was asked for."""
    words = f"camera {name} gives {fps:.0f} pictures a second instead of {wanted:g}"
    remedy = "more light, a USB port of its own, or fps in the robot's file set to what it can do"
    return CameraFinding("camera_slow", words, remedy, blinds=False)
