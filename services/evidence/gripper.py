"""Grasp and release, seen in the servos' own telemetry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from robot.config import BowlConfig
from services.evidence.verdict import EvidenceConfig, Verdict


@dataclass(frozen=True, slots=True)
class ArmSample:
    """What the gripper's evidence needs of one telemetry record."""

    time_s: float
    tool_m: tuple[float, float, float]
    gripper_pct: float
    gripper_goal_pct: float
    gripper_load_pct: float
    fastest_dps: float
    """Speed of the fastest arm joint."""
    by_person: bool = False
    """Whether a person drove."""


@dataclass(slots=True)
class GripperEvidence:
    """Follows one run through its telemetry. Feed every record in order of time with ``update``."""

    bowl: BowlConfig
    config: EvidenceConfig = field(default_factory=EvidenceConfig)
    grasped: bool = False
    """An object was squeezed and lifted for long enough (it may have been lost since)."""
    released_in_bowl: bool = False
    """A grasped object was let go over the bowl; later samples do not undo it unless it is grasped again."""
    lost: Literal["dropped", "not_released_over_bowl"] | None = None
    """How the last object was lost that did not go into the bowl."""
    holding: bool = False
    by_person_s: float = 0.0
    """Time in which a person drove; it does not count towards the limit."""
    _start_s: float | None = None
    _squeeze_seen_s: float = 0.0
    _lifted_s: float = 0.0
    _last_s: float | None = None
    _held_pct: float = 0.0
    _still_since_s: float | None = None
    _released_s: float = 0.0
    _ended: bool = False

    def update(self, sample: ArmSample) -> None:
        """Take one record. Samples that are not finite or older than the last one are left out."""
        values = (sample.time_s, *sample.tool_m, sample.gripper_pct, sample.gripper_goal_pct)
        if not np.isfinite(values).all() or (self._last_s is not None and sample.time_s <= self._last_s):
            return
        dt_s = 0.0 if self._last_s is None else sample.time_s - self._last_s
        self._last_s = sample.time_s
        if self._start_s is None:
            self._start_s = sample.time_s
        if sample.by_person:
            self.by_person_s += dt_s
        if self.holding:
            self._follow_held(sample)
        else:
            self._look_for_grasp(sample, dt_s)
        self._look_for_end(sample)

    @property
    def elapsed_s(self) -> float:
        """Time from the first to the last record."""
        return 0.0 if self._start_s is None or self._last_s is None else self._last_s - self._start_s

    @property
    def ended(self) -> bool:
        """Whether the run should be ended: object released and arm retreated or still, or time is up."""
        return self._ended or self.timed_out

    @property
    def timed_out(self) -> bool:
        """Whether the policy's time is up without an end."""
        return not self._ended and self.elapsed_s - self.by_person_s >= self.config.limit_s

    def verdict(self) -> Verdict:
        """What the gripper's telemetry says, pictures aside."""
        if self.released_in_bowl:
            return Verdict(None)
        late = f" within {self.config.limit_s:.0f} s" if self.timed_out else ""
        if self.holding:
            return Verdict("still_holding", f"the object was grasped but not released over the bowl{late}")
        if self.lost == "dropped":
            return Verdict("dropped", "the object slipped out of the gripper on the way")
        if self.lost == "not_released_over_bowl":
            return Verdict("not_released_over_bowl", "the gripper opened beside the bowl")
        if self.timed_out:
            return Verdict("timeout", f"nothing was grasped{late}")
        return Verdict("nothing_grasped", "the gripper never held anything while lifted")

    def _look_for_grasp(self, sample: ArmSample, dt_s: float) -> None:
        if self._squeezes(sample):
            self._squeeze_seen_s = sample.time_s
            if sample.tool_m[2] >= self.config.lift_m:
                self._lifted_s += dt_s
        elif sample.time_s - self._squeeze_seen_s > self.config.slack_s:
            self._lifted_s = 0.0
        if self._lifted_s >= self.config.hold_s:
            self.grasped = self.holding = True
            self.lost = None
            self.released_in_bowl = False
            self._held_pct = sample.gripper_pct
            self._still_since_s = None
            self._ended = False

    def _follow_held(self, sample: ArmSample) -> None:
        if self._squeezes(sample):
            self._squeeze_seen_s = sample.time_s
        told_to_open = sample.gripper_goal_pct > self._held_pct
        if told_to_open:
            if sample.gripper_pct > self._held_pct + self.config.open_pct:
                self._let_go("released" if self._over_bowl(sample) else "not_released_over_bowl")
        elif sample.time_s - self._squeeze_seen_s > self.config.slack_s:
            self._let_go("dropped")

    def _squeezes(self, sample: ArmSample) -> bool:
        """Whether something keeps the gripper from closing as it is told to."""
        return (
            sample.gripper_pct > self.config.empty_pct
            and sample.gripper_pct - sample.gripper_goal_pct > self.config.squeeze_pct
            and abs(sample.gripper_load_pct) >= self.config.hold_load_pct
        )

    def _let_go(self, how: Literal["released", "dropped", "not_released_over_bowl"]) -> None:
        self.holding = False
        self._lifted_s = 0.0
        if how == "released":
            self.released_in_bowl = True
            self.lost = None
            self._released_s = self._last_s or 0.0
        else:
            self.lost = how

    def _look_for_end(self, sample: ArmSample) -> None:
        if sample.fastest_dps > self.config.still_dps:
            self._still_since_s = None
        elif self._still_since_s is None:
            self._still_since_s = sample.time_s
        if not self.released_in_bowl:
            return
        lingered = sample.time_s - self._released_s >= self.config.linger_s
        still = self._still_since_s is not None and sample.time_s - self._still_since_s >= self.config.still_s
        away_m = self._distance_to_bowl_m(sample) - self.bowl.radius_m
        if still or lingered or away_m > self.config.retreat_m:
            self._ended = True

    def _distance_to_bowl_m(self, sample: ArmSample) -> float:
        return float(np.hypot(sample.tool_m[0] - self.bowl.x_m, sample.tool_m[1] - self.bowl.y_m))

    def _over_bowl(self, sample: ArmSample) -> bool:
        return sample.tool_m[2] > 0.0 and self._distance_to_bowl_m(sample) <= self.bowl.radius_m
