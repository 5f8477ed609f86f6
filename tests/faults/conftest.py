"""One live stack for each module, and the reaction times that its tests have measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.twin.client import TwinProcess
from tests.rig import Rig

_MEASURED: list[tuple[str, str]] = []


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> dict[str, object]:
    """What a test puts in here is printed at the end of the session: the figures of docs/safety.md."""
    figures: dict[str, object] = {}
    request.addfinalizer(
        lambda: _MEASURED.append((request.node.name, ", ".join(f"{k} {v}" for k, v in figures.items())))
    )
    return figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _MEASURED:
        terminalreporter.section("reactions")
        for name, words in _MEASURED:
            terminalreporter.write_line(f"{name}: {words}")


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False, bare=True) as twin:
        yield twin


@pytest.fixture
def rig(tmp_path: Path, twin: TwinProcess) -> Iterator[Rig]:
    twin.reset()
    rig = Rig(tmp_path, twin)
    rig.launch()
    yield rig
    rig.close()
