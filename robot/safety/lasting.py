"""How long conditions have held, joint by joint: what tells a fault from one wrong reading."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from robot.joints import JOINTS, N_JOINTS

Flags = NDArray[np.bool_]


class Lasting:
    """Counts the looks in which conditions held; :meth:`begin` once for each look.

    Args:
        dt_s: time between two looks.
        strain_s: time within which two readings of a strain count.
    """

    def __init__(self, dt_s: float, strain_s: float) -> None:
        self._dt_s = dt_s
        self._strain_looks = max(2, round(strain_s / dt_s))
        self._ticks: dict[str, NDArray[np.int64]] = {}
        self._strains: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        """Code -> look of the last and of the last but one reading of each joint."""
        self._looks = 0
        self._present = np.ones(N_JOINTS, dtype=bool)

    @property
    def present(self) -> Flags:
        """Joints that have said something in this look."""
        return self._present

    def begin(self, missing: Collection[str]) -> None:
        """A new look, in which these joints said nothing: what was known of them stays."""
        self._looks += 1
        self._present = np.array([joint not in missing for joint in JOINTS])

    def forget(self, *codes: str, joint: int | None = None) -> None:
        """Forget how long these conditions have held, of one joint or of all."""
        for code in codes:
            if joint is None:
                self._ticks.pop(code, None)
                self._strains.pop(code, None)
                continue
            if code in self._ticks:
                self._ticks[code][joint] = 0
            for looks in self._strains.get(code, ()):
                looks[joint] = -self._strain_looks

    def lasting(
        self, code: str, condition: Flags, time_s: float, *, judged: Flags | None = None
    ) -> list[int]:
        """Joints for which a condition has held for so long without a break, this look included.

        Args:
            code: the condition's name.
            condition: whether it holds in this look, joint by joint.
            time_s: how long it has to last.
            judged: joints of which that is known; what was known of the others stays. ``None``: all that have
                said something.
        """
        judged = self._present if judged is None else judged & self._present
        before = self._ticks.get(code)
        if before is None:
            before = np.zeros(N_JOINTS, dtype=np.int64)
        count = np.where(judged, np.where(condition, before + 1, 0), before)
        self._ticks[code] = count
        if not count.any():
            return []
        return [int(i) for i in np.flatnonzero(count >= max(2, round(time_s / self._dt_s)))]

    def repeated(self, code: str, condition: Flags) -> list[int]:
        """Joints for which a condition was read at least twice within the time of a strain."""
        condition = condition & self._present
        if code not in self._strains and not condition.any():
            return []
        long_ago = np.full(N_JOINTS, -self._strain_looks, dtype=np.int64)
        last, before = self._strains.get(code, (long_ago, long_ago))
        last, before = last.copy(), before.copy()
        before[condition] = last[condition]
        last[condition] = self._looks
        self._strains[code] = (last, before)
        return [int(i) for i in np.flatnonzero(self._looks - before < self._strain_looks)]
