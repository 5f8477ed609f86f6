"""Which camera a calibration looks through, and where what it finds goes."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robot.config import CameraConfig, RobotConfig, load_robot
from robot.errors import ConfigError

if TYPE_CHECKING:
    from robot.cameras import OpenCvCamera
    from robot.twin.client import TwinProcess

SourceOption = Annotated[
    str | None, typer.Option("--source", help="Device or URL to look through instead of the robot file's.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Calibration file to write; by default the one the robot names."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SHOWN_S = 0.25
"""From a change before a camera until its pictures show it: its delay, and those on their way."""


@dataclass(frozen=True, slots=True)
class Target:
    """A camera of a robot.

    Attributes:
        config: the robot's.
        folder: from which its relative paths start.
        camera: the camera's own part of it.
        source: to look through instead of its own.
        out: its calibration file, which may not exist yet.
        asked: what was asked for, to be pasted behind another command.
    """

    config: RobotConfig
    folder: Path
    camera: CameraConfig
    source: str | None
    out: Path
    asked: str

    @classmethod
    def find(cls, name: str, robot: str, source: str | None, out: Path | None) -> Target:
        """The camera of that name.

        Raises:
            ConfigError: the robot has no such camera.
            CalibrationError: there is a calibration file that nothing can be added to.
        """
        from calibration.camera_file import read_blocks

        asked = [name, "--robot", robot]
        asked += [] if source is None else ["--source", source]
        asked += [] if out is None else ["--out", str(out)]
        config, folder = load_robot(robot)
        camera = next((c for c in config.cameras if c.name == name), None)
        if camera is None:
            known = ", ".join(c.name for c in config.cameras)
            raise ConfigError(f"robot {config.name} has no camera {name!r}, it has {known}")
        if out is None and config.kind == "twin":
            out = Path(f"{config.name}_{name}.json")  # the shipped twin's own folder belongs to the package
        elif out is None:
            out = folder / (camera.calibration or f"{config.name}_{name}.json")
        read_blocks(out)
        return cls(config, folder, camera, source, out, shlex.join(asked))

    def advice(self) -> str:
        """What is left to do so that the file is used, empty where nothing is."""
        named = self.camera.calibration
        if named is not None and (self.folder / named).resolve() == self.out.resolve():
            return ""
        inline = ", without its table_map" if self.camera.table_map is not None else ""
        path = self.out.resolve()
        path = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
        line = f"`calibration: {path}` under camera {self.camera.name}"
        return f"To use it, write {line} in the robot's YAML{inline}."


@contextlib.contextmanager
def twin_of(target: Target) -> Iterator[TwinProcess | None]:
    """A twin for as long as this lasts where the robot is one and no other source was given."""
    if target.config.kind != "twin" or target.source is not None:
        yield None
        return
    from robot.twin.client import TwinProcess

    with TwinProcess() as twin:
        yield twin


def open_camera(target: Target, twin: TwinProcess | None) -> OpenCvCamera:
    """The camera itself, or the twin's. Raises CameraError."""
    from robot.cameras import OpenCvCamera

    return OpenCvCamera(target.camera, target.source if twin is None else twin.cameras[target.camera.name])


def read_away(opened: OpenCvCamera, duration_s: float) -> None:
    """Read past the pictures that were taken, or on their way, before now. Raises CameraError."""
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        opened.read()


def today() -> str:
    """For a calibration file."""
    return date.today().isoformat()
