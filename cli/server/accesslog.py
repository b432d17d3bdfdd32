"""Request ids, the access log, and the outermost answer to errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..common import visible
from ..formats.writers import new_id
from .metrics import Metrics
from .refusal import Refusal
from .replies import refused

_DISCARD_SECONDS = 2.0
# A client that went away before its answer; nginx' number for it.
_GONE = 499
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class AccessLog:
    """Gives each request an id and a time limit, answers refusals and errors, and logs one line each.

    Args:
        app: what answers.
        metrics: counts requests.
        seconds: how long a request may take.
        names: whether pictures are named.
        write: takes the lines.
        closing: whether the server ends; then each reply says that its connection does too.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        seconds: float,
        names: bool,
        write: Callable[[str], object],
        closing: Callable[[], bool],
    ) -> None:
        self._app = app
        self._closing = closing
        self._metrics = metrics
        self._seconds = seconds
        self._names = names
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request = Request(scope, receive)
        request.state.id = f"req_{new_id()}"
        sent: dict[str, int] = {}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request.state.id
                if self._closing():
                    headers["Connection"] = "close"
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                sent["bytes"] = sent.get("bytes", 0) + len(message.get("body", b""))
            await send(message)

        try:
            refusal = await self._run(scope, receive, answer)
            if refusal is not None and not sent:
                if self._closing() or "Connection" in refusal.headers:
                    await _discard(receive)
                await refused(request, refusal)(scope, receive, answer)
        except ClientDisconnect:
            sent["status"] = _GONE
        except asyncio.CancelledError:
            sent.setdefault("status", _GONE)
            raise
        finally:
            self._log(request, sent, time.perf_counter() - start)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> Refusal | None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send)
        except Refusal as refusal:
            return refusal
        except TimeoutError:
            return Refusal("late", f"the request took longer than {self._seconds:g} s")
        except ClientDisconnect:
            raise
        except Exception:  # answered by the application unless it happened outside of it
            traceback.print_exc()  # for whoever runs the server; the client learns nothing of it
            return Refusal("internal", "the server failed on this request")
        return None

    def _log(self, request: Request, sent: dict[str, int], seconds: float) -> None:
        state = request.state
        error = getattr(state, "error", None)
        route = getattr(request.scope.get("route"), "path", "other")
        status = sent.get("status", _GONE)
        method = request.method if request.method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if error is not None:
            self._metrics.errors.labels(error).inc()
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "id": state.id,
            "client": request.client.host if request.client else None,
            "user": getattr(state, "user", None),
            "method": method,
            "route": route,
            "status": status,
            "bytes": sent.get("bytes", 0),
            "milliseconds": round(1000 * seconds, 1),
            "images": getattr(state, "images", 0),
            "error": error,
        }
        if self._names:
            line["names"] = [visible(name) for name in getattr(state, "names", [])]
        self._write(json.dumps(line, ensure_ascii=False))


async def _discard(receive: Receive) -> None:
    """Read what is left of a request: a connection that is closed before that may lose its reply."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while (await receive()).get("more_body", False):
                pass


def to_stdout(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
