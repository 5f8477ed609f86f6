from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.table import TableMap
from robot.config import BowlConfig
from robot.seams import ByteArray
from services.evidence import ArmSample, GripperEvidence, PictureEvidence, judge

BOWL = BowlConfig(x_m=0.20, y_m=0.22, radius_m=0.06)
PX_PER_M = 800.0
MAP = TableMap([[0.0, -1 / PX_PER_M, 0.5], [-1 / PX_PER_M, 0.0, 0.4], [0.0, 0.0, 1.0]])
"""u runs along -y, v along -x: pixel (320, 240) looks at (0.2, 0)."""

RED, BLUE, GREEN, BLACK, WHITE = (200, 25, 30), (25, 40, 190), (40, 150, 50), (25, 25, 28), (250, 250, 250)
WOOD, GREY = (196, 176, 148), (150, 152, 150)
PICKUP = (0.25, -0.05)
IN_BOWL = (0.21, 0.21)


def picture(
    cubes: list[tuple[float, float]],
    colour: tuple[int, int, int] = RED,
    table: tuple[int, int, int] = WOOD,
    light: float = 1.0,
    seed: int = 0,
) -> ByteArray:
    image = np.full((480, 640, 3), table, dtype=np.float64)
    image[:] = np.asarray(table)
    centre = MAP.to_pixel(BOWL.x_m, BOWL.y_m)
    cv2.circle(image, (round(centre[0]), round(centre[1])), round(0.06 * PX_PER_M), (214, 214, 216), -1)
    for x, y in cubes:
        u, v = MAP.to_pixel(x, y)
        box = cv2.boxPoints(((u, v), (0.028 * PX_PER_M, 0.028 * PX_PER_M), 25.0))
        cv2.fillConvexPoly(image, np.round(box).astype(np.int32), colour)
    noise = np.random.default_rng(seed).normal(0.0, 4.0, image.shape)
    return np.clip(image * light + noise, 0, 255).astype(np.uint8)


def evidence(before: ByteArray) -> PictureEvidence:
    return PictureEvidence(before, MAP, PICKUP, BOWL)


@pytest.mark.parametrize("colour", [RED, BLUE, GREEN, BLACK, WHITE])
@pytest.mark.parametrize("table", [WOOD, GREY])
def test_any_colour_that_went_into_the_bowl_is_found(
    colour: tuple[int, int, int], table: tuple[int, int, int]
) -> None:
    before = picture([PICKUP], colour, table)
    verdict, findings = evidence(before).verdict(picture([IN_BOWL], colour, table, seed=1))
    assert verdict.succeeded, (verdict, findings)


def test_the_object_may_lie_a_little_beside_the_point() -> None:
    before = picture([(PICKUP[0] + 0.012, PICKUP[1] - 0.010)])
    assert evidence(before).verdict(picture([IN_BOWL], seed=1))[0].succeeded


def test_changed_light_does_not_hide_it() -> None:
    assert evidence(picture([PICKUP])).verdict(picture([IN_BOWL], light=0.85, seed=1))[0].succeeded


def test_nothing_moved() -> None:
    verdict, _ = evidence(picture([PICKUP])).verdict(picture([PICKUP], seed=1))
    assert verdict.reason == "still_at_pickup_point"


def test_it_left_but_did_not_arrive() -> None:
    verdict, _ = evidence(picture([PICKUP])).verdict(picture([(0.22, 0.08)], seed=1))
    assert verdict.reason == "not_seen_in_bowl"


def test_another_colour_in_the_bowl_is_not_it() -> None:
    verdict, _ = evidence(picture([PICKUP])).verdict(picture([IN_BOWL], BLUE, seed=1))
    assert verdict.reason == "not_seen_in_bowl"


def test_one_that_was_in_the_bowl_before_does_not_count() -> None:
    verdict, _ = evidence(picture([PICKUP, IN_BOWL])).verdict(picture([IN_BOWL], seed=1))
    assert verdict.reason == "not_seen_in_bowl"


def test_a_second_one_beside_the_first_in_the_bowl_counts() -> None:
    first = (0.185, 0.245)
    verdict, _ = evidence(picture([PICKUP, first])).verdict(picture([first, (0.215, 0.20)], seed=1))
    assert verdict.succeeded


def test_the_wrong_one_of_two_was_taken() -> None:
    confuser = (0.22, 0.08)
    verdict, _ = evidence(picture([PICKUP, confuser])).verdict(picture([PICKUP, IN_BOWL], seed=1))
    assert verdict.reason == "still_at_pickup_point"


def test_a_confuser_that_stays_does_not_disturb() -> None:
    confuser = (0.22, 0.02)
    verdict, _ = evidence(picture([PICKUP, confuser])).verdict(picture([confuser, IN_BOWL], seed=1))
    assert verdict.succeeded


def test_one_in_the_bowl_while_another_came_to_lie_elsewhere_is_no_success() -> None:
    lookalike, pushed_to = (0.22, 0.08), (0.25, -0.12)
    verdict, findings = evidence(picture([PICKUP, lookalike])).verdict(picture([pushed_to, IN_BOWL], seed=1))
    assert verdict.reason == "another_moved", findings
    assert findings.elsewhere_share > 0.7 and findings.arrived_share > 0.5


def test_one_that_stands_on_the_rim_is_not_elsewhere() -> None:
    on_the_rim = (BOWL.x_m - 0.054, BOWL.y_m)
    verdict, findings = evidence(picture([PICKUP])).verdict(picture([on_the_rim], seed=1))
    assert verdict.succeeded and findings.elsewhere_share == 0.0, findings


def test_an_arm_of_the_objects_colour_that_stands_a_little_different_is_not_elsewhere() -> None:
    before, after = picture([PICKUP]), picture([IN_BOWL], seed=1)
    cv2.rectangle(before, (100, 60), (260, 90), RED, -1)
    cv2.rectangle(after, (103, 63), (263, 93), RED, -1)
    verdict, findings = evidence(before).verdict(after)
    assert verdict.succeeded, findings


def test_an_empty_place_is_said_to_be_empty() -> None:
    empty = evidence(picture([]))
    assert not empty.object_seen
    assert empty.verdict(picture([IN_BOWL], seed=1))[0].reason == "no_object_seen"


def test_pictures_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        evidence(picture([PICKUP])).compare(np.zeros((240, 320, 3), dtype=np.uint8))


def released() -> GripperEvidence:
    gripper = GripperEvidence(BOWL)
    gripper.released_in_bowl = True
    gripper.update(ArmSample(1.0, (0.2, 0.2, 0.1), 60.0, 60.0, 0.0, 0.0))
    return gripper


def test_all_evidence_together() -> None:
    pictures = evidence(picture([PICKUP]))
    assert judge(released(), pictures, picture([IN_BOWL], seed=1)).succeeded
    assert judge(GripperEvidence(BOWL), pictures, picture([IN_BOWL], seed=1)).reason == "nothing_grasped"
    assert judge(released(), pictures, picture([], seed=1)).reason == "not_seen_in_bowl"
    assert judge(released(), pictures, None).reason == "not_seen_in_bowl"
    assert judge(released(), None, None).succeeded
