"""The object gone from its place and seen in the bowl, in two pictures of one overhead camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.table import TableMap
from robot.config import BowlConfig
from robot.seams import ByteArray, FloatArray
from services.evidence.verdict import EvidenceConfig, Verdict

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PictureFindings:
    """What the two pictures show, as shares that go into the pickup's record."""

    object_share: float
    """Share of the search disc around the pickup point that the object covered before."""
    left_share: float
    """How much of the object's colour is still at the pickup point, relative to before."""
    arrived_share: float
    """How much of the object's colour has come into the bowl, relative to what was at the pickup point."""
    elsewhere_share: float
    """How much of it has come to other places, relative to the same; slivers at edges are left out."""


class PictureEvidence:
    """Compares the overhead picture from before a run with the one after it.

    Args:
        before: RGB uint8 (height, width, 3), taken with the arm out of the way.
        table_map: Of the same camera at the same size.
        pickup_m: Where the object is, base frame (x, y).
        bowl: Where it should go.
    """

    def __init__(
        self,
        before: ByteArray,
        table_map: TableMap,
        pickup_m: tuple[float, float],
        bowl: BowlConfig,
        config: EvidenceConfig | None = None,
    ) -> None:
        self.config = config or EvidenceConfig()
        height_px, width_px = before.shape[:2]
        grid = table_map.table_grid(width_px, height_px)
        from_pickup_m = _distance(grid, pickup_m)
        from_bowl_m = _distance(grid, (bowl.x_m, bowl.y_m))
        near, far = self.config.table_radius_m
        self._lab = _lab(before)
        self._disc = from_pickup_m <= self.config.object_radius_m
        self._bowl = from_bowl_m <= bowl.radius_m
        # What stands in the bowl is higher than the table and may be seen beyond the rim.
        self._elsewhere = ~self._disc & (from_bowl_m > bowl.radius_m + self.config.object_radius_m)
        ring = (from_pickup_m >= near) & (from_pickup_m <= far) & ~self._bowl
        self._weights = np.ones(3)
        self._tolerance = self.config.same_colour
        self.colour = self._object_colour(ring)
        self._object = self._disc & self._like_object(self._lab)
        self.object_share = float(self._object.sum() / max(1, int(self._disc.sum())))

    @property
    def object_seen(self) -> bool:
        """Whether something that is not table lies at the pickup point in the first picture."""
        return self.colour is not None and self.object_share >= self.config.least_object

    def compare(self, after: ByteArray) -> PictureFindings:
        """Shares of the object's colour at its place, in the bowl and elsewhere in the later picture."""
        if after.shape != self._lab.shape:
            raise ValueError(f"the pictures differ in size: {self._lab.shape} and {after.shape}")
        there = max(1, int(self._object.sum()))
        now = self._like_object(_lab(after))
        come = now & ~self._like_object(self._lab)
        return PictureFindings(
            object_share=self.object_share,
            left_share=float((now & self._disc).sum() / there),
            arrived_share=float((come & self._bowl).sum() / there),
            elsewhere_share=float(_without_slivers(come & self._elsewhere, there).sum() / there),
        )

    def verdict(self, after: ByteArray) -> tuple[Verdict, PictureFindings]:
        """What the pictures say, with the numbers behind it."""
        findings = self.compare(after)
        if not self.object_seen:
            verdict = Verdict("no_object_seen", "the first picture shows only table at the pickup point")
        elif findings.left_share > self.config.gone:
            verdict = Verdict("still_at_pickup_point", "the object still lies where it was")
        elif findings.arrived_share < self.config.arrived:
            verdict = Verdict("not_seen_in_bowl", "the object left its place but is not seen in the bowl")
        elif findings.elsewhere_share > self.config.elsewhere:
            words = "something of the object's colour is in the bowl, but also where nothing was before"
            verdict = Verdict("another_moved", words)
        else:
            verdict = Verdict(None)
        return verdict, findings

    def _object_colour(self, ring: Mask) -> FloatArray | None:
        if not ring.any() or not self._disc.any():
            return None
        table = np.median(self._lab[ring], axis=0)
        disc = self._lab[self._disc]
        distance = np.linalg.norm(disc - table, axis=1)
        unlike = disc[distance > self.config.contrast]
        if len(unlike) < self.config.least_object * len(disc):
            return None
        # The most colourful half: a shadow beside the object also differs from the table, but is grey.
        chroma = np.hypot(unlike[:, 1] - table[1], unlike[:, 2] - table[2])
        colour: FloatArray = np.median(unlike[chroma >= np.median(chroma)], axis=0)
        if np.hypot(*(colour - table)[1:]) > self.config.contrast:
            # Told apart by hue: then lightness may differ as shadows and highlights make it.
            self._weights[0] = self.config.lightness_weight
        # A white cube in a light bowl: nearer to its own colour than to what lies around it.
        for ground in (table, np.median(self._lab[self._bowl], axis=0) if self._bowl.any() else table):
            apart = float(np.linalg.norm((colour - ground) * self._weights))
            self._tolerance = min(self._tolerance, apart / 2)
        return colour

    def _like_object(self, lab: FloatArray) -> Mask:
        if self.colour is None:
            return np.zeros(lab.shape[:2], dtype=np.bool_)
        difference = (lab - self.colour) * self._weights
        close: Mask = np.linalg.norm(difference, axis=-1) <= self._tolerance
        return close


def _without_slivers(mask: Mask, object_px: int) -> Mask:
    """The mask without what is thinner than a third of an object of so many pixels: edges that shook."""
    side_px = max(1, round(np.sqrt(object_px) / 3))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side_px, side_px), np.uint8))
    thick: Mask = opened > 0
    return thick


def _lab(image: ByteArray) -> FloatArray:
    """CIE Lab (L 0..100, a and b around 0), float64 (height, width, 3), lightly smoothed against noise."""
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    lab: FloatArray = cv2.cvtColor(smooth.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB).astype(np.float64)
    return lab


def _distance(grid: FloatArray, point_m: tuple[float, float]) -> FloatArray:
    """Distance on the table of every pixel from a point; infinite where there is no table."""
    distance: FloatArray = np.hypot(grid[..., 0] - point_m[0], grid[..., 1] - point_m[1])
    distance[np.isnan(distance)] = np.inf
    return distance
