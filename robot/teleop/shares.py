"""How much of what is asked five joints with bounded speeds can give, and with which turn of the hand."""

from __future__ import annotations

from typing import NamedTuple

_NOTHING = 1e-9
_ROUNDING = 1e-6


class Share(NamedTuple):
    """A solution ``share * particular + turn * null``."""

    share: float
    """Part of the asked motion, 0..1."""
    turn: float
    tight: tuple[int, ...]
    """Joints whose bounds allow no more."""


class _Line(NamedTuple):
    """What a joint's bound makes of the turn: at least, or at most, ``at - slope * share``."""

    at: float
    slope: float
    joint: int


def largest_share(
    particular: list[float], null: list[float], pitch: float, low: list[float], high: list[float]
) -> Share | None:
    """The largest share that all bounds allow, then the turn nearest to the wanted pitch.

    Two unknowns, and two bounds a joint: whatever a floor and a ceiling leave between them bounds the share.

    Args:
        particular: rates of pan, lift, elbow and wrist that move the tool point as asked.
        null: rates that leave it where it is; not all zero.
        pitch: wanted sum of the rates of lift, elbow and wrist, in the same unit.
        low: slowest rate of each joint.
        high: fastest rate of each joint.

    Returns:
        ``None`` where no share is within all bounds: the joints must be slowed down first.
    """
    least, share = 0.0, 1.0
    tight: tuple[int, ...] = ()
    floors, ceilings = [], []
    for i, (p, n) in enumerate(zip(particular, null, strict=True)):
        if abs(n) > _NOTHING:
            first, second = (low[i], high[i]) if n > 0.0 else (high[i], low[i])
            floors.append(_Line(first / n, p / n, i))
            ceilings.append(_Line(second / n, p / n, i))
        elif abs(p) > _NOTHING:
            first, second = (low[i] / p, high[i] / p) if p > 0.0 else (high[i] / p, low[i] / p)
            least = max(least, first)
            if second < share:
                share, tight = second, (i,)
        elif low[i] > 0.0 or high[i] < 0.0:
            return None
    for floor in floors:
        for ceiling in ceilings:
            slope, room = ceiling.slope - floor.slope, ceiling.at - floor.at
            if slope > _NOTHING:
                if room < share * slope:
                    share, tight = room / slope, (floor.joint, ceiling.joint)
            elif slope < -_NOTHING:
                least = max(least, room / slope)
            elif room < 0.0:
                return None
    if least > share + _ROUNDING or share < 0.0:
        return None
    floor = max(floors, key=lambda line: line.at - line.slope * share)
    ceiling = min(ceilings, key=lambda line: line.at - line.slope * share)
    at_least, at_most = floor.at - floor.slope * share, ceiling.at - ceiling.slope * share
    pitching = sum(null[1:4])
    turn = (pitch - share * sum(particular[1:4])) / pitching if abs(pitching) > _NOTHING else 0.0
    if not tight and not at_least <= turn <= at_most:
        tight = (floor.joint,) if turn < at_least else (ceiling.joint,)
    return Share(share, max(at_least, min(turn, at_most)), tight)
