"""Single markers on the table: where the camera sees them, and where a finger touches them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from calibration.views import BoardFinder
from robot import printed
from robot.errors import CalibrationError
from robot.joints import GRIPPER, JOINTS
from robot.kinematics import FINGERTIP_SITES, Kinematics
from robot.registers import REGISTERS
from robot.seams import ByteArray, FloatArray
from robot.servo_arm import ServoArm

MAX_TIP_HEIGHT_M = 0.020
"""A fingertip that kinematics puts further from the table's plane does not touch a marker on it."""
MAX_OPEN_PCT = 8.0


def find_markers(image: ByteArray) -> dict[int, FloatArray]:
    """Marker id -> pixel of its middle, for the single markers in an RGB picture."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(printed.dictionary(), parameters)
    corners, ids, _ = detector.detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if ids is None:
        return {}
    known = zip(np.ravel(ids).tolist(), corners, strict=True)
    return {i: _middle(np.reshape(c, (4, 2)).astype(np.float64)) for i, c in known if i in printed.TOUCH_IDS}


def _middle(corners: FloatArray) -> FloatArray:
    """Where the diagonals cross: the middle also in perspective, where the mean of the corners is not."""
    a, b, c, d = np.column_stack([corners, np.ones(4)])
    crossing = np.cross(np.cross(a, c), np.cross(b, d))
    return np.asarray(crossing[:2] / crossing[2])


def steady_markers(images: Iterable[ByteArray]) -> dict[int, FloatArray]:
    """Median pixel of every marker that at least half of the pictures show."""
    found = [find_markers(image) for image in images]
    return _steady([(one.keys(), one.values()) for one in found], len(found))


def steady_board(images: Iterable[ByteArray], finder: BoardFinder) -> dict[int, FloatArray]:
    """Median pixel of every corner of the board that at least half of the pictures show."""
    views = [finder.find(image) for image in images]
    return _steady([(view.ids.tolist(), view.pixels) for view in views if view is not None], len(views))


def _steady(sightings: list[tuple[Any, Any]], pictures: int) -> dict[int, FloatArray]:
    seen: dict[int, list[FloatArray]] = {}
    for ids, pixels in sightings:
        for key, pixel in zip(ids, pixels, strict=True):
            seen.setdefault(int(key), []).append(pixel)
    return {key: np.median(at, axis=0) for key, at in sorted(seen.items()) if 2 * len(at) >= pictures}


def require_limp(arm: ServoArm) -> None:
    """Make sure that a person can move the arm. Raises CalibrationError, ServoError."""
    torque = REGISTERS["torque_enable"]
    reply = arm.bus.sync_read(arm.calibration.ids, torque.address, torque.size)
    if reply.missing:
        raise arm.bus.silent(reply.missing)
    stiff = [j for j, i in zip(JOINTS, arm.calibration.ids, strict=True) if reply.replies[i].data[0] != 0]
    if stiff:
        raise CalibrationError(
            f"torque is on at {', '.join(stiff)}: park the arm and release it (POST /v1/stop, level "
            "release), stop the service, and call this again"
        )


def touched_point_m(arm: ServoArm, kinematics: Kinematics) -> tuple[float, float]:
    """Where the closed fingertips are, base frame.

    Raises:
        CalibrationError: the gripper is open, or the tips are not at the table.
        ServoError: a servo does not answer.
    """
    # Half a tick is 0.2 mm at arm's length; a few readings do no harm and cover one that fails its checksum.
    user = np.median([arm.read().position for _ in range(5)], axis=0)
    if user[GRIPPER] > MAX_OPEN_PCT:
        raise CalibrationError(f"the gripper is {user[GRIPPER]:.0f} % open: close it and touch again")
    x_m, y_m, z_m = fingertip_m(kinematics, user)
    if abs(z_m) > MAX_TIP_HEIGHT_M:
        raise CalibrationError(
            f"the fingertip is {1000 * z_m:.0f} mm over the table: touch the marker; if it does, calibrate "
            "the arm anew (`so101 calibrate arm`)"
        )
    return float(x_m), float(y_m)


def fingertip_m(kinematics: Kinematics, user: FloatArray) -> FloatArray:
    """The point between both fingertips, base frame, shape (3,)."""
    tips = np.array([kinematics.site_position_m(site, user) for site in FINGERTIP_SITES])
    return np.asarray(tips.mean(axis=0))
