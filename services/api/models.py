"""What requests may hold: strict, finite, nothing unknown. Lengths in metres, base frame."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Coordinate = Annotated[float, Field(ge=-2.0, le=2.0, allow_inf_nan=False)]
TableX = Annotated[float, Field(ge=-0.10, le=0.60, allow_inf_nan=False)]
TableY = Annotated[float, Field(ge=-0.50, le=0.50, allow_inf_nan=False)]
Pixel = Annotated[float, Field(ge=0, le=8192, allow_inf_nan=False)]


class Request(BaseModel):
    """Base of all request bodies. Whole numbers are taken for floats, strings are not."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Nothing(Request):
    """The body of a command that takes none: it may be left out or be an empty object."""


class StopRequest(Request):
    """How to stop: ``hold`` stays where it is, ``park`` goes to rest first, ``release`` cuts torque."""

    level: Literal["hold", "park", "release"] = "hold"


class TeleopRequest(Request):
    """What a person drives with: the ``leader`` arm, or intents (``teleop``)."""

    source: Literal["leader", "teleop"]


class Point(Request):
    """A point on the table."""

    x_m: Coordinate
    y_m: Coordinate


class PixelPoint(Request):
    """A point in a camera's picture: pixels from the top left corner, u to the right, v down."""

    camera: str = Field(max_length=64)
    u: Pixel
    v: Pixel


class PickupRequest(Request):
    """Where to pick up: ``x_m`` and ``y_m``, or ``pixel``."""

    x_m: Coordinate | None = None
    y_m: Coordinate | None = None
    pixel: PixelPoint | None = None
    place: Point | None = None

    @model_validator(mode="after")
    def _one_form(self) -> PickupRequest:
        coordinates = (self.x_m is not None, self.y_m is not None)
        if self.pixel is None and not all(coordinates):
            raise ValueError("give x_m and y_m, or pixel")
        if self.pixel is not None and any(coordinates):
            raise ValueError("give either x_m and y_m or pixel, not both")
        return self


class TablePoint(Request):
    """A point on the twin's table."""

    x_m: TableX
    y_m: TableY


class CubePlace(TablePoint):
    """A point on the twin's table and how the cube is turned there."""

    yaw_rad: float = Field(default=0.0, ge=-7.0, le=7.0)


class TwinRequest(Request):
    """What to place on the twin's table. What is left out stays; ``null`` takes confuser or disc away."""

    cube: CubePlace | None = None
    confuser: TablePoint | None = None
    disc: TablePoint | None = None

    @model_validator(mode="after")
    def _something(self) -> TwinRequest:
        if not self.model_fields_set:
            raise ValueError("give cube, confuser or disc")
        if "cube" in self.model_fields_set and self.cube is None:
            raise ValueError("cube cannot be null")
        return self
