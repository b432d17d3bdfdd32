"""The page at ``/``: pictures go in, cards come out. Its look and its cards are those of the HTML report.

The page holds the records, because the server keeps nothing. It sends them back for a card or a report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..common import worst_false_positive_rate
from .auth import check_header
from .refusal import Refusal
from .service import Service
from .uploads import read_raw

if TYPE_CHECKING:
    from jinja2 import Environment

    from .engine import Engine

# Only this server's files, and pictures that the browser made itself. No inline style or script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
_FORMATS = {"csv": "text/csv", "html": "text/html"}
_SPEEDS = {
    "fast": "fast, less accurate",
    "adaptive": "adaptive",
    "standard": "standard",
    "thorough": "thorough, slower",
}
_RECORD_BYTES = 2**20


# The files of the page: package, name and media type.
_SCRIPTS = ("front.js", "intake.js", "server.js")
_ASSETS = {
    "look.css": ("aidetect.cli.formats", "page.css", "text/css"),
    "front.css": ("aidetect.cli.server", "front.css", "text/css"),
    **{name: ("aidetect.cli.server", name, "text/javascript") for name in _SCRIPTS},
}


def routes(service: Service) -> list[Route]:
    """The routes of the page, and ``/v1/report``."""
    pages = _Pages(service)
    return [
        Route("/", pages.front, methods=["GET"]),
        Route("/page/card", pages.card, methods=["POST"]),
        Route("/page/why", pages.why, methods=["POST"]),
        Route("/page/{name}", pages.asset, methods=["GET"]),
        Route("/v1/report", pages.report, methods=["POST"]),
    ]


class _Pages:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def front(self, request: Request) -> Response:
        """The page. It holds nothing secret, so it asks for credentials itself."""
        from ..formats.html import VERDICTS, trust_context

        engine, settings = self._service.engine, self._service.settings
        if not engine.ready:
            text = _templates().get_template("starting.html").render()
            return HTMLResponse(text, 503, _HEADERS | {"Refresh": "2", "Retry-After": "2"})
        head = engine.header()
        text = (
            _templates()
            .get_template("front.html")
            .render(
                **head,
                **trust_context(head["model"]["error_rates"]),
                counts={"images": 0} | dict.fromkeys(VERDICTS, 0),
                verdicts=VERDICTS,
                speeds={mode: words for mode, words in _SPEEDS.items() if mode in engine.modes},
                max_bytes=settings.max_upload,
                urls=settings.network,
            )
        )
        return HTMLResponse(text, headers=_HEADERS)

    async def asset(self, request: Request) -> Response:
        """A style sheet or script of the page."""
        from ..formats.html import part

        asset = _ASSETS.get(request.path_params["name"])
        if asset is None:
            raise Refusal("not_found", "the page has no such file")
        package, name, kind = asset
        return Response(part(name, package), media_type=kind, headers=_HEADERS)

    async def card(self, request: Request) -> Response:
        """A picture's card."""
        return await self._shown(request, _card)

    async def why(self, request: Request) -> Response:
        """What a picture's score is made of, and how stable it is."""
        return await self._shown(request, _why)

    async def report(self, request: Request) -> Response:
        """A report, as ``/v1/scan`` gives it, in another format."""
        from . import reports

        format_ = request.query_params.get("format", "")
        if format_ not in _FORMATS:
            raise Refusal("argument", f"format is one of: {', '.join(_FORMATS)}")

        def render(engine: Engine, data: Any) -> str:
            return reports.render(engine, format_, data)

        text = await self._rendered(request, self._service.settings.max_upload, render)
        name = f'attachment; filename="aidetect-report.{format_}"'
        return Response(text, media_type=_FORMATS[format_], headers={"Content-Disposition": name})

    async def _shown(self, request: Request, render: Callable[[Engine, Any], str]) -> Response:
        return HTMLResponse(await self._rendered(request, _RECORD_BYTES, render))

    async def _rendered(self, request: Request, most: int, render: Callable[[Engine, Any], str]) -> str:
        from .reports import ReportError, read_json

        check_header(self._service.settings.credentials, request)
        engine = self._service.engine
        if not engine.ready:
            raise Refusal("starting", "the model is being loaded; try again soon")
        with self._service.budget.hold() as hold:
            data = await read_raw(request, hold, most, self._service.settings.upload_timeout)
            try:
                return await engine.in_thread(lambda: render(engine, read_json(data)))
            except ReportError as error:
                raise Refusal("argument", str(error)) from None


def _card(engine: Engine, data: Any) -> str:
    from ..formats.html import card_context

    record, number, views = _asked(data)
    detector = engine.detector(views if views in engine.modes else None)
    # The rates are of pictures.
    words = _words({} if record.clip else detector.model.card.error_rates(detector.mode))
    return _templates().get_template("scored.html").render(card_context(record, number), words=words)


def _why(engine: Engine, data: Any) -> str:
    from ..formats.html import card_context

    record, number, _ = _asked(data)
    pointing = sum(view.logit > 0 for view in record.views)
    return _templates().get_template("why.html").render(card_context(record, number), pointing=pointing)


def _asked(data: Any) -> tuple[Any, int, Any]:
    """A record, its number on the page, and its views."""
    from .reports import record_from

    asked = data if isinstance(data, dict) else {}
    number = asked.get("number")
    return record_from(asked.get("record")), number if isinstance(number, int) else 0, asked.get("views")


def _words(rates: Mapping[str, Any]) -> dict[str, str]:
    """Each verdict in words, with how often it is a mistake."""
    accused = _of_a_thousand(worst_false_positive_rate(rates), "real pictures", "are called AI too")
    missed = _of_a_thousand(rates.get("missed_as_real"), "AI pictures", "are called real too")
    return {
        "ai": f"Likely AI-generated.{accused}",
        "uncertain": "Unclear: the score reaches neither threshold. A person should look.",
        "real": f"No trace of a generator was found.{missed}",
    }


def _of_a_thousand(rate: Mapping[str, Any] | None, pictures: str, outcome: str) -> str:
    return f" Of 1,000 {pictures}, about {1000 * rate['value']:,.0f} {outcome}." if rate else ""


def _templates() -> Environment:
    from ..formats.html import templates

    return templates("aidetect.cli.server")
