"""Datagrams between real sockets and processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.errors import CommandError
from robot.mailbox import MAX_PAYLOAD, Mailbox, MailboxClient, from_json, to_json


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    mailbox = Mailbox(tmp_path / "box.sock")
    yield mailbox
    mailbox.close()


def test_messages_arrive_whole_and_in_order(mailbox: Mailbox) -> None:
    client = MailboxClient(mailbox.path)
    assert mailbox.drain() == []
    messages = [b"first", b"", b"x" * MAX_PAYLOAD]
    for message in messages:
        client.send(message)
    assert mailbox.drain() == [(message, None) for message in messages]


def test_drain_takes_no_more_than_its_limit(mailbox: Mailbox) -> None:
    for index in range(5):
        MailboxClient(mailbox.path).send(bytes([index]))
    assert [payload for payload, _ in mailbox.drain(limit=3)] == [b"\x00", b"\x01", b"\x02"]
    assert len(mailbox.drain(limit=3)) == 2


def test_request_gets_the_answer_from_another_process(tmp_path: Path) -> None:
    path = tmp_path / "box.sock"
    script = (
        "import sys, select; from pathlib import Path; from robot.mailbox import *\n"
        "box = Mailbox(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True:\n"
        "    select.select([box], [], [])\n"
        "    for payload, sender in box.drain():\n"
        "        box.reply(sender, to_json({'ok': True, 'got': from_json(payload)}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        client = MailboxClient(path)
        for index in range(20):
            assert client.ask({"index": index}, 5.0) == {"ok": True, "got": {"index": index}}
        process.kill()
        process.wait()
    with pytest.raises(CommandError) as failure:
        client.send(b"anyone?")
    assert failure.value.code == "unreachable"
    Mailbox(path).close()  # the file that the killed process left is no obstacle


def test_late_answer_is_not_taken_for_the_next_one(mailbox: Mailbox) -> None:
    client = MailboxClient(mailbox.path)
    with pytest.raises(CommandError, match="no answer") as failure:
        client.request(b"slow", timeout_s=0.01)
    assert failure.value.code == "timeout"

    def answer_all() -> None:
        while len(answered) < 2:
            for payload, sender in mailbox.drain():
                answered.append(payload)
                mailbox.reply(sender, b"re: " + payload)

    answered: list[bytes] = []
    thread = threading.Thread(target=answer_all)
    thread.start()
    assert client.request(b"quick", timeout_s=5.0) == b"re: quick"
    thread.join()
    assert answered == [b"slow", b"quick"]


def test_full_queue_is_the_senders_problem(mailbox: Mailbox) -> None:
    client = MailboxClient(mailbox.path)
    with pytest.raises(CommandError) as failure:
        for _ in range(100_000):
            client.send(b"flood" * 100)
    assert failure.value.code == "busy"
    assert len(mailbox.drain(limit=4)) == 4
    client.send(b"room again")


def test_replying_to_nobody_does_no_harm(mailbox: Mailbox) -> None:
    assert not mailbox.reply(None, b"x")
    assert not mailbox.reply("\x00no-such-address", b"x")
    assert not mailbox.reply("/no/such/socket", b"x")


def test_live_receiver_is_not_pushed_aside(mailbox: Mailbox) -> None:
    with pytest.raises(CommandError) as failure:
        Mailbox(mailbox.path)
    assert failure.value.code == "address_in_use"
    MailboxClient(mailbox.path).send(b"mine")
    assert mailbox.drain() == [(b"mine", None)]


@pytest.mark.parametrize("path", [Path("/tmp/" + "x" * 200), Path("/no/such/folder/box.sock")])
def test_impossible_paths_are_named(path: Path) -> None:
    with pytest.raises(CommandError, match=str(path)) as failure:
        Mailbox(path)
    assert failure.value.code == "bad_address"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[1]", b"3", b'{"x":NaN}', b'{"x":-Infinity}', b'{"x":1e400}', b"[" * 50_000, b'{"a":1'],
)
def test_what_is_not_a_finite_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(CommandError) as failure:
        from_json(payload)
    assert failure.value.code == "malformed"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", "x" * MAX_PAYLOAD])
def test_what_cannot_be_sent_is_refused(value: object) -> None:
    with pytest.raises(CommandError) as failure:
        to_json({"value": value})
    assert failure.value.code == "malformed"


@given(st.binary())
def test_any_bytes_give_an_object_or_a_command_error(payload: bytes) -> None:
    with contextlib.suppress(CommandError):
        assert isinstance(from_json(payload), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_json_round_trip(value: dict[str, object]) -> None:
    assert from_json(to_json(value)) == value
