"""Latency of one chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import load_bundle
from inference.runtime import Provider
from robot.seams import Observation
from services.shipped import default_policy


def bench_inference(
    folder: Path | None, runs: int, threads: int, provider: Provider = "cpu"
) -> dict[str, Any]:
    """Time a bundle on random pictures of its cameras' size.

    Raises:
        BundleError: the bundle does not load, or not on this execution provider.
    """
    bundle = load_bundle(folder or default_policy(), threads=threads, provider=provider)
    rng = np.random.default_rng(0)
    images = {
        camera.name: rng.integers(0, 256, (camera.height_px, camera.width_px, 3), dtype=np.uint8)
        for camera in bundle.manifest.cameras
    }
    state, pickup = np.zeros(6, np.float32), np.array([0.24, 0.0], np.float32)
    for tick in range(runs):
        bundle.policy.chunk(Observation(tick, state, pickup, images))
    latency = bundle.policy.latency()
    return {
        "bundle": bundle.manifest.name,
        "provider": bundle.policy.provider,
        "precision": bundle.precision,
        "threads": threads,
        "latency_ms": {"median": latency.median_ms, "p99": latency.p99_ms},
        "chunk_size": bundle.manifest.chunk_size,
        "peers": {},
    }
