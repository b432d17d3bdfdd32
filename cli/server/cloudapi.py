"""The API that clients of the cloud service speak: checks of images and clips, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ..common import visible
from ..formats.writers import cloud_reply
from .auth import check_fields
from .refusal import Refusal
from .replies import stamp
from .service import Service
from .uploads import File, read_form

if TYPE_CHECKING:
    from aidetect.detector.inputs.source import Source

MODELS = ("genai",)


class CloudApi:
    """The handlers of the cloud API.

    Args:
        service: engine, settings and limits.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """The routes of this API."""
        both = ["GET", "POST"]
        missing = ("check-workflow", "feedback", "video/check", "text/check")
        return [
            Route("/1.0/check.json", self.check, methods=both),
            Route("/1.0/video/check-sync.json", self.check_clip, methods=both),
            *(Route(f"/1.0/{name}.json", self.absent, methods=both) for name in missing),
        ]

    async def check(self, request: Request) -> JSONResponse:
        """Score one image: the file ``media``, or the address ``url``."""
        return await self._check(request, clip=False)

    async def check_clip(self, request: Request) -> JSONResponse:
        """Score one clip: the file ``media``, or the address ``url`` or ``stream_url``."""
        return await self._check(request, clip=True)

    async def _check(self, request: Request, clip: bool) -> JSONResponse:
        from aidetect.detector.inputs.source import Source
        from aidetect.detector.pending import Extras

        service = self._service
        with service.budget.hold() as hold:
            upload = await read_form(
                request, hold, service.settings.max_upload, service.settings.upload_timeout
            )
            fields = {**request.query_params, **upload.fields}
            credentials = service.settings.credentials
            check_fields(credentials, request, fields.get("api_user", ""), fields.get("api_secret", ""))
            _check_models(fields.get("models"))
            if clip and fields.get("stream_url"):  # as clients name it
                fields.setdefault("url", fields["stream_url"])
            media = _media(upload.files, fields)
            if media is None:
                source = await service.engine.fetch(fields["url"])
                hold.grow(len(source.payload) if isinstance(source.payload, bytes) else 0)
            else:
                source = Source(media.name or "upload", "memory", payload=media.data)
            service.note(request, [source.name])
            _check_kind(source, clip)
            record = await service.engine.score(source, Extras())
        if record.error is not None:
            request.state.error = record.error["type"]
        reply = cloud_reply(record, stamp(request, int(record.error is None)))
        return JSONResponse(reply, 200 if record.error is None else 400)

    async def absent(self, request: Request) -> JSONResponse:
        """Refuse what there is nothing behind."""
        raise Refusal(
            "argument",
            f"{request.url.path} is not available here; /1.0/check.json and /1.0/video/check-sync.json are",
        )


def _check_kind(source: Source, clip: bool) -> None:
    from aidetect.detector.clips.container import HEAD, container

    if source.error is None and isinstance(source.payload, bytes):
        is_clip = container(source.payload[:HEAD]) is not None
        if is_clip and not clip:
            raise Refusal("media", "this is a clip: send it to /1.0/video/check-sync.json")
        if clip and not is_clip:
            raise Refusal("media", "this is not an MP4, MOV, WebM, MKV or AVI file")


def _check_models(models: str | None) -> None:
    names = [name.strip() for name in (models or "").split(",") if name.strip()]
    if not names:
        raise Refusal("argument", "models is missing; this server has models=genai")
    unknown = [visible(name) for name in names if name not in MODELS]
    if unknown:
        raise Refusal("argument", f"no such model here: {', '.join(unknown)}; this server has genai")


def _media(files: list[File], fields: dict[str, str]) -> File | None:
    """The file to score, or ``None`` for an address."""
    media = next((file for file in files if file.field == "media"), None)
    if (media is not None) == bool(fields.get("url")):
        if media is not None:
            raise Refusal("argument", "media and url are both given; send one of them")
        raise Refusal("argument", "media (a file) or url is missing")
    return media
