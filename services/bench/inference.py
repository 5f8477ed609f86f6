"""Latency of one chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import load_bundle
from inference.runtime import Provider
from services.shipped import default_policy


def bench_inference(
    folder: Path | None, runs: int, threads: int, provider: Provider = "cpu"
) -> dict[str, Any]:
    """Time a bundle on random inputs of its shapes.

    Raises:
        BundleError: the bundle does not load, or not on this execution provider.
    """
    bundle = load_bundle(folder or default_policy(), threads=threads, provider=provider)
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.integers(0, 256, shape).astype(np.uint8 if kind == "tensor(uint8)" else np.float32)
        for name, (shape, kind) in bundle.manifest.input_shapes().items()
    }
    for _ in range(runs):
        bundle.policy.run(feeds)
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
