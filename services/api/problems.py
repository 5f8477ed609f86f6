"""Errors as RFC 9457 problem details: what went wrong, a code for programs, a remedy for people.

Inputs are never echoed: a problem names the field, not what stood in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.pickups import Refusal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MEDIA_TYPE = "application/problem+json"
GONE = frozenset({"controller_lost", "policy_worker_lost"})
"""Refusals because a process is not there: 503, the others are 409."""


class Problem(Exception):  # noqa: N818  the RFC's own word
    """An answer that is not the one asked for.

    Args:
        status: HTTP status.
        code: Short machine-readable reason, snake_case.
        detail: What is wrong, one sentence.
        remedy: What the caller can do about it.
        extra: More members of the JSON object.
    """

    def __init__(self, status: int, code: str, detail: str, remedy: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.remedy = remedy
        self.extra = extra


def declined(refusal: Refusal) -> Problem:
    """Why something is not begun, as a problem."""
    status = 503 if refusal.code in GONE else 409
    return Problem(status, refusal.code, str(refusal), refusal.remedy)


def problem_body(problem: Problem) -> dict[str, Any]:
    """The problem as a JSON object."""
    return {
        "type": "about:blank",
        "title": problem.code.replace("_", " "),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "remedy": problem.remedy,
        **problem.extra,
    }


def problem_response(problem: Problem) -> JSONResponse:
    """The problem as it goes over the wire."""
    return JSONResponse(problem_body(problem), problem.status, media_type=MEDIA_TYPE)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    return problem_response(error if isinstance(error, Problem) else Problem(500, "internal_error", ""))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    content_type = request.headers.get("content-type", "")
    if request.method in {"POST", "PUT"} and "json" not in content_type and await request.body():
        return problem_response(
            Problem(
                415, "not_json", "the body must be JSON", "send the header Content-Type: application/json"
            )
        )
    return problem_response(invalid_request(errors))


def invalid_request(errors: Sequence[Any]) -> Problem:
    """422 with the place and the kind of every error that pydantic found, without the values."""
    found = [
        {
            "field": ".".join(str(part) for part in entry["loc"] if part != "body"),
            "message": _said(entry),
        }
        for entry in errors
    ]
    detail = "; ".join(f"{entry['field'] or 'body'}: {entry['message']}" for entry in found[:5])
    return Problem(
        422, "invalid_request", detail or "the request is not valid", "see /docs for the fields", errors=found
    )


def _said(entry: Any) -> str:
    """An error of pydantic in words; the one of a wrong kind would quote what was given."""
    if entry["type"] == "union_tag_invalid" and "ctx" in entry:
        return f"{entry['ctx']['discriminator']} must be one of {entry['ctx']['expected_tags']}"
    return str(entry["msg"]) if entry["type"] != "union_tag_invalid" else "there is no such kind"


_CODES = {
    400: ("bad_request", "send one JSON object"),
    404: ("not_found", "see /docs for what there is"),
    405: ("method_not_allowed", "see /docs for the methods"),
    413: ("body_too_large", "requests are a few hundred bytes long"),
}


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    code, remedy = _CODES.get(status, ("error", ""))
    response = problem_response(Problem(status, code, detail, remedy))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    return problem_response(
        Problem(
            500, "internal_error", "the service failed to answer", "see the service's log for the traceback"
        )
    )


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
