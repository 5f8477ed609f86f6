"""Did the pickup succeed? Judged only from what a real arm has too: its servos and its pictures.

Three things must be seen, in this order of time:

* **grasp** — the gripper is told to close, stops short of it under load, and stays so while lifted;
* **release** — it opens while the tool is over the bowl;
* **pictures** — the object's colour has gone from the pickup point and stands in the bowl, where it was
  not before. The colour is read from the first picture at the pickup point, against the table around it.

This package is pure: no clock, no process, no twin.
"""

from __future__ import annotations

from robot.seams import ByteArray
from services.evidence.gripper import ArmSample, GripperEvidence
from services.evidence.pictures import PictureEvidence, PictureFindings
from services.evidence.verdict import EvidenceConfig, Reason, Verdict

__all__ = [
    "ArmSample",
    "EvidenceConfig",
    "GripperEvidence",
    "PictureEvidence",
    "PictureFindings",
    "Reason",
    "Verdict",
    "judge",
]


def judge(gripper: GripperEvidence, pictures: PictureEvidence | None, after: ByteArray | None) -> Verdict:
    """The verdict over all evidence; the gripper's failure names the reason before the pictures' does.

    ``pictures`` is ``None`` only for a robot without a camera that is calibrated to the table.
    """
    verdict = gripper.verdict()
    if not verdict.succeeded or pictures is None:
        return verdict
    if after is None:
        return Verdict("not_seen_in_bowl", "there is no fresh overhead picture from after the run")
    return pictures.verdict(after)[0]
