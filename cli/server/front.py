"""The page at ``/`` and its files, from the folder ``page``."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .auth import check_header
from .service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def routes(service: Service) -> list[Route]:
    """The routes of the page."""

    async def front(request: Request) -> Response:
        """The page."""
        check_header(service.settings.credentials, request)
        text = files("aidetect.cli.server").joinpath("page/index.html").read_text(encoding="utf-8")
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    return [Route("/", front, methods=["GET"])]
