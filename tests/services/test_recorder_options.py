"""What a session is told, and whether the dataset that is there fits it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from robot.config import RobotConfig
from robot.errors import DatasetError
from robot.recording.files import read_json
from robot.recording.meta import INFO_FILE
from robot.recording.writer import DatasetWriter
from services.recording.dataset import check_resumable, open_dataset
from services.recording.options import PickupPoint, RecordingOptions
from services.serving import ServeOptions, serve
from tests.services.recorder_samples import CAMERAS, HASH, HEIGHT, WIDTH, robot


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pickup": "required", "corrections": True, "teleop": "leader", "episodes": 3},
        {"pickup": {"x_m": 0.2, "y_m": -0.1}, "episode_s": 12.5, "reset_s": 0.0, "codec": "av1", "fps": 15},
    ],
)
def test_options_reach_another_process_as_they_are(options: dict[str, Any]) -> None:
    made = RecordingOptions(out=Path("/data/out"), task="stack", **options)
    assert RecordingOptions.model_validate(made.model_dump(mode="json")) == made
    if isinstance(options.get("pickup"), dict):
        assert isinstance(made.pickup, PickupPoint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", " "),
        ("fps", 0),
        ("pickup", "somewhere"),
        ("pickup", {"x_m": 0.2}),
        ("pickup", {"x_m": "0.2", "y_m": 0.0}),
        ("teleop", "wheel"),
        ("episode_s", 0.0),
        ("reset_s", -1.0),
        ("episodes", 0),
        ("speed", 1),
    ],
)
def test_options_that_cannot_be_right_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        RecordingOptions.model_validate({"out": "/data/out", "task": "stack", name: value})


def small(**changes: Any) -> RobotConfig:
    """The robot of the samples, otherwise: a camera's size, or its name."""
    wrist, overhead = robot().cameras
    return robot().model_copy(update={"cameras": (wrist.model_copy(update=changes), overhead)})


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> RecordingOptions:
    """A dataset that was made before."""
    options = RecordingOptions(out=tmp_path_factory.mktemp("there") / "out", task="stack", codec="h264")
    open_dataset(options, robot(), HASH).close()
    return options


@pytest.mark.parametrize(
    ("changes", "config", "calibration", "words"),
    [
        ({"fps": 15}, robot(), HASH, "30 rows a second, now 15"),
        ({"pickup": "required"}, robot(), HASH, "does not have the column observation.environment_state"),
        ({}, small(width_px=64), HASH, "camera wrist: 48x32 there, 64x32 now"),
        ({}, small(name="hand"), HASH, "camera hand: none there, 48x32 now; camera wrist: 48x32 there"),
        ({}, robot(), "ffff", "calibrated otherwise"),
    ],
)
def test_what_differs_from_the_dataset_that_is_there_is_named(
    there: RecordingOptions, changes: dict[str, Any], config: RobotConfig, calibration: str, words: str
) -> None:
    options = RecordingOptions.model_validate({**there.model_dump(), **changes})
    for check in (check_resumable, open_dataset):
        with pytest.raises(DatasetError) as error:
            check(options, config, calibration)
        assert words in str(error.value) and "--out" in str(error.value)


def test_a_dataset_that_fits_is_appended_to_and_says_how_it_was_made(there: RecordingOptions) -> None:
    check_resumable(there, robot(), HASH)
    writer = open_dataset(there, robot(), HASH)
    writer.close()
    told = read_json(there.out / INFO_FILE)["so101"]
    assert told["units"] == "degrees" and told["calibration_sha256"] == HASH
    assert told["control_hz"] == 60 and told["camera_fps"] == {"wrist": 30, "overhead": 30}
    assert told["teleop"] == "none" and told["corrections"] is False and told["robot"] == "twin"
    assert told["recorded_at"][:2] == "20" and told["recorded_with"].startswith("so101-deploy")


@pytest.mark.parametrize(
    ("folder", "changes", "words"),
    [
        ("things", {}, "is no dataset: choose another folder with --out"),
        ("things/letter", {}, "is no dataset: choose another folder with --out"),
        ("x" * 300, {}, "cannot be used: File name too long"),
        ("new", {"codec": "h265"}, "no codec 'h265': there are"),
    ],
)
def test_a_folder_that_cannot_become_a_dataset_is_refused_before_anything_starts(
    tmp_path: Path, folder: str, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "things").mkdir()
    (tmp_path / "things/letter").touch()
    options = RecordingOptions.model_validate({"out": tmp_path / folder, "task": "stack", **changes})
    with pytest.raises(DatasetError, match=words):
        check_resumable(options, robot(), HASH)
    check_resumable(options.model_copy(update={"out": tmp_path / "a/b", "codec": "h264"}), robot(), HASH)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DatasetError, match=f"{tmp_path} cannot be written: see to its permissions"):
        check_resumable(RecordingOptions(out=tmp_path / "a/b", task="stack"), robot(), HASH)


def test_a_dataset_of_another_make_lacks_columns(tmp_path: Path) -> None:
    cameras = dict.fromkeys(CAMERAS, (HEIGHT, WIDTH))
    made = {"environment_state": False, "calibration_sha256": HASH}
    DatasetWriter.create(tmp_path / "out", fps=30, cameras=cameras, **made).close()
    options = RecordingOptions(out=tmp_path / "out", task="stack")
    with pytest.raises(DatasetError, match=r"lacks the columns loss_mask, .*timing\.overhead_age_s"):
        check_resumable(options, robot(), HASH)


def test_the_service_does_not_begin_with_a_dataset_that_does_not_fit(there: RecordingOptions) -> None:
    """The children would try for ever."""
    with pytest.raises(DatasetError, match=r"48x32 there, 640x480 now.*calibrated otherwise"):
        serve(ServeOptions(recording=there), pytest.fail)
