"""Who may speak to the server: names in ``Host``, and pages of other origins."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from .refusal import Refusal

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
# Probes of a machine's health come by whatever address it has. They are told nothing.
HEALTH = frozenset(["/healthz", "/readyz"])


class Gate:
    """Refuses names that are not the server's, and requests that pages of other origins make.

    A page may have its own name resolved to this machine (DNS rebinding): then ``Host`` is that name. A page
    may also send a form here: then ``Origin`` is that page's.

    Args:
        app: what answers.
        names: names of this server besides those of the loopback interface, in lower case.
        origins: origins whose pages may send requests.
        closed: why no new request is taken now, or ``None``.
    """

    def __init__(
        self, app: ASGIApp, names: Iterable[str], origins: Iterable[str], closed: Callable[[], Refusal | None]
    ) -> None:
        self._app = app
        self._closed = closed
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in HEALTH:
            self._check(Request(scope))
            refusal = self._closed()
            if refusal is not None:
                raise refusal
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        hosts = request.headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._known(host):
            raise Refusal("host", "this is not a name of the server; start it with --public-host NAME")
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins:
            return
        if not _same(origin, host):
            raise Refusal("origin", "pages of this origin may not use the server; see --cors")

    def _known(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        return name in self._names or is_loopback(name)


def _same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    """Whether a host's name is one of the loopback interface."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
