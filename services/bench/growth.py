"""Whether a process grows: its resident memory and open descriptors over time, from ``/proc``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot.errors import TwinError

WARM_UP_SHARE = 0.1
"""Share of the samples at the beginning in which a process may still fill its caches."""
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Growth:
    """Samples of one process.

    Args:
        pid: of the process.
    """

    pid: int
    time_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def sample(self, now_s: float) -> None:
        """Look once. Raises TwinError when the process has ended."""
        process = Path(f"/proc/{self.pid}")
        try:
            pages = int((process / "statm").read_text().split()[1])
            count = sum(1 for _ in (process / "fd").iterdir())
        except (OSError, IndexError) as error:
            raise TwinError(f"process {self.pid} has ended: {error}") from error
        self.time_s.append(now_s)
        self.rss_mib.append(pages * _PAGE_MIB)
        self.descriptors.append(count)

    def figures(self) -> dict[str, Any]:
        """What it held after the warm-up, and the slopes per hour by least squares.

        ``rss_growth_mib`` is the memory's slope times the time that was measured. Descriptors come and go
        with each run of the arm, so what counts is the most there were in either half. It needs two samples.
        """
        first = min(int(WARM_UP_SHARE * len(self.time_s)), len(self.time_s) - 2)
        hours = (np.array(self.time_s[first:]) - self.time_s[first]) / 3600.0
        rss_slope = float(np.polyfit(hours, self.rss_mib[first:], 1)[0])
        descriptors = self.descriptors[first:]
        half = len(descriptors) // 2
        return {
            "rss_mib": {"first": self.rss_mib[first], "last": self.rss_mib[-1]},
            "rss_mib_per_hour": rss_slope,
            "rss_growth_mib": rss_slope * float(hours[-1]),
            "descriptors": {"first_half": max(descriptors[:half]), "second_half": max(descriptors[half:])},
            "descriptors_per_hour": float(np.polyfit(hours, descriptors, 1)[0]),
        }
