"""Every family of policies that moves the tool computes the same without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from training.onnx_graph import ExportedPolicy, write_onnx
from training.policies.base import Stats
from training.policies.registry import build, parse_policy_config

pytestmark = pytest.mark.usefixtures("one_thread")

TRANSFORMER = {"d_model": 16, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1}
FAMILIES = [
    {"type": "planar_mlp"},
    {"type": "planar_act", "decoder_layers": 1},
    {"type": "planar_vit", **TRANSFORMER},
    {
        "type": "visuomotor",
        "cameras": ["wrist", "overhead"],
        "head_width": 16,
        "use_gru": True,
        "observation_steps": 3,
        "coordinates": "spherical",
    },
    {"type": "sequence_act", **TRANSFORMER},
]
SIZE_PX = {"image_height_px": 32, "image_width_px": 32}


@pytest.mark.slow  # the exporter takes two seconds for each, and the first ten more
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family["type"])
def test_the_graph_is_the_policy(family: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(0)
    longest = {"max_step_m": 0.2} if family["type"] in {"visuomotor", "sequence_act"} else {}
    config = parse_policy_config({**SIZE_PX, **family, **longest})
    policy = build(config, Stats.identity(config.action_width)).eval()
    path = tmp_path / "model.onnx"
    write_onnx(policy, (48, 80), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    chunks = []
    for _ in range(2):
        feed = {
            entry.name: rng.integers(0, 256, entry.shape, dtype=np.uint8)
            if entry.name.startswith("image_")
            else rng.uniform(-60, 60, entry.shape).astype(np.float32)
            for entry in session.get_inputs()
        }
        assert ("state" in feed) == config.reads_state and "pickup_xy_m" not in feed
        with torch.no_grad():
            expected = ExportedPolicy(policy)(*(torch.from_numpy(value) for value in feed.values()))
        chunks.append(session.run(None, feed)[0])
        np.testing.assert_allclose(chunks[-1], expected, atol=1e-5)
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-4
