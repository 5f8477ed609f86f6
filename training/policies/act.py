"""ACT with a pickup coordinate: a conditional VAE that turns one observation into a chunk of actions.

Encoder tokens: latent, state, pickup coordinate, then each view's image tokens, a view being a camera's
picture or a crop of it. The decoder's learned queries, one per step of the chunk, attend to them. In
training a second encoder reads [cls, state, actions] and gives the latent's distribution; at inference
the latent is zero. Formulation: Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost
Hardware" (2304.13705). What else the coordinates may reach is said in ``training.policies.coordinates``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from robot.joints import N_JOINTS
from training.losses import act_loss
from training.policies.act_config import ActConfig, View
from training.policies.backbones import ResNet18Backbone, SmallBackbone
from training.policies.base import COORDINATES, Inputs, Labels, Stats, TrainablePolicy
from training.policies.coordinates import CoordinateFeatures, EveryLayer, contrastive_loss
from training.policies.crop import TableCrop
from training.policies.images import ImageInput, resize
from training.policies.latent import LatentEncoder
from training.policies.transformer import DecoderLayer, EncoderLayer

__all__ = ["Act", "ActConfig", "ActOutput"]


@dataclass(frozen=True)
class ActOutput:
    """What a forward pass in training gives."""

    actions: Tensor
    """(B, K, A), normalised."""
    mean: Tensor | None
    """(B, latent) of the latent's distribution; ``None`` without VAE."""
    log_variance: Tensor | None
    coordinates: Tensor | None = None
    """(B, 2), normalised: what the image tokens say of them; ``None`` without the auxiliary head."""
    swapped: Tensor | None = None
    """(B, K, A), the chunk under the coordinates of the sample before; ``None`` unless labels were given and
    swapped pairs are compared."""


class Act(TrainablePolicy):
    """The policy. Inputs are in user units and metres: normalisation is inside."""

    config: ActConfig

    def __init__(self, config: ActConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        d, how = config.d_model, config.coordinates
        self.image_input = ImageInput(
            config.image_height_px, config.image_width_px, standardise=config.standardise
        )
        self.crop = TableCrop(how.crop) if how.crop is not None else None
        self.backbones = nn.ModuleDict(self._backbones(config))
        self.camera_embedding = nn.Parameter(torch.zeros(len(config.views), d))
        self.latent_token = nn.Linear(config.latent_dim, d)
        self.state_token = nn.Linear(N_JOINTS, d)
        if config.coordinates_embedded:
            self.coordinate_features = CoordinateFeatures(how)
            self.pickup_token = nn.Linear(self.coordinate_features.width, how.repeat * d)
            self.pickup_absent = nn.Parameter(torch.zeros(d))
        coordinate_tokens = how.repeat if how.token and config.reads_pickup else 0
        self.coordinate_slice = slice(2, 2 + coordinate_tokens)
        """Where the encoder's tokens are the coordinates."""
        self.token_positions = nn.Parameter(torch.randn(self.coordinate_slice.stop, d))
        layer = (d, config.heads, config.d_ff, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.encoder_layers))
        told_again = config.encoder_layers if how.every_layer and config.reads_pickup else 0
        self.every_layer = nn.ModuleList(EveryLayer(d) for _ in range(told_again))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(d)
        self.queries = nn.Parameter(torch.randn(config.chunk_size, d))
        self.action_head = nn.Linear(d, config.action_width)
        self.coordinate_head = None
        if how.auxiliary_weight and config.reads_pickup:
            self.coordinate_head = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, COORDINATES))
        self.vae = LatentEncoder(config) if config.use_vae else None

    @staticmethod
    def _backbones(config: ActConfig) -> dict[str, nn.Module]:
        film = config.coordinates.film
        if config.backbone == "resnet18":
            sizes = {(view.height_px, view.width_px) for view in config.views}
            shared = ResNet18Backbone(sizes, config.d_model, pretrained=config.pretrained, film=film)
            return {"shared": shared}
        return {
            view.name: SmallBackbone(
                view.height_px,
                view.width_px,
                config.d_model,
                width=config.stem_width,
                first_stride=2 if view.cropped else config.stem_stride,
                steer=config.coordinates.steer,
                film=film,
            )
            for view in config.views
        }

    def _backbone(self, view: View) -> ResNet18Backbone | SmallBackbone:
        found = self.backbones["shared" if self.config.backbone == "resnet18" else view.name]
        return cast("ResNet18Backbone | SmallBackbone", found)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that get the backbone's own learning rate."""
        return list(self.backbones.parameters())

    def tokens(self) -> int:
        """Tokens that the encoder reads."""
        images = sum(self._backbone(v).tokens(v.height_px, v.width_px) for v in self.config.views)
        return len(self.token_positions) + images

    def forward(self, inputs: Inputs, labels: Labels | None = None) -> ActOutput:
        """One pass; with ``labels`` (and a VAE) the latent comes from the actions, without it is zero."""
        state = (inputs.state - self.state_mean) / self.state_std
        mean = log_variance = None
        latent = state.new_zeros(state.shape[0], self.config.latent_dim)
        if self.vae is not None and labels is not None:
            mean, log_variance = self.vae(state, self.normalise_actions(labels.actions), labels.valid)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        first = torch.stack([self.latent_token(latent), self.state_token(state)], dim=1)

        coordinates = self._coordinates(inputs)
        seen, places = self._look(inputs, first[:, 1], coordinates)
        actions, memory = self._plan(first, coordinates, seen, places)
        told = None
        if self.coordinate_head is not None:
            told = self.coordinate_head(memory[:, -seen.shape[1] :].mean(1))
        swapped = None
        how = self.config.coordinates
        if labels is not None and how.contrastive_weight and how.contrastive_pairs == "swapped":
            others = _of_the_sample_before(inputs)
            coordinates = self._coordinates(others)
            if self.config.coordinates_looked_with:
                seen, places = self._look(others, first[:, 1], coordinates)
            swapped, _ = self._plan(first, coordinates, seen, places)
        return ActOutput(actions, mean, log_variance, told, swapped)

    def _coordinates(self, inputs: Inputs) -> Tensor | None:
        """The coordinates as tokens, (B, repeat, d)."""
        if not self.config.coordinates_embedded:
            return None
        normalised = (inputs.pickup_xy_m - self.pickup_mean) / self.pickup_std
        features = self.coordinate_features(inputs.pickup_xy_m, normalised, inputs.state)
        tokens: Tensor = self.pickup_token(features).unflatten(-1, (-1, self.config.d_model))
        if inputs.pickup_present is not None:
            tokens = torch.where(inputs.pickup_present[:, None, None], tokens, self.pickup_absent)
        return tokens

    def _look(self, inputs: Inputs, state: Tensor, coordinates: Tensor | None) -> tuple[Tensor, Tensor]:
        """Image tokens of all views, (B, N, d), and their positions, (N, d)."""
        condition = state if coordinates is None else state + coordinates.mean(1)
        tokens, positions = [], []
        for index, view in enumerate(self.config.views):
            pictures = self._pictures(inputs, view)
            view_tokens, view_positions = self._backbone(view)(pictures, condition)
            tokens.append(view_tokens)
            positions.append(view_positions + self.camera_embedding[index])
        return torch.cat(tokens, dim=1), torch.cat(positions)

    def _pictures(self, inputs: Inputs, view: View) -> Tensor:
        images = inputs.images[view.camera]
        if not view.cropped or self.crop is None:
            pictures: Tensor = self.image_input(images)
            return pictures
        whole = resize(images, *self.config.picture_size_px(view.camera))
        cropped = self.crop(whole, inputs.pickup_xy_m, inputs.pickup_present, self.pickup_mean)
        return self.image_input.normalise(cropped)

    def _plan(
        self, first: Tensor, coordinates: Tensor | None, seen: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normalised actions, (B, K, A), and the encoder's output."""
        told = [] if coordinates is None or not self.config.coordinates.token else [coordinates]
        memory = torch.cat([first, *told, seen], dim=1)
        positions = torch.cat([self.token_positions, places])
        for index, encoder_layer in enumerate(self.encoder):
            memory = encoder_layer(memory, positions)
            if coordinates is not None and self.every_layer:
                memory = self.every_layer[index](memory, coordinates.mean(1))
        queries = torch.zeros_like(self.queries).expand(len(memory), -1, -1)
        for decoder_layer in self.decoder:
            queries = decoder_layer(queries, self.queries, memory, positions)
        return self.action_head(self.decoder_norm(queries)), memory

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """L1, ``kl_weight`` times the KL divergence where there is a VAE, and what remedies add."""
        output = self(inputs, labels)
        target = self.normalise_actions(labels.actions)
        actions = output.actions.float()
        scalars = act_loss(
            actions, target, labels.valid, output.mean, output.log_variance, self.config.kl_weight
        )
        how = self.config.coordinates
        if output.coordinates is not None:
            scalars["auxiliary"] = self._auxiliary(output.coordinates.float(), inputs)
            scalars["loss"] = scalars["loss"] + how.auxiliary_weight * scalars["auxiliary"]
        if how.contrastive_weight and self.config.reads_pickup:
            scalars["contrastive"] = self._contrastive(actions, output.swapped, inputs, labels)
            scalars["loss"] = scalars["loss"] + how.contrastive_weight * scalars["contrastive"]
        return scalars

    def _auxiliary(self, told: Tensor, inputs: Inputs) -> Tensor:
        target = (inputs.pickup_xy_m - self.pickup_mean) / self.pickup_std
        error = functional.mse_loss(told, target, reduction="none").mean(1)
        if inputs.pickup_present is None:
            return error.mean()
        return (error * inputs.pickup_present).sum() / inputs.pickup_present.sum().clamp(min=1)

    def _contrastive(self, actions: Tensor, swapped: Tensor | None, inputs: Inputs, labels: Labels) -> Tensor:
        how = self.config.coordinates
        before = _of_the_sample_before(inputs)
        far = (inputs.pickup_xy_m - before.pickup_xy_m).norm(dim=1) > how.contrastive_distance_m
        if inputs.pickup_present is not None and before.pickup_present is not None:
            far = far & inputs.pickup_present & before.pickup_present
        if swapped is not None:
            return contrastive_loss(actions, swapped.float(), labels.valid, far, how.contrastive_margin)
        valid = labels.valid & labels.valid.roll(1, 0)
        return contrastive_loss(actions, actions.roll(1, 0), valid, far, how.contrastive_margin)

    def predict(self, inputs: Inputs) -> Tensor:
        """Chunks in user units, (B, K, A), with the latent at zero."""
        return self.restore_actions(self(inputs).actions)


def _of_the_sample_before(inputs: Inputs) -> Inputs:
    """The same observations, each with the coordinates of the sample before it."""
    present = inputs.pickup_present
    return replace(
        inputs,
        pickup_xy_m=inputs.pickup_xy_m.roll(1, 0),
        pickup_present=None if present is None else present.roll(1, 0),
    )
