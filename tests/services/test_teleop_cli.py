from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from robot.config import config_root
from services import hub
from services.cli import app
from services.console.client import ServiceClient
from services.console.run import Place
from tests.services.console_rig import FakeService, faked
from tests.services.pty_rig import Person, at_terminal


@pytest.fixture
def running() -> Iterator[tuple[FakeService, ServiceClient]]:
    with faked() as found:
        yield found


def until(person: Person, service: FakeService, *calls: str) -> None:
    """Wait until exactly these were asked for."""
    for _ in range(500):
        if len(service.calls) >= len(calls):
            break
        person.look(0.02)
    assert service.posted() == list(calls), person.seen[-2000:]
    service.calls.clear()


def test_a_person_drives_and_records_by_the_keys_of_a_terminal(running: Any) -> None:
    service, client = running
    command = ("python", "-m", "services.cli", "record", "--teleop", "keyboard", "--url", client.url)
    with at_terminal(*command) as person:
        person.until(f"ready: {client.url}")
        person.until("w s forward back")
        person.types("\r")
        until(person, service, "start", "teleop/start", "recording/next")
        person.until("running")
        person.types("\x1b", "[C")
        until(person, service, "recording/next")
        person.types("w")
        for _ in range(200):
            if {"kind": "halt"} in service.intents:
                break
            person.look(0.02)
        assert service.intents[0]["kind"] == "jog" and service.intents[0]["vx_mps"] > 0
        person.types(" ")
        until(person, service, "stop")
        person.until("STOP: the arm holds")
        person.types("\x03")
        until(person, service, "recording/stop")
        assert person.gone() == 0
        assert person.edits


REFUSED = [
    ([], "--out DIR is missing"),
    (["--out", "d", "--robot", "{alone}", "--task", "Pick."], "has no leader arm: name leader_port"),
    (["--out", "d", "--teleop", "keyboard"], "needs|terminal"),
    (["--out", "d", "--robot", "arm.yaml", "--teleop", "expert"], "expert knows only the twin"),
    (["--out", "d", "--robot", "arm.yaml"], "--task"),
    (["--out", "d", "--robot", "arm.yaml", "--task", "Pick.", "--policy", "b"], "--pickup X,Y"),
    (["--out", "d", "--fps", "20"], "--fps: only in real time, add --live"),
    (["--out", "d", "--policy", "b"], "--policy: .*so101 correct"),
    (["--out", "d", "--live", "--jobs", "2", "--image-size", "64x48"], "--image-size, --jobs: only"),
    (["--out", "d", "--live", "--pickup", "0.2,0.1"], "the expert puts the cube"),
    (["--out", "d", "--teleop", "leader", "--pickup", "0.2"], "X,Y in metres"),
    (["--out", "d", "--teleop", "leader", "--pickup", "1.2.3,4"], "X,Y in metres"),
    (["--out", "d", "--teleop", "leader", "--pickup", "0.2,0.1", "--no-pickup"], "exclude each other"),
    (["--out", "d", "--teleop", "leader", "--task", "  "], "--task: "),
    (["--out", "d", "--public"], "--push USER/NAME"),
    (["--out", "d", "--teleop", "leader", "--reset-s", "3"], "--episode-s"),
    (["--out", "d", "--url", "localhost:1"], "--out: the service at --url"),
    (["--url", "https://robot/x"], "http://HOST:PORT"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED, ids=[" ".join(options) for options, _ in REFUSED])
def test_what_makes_no_sense_is_refused_with_the_remedy(
    options: list[str], says: str, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.yaml"
    twin = (config_root() / "robots/twin.yaml").read_text()
    alone.write_text(re.sub(r"(?m)^leader_calibration:.*$", "", twin))
    result = CliRunner().invoke(app, ["record", *(option.format(alone=alone) for option in options)])
    assert result.exit_code == 1 and result.stdout == ""
    assert re.search(says, result.stderr), result.stderr


def test_a_service_that_records_nothing_is_no_place_to_record(running: Any) -> None:
    service, client = running
    service.recording = None
    result = CliRunner().invoke(app, ["record", "--teleop", "leader", "--url", client.url])
    assert "so101 record" in result.stderr


class Served:
    """What would have been served, instead of a service."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.pushed: list[tuple[Path, str, bool]] = []

    def live(self, driver: object, place: Place, *, seed: int) -> dict[str, object]:
        self.places.append(place)
        return {"out": "/data/d", "episodes": 3}

    def push(self, root: Path, repo: str, *, private: bool) -> str:
        self.pushed.append((root, repo, private))
        return f"https://hub/{repo}"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    made = Served()
    monkeypatch.setattr("services.cli.record.record_live", made.live)
    monkeypatch.setattr(hub, "push", made.push)
    monkeypatch.setattr(hub, "check_repo_id", lambda repo: None)
    return made


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--live"], {"teleop": "expert", "episodes": 10, "pickup": "required", "corrections": False}),
        (["--teleop", "leader"], {"teleop": "leader", "episodes": None, "pickup": "required"}),
        (["--teleop", "leader", "--no-pickup"], {"pickup": "none"}),
        (["--robot", "a.yaml", "--task", "Pick."], {"teleop": "leader", "pickup": "none", "task": "Pick."}),
        (["--live", "--policy", "b", "--episodes", "4"], {"corrections": True, "episodes": 4}),
        (["--teleop", "gamepad", "--episode-s", "9", "--reset-s", "0"], {"episode_s": 9.0, "reset_s": 0.0}),
    ],
)
def test_options_become_those_of_the_recorder(
    served: Served, tmp_path: Path, options: list[str], expected: dict[str, Any]
) -> None:
    result = CliRunner().invoke(app, ["record", "--out", str(tmp_path), "--json", *options])
    assert result.exit_code == ("--live" in options), "the expert has made 3 episodes and not all"
    assert json.loads(result.stdout) == {"out": "/data/d", "episodes": 3}
    own = served.places[0].own
    assert own is not None and own.recording is not None
    told = own.recording.model_dump()
    assert {key: told[key] for key in expected} == expected
    assert (own.policy is not None) == told["corrections"]
    assert served.pushed == [], "nothing is uploaded unasked"


def test_what_was_recorded_is_uploaded_when_asked_and_private_unless_public(served: Served) -> None:
    command = ["record", "--out", "d", "--teleop", "leader", "--push", "me/it"]
    for public in ([], ["--public"]):
        result = CliRunner().invoke(app, [*command, *public])
        assert "https://hub/me/it" in result.stdout
    assert served.pushed == [(Path("/data/d"), "me/it", True), (Path("/data/d"), "me/it", False)]


def test_the_expert_does_not_teleoperate_a_real_arm() -> None:
    result = CliRunner().invoke(app, ["teleop", "--with", "expert", "--robot", "arm.yaml"])
    assert result.exit_code == 1 and "knows only the twin" in result.stderr
