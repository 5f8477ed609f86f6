from __future__ import annotations

from collections.abc import Iterator

import pytest

from teleop_rig import TeleopRig  # isort: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeleopRig]:
    rig = TeleopRig(tmp_path_factory.mktemp("teleop"))
    yield rig
    rig.source.close()
