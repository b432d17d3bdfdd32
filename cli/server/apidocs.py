"""The description of both APIs: as OpenAPI at ``/openapi.json``, for people at ``/docs``."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aidetect.detector import version

from ..formats.writers import schema_text
from .auth import check_header
from .service import Service


def routes(service: Service) -> list[Route]:
    """The routes of the description."""

    async def data(request: Request) -> Response:
        """The description as OpenAPI data."""
        check_header(service.settings.credentials, request)
        return JSONResponse(openapi())

    async def page(request: Request) -> Response:
        """The description as a page that needs no other file."""
        check_header(service.settings.credentials, request)
        text, policy = _page()
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})

    return [Route("/openapi.json", data, methods=["GET"]), Route("/docs", page, methods=["GET"])]


@functools.cache
def openapi() -> dict[str, Any]:
    """Both APIs as OpenAPI 3.1 data."""
    data: dict[str, Any] = json.loads(_text("openapi.json"))
    report = json.loads(schema_text())
    definitions = report.pop("$defs")
    moved = json.dumps({"Report": report, **definitions}).replace("#/$defs/", "#/components/schemas/")
    data["components"]["schemas"] |= json.loads(moved)
    data["info"]["version"] = version()
    return data


@functools.cache
def _page() -> tuple[str, str]:
    style = _text("apidocs.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(_text("apidocs.html")).render(api=openapi(), style=Markup(style))
    return text, f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"


def _text(name: str) -> str:
    return files("aidetect.cli.server").joinpath(f"openapi/{name}").read_text(encoding="utf-8")
