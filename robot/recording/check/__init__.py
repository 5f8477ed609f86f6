"""What is wrong with a dataset: files, counts, clocks, units, motion, pictures (``docs/datasets.md``)."""

from robot.recording.check.examine import examine
from robot.recording.check.findings import Finding, Note, Report

__all__ = ["Finding", "Note", "Report", "examine"]
