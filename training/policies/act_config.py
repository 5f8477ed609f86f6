"""The shape of an ACT policy, and what its backbones look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.policies.base import PolicyShape
from training.policies.coordinates import CoordinatesConfig


class ActConfig(PolicyShape):
    """Shape of an ACT policy. The defaults are the small one that two CPU cores can train."""

    type: Literal["act"] = "act"
    backbone: Literal["small", "resnet18"] = "small"
    pretrained: bool = False
    """ImageNet weights for resnet18 (downloaded by torchvision on first use)."""
    stem_width: int = Field(default=32, ge=8, le=256, multiple_of=4)
    """Channels of the small backbone's first convolution; the others have twice as many."""
    stem_stride: Literal[2, 4] = 4
    """Of the small backbone's first convolution; one on a crop has 2."""
    standardise: bool = False
    """Take brightness, contrast and colour cast out of each picture, instead of ImageNet's mean."""
    d_model: int = Field(default=128, ge=16, le=2048, multiple_of=4)
    heads: int = Field(default=4, ge=1, le=32)
    d_ff: int = Field(default=256, ge=16)
    encoder_layers: int = Field(default=2, ge=1, le=12)
    decoder_layers: int = Field(default=1, ge=1, le=12)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    use_vae: bool = False
    vae_layers: int = Field(default=2, ge=1, le=12)
    latent_dim: int = Field(default=32, ge=1, le=512)
    kl_weight: float = Field(default=10.0, ge=0.0)
    """Weight of the latent's KL divergence beside the L1; only with the VAE."""
    coordinates: CoordinatesConfig = CoordinatesConfig()

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.observation_steps != 1 or not self.reads_state:
            raise ValueError(
                "an act policy reads the state and one observation: leave observation_steps at 1"
            )
        crop = self.coordinates.crop
        if crop is not None and crop.camera not in self.cameras:
            raise ValueError(f"coordinates.crop.camera is {crop.camera!r}, cameras are {self.cameras}")
        if crop is not None and not self.reads_pickup:
            raise ValueError("coordinates.crop needs reads_pickup: true")
        return self

    def picture_size_px(self, camera: str) -> tuple[int, int]:
        """A camera that is cropped keeps pictures of ``source_scale`` times the size."""
        crop = self.coordinates.crop
        scale = crop.source_scale if crop is not None and crop.camera == camera else 1
        return scale * self.image_height_px, scale * self.image_width_px

    @property
    def needs_pickup(self) -> bool:
        """Statistics make normalised coordinates mean nothing, but not those that are used in metres."""
        how = self.coordinates
        in_metres = how.encoding == "raw" or how.tool_frame
        return how.crop is not None or (in_metres and self.coordinates_embedded)

    @property
    def views(self) -> tuple[View, ...]:
        """What the backbones look at, in the order of the tokens."""
        size, crop = (self.image_height_px, self.image_width_px), self.coordinates.crop
        views = []
        for camera in self.cameras:
            if crop is None or crop.camera != camera or crop.keep_overview:
                views.append(View(camera, camera, *size, cropped=False))
            if crop is not None and crop.camera == camera:
                views.append(View(f"{camera}_crop", camera, crop.side_px, crop.side_px, cropped=True))
        return tuple(views)

    @property
    def coordinates_looked_with(self) -> bool:
        """Whether image tokens depend on the coordinates."""
        how = self.coordinates
        return how.film or how.crop is not None or (how.steer and self.backbone == "small")

    @property
    def coordinates_embedded(self) -> bool:
        """Whether anything needs the coordinates as a vector of the model's width."""
        how = self.coordinates
        steers = how.steer and self.backbone == "small"
        return self.reads_pickup and (how.token or how.every_layer or how.film or steers)


@dataclass(frozen=True)
class View:
    """A picture that becomes tokens."""

    name: str
    camera: str
    height_px: int
    width_px: int
    cropped: bool
