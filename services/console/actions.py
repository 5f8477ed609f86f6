"""What keys ask for, and the lines that tell a person so."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What a person may want of a session."""

    NEXT = "next"
    REDO = "redo"
    DISCARD = "discard"
    SUCCESS = "success"
    FAILURE = "failure"
    FINISH = "finish"
    QUIT = "quit"
    STOP = "stop"
    TAKE_OVER = "take_over"
    HAND_BACK = "hand_back"
    CLEAR = "clear"


KEYS: dict[str, Action] = {
    "right": Action.NEXT,
    "enter": Action.NEXT,
    "left": Action.REDO,
    "backspace": Action.REDO,
    "delete": Action.DISCARD,
    "1": Action.SUCCESS,
    "0": Action.FAILURE,
    "p": Action.FINISH,
    "escape": Action.QUIT,
    "q": Action.QUIT,
    "space": Action.STOP,
    "i": Action.TAKE_OVER,
    "b": Action.HAND_BACK,
    "k": Action.CLEAR,
}
"""Key of a terminal (see ``KeyDecoder``) -> what it asks for."""

TELEOP_HINT = "Enter begin · space STOP · q end"
RECORD_HINT = "→ Enter next · ← redo · Del discard · 1 success · 0 failure · p finish · space STOP · q end"
EXPERT_HINT = "Enter go on · k clear a fault · space STOP · q end"
CORRECT_HINT = "i take over · b hand back"
JOG_HINT = "w s forward back · a d left right · r f up down · t g pitch · z x roll · o c gripper · + - speed"
GAMEPAD_HINT = (
    "left stick x y · right stick z roll · pad pitch · triggers gripper · A next · X redo · B STOP"
    " · LB take over · RB hand back"
)
