"""The API's real process, with the dashboard on it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from calibration.table import TableMap
from robot.config import BowlConfig, CameraConfig, load_robot
from robot.mailbox import Mailbox, from_json, to_json
from robot.seqlock import SharedBlock
from services.dashboard.drive import in_a_line
from services.dashboard.views import camera_view
from services.dashboard.words import plain
from services.recording.status import status
from services.shipped import ROOT
from services.supervisor import write_description
from tests.browser import Browser, needs_browser
from tests.services.conftest import RETREAT, TABLE_MAP, Service, Thread
from tests.services.recorder_samples import CAMERAS, Recording

pytestmark = pytest.mark.slow


class Recorder(Thread):
    """Says that nothing is recorded, and keeps what it is told."""

    def __init__(self, service: Service, out: Path) -> None:
        super().__init__()
        self.mailbox = Mailbox(service.runtime.recorder_socket)
        self.block = SharedBlock.create(service.runtime.recorder_status_name, 32 * 1024)
        recording = Recording(out, pickup="none").ready()
        self.block.write(to_json({"pid": os.getpid(), **status(recording.session, CAMERAS, 0.0)}))
        recording.session.command({"op": "stop"})
        recording.pass_time(0.1)
        self.told: list[dict[str, Any]] = []

    def step(self) -> None:
        for payload, sender in self.mailbox.drain():
            self.told.append(from_json(payload))
            self.mailbox.reply(sender, to_json({"ok": True, "state": "idle", "message": ""}))

    def close(self) -> None:
        self.join()
        self.mailbox.close()
        self.block.close()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("dashboard"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorder(scripted: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    made = Recorder(scripted, tmp_path_factory.mktemp("recorded"))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def process(scripted: Service, recorder: Recorder) -> Iterator[Service]:
    made = scripted
    made.description["recording"] = {"pickup": "none"}
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


def table_map() -> TableMap:
    """Of the camera that looks down in the process: its robot is the twin."""
    return next(TableMap(camera.table_map) for camera in load_robot("twin")[0].cameras if camera.table_map)


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


def test_a_person_at_the_page_is_told_of_buttons() -> None:
    sources = [
        path
        for name in ("teleop", "pickups", "recording")
        for path in (ROOT / "services" / name).glob("*.py")
    ]
    sources += [
        ROOT / "services" / "api" / f"{name}.py" for name in ("arm", "cameras", "meta", "pickups", "twin")
    ]
    told = {
        call for path in sources for call in re.findall(r"(?:GET|POST|PUT) /v1/[a-z_/]+", path.read_text())
    }
    assert len(told) > 10
    assert [call for call in told if "/v1" in plain(call)] == []
    assert (
        plain("look, POST /v1/faults/clear, then POST /v1/start")
        == "look, press “Clear faults”, then press “Start”"
    )


def test_who_moves_towards_whom_is_said_before_a_leader_is_followed() -> None:
    away = {"shoulder_pan": 0.0, "elbow_flex": 60.0, "wrist_flex": -26.0}
    told = {
        "active": True,
        "source": "leader",
        "engaged": False,
        "away": away,
        "limited": None,
        "lag_ms": None,
    }
    assert in_a_line(told) == "the arm comes to the leader: elbow flex +60, wrist flex -26"
    told["limited"] = "bring the leader to the arm"
    assert in_a_line(told).startswith("bring the leader to the arm: elbow flex +60")
    told.update(source="teleop", engaged=True, away={}, limited="elbow_flex is at its limit")
    assert in_a_line(told) == "held back: elbow flex is at its limit"


class Page:
    """The dashboard in a browser, and what comes of what is done on it."""

    def __init__(self, service: Service, browser: Browser, intents: Mailbox) -> None:
        self.service, self.browser, self.taken = service, browser, []
        self._intents = intents

    def came(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many intents of a kind; all that have come since this was asked last."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found.extend(from_json(payload) for payload, _ in self._intents.drain())
            return sum(intent["kind"] == kind for intent in found) >= count

        self.service.until(there, 10)
        return found

    def quiet(self) -> bool:
        """Whether nothing comes for longer than a dead man's time."""
        time.sleep(0.3)
        return self._intents.drain() == []

    def at(self, selector: str) -> tuple[float, float]:
        where = f"const box = document.querySelector('{selector}')"
        self.browser.evaluate(f"(() => {{ {where}; box.scrollIntoView({{ block: 'center' }}); }})()")
        x, y = self.browser.evaluate(
            f"(() => {{ {where}.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return x, y

    def wide_px(self) -> float:
        """Of the picture of the calibrated camera, as it is shown."""
        box = "document.querySelector('.view.pick').getBoundingClientRect()"
        return float(self.browser.evaluate(f"{box}.width"))

    def click(self, selector: str) -> None:
        where = self.at(selector)
        self.browser.mouse("mousePressed", *where)
        self.browser.mouse("mouseReleased", *where)


@pytest.fixture(scope="module")
def opened(process: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    process.controller.script = (RETREAT,)
    browser, intents = Browser(tmp_path_factory.mktemp("browser")), Mailbox(process.runtime.teleop_socket)
    try:
        browser.show(1280, 900)
        browser.open(f"{process.http.base_url}/")
        browser.until("window.so101 !== undefined && document.querySelector('.drive') !== null")
        yield Page(process, browser, intents)
    finally:
        browser.close()
        intents.close()


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    """A person drives with it."""
    service, browser = opened.service, opened.browser
    service.start()
    browser.until("document.querySelector('.drive.nobody button.quiet') !== null")
    opened.click(".drive button.quiet")
    browser.until("document.querySelector('.drive.teleop') !== null")
    yield opened
    service.http.post("/v1/teleop/stop")
    service.until(lambda: not service.http.get("/v1/teleop").json()["active"])
    opened.came("jog", 0)  # what was on its way


@needs_browser
def test_the_arm_moves_while_something_is_held_and_no_longer(page: Page) -> None:
    page.browser.mouse("mousePressed", *page.at(".key.forward"))
    held = page.came("jog", 4)
    assert {(intent["kind"], intent["vx_mps"]) for intent in held} == {("jog", 0.08)}
    page.browser.mouse("mouseReleased", *page.at(".key.forward"))
    assert page.came("halt")[-1] == {"kind": "halt"} and page.quiet()

    page.browser.evaluate("document.querySelector('.key.left').focus()")
    page.browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter")
    assert page.came("jog", 2)[0]["vy_mps"] == 0.08
    page.browser.evaluate("window.dispatchEvent(new Event('blur'))")
    assert page.came("halt")[-1] == {"kind": "halt"} and page.quiet()

    pad = "{ mapping: 'standard', axes: [0, -1, 0, 0], buttons: [] }"
    page.browser.evaluate(f"navigator.getGamepads = () => [{pad}]")
    assert page.came("jog", 2)[0]["vx_mps"] == 0.12
    page.browser.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert page.came("halt")[-1] == {"kind": "halt"} and page.quiet()
    page.browser.evaluate("navigator.getGamepads = () => []; delete document.hidden")


@needs_browser
def test_the_hand_goes_as_far_as_the_ring_is_dragged_and_nothing_else_moves_it(page: Page) -> None:
    page.browser.until("document.querySelector('.tool').hasAttribute('transform')")
    x, y = page.at(".tool")
    page.browser.mouse("mousePressed", x + 3, y)
    other = "new PointerEvent('pointerup', { pointerId: 99, clientX: 5, clientY: 5, bubbles: true })"
    page.browser.evaluate(f"document.dispatchEvent({other})")
    page.browser.evaluate("document.querySelector('.board').style.paddingTop = '60px'")  # a fault above it
    page.browser.mouse("mouseMoved", x + 43, y - 20)
    page.browser.mouse("mouseReleased", x + 43, y - 20)
    goto = page.came("goto")[-1]
    across = 640 / page.wide_px()
    (here_x, here_y), (there_x, there_y) = (
        table_map().to_table(320 + right * across, 240 + down * across) for right, down in ((0, 0), (40, -20))
    )
    tool = RETREAT[1]
    assert goto["x_m"] - tool[0] == pytest.approx(there_x - here_x, rel=0.05)
    assert goto["y_m"] - tool[1] == pytest.approx(there_y - here_y, rel=0.05)


@needs_browser
@pytest.mark.parametrize("focus", [".key.left", ".jaws", ".metres input", ".foot .go"])
def test_space_stops_the_arm_wherever_the_focus_is(page: Page, focus: str) -> None:
    page.browser.evaluate(f"document.querySelector('{focus}').focus()")
    page.browser.mouse("mousePressed", *page.at(".key.up"))  # what is held goes no further either
    page.came("jog", 2)
    page.browser.evaluate(f"document.querySelector('{focus}').focus()")
    page.service.controller.commands.clear()
    page.browser.evaluate(
        "window.let_go = null;"
        "document.addEventListener('keyup', (event) => { window.let_go = event.defaultPrevented; })"
    )
    page.browser.press(" ")
    page.service.until(lambda: page.service.mode() == "hold")
    page.came("jog", 0)  # what was on its way
    assert page.quiet() and page.browser.evaluate("window.let_go")
    page.browser.mouse("mouseReleased", *page.at(".key.up"))
    assert {c["op"] for c in page.service.controller.moving()} == {"stop"}


@needs_browser
def test_the_recorder_is_told_what_the_buttons_say(page: Page, recorder: Recorder) -> None:
    recorder.told.clear()
    for number in range(1, 8):
        page.click(f".capture button:nth-of-type({number})")
    page.service.until(lambda: len(recorder.told) == 7)
    said = {(command["op"], command.get("label")) for command in recorder.told}
    assert said == {(op, None) for op in ("next", "finish", "redo", "discard", "stop")} | {
        ("label", "success"),
        ("label", "failure"),
    }
    recorder.told.clear()
    page.browser.evaluate("document.querySelector('.capture').classList.add('places')")
    page.click(".view.pick")
    page.browser.until("document.getElementById('toast').textContent.startsWith('The object lies')")
    for count in (1, 2):
        page.click(".capture button")
        page.service.until(lambda count=count: len(recorder.told) == count)  # type: ignore[misc]
    first, second = recorder.told
    x_m, y_m = table_map().to_table(319.5, 239.5)
    assert first["pickup"] == pytest.approx({"x_m": x_m, "y_m": y_m}, abs=0.003) and "pickup" not in second


@needs_browser
def test_nothing_was_amiss_on_the_page(opened: Page) -> None:
    busy = "status of 503"  # a picture that came late
    assert [error for error in opened.browser.errors if busy not in error] == []
