from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot.errors import So101Error
from services.serving import Herald, ServeOptions, hold_without_api, runtime_folder, serve, undisturbed
from tests.rig import quick_robot
from tests.services.conftest import Service


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError("the terminal is gone")

    undisturbed(gone)("ready")


@pytest.mark.parametrize(
    ("camera", "text"),
    [("overhead", '{"table": {}}'), ("wrist", '{"reference": {"mean": 3}}'), ("wrist", "{")],
)
def test_a_damaged_camera_file_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, camera: str, text: str
) -> None:
    monkeypatch.setattr("services.serving.TwinProcess", None)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    robot = Path(quick_robot(tmp_path))
    (tmp_path / "damaged.json").write_text(text)
    raw = yaml.safe_load(robot.read_text())
    next(c for c in raw["cameras"] if c["name"] == camera)["calibration"] = "damaged.json"
    robot.write_text(yaml.safe_dump(raw))
    with pytest.raises(So101Error, match=rf"{camera}.*damaged.json.*so101 calibrate"):
        serve(ServeOptions(str(robot)), print)
    assert not list(tmp_path.glob("so101-*"))


def test_what_the_service_waits_for_is_said_once_and_then_that_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = {"policy": "no camera overhead", "controller": "ok"}

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if set(checks.values()) == {"ok"} else 503)
            self.end_headers()
            self.wfile.write(json.dumps({"checks": checks}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setattr("services.serving.READY_PERIOD_S", 0.0)
    said: list[str] = []
    with http.server.HTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        herald = Herald(ServeOptions(port=server.server_port), said.append, lambda: said.append("up"))
        herald.poll()
        assert said == []
        monkeypatch.setattr(herald, "_patient_until_s", 0.0)
        herald.poll()
        herald.poll()
        checks["policy"] = "ok"
        herald.poll()
        herald.poll()
        server.shutdown()
        url = f"http://127.0.0.1:{server.server_port}"
    assert said == [f"not ready yet (policy: no camera overhead): {url}", f"ready: {url}", "up"]


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
