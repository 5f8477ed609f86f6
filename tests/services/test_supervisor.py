from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.twin.camera_server import NICE as RENDERER_NICE
from services.status_board import BOARD_BYTES, StatusBoard
from services.supervisor import (
    ChildSpec,
    Supervisor,
    describe_exit,
    remove_leftovers,
    service_specs,
    write_description,
)

ROOT = Path(__file__).resolve().parents[2]
AUTOGROUP = Path("/proc/self/autogroup")
SLEEPER = "import sys, time\nopen(sys.argv[1], 'a').write('up\\n')\ntime.sleep(60)\n"
LOST = ("controller_lost", "look at the arm")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "crasher.py").write_text("raise SystemExit(3)\n")
    runtime = Runtime.create(tmp_path)
    board = StatusBoard(SharedBlock.create(runtime.service_status_name, BOARD_BYTES))
    specs = (
        ChildSpec(
            "controller", "sleeper", (str(tmp_path / "controller.log"),), what="the controller", fault=LOST
        ),
        ChildSpec("worker", "sleeper", (str(tmp_path / "worker.log"),), nice=3, what="the policy worker"),
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    made = Supervisor(runtime, specs, board, environment={"PYTHONPATH": path})
    try:
        made.start()
        yield made
    finally:
        made.stop()
        board.block.close()
        remove_leftovers(runtime)


def until(supervisor: Supervisor, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        supervisor.poll(0.02)


def pid(supervisor: Supervisor, name: str) -> int:
    found = supervisor.children[name].pid
    assert found is not None
    return found


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{process}/status").read_text()


def test_a_killed_child_is_started_again_and_it_is_told(supervisor: Supervisor) -> None:
    until(supervisor, lambda: supervisor.children["worker"].info.state == "running")
    first = pid(supervisor, "worker")
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.children["worker"].pid not in (None, first))
    board = json.loads(supervisor.board.block.read() or b"")
    assert "the policy worker was killed (signal 9)" in board["events"][-1]["message"]
    assert board["processes"]["worker"]["restarts"] == 1 and board["faults"] == []


def test_a_lost_controller_latches_a_fault_until_a_person_clears_it(supervisor: Supervisor) -> None:
    first = pid(supervisor, "controller")
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: bool(supervisor.board.faults))
    fault = supervisor.board.faults[0]
    assert (fault.code, fault.severity, fault.active) == ("controller_lost", "hold", True)
    client = MailboxClient(supervisor.runtime.supervisor_socket)
    assert supervisor.board.clear() == ["controller_lost"]
    until(supervisor, lambda: not supervisor.board.faults[0].active)
    client.tell({"op": "clear_faults"})
    until(supervisor, lambda: not supervisor.board.faults)


def test_a_child_that_cannot_live_is_tried_with_growing_pauses(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    worker = supervisor.children["worker"]
    worker.spec = ChildSpec("worker", "crasher", what="the policy worker")
    os.kill(pid(supervisor, "worker"), signal.SIGKILL)
    until(supervisor, lambda: worker.info.restarts >= 3)
    assert worker.info.last_exit == "ended with status 3"
    assert worker.pause_s >= 1.0


def test_children_give_way_by_nice_and_stop_in_order(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(supervisor, lambda: supervisor.children["worker"].info.state == "running")
    controller, worker = pid(supervisor, "controller"), pid(supervisor, "worker")
    assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, controller) + 3
    told: list[tuple[int, bool]] = []
    real = subprocess.Popen.terminate

    def terminate(process: subprocess.Popen[bytes]) -> None:
        told.append((process.pid, alive(controller)))
        real(process)

    monkeypatch.setattr(subprocess.Popen, "terminate", terminate)
    supervisor.stop()
    assert told == [(worker, True), (controller, True)] and not alive(controller) and not alive(worker)


def test_the_arm_is_parked_while_the_api_takes_a_stop(tmp_path: Path) -> None:
    for policy in (True, False):
        names = [spec.name for spec in service_specs(Runtime(tmp_path / "so101-x"), policy=policy)]
        assert names[-2:] == ["api", "controller"]  # they end in reverse


def test_what_cannot_be_made_up_for_goes_before_what_can(tmp_path: Path) -> None:
    specs = service_specs(Runtime(tmp_path / "so101-x"), policy=True, recording=True)
    nice = {spec.name: spec.nice for spec in specs}
    assert nice["controller"] == 0 < nice["cameras"] <= nice["recorder"] < nice["worker"]
    assert nice["recorder"] < nice["api"] and max(nice.values()) < RENDERER_NICE


def test_the_recorder_is_told_first_and_has_its_cameras_to_the_end(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = {s.name: s for s in service_specs(Runtime(tmp_path / "so101-x"), policy=False, recording=True)}
    assert list(specs) == ["cameras", "recorder", "api", "controller"]
    assert [spec.name for spec in specs.values() if spec.early] == ["recorder"]
    recorder = supervisor.children["controller"]  # the one that ends last
    recorder.spec = dataclasses.replace(recorder.spec, early=True)
    until(supervisor, lambda: supervisor.children["worker"].info.state == "running")
    told: list[int] = []
    real = subprocess.Popen.terminate
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda p: (told.append(p.pid), real(p)))
    first, second = pid(supervisor, "controller"), pid(supervisor, "worker")
    supervisor.stop()
    assert told == [first, second, first] and not alive(first) and not alive(second)


PARKING = """
import pathlib, signal, sys, time
count = 0
def more(*_):
    global count
    count += 1
signal.signal(signal.SIGTERM, more)
log = pathlib.Path(sys.argv[1])
log.write_text("up")
while count < 1:
    time.sleep(0.01)
log.write_text("parking")
while count < 2:
    time.sleep(0.01)
log.write_text("held")
"""


def test_a_second_signal_reaches_what_takes_its_time_to_end(tmp_path: Path, supervisor: Supervisor) -> None:
    (tmp_path / "parking.py").write_text(PARKING)
    log = tmp_path / "parking.log"
    supervisor.children["worker"].spec = ChildSpec("worker", "parking", (str(log),), stop_s=30.0)
    os.kill(pid(supervisor, "worker"), signal.SIGKILL)
    until(supervisor, lambda: log.is_file() and log.read_text() == "up")
    ended = threading.Thread(target=supervisor.stop)
    ended.start()
    supervisor._on_signal(signal.SIGINT, None)
    until_s = time.monotonic() + 10.0
    while log.read_text() != "parking":
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert ended.is_alive()
    supervisor._on_signal(signal.SIGINT, None)
    ended.join(10)
    assert not ended.is_alive() and log.read_text() == "held"


def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path, supervisor: Supervisor) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'w').write('up')\ntime.sleep(60)\n"
    )
    worker = supervisor.children["worker"]
    worker.spec = ChildSpec("worker", "stubborn", (str(tmp_path / "stubborn.log"),), stop_s=0.3)
    os.kill(pid(supervisor, "worker"), signal.SIGKILL)
    until(supervisor, (tmp_path / "stubborn.log").is_file)
    stubborn = pid(supervisor, "worker")
    supervisor.stop()
    assert not alive(stubborn)


PARENT = """
import os, sys, time
from pathlib import Path
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from services.status_board import BOARD_BYTES, StatusBoard
from services.supervisor import ChildSpec, Supervisor, remove_leftovers
runtime = Runtime.create(Path(sys.argv[1]))
board = StatusBoard(SharedBlock.create(runtime.service_status_name, BOARD_BYTES))
supervisor = Supervisor(runtime, (ChildSpec("worker", "sleeper", (sys.argv[1] + "/log",)),), board)
def tell():
    info = supervisor.children["worker"]
    if info.info.state == "running":
        print(info.pid, runtime.folder, flush=True)
        info.info.state = "stopped"
supervisor.run(tell)
remove_leftovers(runtime)
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_its_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    child, folder = parent.stdout.readline().split()
    parent.send_signal(number)
    parent.wait(10)
    deadline = time.monotonic() + 5
    while alive(int(child)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int(child))
    rest = parent.stdout.read()
    parent.stdout.close()
    if number == signal.SIGKILL:
        remove_leftovers(Runtime(Path(folder)))
    else:
        assert "done" in rest and parent.returncode == 0
    assert not Path(folder).exists()
    assert not list(Path("/dev/shm").glob(f"{Path(folder).name}*"))


def test_the_description_is_written_whole(supervisor: Supervisor) -> None:
    write_description(supervisor.runtime, {"robot": "twin"})
    assert json.loads(supervisor.runtime.description.read_text()) == {"robot": "twin"}


@pytest.mark.parametrize(("status", "words"), [(-9, "was killed (signal 9)"), (3, "ended with status 3")])
def test_exits_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


@pytest.mark.skipif(not AUTOGROUP.is_file(), reason="this kernel does not group processes by session")
def test_a_child_gives_way_to_those_of_other_sessions_too(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(f"print(open({str(AUTOGROUP)!r}).read())")
    command = [sys.executable, "-m", "services.child", str(os.getpid()), "7", "told"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    said = subprocess.check_output(command, env=environment, text=True, start_new_session=True)
    assert said.split()[-2:] == ["nice", "7"]
