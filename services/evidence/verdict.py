"""What counts as evidence, and what it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "nothing_grasped",
    "dropped",
    "not_released_over_bowl",
    "still_holding",
    "no_object_seen",
    "still_at_pickup_point",
    "not_seen_in_bowl",
    "another_moved",
    "timeout",
]


@dataclass(frozen=True, slots=True)
class EvidenceConfig:
    """What counts as evidence. Lengths in metres, times in seconds, openings in gripper percent."""

    squeeze_pct: float = 1.5
    """The gripper stands this much wider than it is told to: something is between the jaws. An empty one
    comes within 0.5, one that holds a 28 mm cube stays 4 away.
    """
    empty_pct: float = 3.0
    """Opening of the gripper at its stop: below it nothing is held."""
    hold_load_pct: float = 6.0
    """Least drive of the gripper while it squeezes: 20 with a cube, 2 without."""
    lift_m: float = 0.05
    """Height of the tool above which a held object counts as lifted."""
    hold_s: float = 0.4
    """How long it must be held and lifted."""
    slack_s: float = 0.1
    """Gaps in the squeeze that are forgiven: one noisy reading is neither the end of a grasp nor a drop."""
    open_pct: float = 6.0
    """The gripper has opened when it stands this much wider than while it held."""
    still_dps: float = 4.0
    """All joints slower than this: the arm stands still."""
    still_s: float = 0.7
    """Standing still for so long after the release ends the run."""
    linger_s: float = 2.5
    """The run ends this long after the release at the latest: a policy may fidget over the bowl."""
    retreat_m: float = 0.06
    """The run also ends once the open tool is this far outside the bowl's rim."""
    limit_s: float = 20.0
    """A run that takes longer has failed."""
    object_radius_m: float = 0.028
    """Around the pickup point within which the object is looked for in the first picture."""
    table_radius_m: tuple[float, float] = (0.034, 0.060)
    """Ring around the pickup point whose colour is the table's."""
    contrast: float = 14.0
    """Distance in CIE Lab between an object and the table."""
    same_colour: float = 16.0
    """Distance in CIE Lab within which two pixels have one colour, lightness counted lightly."""
    lightness_weight: float = 0.35
    """Shadows and highlights change lightness, hardly hue."""
    least_object: float = 0.08
    """Least share of the search disc that an object covers."""
    gone: float = 0.35
    """At most this share of the object's pixels may be left at the pickup point."""
    arrived: float = 0.2
    """At least this share of the object's pixels must have come to the bowl."""
    elsewhere: float = 0.35
    """At most this share of the object's pixels may have come to where neither it nor the bowl is: else it
    may have been pushed there, and what is in the bowl is another one that looks like it.
    """


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a pickup: ``reason`` is ``None`` exactly when it succeeded."""

    reason: Reason | None
    detail: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether all evidence was there."""
        return self.reason is None
