"""The API's real process, with the dashboard on it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from calibration.table import TableMap
from robot.config import BowlConfig, CameraConfig
from services.dashboard.views import camera_view
from services.shipped import ROOT
from services.supervisor import write_description
from tests.services.conftest import TABLE_MAP, Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("dashboard"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made.port = probe.getsockname()[1]
    write_description(made.runtime, {**made.description, "robot": "twin", "api": {"port": made.port}})
    made.http.base_url = httpx.URL(f"http://127.0.0.1:{made.port}")
    command = [sys.executable, "-m", "services.processes.api", str(made.runtime.folder)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        made.until(lambda: _answers(made), 60)
        yield made
    finally:
        child.terminate()
        child.wait(10)
        made.close()


def _answers(service: Service) -> bool:
    try:
        return service.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_the_page_has_what_a_person_needs_and_loads_nothing_from_outside(process: Service) -> None:
    page = process.http.get("/")
    assert page.status_code == 200
    for needed in (
        "so101.stop()",
        "so101.start()",
        "Escape",
        "shoulder pan",
        "overhead camera",
        "Place at random",
    ):
        assert needed in page.text, needed
    loaded = re.findall(r"""(?:src|href)=["']?(https?:)?//""", page.text)
    assert loaded == []


def test_the_page_does_not_hide_the_api(process: Service) -> None:
    missing = process.http.get("/v1/nothing")
    assert missing.status_code == 404 and missing.json()["code"] == "not_found"
    refused = process.http.delete("/v1/state")
    assert refused.status_code == 405 and refused.json()["code"] == "method_not_allowed"
    assert process.http.get("/v1/state").json()["mode"] == "off"
    assert process.http.post("/v1/stop").status_code == 200


def test_a_calibrated_picture_can_be_clicked_and_shows_the_reachable_area() -> None:
    camera = CameraConfig(name="overhead", width_px=640, height_px=480)
    outline = np.array([[0.2, 0.1], [0.3, 0.1], [0.3, -0.1], [0.2, -0.1]])
    bowl = BowlConfig(x_m=0.18, y_m=-0.26, radius_m=0.06)
    html = camera_view(camera, TableMap(TABLE_MAP), outline, bowl)
    assert "pick" in html and 'class="bowl"' in html
    assert '<polygon class="reach" points="200.0,240.0 200.0,160.0 360.0,160.0 360.0,240.0"/>' in html


def test_a_picture_without_a_table_map_cannot_be_clicked() -> None:
    html = camera_view(CameraConfig(name="wrist"), None, np.zeros((0, 2)), None)
    assert "pick" not in html and "polygon" not in html


def test_the_script_is_plain_http() -> None:
    script = (Path(ROOT) / "services" / "dashboard" / "page.js").read_text()
    assert 'send("/v1/stop"' in script and "http" not in script.replace("HTTP", "")
