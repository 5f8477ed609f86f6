"""The execution provider that a person asks for is the one that runs, or an error."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
from typer.testing import CliRunner

from inference.runtime import PROVIDERS
from robot.errors import BundleError, So101Error
from robot.runtime import Runtime
from services import serving
from services.cli import app
from services.cli.serve import ExecutionProvider
from services.processes import worker
from services.supervisor import remove_leftovers


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as parent:  # socket names must be short
        made = Runtime.create(Path(parent))
        yield made
        remove_leftovers(made)


class Enough(So101Error):
    """Ends ``serve`` once its description is known."""


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> Runtime:
    """A runtime into which ``serve`` writes its description, and ends."""

    def write(folder: Runtime, content: dict[str, Any]) -> None:
        runtime.description.write_text(json.dumps(content))
        raise Enough

    twin = SimpleNamespace(description={})
    monkeypatch.setattr(serving, "write_description", write)
    monkeypatch.setattr(serving, "runtime_folder", lambda: contextlib.nullcontext(runtime))
    monkeypatch.setattr(serving, "TwinProcess", lambda **_: contextlib.nullcontext(twin))
    monkeypatch.setattr(serving, "_check_address", lambda host, port: None)
    return runtime


def test_the_commands_offer_what_the_runtime_knows() -> None:
    assert [provider.value for provider in ExecutionProvider] == list(PROVIDERS)


@pytest.mark.parametrize(
    ("options", "provider", "threads"),
    [([], "cpu", 1), (["--provider", "cuda", "--threads", "3"], "cuda", 3), (["--threads", "2"], "cpu", 2)],
)
def test_what_serve_is_asked_for_reaches_the_policy(
    described: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    bundle_folder: Path,
    options: list[str],
    provider: str,
    threads: int,
) -> None:
    loaded: dict[str, Any] = {}

    def load(folder: Path, robot: object, **how: Any) -> None:
        loaded.update(how, folder=folder)
        raise Enough

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(worker, "load_bundle", load)
    CliRunner().invoke(app, ["serve", "--policy", str(bundle_folder), *options])
    process = worker.WorkerProcess(described)
    try:
        with pytest.raises(Enough):
            process._load({})
    finally:
        process.close()
    assert (loaded["provider"], loaded["threads"]) == (provider, threads)
    assert loaded["folder"] == bundle_folder


def test_serve_refuses_a_provider_that_is_not_there(
    only_cpu: None, described: Runtime, bundle_folder: Path
) -> None:
    for provider in ("cuda", "tensorrt"):
        options = serving.ServeOptions(policy=bundle_folder, provider=provider)
        with pytest.raises(BundleError, match=f"{provider}.*install the extra 'gpu', or ask for 'cpu'"):
            serving.serve(options, lambda line: None)
    assert not described.description.exists()


def test_bench_runs_on_what_it_is_asked_for(only_cpu: None, bundle_folder: Path) -> None:
    bench = ["bench", "inference", str(bundle_folder), "--runs", "10", "--json"]
    result = CliRunner().invoke(app, [*bench, "--provider", "cpu", "--threads", "2"])
    assert json.loads(result.stdout).items() >= {"provider": "cpu", "threads": 2}.items()
    result = CliRunner().invoke(app, [*bench, "--provider", "cuda"])
    assert result.exit_code != 0
    assert "install the extra 'gpu'" in f"{result.output}{result.exception}"
    assert CliRunner().invoke(app, [*bench, "--provider", "abacus"]).exit_code == 2


def test_a_provider_that_cannot_start_is_no_silent_fall_back(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime lists a provider whose libraries do not load, and runs on the CPU instead."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a CUDA provider here")
    from inference.bundle import load_bundle

    session = onnxruntime.InferenceSession

    def on_the_cpu(model: str, options: Any, providers: list[str]) -> Any:
        return session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    with pytest.raises(BundleError, match=r"chose CPUExecutionProvider.*or ask for 'cpu'"):
        load_bundle(bundle_folder, provider="cuda")
