"""What a robot's configuration may say."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from robot.config import RobotConfig, config_root, load_robot, load_yaml
from robot.errors import ConfigError


@pytest.mark.parametrize("limit", ["max_velocity", "max_acceleration"])
@pytest.mark.parametrize("value", [0.0, -60.0, math.inf, math.nan])
def test_limit_of_a_rate_must_be_above_zero_and_finite(limit: str, value: float) -> None:
    raw: dict[str, Any] = load_robot("twin")[0].model_dump()
    raw["gate"][limit]["elbow_flex"] = value
    with pytest.raises(ValidationError, match="elbow_flex"):
        RobotConfig.model_validate(raw)


@pytest.mark.parametrize(
    ("where", "wrong", "right"),
    [
        ((), "ready_posse", "ready_pose"),
        (("gate",), "max_velocty", "max_velocity"),
        (("gate", "max_velocity"), "elbow_flx", "elbow_flex"),
        (("gate", "tool_box"), "mim_m", "min_m"),
        (("cameras", 0), "widht_px", "width_px"),
    ],
)
def test_misspelt_key_is_named_with_the_nearest_one_of_its_place(
    tmp_path: Path, where: tuple[Any, ...], wrong: str, right: str
) -> None:
    raw = yaml.safe_load((config_root() / "robots" / "twin.yaml").read_text())
    raw["gate"]["tool_box"] = {"min_m": [0.0, 0.0, 0.0], "max_m": [1.0, 1.0, 1.0]}
    place = raw
    for part in where:
        place = place[part]
    place[wrong] = 1
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(raw))
    key = ".".join(map(str, (*where, wrong)))
    with pytest.raises(ConfigError, match=rf"unknown key '{key}', did you mean '{right}'\?"):
        load_yaml(path, RobotConfig)


def test_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    with pytest.raises(ConfigError, match=rf"{tmp_path} cannot be read: Is a directory"):
        load_yaml(tmp_path, RobotConfig)
    path.write_bytes(b"name: J\xfcrgen")  # Latin-1
    with pytest.raises(ConfigError, match=rf"{path} is not text in UTF-8: .* at byte 7"):
        load_yaml(path, RobotConfig)
    path.chmod(0)
    if not os.access(path, os.R_OK):  # root reads everything
        with pytest.raises(ConfigError, match=rf"{path} cannot be read: Permission denied"):
            load_yaml(path, RobotConfig)
