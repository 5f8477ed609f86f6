"""LeRobot's own ACT, in LeRobot's interpreter: JSON requests on stdin, JSON answers on stdout.

PYTHON lerobot_policies.py
    {"do": "make", "out": FOLDER, "config": {...}, "stats": {feature: {...}}}  a random checkpoint
    {"do": "run", "folder": FOLDER, "inputs": NPZ, "out": NPZ}  actions (N, K, 6) of uint8 pictures, states
    {"do": "loss", "folder": FOLDER, "inputs": NPZ}             its training loss for actions that are given
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies import make_pre_post_processors
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.utils import prepare_observation_for_inference

DEVICE = torch.device("cpu")


def features(said: dict) -> dict:
    return {name: PolicyFeature(FeatureType(kind), tuple(shape)) for name, (kind, shape) in said.items()}


def make(out: str, config: dict, stats: dict) -> dict:
    torch.manual_seed(0)
    inputs, outputs = features(config.pop("inputs")), features(config.pop("outputs"))
    mapping = {kind: NormalizationMode(mode) for kind, mode in config.pop("modes", {}).items()}
    if mapping:
        config["normalization_mapping"] = mapping
    policy = ACTPolicy(
        ACTConfig(
            input_features=inputs,
            output_features=outputs,
            device="cpu",
            push_to_hub=False,
            pretrained_backbone_weights=None,
            **config,
        )
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in policy.state_dict().items():
            if name.endswith(("bias", "running_mean")):  # what is 0 or 1 would hide a mistake
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
            elif ".bn" in name or "norm" in name or "downsample.1" in name:
                value.mul_(0.75 + 0.5 * torch.rand(value.shape, generator=generator))
    tensors = {
        feature: {name: torch.tensor(values, dtype=torch.float32) for name, values in part.items()}
        for feature, part in stats.items()
    }
    for feature, part in tensors.items():
        if "images" in feature:
            tensors[feature] = {name: values.reshape(3, 1, 1) for name, values in part.items()}
    before, after = make_pre_post_processors(policy.config, dataset_stats=tensors)
    policy.save_pretrained(out)
    before.save_pretrained(out)
    after.save_pretrained(out)
    return {"parameters": sum(weight.numel() for weight in policy.parameters())}


def loaded(folder: str) -> tuple:
    policy = ACTPolicy.from_pretrained(folder, strict=True)
    return policy, *make_pre_post_processors(policy.config, pretrained_path=folder)


def run(folder: str, inputs: str, out: str) -> dict:
    policy, before, after = loaded(folder)
    with np.load(inputs) as archive:
        arrays = dict(archive)
    actions = []
    for index in range(len(next(iter(arrays.values())))):
        frame = {name: values[index] for name, values in arrays.items()}
        seen = before(prepare_observation_for_inference(frame, DEVICE))
        actions.append(after(policy.predict_action_chunk(seen))[0].numpy())
    np.savez(out, actions=np.stack(actions))
    return {}


def loss(folder: str, inputs: str) -> dict:
    policy, before, _ = loaded(folder)
    with np.load(inputs) as archive:
        arrays = dict(archive)
    batch = {}
    for name, values in arrays.items():
        tensor = torch.from_numpy(values)
        batch[name] = tensor.permute(0, 3, 1, 2) / 255.0 if "images" in name else tensor
    policy.train()
    total, parts = policy(before(batch))
    return {"loss": total.item(), **parts}


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # what LeRobot prints is no answer
    torch.set_num_threads(1)
    doing = {"make": make, "run": run, "loss": loss}
    for line in sys.stdin:
        request = json.loads(line)
        answer = doing[request.pop("do")](**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
