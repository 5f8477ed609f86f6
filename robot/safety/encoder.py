"""Positions that no joint can have reached: what an encoder, or what it is read through, got wrong.

A joint turns no faster than its motor. A reading further from the last believed one than that allows for the
time between them is not passed on: the joint keeps its last believed position, by which nobody may judge how
it moves; what else its servo said stays true. Three such readings in a row are a fault. From then on nothing
is believed but a reading near the last believed one: an encoder that has slipped by a turn does not become
right by waiting.

Time is that of the readings, so ticks that were missed widen what is possible, and after a stall of the whole
process everything is. A limp joint is moved by hands, faster than any motor: of it everything is believed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from robot.joints import JOINTS, N_JOINTS
from robot.safety.faults import Finding, Severity
from robot.seams import ArmState

FASTEST = 360.0
"""User units per second: a fifth above the 5.2 rad/s of a free 7.4 V servo, which is the fastest."""
SLACK = 3.0
"""User units that are always possible: backlash, and a reading that is older than its time stamp."""
IN_A_ROW = 3
GAP_S = 0.5
"""After so long without a reading nothing is known of a joint any more."""


class EncoderWatch:
    """Screens the positions of each tick.

    Args:
        dt_s: length of a tick; two readings are never taken to be closer together.
        fastest: user units per second that a joint can make.
    """

    CODES = frozenset({"encoder_jump"})
    """Every code of :attr:`findings`."""

    def __init__(self, dt_s: float, fastest: float = FASTEST) -> None:
        self._dt_s = dt_s
        self._fastest = fastest
        self._position = np.zeros(N_JOINTS)
        self._believed_s = np.full(N_JOINTS, -np.inf)
        self._read_s = np.full(N_JOINTS, -np.inf)
        self._rejected = np.zeros(N_JOINTS, dtype=np.int64)
        self._off_by = np.zeros(N_JOINTS)

    @property
    def findings(self) -> list[Finding]:
        """Joints whose readings have been impossible for three ticks or more."""
        remedy = (
            "release the arm, switch its supply off and on and compare its pose with the one shown; if the "
            "jump comes back, replace the servo"
        )
        return [
            Finding(
                "encoder_jump",
                Severity.HOLD,
                JOINTS[i],
                f"{JOINTS[i]} reads {self._off_by[i]:.0f} deg off where it can be: its encoder has jumped",
                remedy,
            )
            for i in np.flatnonzero(self._rejected >= IN_A_ROW)
        ]

    def screen(
        self, state: ArmState, missing: Collection[str] = (), *, limp: Collection[str] = ()
    ) -> tuple[ArmState, tuple[str, ...]]:
        """One tick's reading.

        Args:
            state: what the servos said.
            missing: joints that said nothing.
            limp: joints that nothing drives: every reading of theirs is believed.

        Returns:
            The state with the last believed position in place of each that is impossible or missing, and the
            joints with impossible ones.
        """
        present = np.array([joint not in missing for joint in JOINTS])
        self._believed_s[[joint in limp for joint in JOINTS]] = -np.inf
        known = state.time_s - self._read_s < GAP_S
        elapsed_s = np.maximum(state.time_s - self._believed_s, self._dt_s)
        frozen_s = IN_A_ROW * self._dt_s
        elapsed_s = np.where(self._rejected >= IN_A_ROW, np.minimum(elapsed_s, frozen_s), elapsed_s)
        self._off_by = np.abs(state.position - self._position)
        believed = self._off_by <= SLACK + self._fastest * elapsed_s
        believed |= ~known | np.isinf(self._believed_s)
        jumped = present & ~believed
        self._rejected = np.where(present, np.where(believed, 0, self._rejected + 1), self._rejected)
        taken = present & believed
        self._position = np.where(taken, state.position, self._position)
        self._believed_s = np.where(taken, state.time_s, self._believed_s)
        self._read_s = np.where(present, state.time_s, self._read_s)
        kept = ~taken & np.isfinite(self._believed_s)
        if not kept.any():
            return state, ()
        position = np.where(kept, self._position, state.position)
        velocity = np.where(jumped, 0.0, state.velocity)
        names = tuple(joint for joint, wrong in zip(JOINTS, jumped, strict=True) if wrong)
        return replace(state, position=position, velocity=velocity), names
