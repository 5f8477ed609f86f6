"""The port under the bus: whose it is, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from served_bus import ServedBus

from robot.bus import FeetechBus
from robot.errors import PortError
from robot.port import others

SLOW_MACHINE_S = 0.2


@pytest.fixture
def bus(served: ServedBus) -> Iterator[FeetechBus]:
    with FeetechBus(served.path, margin_s=SLOW_MACHINE_S) as bus:
        yield bus


def test_unplugged_port_is_a_port_error(bus: FeetechBus, served: ServedBus) -> None:
    assert bus.ping(1) == 0
    served.unplug()
    with pytest.raises(PortError, match="is gone"):
        bus.ping(1)


def test_absent_port_names_the_remedy() -> None:
    with pytest.raises(PortError, match="by-id"):
        FeetechBus("/dev/serial/by-id/no-such-adapter")


def test_a_file_is_no_port(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(PortError, match="is no serial port"):
        FeetechBus(str(path))


def test_baud_rate_of_no_servo(served: ServedBus) -> None:
    with pytest.raises(PortError, match="1000000"):
        FeetechBus(served.path, baud=123)


def test_second_opener_is_told_who_holds_the_port(bus: FeetechBus, served: ServedBus) -> None:
    script = (
        "import sys\nfrom robot.bus import FeetechBus\nfrom robot.errors import PortError\n"
        "try:\n    FeetechBus(sys.argv[1])\nexcept PortError as error:\n    sys.stdout.write(str(error))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, served.path], capture_output=True, text=True, timeout=60, check=True
    )
    assert "is in use by" in result.stdout
    assert f"pid {os.getpid()}" in result.stdout
    assert bus.ping(1) == 0


def test_port_can_be_opened_again_after_close(served: ServedBus) -> None:
    for _ in range(2):
        with FeetechBus(served.path, margin_s=SLOW_MACHINE_S) as bus:
            assert bus.ping(1) == 0
    with pytest.raises(PortError, match="has been closed"):
        bus.ping(1)


def test_port_that_a_program_without_a_lock_has_open_is_refused_and_left_as_it_is(served: ServedBus) -> None:
    script = (
        "import sys, serial\nport = serial.Serial(sys.argv[1], 1000000)\n"
        "print('open', flush=True)\nsys.stdin.readline()\n"
        "port.timeout = 0\nprint(port.read(99).hex(), flush=True)"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", script, served.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert user.stdin is not None
    assert user.stdout is not None
    try:
        assert user.stdout.readline() == "open\n"
        os.write(served.wire.fileno(), b"an answer")
        with pytest.raises(PortError, match=rf"is in use by pid {user.pid} \("):
            FeetechBus(served.path)
        user.stdin.write("\n")
        user.stdin.flush()
        assert bytes.fromhex(user.stdout.readline()) == b"an answer"
    finally:
        user.stdin.close()
        user.stdout.close()
        user.wait()
    with FeetechBus(served.path, margin_s=SLOW_MACHINE_S) as bus:
        assert bus.ping(1) == 0


def test_process_at_the_far_end_of_a_pty_is_no_user_of_it() -> None:
    script = (
        "import os, sys, tty\nmaster, slave = os.openpty()\ntty.setraw(slave)\n"
        "print(os.ttyname(slave), flush=True)\nsys.stdin.read()"
    )
    twin = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert twin.stdin is not None
    assert twin.stdout is not None
    try:
        path = twin.stdout.readline().strip()
        assert others(path) == set()
        FeetechBus(path).close()
    finally:
        twin.stdin.close()
        twin.stdout.close()
        twin.wait()


@pytest.mark.parametrize("where", ["fcntl.flock", "fcntl.ioctl"])
def test_adapter_that_fails_while_it_is_claimed_is_a_port_error(
    served: ServedBus, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(f"robot.port.{where}", fail)
        with pytest.raises(PortError, match="Input/output error"):
            FeetechBus(served.path)
    with FeetechBus(served.path, margin_s=SLOW_MACHINE_S) as bus:
        assert bus.ping(1) == 0


def test_process_that_ends_while_it_is_looked_at_is_passed_over(
    served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, listdir, scandir = f"/proc/{os.getppid()}/fd", os.listdir, os.scandir

    def ended(folder: object) -> None:
        if str(folder) == gone:
            raise FileNotFoundError(2, "No such file or directory", gone)

    monkeypatch.setattr("os.listdir", lambda folder: ended(folder) or listdir(folder))
    monkeypatch.setattr("os.scandir", lambda folder: ended(folder) or scandir(folder))
    assert others(served.path) == set()
