"""What a robot's configuration may say."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from robot.config import RobotConfig, load_robot


@pytest.mark.parametrize("limit", ["max_velocity", "max_acceleration"])
@pytest.mark.parametrize("value", [0.0, -60.0, math.inf, math.nan])
def test_limit_of_a_rate_must_be_above_zero_and_finite(limit: str, value: float) -> None:
    raw: dict[str, Any] = load_robot("twin")[0].model_dump()
    raw["gate"][limit]["elbow_flex"] = value
    with pytest.raises(ValidationError, match="elbow_flex"):
        RobotConfig.model_validate(raw)
