"""Names, order and user units of the six joints.

A *user vector* has shape (6,) in the order of ``JOINTS``: degrees for the five arm joints and percent
(0 closed, 100 open) for the gripper, as LeRobot writes them into datasets. Every array named
``*_user`` or documented as "user units" is such a vector.
"""

from __future__ import annotations

JOINTS: tuple[str, ...] = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
"""Joint names in bus order; servo ids are 1..6 in this order, as LeRobot assigns them."""

ARM_JOINTS: tuple[str, ...] = JOINTS[:5]
"""The joints that are measured in degrees."""

GRIPPER = 5
"""Index of the gripper in a user vector."""

N_JOINTS = len(JOINTS)

SERVO_IDS: dict[str, int] = {name: i + 1 for i, name in enumerate(JOINTS)}
"""Servo id on the bus of each joint."""

UNITS: dict[str, str] = {name: ("pct" if name == "gripper" else "deg") for name in JOINTS}
"""Unit of each entry of a user vector."""
