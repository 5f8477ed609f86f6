"""A policy in ONNX Runtime, on the execution provider that was asked for."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from inference.manifest import Manifest
from robot.errors import BundleError
from robot.seams import Float32Array, Observation

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
LATENCY_WINDOW = 1000
"""Runs over which latency is summed up: half a minute at policy rate."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one run of the model, over the last ``LATENCY_WINDOW`` runs."""

    median_ms: float
    p99_ms: float
    runs: int


class OnnxPolicy:
    """A model file behind the ``Policy`` seam.

    Attributes:
        manifest: what the model takes and gives.
        provider: ``cpu``, ``cuda`` or ``tensorrt``, as asked for and as running.
    """

    def __init__(
        self,
        model: Path,
        manifest: Manifest,
        *,
        provider: Provider = "cpu",
        threads: int = 1,
        cache: Path | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: the ONNX file.
            manifest: its bundle's manifest.
            provider: where it must run; there is no silent fall-back.
            threads: threads within one operator; leave one core to the controller.
            cache: folder for TensorRT engines, keyed by the model's hash by the caller.

        Raises:
            BundleError: the provider is not there or not used, the file is no model, or its inputs and
                outputs differ from the manifest.
        """
        self.manifest = manifest
        self.provider: Provider = provider
        self._session = _session(model, provider, threads, cache)
        self._inputs = manifest.input_shapes()
        _check_interface("input", self._session.get_inputs(), self._inputs)
        _check_interface("output", self._session.get_outputs(), manifest.output_shapes())
        self._latency_ms: deque[float] = deque(maxlen=LATENCY_WINDOW)

    def chunk(self, observation: Observation) -> Float32Array:
        """See ``Policy``: (chunk_size, width) in the units of the bundle's action space.

        With several observation steps pictures and state must have their axis (``ObservationHistory``).

        Raises:
            BundleError: a camera is missing in the observation, or a picture or the state has another shape.
        """
        given: dict[str, Any] = {"state": observation.state, "pickup_xy_m": observation.pickup_xy_m}
        given |= {f"image_{name}": image for name, image in observation.images.items()}
        feeds: dict[str, Any] = {}
        for name, (shape, _) in self._inputs.items():
            value = given.get(name)
            if value is None or value.shape != shape:
                found = "none" if value is None else "x".join(map(str, value.shape))
                raise BundleError(f"{_words(name)}: the policy takes {shape}, what it is shown is {found}")
            feeds[name] = value
        return self.run(feeds)

    def run(self, feeds: dict[str, Any]) -> Float32Array:
        """Run the model on arrays by input name."""
        began_s = time.perf_counter()
        actions: Float32Array = self._session.run(["actions"], feeds)[0]
        self._latency_ms.append(1e3 * (time.perf_counter() - began_s))
        return actions

    def latency(self) -> Latency:
        """Latency of the last runs; zeros before the first."""
        if not self._latency_ms:
            return Latency(0.0, 0.0, 0)
        median, p99 = np.percentile(np.array(self._latency_ms), (50, 99))
        return Latency(float(median), float(p99), len(self._latency_ms))

    def forget_latency(self) -> None:
        """Start the latency statistics afresh, for instance after warm-up."""
        self._latency_ms.clear()


def check_provider(provider: str) -> str:
    """ONNX Runtime's name of an execution provider.

    Raises:
        BundleError: there is no such one, or this onnxruntime is built without it.
    """
    if provider not in PROVIDERS:
        raise BundleError(f"unknown execution provider {provider!r}: use one of {', '.join(PROVIDERS)}")
    wanted = PROVIDERS[provider]
    available = ort.get_available_providers()
    if wanted not in available:
        raise BundleError(
            f"execution provider {provider!r} is not in this onnxruntime ({', '.join(available)}): "
            "install the extra 'gpu', or ask for 'cpu'"
        )
    return wanted


def _words(name: str) -> str:
    """An input as a person calls it."""
    return f"camera {name.removeprefix('image_')}" if name.startswith("image_") else name


def _session(model: Path, provider: Provider, threads: int, cache: Path | None) -> ort.InferenceSession:
    wanted = check_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # A spinning thread pool keeps the cores that the controller needs busy for a second after each run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    chain: list[Any] = [wanted]
    if provider == "tensorrt":
        cached = (
            {} if cache is None else {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
        )
        chain = [(wanted, cached), PROVIDERS["cuda"], PROVIDERS["cpu"]]
    elif provider == "cuda":
        chain = [wanted, PROVIDERS["cpu"]]
    try:
        session = ort.InferenceSession(str(model), options, providers=chain)
    except Exception as error:  # onnxruntime's exceptions have no common public class
        raise BundleError(f"{model} cannot be loaded on {provider}: {error}") from error
    running = session.get_providers()[0]
    if running != wanted:
        raise BundleError(
            f"asked for {wanted}, but onnxruntime chose {running}: its libraries do not load here. Install "
            "the CUDA libraries (and TensorRT's) that this onnxruntime needs, or ask for 'cpu'"
        )
    return session


def _check_interface(kind: str, found: Any, expected: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Raise a BundleError that names the first difference between a model and its manifest."""
    have = {item.name: (tuple(item.shape), item.type) for item in found}
    for name, (shape, dtype) in expected.items():
        if name not in have:
            raise BundleError(f"the model has no {kind} {name!r}, only {', '.join(sorted(have))}")
        if have[name] != (shape, dtype):
            raise BundleError(
                f"{kind} {name!r} is {have[name][1]} {have[name][0]}, the manifest says {dtype} {shape}"
            )
    for name in have.keys() - expected.keys():
        raise BundleError(f"the model has the {kind} {name!r}, which the manifest does not describe")
