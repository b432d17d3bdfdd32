"""Uploads: forms, files and raw bodies, in memory only."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from .limits import Hold, chunks
from .refusal import Refusal

MAX_FILES = 100
# The files of a request are together at most as large as so many of the largest.
LARGEST_AT_ONCE = 8
_MAX_FIELDS = 50
_MAX_FIELD_BYTES = 16 * 1024
# Of a form besides its files: fields, boundaries, headers of parts.
_REST = 256 * 1024


@dataclass(frozen=True)
class File:
    """An uploaded file: its field, its name as the client gave it, its bytes."""

    field: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Upload:
    """The body of a request: fields by name (the last of a name counts), and files in order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)


class _InMemory(MultiPartParser):
    """A parser that writes no file: its input is bounded."""

    spool_max_size = 2**62


async def read_form(request: Request, hold: Hold, max_file: int, seconds: float, files: int = 1) -> Upload:
    """The fields and files of a form, multipart or URL-encoded; nothing of another body.

    Args:
        request: whose body.
        hold: counts the bytes held.
        max_file: largest size of a file.
        seconds: until the end of the body.
        files: largest number of files.

    Raises:
        Refusal: the body is no such form, is too large, or comes too slowly.
    """
    kind = content_type(request)
    if kind == "multipart/form-data":
        most = max_file * min(files, LARGEST_AT_ONCE) + _REST
        stream = chunks(request, most, seconds, hold)
        parser: FormParser | MultiPartParser = _InMemory(
            request.headers, stream, max_files=files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
        )
    elif kind == "application/x-www-form-urlencoded":
        stream = chunks(request, _REST, seconds, hold)
        parser = FormParser(request.headers, stream, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    else:
        return Upload()
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal("request", f"not a valid form: {error.message}") from None
    except ValueError:  # a character set that cannot be used, or one that does not fit
        raise Refusal("request", "not a valid form: its text cannot be decoded") from None
    upload = Upload()
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            upload.fields[name] = value
            continue
        data = value.file.read()
        if len(data) > max_file:
            raise Refusal("too_large", f"the file is larger than {max_file / 2**20:g} MiB")
        upload.files.append(File(name, value.filename or "", data))
    return upload


async def read_raw(request: Request, hold: Hold, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        Refusal: it is too large, or comes too slowly.
    """
    return b"".join([chunk async for chunk in chunks(request, most, seconds, hold)])


def content_type(request: Request) -> str:
    """The media type of a request's body, without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
