"""From one picture to one vector: a plain CNN, ResNet-18 or ViT-B/16.

All take (B, 3, H, W), normalised as ImageNet's pictures, and give (B, width). None of them has dropout.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

VisualEncoderName = Literal["cnn", "resnet18", "vit_b16"]
PATCH_PX = 16
"""Side of ViT-B/16's patches."""
NORM_GROUPS = 32
"""Groups of the group norm that stands in for batch norm in a ResNet without ImageNet weights."""


class PlainCnn(nn.Sequential):
    """Four convolutions and the mean over the map; maps of 84x84 pixels are 21, 11, 11 and 11 cells wide."""

    width = 64

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class ResNet18(nn.Module):
    """ResNet-18 up to its mean over the map.

    Args:
        frozen_norm: batch norm with fixed statistics, as ImageNet's weights need it; otherwise group norm,
            which like it gives the same in training and afterwards, whatever else is in the batch.
        pretrained: ImageNet weights (downloaded by torchvision on first use).
    """

    width = 512

    def __init__(self, *, frozen_norm: bool, pretrained: bool) -> None:
        super().__init__()
        from torchvision.models import ResNet18_Weights, resnet18
        from torchvision.ops import FrozenBatchNorm2d

        self.net = resnet18(
            weights=ResNet18_Weights.IMAGENET1K_V1 if pretrained else None,
            norm_layer=FrozenBatchNorm2d if frozen_norm else partial(nn.GroupNorm, NORM_GROUPS),
        )
        self.net.fc = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 512)."""
        features: Tensor = self.net(pictures)
        return features


class VitB16(nn.Module):
    """ViT-B/16 up to its class token.

    Patches must fill the picture, and 84 is no multiple of 16: a border of the mean colour makes it 96, so
    that nothing is cut off or blurred. ImageNet's position embeddings are interpolated to that grid.

    Args:
        side_px: height and width of the pictures.
        pretrained: ImageNet weights (downloaded by torchvision on first use).
    """

    width = 768

    def __init__(self, side_px: int, *, pretrained: bool) -> None:
        super().__init__()
        from torchvision.models import ViT_B_16_Weights, vit_b_16
        from torchvision.models.vision_transformer import interpolate_embeddings

        missing_px = -side_px % PATCH_PX
        before, after = missing_px // 2, missing_px - missing_px // 2
        self.border = (before, after, before, after)
        self.net = vit_b_16(image_size=side_px + missing_px)
        self.net.heads = nn.Identity()
        if pretrained:
            weights = ViT_B_16_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
            weights = interpolate_embeddings(side_px + missing_px, PATCH_PX, weights)
            self.net.load_state_dict({k: v for k, v in weights.items() if not k.startswith("heads.")})

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, side, side) to (B, 768)."""
        # The mean colour is zero once a picture is normalised.
        features: Tensor = self.net(functional.pad(pictures, self.border))
        return features


def visual_encoder(
    name: VisualEncoderName, side_px: int, *, frozen_norm: bool, pretrained: bool
) -> PlainCnn | ResNet18 | VitB16:
    """The encoder of that name; arguments as of the classes."""
    if name == "resnet18":
        return ResNet18(frozen_norm=frozen_norm, pretrained=pretrained)
    if name == "vit_b16":
        return VitB16(side_px, pretrained=pretrained)
    return PlainCnn()
