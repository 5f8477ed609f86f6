"""One live stack for all of this folder, and the reaction times that its tests have measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from robot.twin.client import TwinProcess
from tests.rig import Rig, quick_robot

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


@pytest.fixture(scope="package")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False, bare=True) as twin:
        yield twin


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, twin: TwinProcess) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("stack")
    rig = Rig(folder, twin, quick_robot(folder))
    yield rig
    rig.close()


@pytest.fixture
def rig(request: pytest.FixtureRequest, stack: Rig, twin: TwinProcess) -> Iterator[Rig]:
    """A controller that runs; the arm may be anywhere, with torque or without, as the test before left it.

    A test that failed may have left anything: the next one gets a twin and a controller that begin anew.
    """
    if stack.process is None:
        stack.launch()
    failed = request.session.testsfailed
    yield stack
    if request.session.testsfailed > failed:
        if stack.process is not None:
            stack.end()
        twin.reset()
    elif stack.process is not None:
        stack.ask(op="stop", level="hold")
