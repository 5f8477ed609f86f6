from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.toy import write_bundle


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")
