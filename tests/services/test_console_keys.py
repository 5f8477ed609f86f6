from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.keys import KeyDecoder

TYPED = {
    "w": b"w",
    "W": b"W",
    "space": b" ",
    "enter": b"\r",
    "backspace": b"\x7f",
    "up": b"\x1b[A",
    "down": b"\x1bOB",
    "right": b"\x1b[C",
    "left": b"\x1bOD",
    "delete": b"\x1b[3~",
}
KEYS = st.lists(st.sampled_from(sorted(TYPED)), max_size=12)


@given(KEYS, st.data())
def test_keys_are_the_same_however_their_bytes_are_cut(keys: list[str], data: st.DataObject) -> None:
    stream = b"".join(TYPED[key] for key in keys)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    decoder, found = KeyDecoder(), list[str]()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[begin:end])
    assert found == keys
    assert not decoder.waiting


@given(st.binary(max_size=64))
def test_any_bytes_are_survived(noise: bytes) -> None:
    decoder = KeyDecoder()
    decoder.feed(noise)
    decoder.silence()
    assert decoder.feed(b" ") == ["space"]


def test_a_lone_esc_is_one_only_after_silence() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == [] and decoder.waiting
    assert decoder.silence() == ["escape"] and not decoder.waiting
    assert decoder.feed(b"\x1b\x1b[C") == ["escape", "right"]
    assert decoder.feed(b"\x1b[") == []
    assert decoder.silence() == [], "the torso of a sequence ends no session"


@pytest.mark.parametrize("typed", [b"\x1b[1;5C", b"\x1b[3;2~"])
def test_modifiers_change_no_arrow(typed: bytes) -> None:
    assert KeyDecoder().feed(typed) in (["right"], ["delete"])


@pytest.mark.parametrize(
    "typed", [b"\x1bq", b"\x1b[15~", b"\x1b[200~", b"\x1bOP", "ü".encode(), b"\x00\x03\t"]
)
def test_what_is_no_key_of_ours_does_nothing(typed: bytes) -> None:
    assert KeyDecoder().feed(typed) == []
