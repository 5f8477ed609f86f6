"""A published file is on the disk, with every folder that had to be made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot.recording import files


def test_every_folder_whose_content_changed_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, list[str]]] = []

    def note(path: Path) -> None:
        synced.append((path, sorted(p.name for p in path.iterdir()) if path.is_dir() else []))

    monkeypatch.setattr(files, "sync_file", note)
    (tmp_path / "x").write_text("x")
    files.publish(tmp_path / "x", tmp_path / "a/b/c")
    assert synced == [
        (tmp_path / "x", []),
        (tmp_path, ["a", "x"]),
        (tmp_path / "a", ["b"]),
        (tmp_path / "a/b", ["c"]),
    ]
