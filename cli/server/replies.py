"""Replies: JSON in the forms of both APIs."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from ..common import visible
from .refusal import Refusal

CLOUD = "/1.0/"


def stamp(request: Request, operations: int = 0) -> dict[str, Any]:
    """The ``request`` object of a reply: the request's id, the time, and how many images were scored."""
    return {"id": request.state.id, "timestamp": round(time.time(), 4), "operations": operations}


def refused(request: Request, refusal: Refusal) -> JSONResponse:
    """A failure, as the API says it that the request's path belongs to."""
    reason = refusal.reason
    message = visible(refusal.message)
    if request.url.path.startswith(CLOUD):
        error: dict[str, Any] = {"type": reason.type, "code": reason.code, "message": message}
    else:
        error = {"type": refusal.kind, "message": message}
    data = {"status": "failure", "request": stamp(request), "error": error}
    request.state.error = refusal.kind
    return JSONResponse(data, reason.status, refusal.headers)
