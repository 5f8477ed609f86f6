"""``/docs``: the API's documentation as one page that needs no network.

The usual page of FastAPI loads its program from a public server, which a robot on a network of its own
does not reach. The machine-readable form is ``/openapi.json``.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_SOCKETS = {
    "telemetry": (
        "/v1/telemetry?hz=20",
        "Records as JSON; the first message names the joints. A slow reader loses the oldest.",
    ),
    "teleoperation": (
        "/v1/teleop/intents",
        "A stream of intents, each a message, as in POST /v1/teleop/intent; for 30 a second and more. Only "
        "problems are answered, the same one at most once a second. A socket that closes is a halt.",
    ),
}
"""By group, address and meaning: OpenAPI knows no sockets."""
_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.4rem; } section { border-top: 1px solid var(--line); padding: .9rem 0; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; } pre { overflow-x: auto; opacity: .85; }
.call { font-weight: 650; } .verb { display: inline-block; min-width: 4.2rem; opacity: .7; }
p { margin: .3rem 0; }
"""


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """Every call with its meaning, its fields and an example."""
    app: FastAPI = request.app
    return HTMLResponse(render(app.openapi()))


def render(schema: dict[str, Any]) -> str:
    """An OpenAPI description as HTML."""
    groups: dict[str, list[str]] = {}
    for path, calls in schema["paths"].items():
        for verb, call in calls.items():
            tag = (call.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_call(schema, path, verb, call))
    for tag, (address, words) in _SOCKETS.items():
        call = f"<p class='call'><span class='verb'>WS</span><code>{address}</code></p><p>{words}</p>"
        groups.setdefault(tag, []).append(f"<section>{call}</section>")
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(calls)}" for tag, calls in groups.items())
    title = escape(schema["info"]["title"])
    about = escape(schema["info"].get("description", ""))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{title} API</title><style>{_STYLE}</style><h1>{title} API</h1><p>{about}</p>"
        "<p>Errors are <code>application/problem+json</code> with <code>code</code>, <code>detail</code> and "
        "<code>remedy</code>. Machine-readable: <a href='/openapi.json'>openapi.json</a>.</p>"
        f"{body}</html>"
    )


def _call(schema: dict[str, Any], path: str, verb: str, call: dict[str, Any]) -> str:
    text = escape(call.get("description") or call.get("summary") or "").replace("\n\n", "</p><p>")
    parts = [
        f"<section><p class='call'><span class='verb'>{verb.upper()}</span><code>{escape(path)}</code></p>",
        f"<p>{text}</p>",
    ]
    content = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if content:
        parts.append(f"<pre>{escape(json.dumps(_shape(schema, content), indent=2))}</pre>")
    return "".join(parts) + "</section>"


def _shape(schema: dict[str, Any], part: dict[str, Any]) -> Any:
    """What a value looks like: fields with their types and limits in words."""
    if "$ref" in part:
        return _shape(schema, schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[-1]])
    choices = part.get("anyOf") or part.get("oneOf")
    if choices:
        kinds = [_shape(schema, one) for one in choices if one.get("type") != "null"]
        return kinds[0] if len(kinds) == 1 else kinds
    if part.get("type") == "object" and "properties" in part:
        return {name: _shape(schema, value) for name, value in part["properties"].items()}
    if "const" in part:
        return part["const"]
    if "prefixItems" in part:
        return [_shape(schema, one) for one in part["prefixItems"]]
    if "enum" in part:
        return " | ".join(map(str, part["enum"]))
    limits = [str(part[key]) for key in ("minimum", "maximum") if key in part]
    return f"{part.get('type', 'any')}{' ' + ' to '.join(limits) if limits else ''}"
