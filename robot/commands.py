"""Commands to the controller: checked strictly, dispatched, always answered."""

from __future__ import annotations

import reprlib
from typing import Any

from robot.errors import BusError, CommandError
from robot.mailbox import Mailbox, from_json, to_json
from robot.modes import Modes

DRAINED_PER_TICK = 32
"""Commands taken in one tick; a flood waits in the socket's queue and then with its sender."""

BUS_USES_PER_TICK = 2
"""Commands that talk to the servos, taken in one tick; each costs milliseconds of bus time."""

LONGEST_RUN_S = 86_400.0
"""Longest duration that can be asked for."""

_FIELDS: dict[str, dict[str, type]] = {
    "start": {},
    "stop": {"level": str},
    "run": {"run_id": int, "source": str, "args": dict, "max_duration_s": float},
    "switch": {"run_id": int, "source": str, "args": dict},
    "end_run": {"run_id": int},
    "clear_faults": {},
    "heartbeat": {},
}

_UNSENDABLE = b'{"ok":false,"code":"malformed","message":"the command cannot be carried out nor quoted"}'


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
        elif op == "switch":
            modes.switch(command["run_id"], command["source"], command["args"])
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
    """Answer what has come since the last tick.

    A command that uses the bus and is repeated at once is carried out once and answered as often as it came,
    so a flood of them neither makes the tick late nor keeps a stop behind it waiting.
    """
    last_use, uses, answer = "", 0, b""
    for _ in range(DRAINED_PER_TICK):
        received = mailbox.drain(1)
        if not received:
            return
        payload, sender = received[0]
        use = ""
        try:
            command = from_json(payload)
            use = _bus_use(command)
            if not use or use != last_use:
                answer = to_json(dispatch(modes, command, now_s))
                uses += bool(use)
        except CommandError as error:
            answer = _refusal(error)
        mailbox.reply(sender, answer)
        last_use = use
        if uses == BUS_USES_PER_TICK:
            return


def _refusal(error: CommandError) -> bytes:
    try:
        return to_json({"ok": False, "code": error.code, "message": str(error)})
    except CommandError:  # it quotes something that is too long
        return _UNSENDABLE


def _bus_use(command: dict[str, Any]) -> str:
    """What a command asks of the servos; nothing for one that leaves the bus alone, or is malformed."""
    op, level = command.get("op"), command.get("level")
    if op in ("start", "clear_faults") and len(command) == 1:
        return str(op)
    if op == "stop" and level in ("park", "release") and len(command) == 2:
        return f"stop {level}"
    return ""


def _checked(command: dict[str, Any]) -> str:
    """The operation, if the command has its fields, all of them, and no others."""
    op = command.get("op")
    if not isinstance(op, str) or op not in _FIELDS:
        raise CommandError(
            f"op must be one of {', '.join(_FIELDS)}, not {reprlib.repr(op)}", code="malformed"
        )
    fields = _FIELDS[op]
    given = set(command) - {"op"}
    if given != set(fields):
        what = reprlib.repr(sorted(given))
        raise CommandError(f"{op} takes {sorted(fields)}, not {what}", code="malformed")
    for name, kind in fields.items():
        value = command[name]
        right = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not right:
            what = reprlib.repr(value)
            raise CommandError(f"{op}: {name} must be {kind.__name__}, not {what}", code="malformed")
    if "run_id" in fields and not 0 < command["run_id"] < 1 << 62:
        raise CommandError(f"{op}: run_id must be above zero and fit 62 bits", code="malformed")
    if op == "run" and not 0 < command["max_duration_s"] <= LONGEST_RUN_S:
        raise CommandError(f"run: max_duration_s must be in 0..{LONGEST_RUN_S:g}", code="malformed")
    return op
