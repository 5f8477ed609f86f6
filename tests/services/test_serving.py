from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.serving import hold_without_api, runtime_folder, undisturbed
from tests.services.conftest import Service


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError("the terminal is gone")

    undisturbed(gone)("ready")


def test_a_dead_api_holds_an_arm_that_moves_and_nothing_else(service: Service) -> None:
    def moved() -> list[dict[str, Any]]:
        return [c for c in service.controller.moving() if c["op"] == "stop"]

    for mode in ("ready", "parking", "hold", "off"):
        service.controller.now(mode)
        service.until(lambda mode=mode: service.mode() == mode)
        hold_without_api(service.runtime, "api")
    assert not moved()
    service.controller.now("running")
    service.until(lambda: service.mode() == "running")
    hold_without_api(service.runtime, "cameras")
    assert not moved()
    hold_without_api(service.runtime, "api")
    assert moved() == [{"op": "stop", "level": "hold"}]
    service.controller.deaf = True
    service.controller.now("running")
    service.until(lambda: service.mode() == "running")
    hold_without_api(service.runtime, "api")  # told, not raised: the supervisor has to go on


def test_the_folder_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "so101-theirs").mkdir()
    theirs = tmp_path / "so101-theirs" / "lock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def forbidding(real: Any) -> Any:
        def guarded(path: Path, *arguments: Any, **options: Any) -> Any:
            if path == theirs:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return guarded

    for name in ("open", "stat", "is_file"):  # root is refused nothing
        monkeypatch.setattr(Path, name, forbidding(getattr(Path, name)))
    with runtime_folder() as runtime:
        assert runtime.folder.is_dir()
    assert not runtime.folder.exists() and theirs.parent.is_dir()
