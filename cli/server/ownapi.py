"""Our own API: scan, explain, model, health, metrics."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aidetect.detector.record import COUNTS

from .auth import check_header
from .limits import Hold
from .metrics import CONTENT_TYPE
from .refusal import Refusal
from .service import Service
from .uploads import LARGEST_AT_ONCE, MAX_FILES, content_type, read_form, read_raw

if TYPE_CHECKING:
    from aidetect.detector.inputs.source import Source
    from aidetect.detector.record import Record

T = TypeVar("T")
_TRUE, _FALSE = frozenset(["1", "true", "yes", "on", ""]), frozenset(["0", "false", "no", "off"])
_JSON_BYTES = 2**20
_NAME = "upload"
_OPTIONS = ("views", "evidence", "stability", "thumbnails")
_THUMBNAIL = 160  # longer side in pixels, as in the HTML report
# Native crops of an explanation: as many as a person can look at, and a server can compute beside its work.
_TILES = 16
_EXPLAINED_AT_ONCE = 2


@dataclass(frozen=True)
class _Options:
    """The options of a request."""

    mode: str
    evidence: bool
    stability: bool
    thumbnails: bool


class OwnApi:
    """The handlers of our own API.

    Args:
        service: engine, settings and limits.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._explaining = asyncio.Semaphore(_EXPLAINED_AT_ONCE)

    def routes(self) -> list[Route]:
        """The routes of this API."""
        return [
            Route("/v1/scan", self.scan, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/v1/model", self.model, methods=["GET"]),
            Route("/healthz", self.healthy, methods=["GET"]),
            Route("/readyz", self.is_ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def scan(self, request: Request) -> Response:
        """Score images: files of a form, one raw body, or ``{"urls": [...]}``. The reply is a report."""
        check_header(self._service.settings.credentials, request)
        with self._service.budget.hold() as hold:
            sources, fields = await self._sources(request, hold)
            options = self._options(fields)
            self._service.note(request, [source.name for source in sources])
            records = await self._score(sources, options)
        counts = Counter(dict.fromkeys(COUNTS, 0))
        for record in records:
            counts.update(["images", record.verdict or "errors"])
            counts["cached"] += record.cached
            record.finding = record.verdict == "ai"
        report = self._service.engine.header(options.mode) | {
            "records": [record.to_dict() for record in records],
            "counts": dict(counts),
            "interrupted": False,
        }
        if options.thumbnails:
            report["thumbnails"] = [_base64(record.thumbnail) for record in records]
        return JSONResponse(report)

    async def explain(self, request: Request) -> Response:
        """One image's record, stability and heat map: as JSON, or as PNG where ``Accept`` asks for it."""
        check_header(self._service.settings.credentials, request)
        with self._service.budget.hold() as hold:
            sources, fields = await self._sources(request, hold)
            if len(sources) != 1:
                raise Refusal("argument", f"one image is explained at a time, not {len(sources)}")
            (source,) = sources
            options = self._options(fields | {"stability": "true"})
            if options.mode == "adaptive":  # it may score a part of the views; all are explained
                options = replace(options, mode="standard")
            self._service.note(request, [source.name])
            (record,) = await self._score([source], options)
            if record.error is not None:
                request.state.error = record.error["type"]
                raise Refusal("media", record.error["message"])
            async with self._explaining:
                influence, picture = await self._influence(source, record, options.mode)
        if "image/png" in request.headers.get("accept", ""):
            return Response(picture, media_type="image/png")
        reply = {
            "record": record.to_dict(),
            "influence": influence,
            "heat_map": f"data:image/png;base64,{_base64(picture)}",
        }
        return JSONResponse(self._service.engine.header(options.mode) | reply)

    async def model(self, request: Request) -> Response:
        """The header of a report: model, device, error rates, libraries."""
        check_header(self._service.settings.credentials, request)
        options = self._options(dict(request.query_params))
        engine = self._service.engine
        return JSONResponse(engine.header(options.mode) | {"modes": sorted(engine.modes)})

    async def healthy(self, request: Request) -> Response:
        """Whether the process answers."""
        return PlainTextResponse("ok\n")

    async def is_ready(self, request: Request) -> Response:
        """Whether the model is loaded and has passed its self-test."""
        if self._service.engine.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503, {"Retry-After": "2"})

    async def metrics(self, request: Request) -> Response:
        """Counts and times, for Prometheus."""
        check_header(self._service.settings.credentials, request)
        return Response(self._service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _sources(self, request: Request, hold: Hold) -> tuple[list[Source], dict[str, str]]:
        from aidetect.detector.inputs.source import Source

        settings = self._service.settings
        fields = dict(request.query_params)
        kind = content_type(request)
        if kind == "application/json":
            data = await read_raw(request, hold, _JSON_BYTES, settings.upload_timeout)
            urls, more = _from_json(data)
            return await _together(self._fetch(url, hold) for url in urls), fields | more
        if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            upload = await read_form(request, hold, settings.max_upload, settings.upload_timeout, MAX_FILES)
            sources = [Source(file.name or _NAME, "memory", payload=file.data) for file in upload.files]
            fields |= upload.fields
            if "url" in upload.fields:
                sources.append(await self._fetch(upload.fields["url"], hold))
        else:
            body = await read_raw(request, hold, settings.max_upload, settings.upload_timeout)
            sources = [Source(fields.get("name") or _NAME, "memory", payload=body)] if body else []
        if not sources:
            raise Refusal("argument", "there is no image in the request; a raw one needs a Content-Type")
        return sources, fields

    async def _fetch(self, url: str, hold: Hold) -> Source:
        source = await self._service.engine.fetch(url)
        if isinstance(source.payload, bytes):
            hold.grow(len(source.payload))
        if hold.bytes > LARGEST_AT_ONCE * self._service.settings.max_upload:
            raise Refusal("too_large", "the images of this request are too large together")
        return source

    def _options(self, fields: dict[str, str]) -> _Options:
        modes = self._service.engine.modes
        mode = fields.get("views", modes[0])
        if mode not in modes:
            raise Refusal("argument", f"views is one of: {', '.join(sorted(modes))}")
        return _Options(
            mode, _flag(fields, "evidence"), _flag(fields, "stability"), _flag(fields, "thumbnails")
        )

    async def _score(self, sources: list[Source], options: _Options) -> list[Record]:
        from aidetect.detector.pending import Extras

        extras = Extras(
            stability=options.stability,
            evidence=options.evidence,
            thumbnail=_THUMBNAIL if options.thumbnails else 0,
        )
        score = self._service.engine.score
        return await _together(score(source, extras, options.mode) for source in sources)

    async def _influence(self, source: Source, record: Record, mode: str) -> tuple[dict[str, Any], bytes]:
        from aidetect.detector.explain.heatmap import heat_map, png
        from aidetect.detector.explain.influence import find_influence, scored_frame

        engine = self._service.engine
        detector = engine.detector(mode)
        data = source.payload
        assert isinstance(data, bytes)
        rgb = await engine.in_thread(lambda: scored_frame(detector, data, record))
        found = await engine.call(lambda: find_influence(detector, rgb, _TILES))
        scored = sum(view.kind == "native" for view in record.views)
        heading = f"{record.verdict}: {record.probability:.1%}"
        details = f"{record.width}x{record.height} {record.format}, model {detector.model.card.name}"
        picture = await engine.in_thread(lambda: png(heat_map(rgb, found, heading, details, scored)))
        return found.to_dict(), picture


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order. If one fails the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _flag(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name, "false").lower()
    if value not in _TRUE | _FALSE:
        raise Refusal("argument", f"{name} is true or false")
    return value in _TRUE


def _from_json(data: bytes) -> tuple[list[str], dict[str, str]]:
    """Addresses and options of a JSON body."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Refusal("request", "the body is not JSON") from None
    urls = found.get("urls") if isinstance(found, dict) else None
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise Refusal("argument", 'the body is not of the form {"urls": ["https://..."]}')
    if len(urls) > MAX_FILES:
        raise Refusal("argument", f"more than {MAX_FILES} addresses in one request")
    options = {name: found[name] for name in _OPTIONS if name in found}
    if not all(isinstance(value, str | bool) for value in options.values()):
        raise Refusal("argument", "views is a name, evidence and stability are true or false")
    return urls, {name: str(value).lower() for name, value in options.items()}
