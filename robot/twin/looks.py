"""How the twin's world looks: light, table top, colours. Nothing of it takes part in the physics.

``Look()`` is the scene as it is. Training draws its looks from one set of table tops and ranges of light, a
test of what was never seen from another; no table top and no value of the light is in both.
"""

from __future__ import annotations

import colorsys
import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from robot.config import StrictModel
from robot.seams import ByteArray, FloatArray

TEXTURE_PX = 512
"""Side of a table top's picture, which has 2.3 mm to a pixel."""
TABLE_M = 1.2
"""Side of the square that the picture covers: the longer side of the table."""
CUBE_RGB = (0.82, 0.10, 0.10)
BOWL_RGB = (0.80, 0.83, 0.86)
FLOOR_RGB = (0.45, 0.46, 0.48)
TABLE_RGB = (0.70, 0.65, 0.57)
LAMP_DIRECTION = (0.1, -0.35, -1.0)
LAMP_RGB = (0.50, 0.50, 0.48)
AMBIENT_RGB = (0.45, 0.45, 0.45)
NEUTRAL_K = 6500.0
MOST_RED = 0.22
"""A table's red exceeds its green or blue by no more: nobody could tell the cube from it."""

TRAINING_FAMILIES = ("plain", "gradient", "clouds", "wood", "brushed")
UNSEEN_FAMILIES = ("checker", "speckle", "stripes", "tiles", "marble")

Rgb = tuple[
    Annotated[float, Field(ge=0, le=1)],
    Annotated[float, Field(ge=0, le=1)],
    Annotated[float, Field(ge=0, le=1)],
]


class Surface(StrictModel):
    """What the table top shows: a pattern of two colours."""

    family: Literal[
        "plain", "gradient", "clouds", "wood", "brushed", "checker", "speckle", "stripes", "tiles", "marble"
    ] = "plain"
    rgb: Rgb = TABLE_RGB
    other_rgb: Rgb = TABLE_RGB
    """Second colour of the pattern; plain has none."""
    scale_m: float = Field(default=0.05, ge=0.01, le=1.0)
    """Size of a feature of the pattern."""
    turn_rad: float = 0.0
    seed: int = Field(default=0, ge=0)


class Look(StrictModel):
    """How everything looks; the default is the scene as it is."""

    lamp_direction: tuple[float, float, float] = LAMP_DIRECTION
    """Where its light goes, base frame."""
    lamp: float = Field(default=1.0, ge=0, le=3)
    """Factor on the lamp's intensity."""
    ambient: float = Field(default=1.0, ge=0, le=3)
    """Factor on the intensity of the light from everywhere."""
    kelvin: float = Field(default=NEUTRAL_K, ge=2000, le=15000)
    """Colour temperature of both."""
    table: Surface = Surface()
    cube_rgb: Rgb = CUBE_RGB
    bowl_rgb: Rgb = BOWL_RGB
    floor_rgb: Rgb = FLOOR_RGB


class LightRange(StrictModel):
    """From and to, of what is drawn for the light; pairs of ranges where it is either below or above."""

    tilt_deg: tuple[tuple[float, float], ...]
    """Of the lamp's direction, from straight down."""
    lamp: tuple[tuple[float, float], ...]
    ambient: tuple[tuple[float, float], ...]
    kelvin: tuple[tuple[float, float], ...]


TRAINING_LIGHT = LightRange(
    tilt_deg=((0.0, 40.0),), lamp=((0.70, 1.30),), ambient=((0.75, 1.25),), kelvin=((4500.0, 8000.0),)
)
UNSEEN_LIGHT = LightRange(
    tilt_deg=((45.0, 60.0),),
    lamp=((0.45, 0.65), (1.35, 1.60)),
    ambient=((0.55, 0.70), (1.30, 1.45)),
    kelvin=((3000.0, 4200.0), (9000.0, 12000.0)),
)


def draw_look(rng: np.random.Generator, *, unseen: bool = False) -> Look:
    """A look for one episode or trial.

    Args:
        rng: what it depends on, and nothing else.
        unseen: one that training never draws: other table tops, other light.
    """
    light = UNSEEN_LIGHT if unseen else TRAINING_LIGHT
    families = UNSEEN_FAMILIES if unseen else TRAINING_FAMILIES
    tilt, azimuth = math.radians(_within(rng, light.tilt_deg)), rng.uniform(-math.pi, math.pi)
    aside = math.sin(tilt)
    direction = (aside * math.cos(azimuth), aside * math.sin(azimuth), -math.cos(tilt))
    lamp, ambient, kelvin = (_within(rng, r) for r in (light.lamp, light.ambient, light.kelvin))
    family = families[int(rng.integers(len(families)))]
    rgb = _table_colour(rng)
    other = _table_colour(rng)
    if family in ("wood", "brushed", "clouds"):
        other = _blend(rgb, other, rng.uniform(0.15, 0.5))  # what is found on tables has little contrast
    return Look(
        lamp_direction=direction,
        lamp=lamp,
        ambient=ambient,
        kelvin=kelvin,
        table=Surface.model_validate(
            {
                "family": family,
                "rgb": rgb,
                "other_rgb": other,
                "scale_m": rng.uniform(0.02, 0.10),
                "turn_rad": rng.uniform(-math.pi, math.pi),
                "seed": int(rng.integers(2**31)),
            }
        ),
        cube_rgb=_near(rng, CUBE_RGB, 0.05),
        bowl_rgb=_near(rng, BOWL_RGB, 0.08),
        floor_rgb=_near(rng, FLOOR_RGB, 0.25),
    )


def _within(rng: np.random.Generator, ranges: tuple[tuple[float, float], ...]) -> float:
    return float(rng.uniform(*ranges[int(rng.integers(len(ranges)))]))


def _near(rng: np.random.Generator, rgb: Rgb, most: float) -> Rgb:
    """A colour that differs by at most so much in each channel."""
    red, green, blue = np.clip(np.array(rgb) + rng.uniform(-most, most, 3), 0.0, 1.0).tolist()
    return red, green, blue


def _table_colour(rng: np.random.Generator) -> Rgb:
    """Any colour that a table may have: not glaring, and not the cube's."""
    while True:
        hue, saturation, value = rng.uniform(0, 1), rng.uniform(0, 0.6), rng.uniform(0.2, 0.95)
        rgb = colorsys.hsv_to_rgb(hue, saturation, value)
        if rgb[0] - max(rgb[1:]) <= MOST_RED:
            return rgb


def _blend(first: Rgb, second: Rgb, share: float) -> Rgb:
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def tint(kelvin: float) -> FloatArray:
    """Colour of light of a temperature against that of 6500 K, brightest channel 1, shape (3,).

    The Planckian locus in CIE xy by the cubic splines of Kim et al. (2002), to sRGB.
    """
    rgb = (_planck_rgb(kelvin) / _planck_rgb(NEUTRAL_K)) ** (1 / 2.2)
    colour: FloatArray = rgb / rgb.max()
    return colour


def _planck_rgb(kelvin: float) -> FloatArray:
    t = 1000.0 / kelvin
    if kelvin <= 4000.0:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222.0:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000.0:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    xyz = np.array([x / y, 1.0, (1.0 - x - y) / y])
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    rgb: FloatArray = np.clip(to_rgb @ xyz, 0.01, None)
    return rgb


def picture(surface: Surface) -> ByteArray:
    """The table top, uint8 (TEXTURE_PX, TEXTURE_PX, 3); a function of the surface alone."""
    rng = np.random.default_rng(surface.seed)
    axis = (np.arange(TEXTURE_PX) + 0.5) / TEXTURE_PX * TABLE_M - TABLE_M / 2
    east, north = np.meshgrid(axis, axis)
    c, s = math.cos(surface.turn_rad), math.sin(surface.turn_rad)
    u, v = (c * east + s * north) / surface.scale_m, (c * north - s * east) / surface.scale_m
    share = np.clip(_pattern(surface, u, v, rng), 0.0, 1.0)[..., None]
    first, second = (np.array(rgb) for rgb in (surface.rgb, surface.other_rgb))
    pixels: ByteArray = np.rint(255.0 * (first + share * (second - first))).astype(np.uint8)
    return pixels


def _pattern(surface: Surface, u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How much of the second colour is where; ``u`` and ``v`` are coordinates in features of the pattern."""
    wobble = _noise(rng, surface.scale_m * 3)
    match surface.family:
        case "plain":
            return np.zeros_like(u)
        case "gradient":
            return u * surface.scale_m / TABLE_M + 0.5
        case "clouds":
            return 0.5 + 0.35 * _noise(rng, surface.scale_m) + 0.25 * wobble
        case "wood":
            return 0.5 + 0.5 * np.sin(2 * math.pi * (u + 0.7 * wobble)) * (0.6 + 0.4 * np.tanh(wobble))
        case "brushed":
            lines = rng.standard_normal(4096)
            return 0.5 + 0.3 * lines[(u * surface.scale_m / 0.006).astype(np.intp) % 4096]
        case "checker":
            return (np.floor(u) + np.floor(v)) % 2
        case "speckle":
            return np.where(_noise(rng, 0.012) > 0.9, 1.0, 0.0)
        case "stripes":
            return np.floor(u) % 2
        case "tiles":
            return np.where(np.minimum(u % 1.5, v % 1.5) < 0.12, 1.0, 0.0)
        case "marble":
            return np.exp(-8.0 * np.abs(np.sin(1.2 * u + 2.0 * wobble)))


def _noise(rng: np.random.Generator, feature_m: float) -> FloatArray:
    """Smooth noise of deviation 1, features of about this size, shape (TEXTURE_PX, TEXTURE_PX)."""
    frequency = np.fft.fftfreq(TEXTURE_PX, TABLE_M / TEXTURE_PX)
    square = frequency[:, None] ** 2 + frequency[None, : TEXTURE_PX // 2 + 1] ** 2
    white = np.fft.rfft2(rng.standard_normal((TEXTURE_PX, TEXTURE_PX)))
    smooth = np.fft.irfft2(white * np.exp(-square * (2.0 * feature_m) ** 2), s=(TEXTURE_PX, TEXTURE_PX))
    noise: FloatArray = smooth / smooth.std()
    return noise
