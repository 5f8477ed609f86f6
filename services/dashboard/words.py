"""The API's words as this page has them: who looks at it presses buttons and sends no requests."""

from __future__ import annotations

import json

_HERE = {
    'POST /v1/teleop/start {"source": "teleop"}': "press “Drive with this page”",
    "POST /v1/teleop/start": "press “Drive with this page”",
    "POST /v1/teleop/stop": "press “End driving”",
    "POST /v1/teleop/take_over": "press “Take over with this page”",
    "POST /v1/teleop/hand_back": "press “Hand back”",
    "POST /v1/faults/clear": "press “Clear faults”",
    "POST /v1/pickups": "click in the picture",
    "POST /v1/start": "press “Start”",
    "POST /v1/stop": "press “STOP”",
    "GET /v1/faults": "“Faults”",
    "GET /v1/cameras": "the pictures",
    "GET /v1/pickups": "“Pickups”",
    "GET /v1/policies": "the top of this page",
    "GET /v1/teleop": "“Drive by hand”",
    "GET /v1/state": "this page",
    "wait for /readyz": "wait a moment",
    'say it with the command: {"pickup": {"x_m": 0.2, "y_m": 0.0}}': "click in the picture where it lies",
}
"""What others are told to send -> what is on the page; a longer one stands before what it begins with."""


def plain(text: str) -> str:
    """A message of the service for a person at the page."""
    for call, here in _HERE.items():
        text = text.replace(call, here)
    return text


def as_script() -> str:
    """The same for the page's scripts: pairs of texts, to be replaced in this order."""
    return f"window.so101Words = {json.dumps(list(_HERE.items()))};"
