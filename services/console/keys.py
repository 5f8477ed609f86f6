"""From the bytes of a terminal to names of keys.

A terminal sends what was typed and nothing else: arrows and other keys without a character are escape
sequences, which may come in pieces over a slow line. A lone Esc is told from the start of a sequence by the
silence after it.
"""

from __future__ import annotations

import re

ESCAPE_S = 0.15
"""After so much silence a lone Esc is one; over a bad line the pieces of a sequence are no further apart."""

_NAMES = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "3~": "delete",
}
"""Ends of sequences as xterm and the Linux console send them; modifiers are left out before."""
_PLAIN = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", " ": "space"}
_SEQUENCE = re.compile(r"\x1b(?:\[(?P<arguments>[0-9;?]*)(?P<end>[@-~])|O(?P<ss3>[@-~])|(?P<alt>[^\[O]))")
_LONGEST = 32


class KeyDecoder:
    """Names keys: single characters as themselves, the others in words (``left``, ``enter``, ``escape``)."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def waiting(self) -> bool:
        """Whether a sequence has begun that the next bytes may go on with."""
        return bool(self._text)

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they came; give the keys that are complete. What is no key of ours is left out."""
        self._text += data.decode("ascii", errors="ignore")
        keys: list[str] = []
        while self._text:
            if self._text[0] != "\x1b":
                character, self._text = self._text[0], self._text[1:]
                name = _PLAIN.get(character, character)
                if name.isprintable():
                    keys.append(name)
                continue
            if self._text.startswith("\x1b\x1b"):
                keys.append("escape")
                self._text = self._text[1:]
                continue
            found = _SEQUENCE.match(self._text)
            if found is None:
                if len(self._text) > _LONGEST:
                    self._text = ""
                break
            self._text = self._text[found.end() :]
            name = _NAMES.get(_ending(found), "")
            if name:
                keys.append(name)
        return keys

    def silence(self) -> list[str]:
        """Nothing came for ``ESCAPE_S``: a lone Esc was one, the torso of a sequence is dropped."""
        text, self._text = self._text, ""
        return ["escape"] if text == "\x1b" else []


def _ending(found: re.Match[str]) -> str:
    if found["ss3"]:
        return found["ss3"]
    if found["end"] == "~":
        return found["arguments"].split(";")[0] + "~"
    return found["end"] or ""
