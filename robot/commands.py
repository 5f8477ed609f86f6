"""Commands to the controller: checked strictly, dispatched, always answered."""

from __future__ import annotations

from typing import Any

from robot.errors import BusError, CommandError
from robot.mailbox import Mailbox, from_json, to_json
from robot.modes import Modes

DRAINED_PER_TICK = 32
"""Commands taken in one tick; a flood waits in the socket's queue and then with its sender."""

LONGEST_RUN_S = 86_400.0
"""Longest duration that can be asked for."""

_FIELDS: dict[str, dict[str, type]] = {
    "start": {},
    "stop": {"level": str},
    "run": {"run_id": int, "source": str, "args": dict, "max_duration_s": float},
    "end_run": {"run_id": int},
    "clear_faults": {},
    "heartbeat": {},
}


def dispatch(modes: Modes, command: dict[str, Any], now_s: float) -> dict[str, Any]:
    """Carry out one command.

    Returns:
        ``{"ok": True}``, or ``{"ok": False, "code", "message"}`` where it was refused.
    """
    try:
        op = _checked(command)
        modes.heartbeat(now_s)
        if op == "start":
            modes.start()
        elif op == "stop":
            modes.stop(command["level"], now_s)
        elif op == "run":
            fields = command["run_id"], command["source"], command["args"], float(command["max_duration_s"])
            modes.run(*fields, now_s)
        elif op == "end_run":
            modes.end_run(command["run_id"])
        elif op == "clear_faults":
            modes.clear_faults()
    except CommandError as error:
        return {"ok": False, "code": error.code, "message": str(error)}
    except BusError as error:
        return {"ok": False, "code": "bus_error", "message": str(error)}
    return {"ok": True}


def serve(mailbox: Mailbox, modes: Modes, now_s: float) -> None:
    """Answer what has come since the last tick."""
    for payload, sender in mailbox.drain(DRAINED_PER_TICK):
        try:
            answer = dispatch(modes, from_json(payload), now_s)
        except CommandError as error:
            answer = {"ok": False, "code": error.code, "message": str(error)}
        mailbox.reply(sender, to_json(answer))


def _checked(command: dict[str, Any]) -> str:
    """The operation, if the command has its fields, all of them, and no others."""
    op = command.get("op")
    if not isinstance(op, str) or op not in _FIELDS:
        raise CommandError(f"op must be one of {', '.join(_FIELDS)}, not {op!r}", code="malformed")
    fields = _FIELDS[op]
    given = set(command) - {"op"}
    if given != set(fields):
        raise CommandError(f"{op} takes {sorted(fields)}, not {sorted(given)}", code="malformed")
    for name, kind in fields.items():
        value = command[name]
        right = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not right:
            raise CommandError(f"{op}: {name} must be {kind.__name__}, not {value!r}", code="malformed")
    if "run_id" in fields and not 0 < command["run_id"] < 1 << 62:
        raise CommandError(f"{op}: run_id must be above zero and fit 62 bits", code="malformed")
    if op == "run" and not 0 < command["max_duration_s"] <= LONGEST_RUN_S:
        raise CommandError(f"run: max_duration_s must be in 0..{LONGEST_RUN_S:g}", code="malformed")
    return op
