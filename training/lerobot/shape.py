"""The shape of a policy of ours from LeRobot's configuration, or why it cannot be taken over."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import ValidationError

from robot.errors import ConfigError
from robot.joints import JOINTS, N_JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, STATE
from training.lerobot.pretrained import FeatureFile, Pretrained
from training.policies.base import COORDINATES
from training.policies.lerobot_act import LeRobotActConfig

Cameras = Mapping[str, str]
"""Camera of the robot -> feature of the checkpoint, in the checkpoint's order, which is the network's."""

SAME_SETTINGS = (
    "chunk_size",
    "vision_backbone",
    "pre_norm",
    "dim_model",
    "n_heads",
    "dim_feedforward",
    "feedforward_activation",
    "n_encoder_layers",
    "n_decoder_layers",
    "use_vae",
    "latent_dim",
    "n_vae_encoder_layers",
    "dropout",
    "kl_weight",
)
"""Settings that are called the same here."""


def name_cameras(source: Pretrained, asked: Cameras) -> Cameras:
    """What the robot calls each camera: as asked, or the last part of the feature's name.

    Raises:
        ConfigError: there is no such feature, or two cameras have one name.
    """
    features = [name for name, f in source.config.input_features.items() if f.type == "VISUAL"]
    unknown = [feature for feature in asked.values() if feature not in features]
    if unknown:
        raise ConfigError(
            f"--camera: the checkpoint has no {unknown[0]}, its pictures are {', '.join(features) or 'none'}"
        )
    names = {feature: camera for camera, feature in asked.items()}
    if len(names) < len(asked):
        raise ConfigError("--camera: one picture cannot be of two cameras")
    cameras = {names.get(feature, feature.rsplit(".", 1)[-1]): feature for feature in features}
    if len(cameras) < len(features):
        raise ConfigError(
            f"two of {', '.join(features)} would be one camera: name them apart, such as "
            f"--camera wrist={features[0]}"
        )
    for camera, feature in cameras.items():
        if re.fullmatch(r"[a-z][a-z0-9_]*", camera) is None:
            raise ConfigError(
                f"{camera!r} cannot be the name of a camera (small letters, digits and _): say what the "
                f"robot calls it with --camera NAME={feature}"
            )
    return cameras


def policy_shape(source: Pretrained, cameras: Cameras, *, pickup: bool) -> LeRobotActConfig:
    """The policy's configuration.

    Raises:
        ConfigError: it is for another arm, has inputs that nothing here gives, or is built in a way that is
            not known.
    """
    config = source.config
    inputs = config.input_features
    for name, feature in inputs.items():
        if feature.type not in ("VISUAL", "STATE", "ENV") or (feature.type == "STATE" and name != STATE):
            raise ConfigError(f"the checkpoint reads {name} ({feature.type}), which nothing here gives")
        if feature.type == "ENV":
            _check_environment(name, feature.shape, pickup=pickup)
    if STATE not in inputs:
        raise ConfigError(f"the checkpoint does not read {STATE}, without which LeRobot's ACT does not run")
    _check_joints(STATE, inputs[STATE])
    if ACTION not in config.output_features:
        raise ConfigError(f"the checkpoint gives no {ACTION}, only {', '.join(config.output_features)}")
    _check_joints(ACTION, config.output_features[ACTION])
    if config.n_obs_steps != 1:
        raise ConfigError(f"the checkpoint sees {config.n_obs_steps} observations at once, ACT has one")
    if config.replace_final_stride_with_dilation:
        raise ConfigError("replace_final_stride_with_dilation is not known here: train with it switched off")
    sizes = {}
    for camera, picture in cameras.items():
        shape = inputs[picture].shape
        if len(shape) != 3 or shape[0] != 3:
            raise ConfigError(
                f"{picture} has shape {shape}: only colour pictures (3, height, width) are taken"
            )
        sizes[camera] = (shape[1], shape[2])
    if not sizes:
        raise ConfigError(
            "the checkpoint reads no pictures: there is nothing that a camera here could show it"
        )
    common = max(sizes.values())
    try:
        return LeRobotActConfig.model_validate(
            {
                "cameras": tuple(cameras),
                "image_height_px": common[0],
                "image_width_px": common[1],
                "camera_sizes_px": {camera: size for camera, size in sizes.items() if size != common},
                "reads_pickup": any(feature.type == "ENV" for feature in inputs.values()),
                **{name: getattr(config, name) for name in SAME_SETTINGS},
            }
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(f"{source.folder} is built in a way that is not known here: {problems}") from error


def _check_joints(name: str, feature: FeatureFile) -> None:
    if feature.shape != (N_JOINTS,):
        raise ConfigError(
            f"{name} of the checkpoint has shape {feature.shape}, an SO-101 has six joints: "
            f"{', '.join(JOINTS)}"
        )


def _check_environment(name: str, shape: tuple[int, ...], *, pickup: bool) -> None:
    if shape != (COORDINATES,) or name != ENVIRONMENT_STATE:
        raise ConfigError(
            f"the checkpoint reads {name} of shape {shape}: only {ENVIRONMENT_STATE} of {COORDINATES} "
            "numbers, the pickup point, is given to a policy here"
        )
    if not pickup:
        raise ConfigError(
            f"the checkpoint reads {name} of {COORDINATES} numbers. If they are where to pick up, x and y in "
            "metres in the arm's base frame, say so with --pickup; anything else nothing here gives"
        )
