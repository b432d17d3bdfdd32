"""The application: routes, and what stands in front of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from . import apidocs, front
from .accesslog import AccessLog
from .cloudapi import CloudApi
from .gate import Gate
from .ownapi import OwnApi
from .refusal import Refusal
from .replies import refused
from .service import Service

_REFUSALS = {
    404: Refusal("not_found", "there is nothing at this path; see /docs"),
    405: Refusal("method", "this path does not answer this method; see /docs"),
}


def build(
    service: Service,
    start: Callable[[], object],
    write: Callable[[str], object],
    closed: Callable[[], Refusal | None],
) -> ASGIApp:
    """The application.

    Args:
        service: engine, settings and limits.
        start: called when the application starts.
        write: takes the lines of the access log.
        closed: why no new request is taken now, or ``None``.
    """
    settings = service.settings

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        start()
        yield

    middleware = []
    if settings.cors:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
        middleware.append(cors)
    routes = [
        *CloudApi(service).routes(),
        *OwnApi(service).routes(),
        *apidocs.routes(service),
        *front.routes(service),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _answer, Refusal: _refuse, Exception: _fail},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    gate = Gate(app, settings.public_hosts, settings.cors, closed)

    def closing() -> bool:
        return service.engine.closing

    return AccessLog(gate, service.metrics, settings.timeout, settings.log_names, write, closing)


async def _answer(request: Request, error: Exception) -> Response:
    """Errors of the router and of forms."""
    assert isinstance(error, HTTPException)
    refusal = _REFUSALS.get(error.status_code) or Refusal("request", "the request cannot be understood")
    response = refused(request, refusal)
    response.headers.update(error.headers or {})
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(request, error)


async def _fail(request: Request, error: Exception) -> Response:
    """An error of ours: the client learns nothing of it, `AccessLog` reports it."""
    return refused(request, Refusal("internal", "the server failed on this request"))
