"""Reports and records that a client sends back, to be shown as a page or as CSV.

The server keeps nothing. So the page at ``/`` holds the records, and sends them when somebody wants a card
or a file. What comes is as hostile as any upload: it must follow the report's JSON Schema.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from aidetect.detector.errors import AidetectError
from aidetect.detector.record import Record

from ..formats.writers import schema_text, writer_to

if TYPE_CHECKING:
    from .engine import Engine

_DEEPEST = 32
_THUMBNAIL_BYTES = 2**16


class ReportError(AidetectError):
    """What was sent is no report, or no record, of this version."""


def read_json(data: bytes) -> Any:
    """JSON data without what a report never holds: huge integers, NaN, deep nesting.

    Raises:
        ReportError: it is not such JSON data.
    """
    try:
        found = json.loads(data, parse_int=_small, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"this is not the JSON data of a report: {error}") from None
    if _depth(found) > _DEEPEST:
        raise ReportError("this is not the JSON data of a report: it is nested too deeply")
    return found


def record_from(data: Any) -> Record:
    """A record from JSON data, as a report has it.

    Raises:
        ReportError: they do not follow the report's schema.
    """
    _check(_validators()[1], data)
    try:
        return Record.from_dict(data)
    except binascii.Error:
        raise ReportError("input_base64 is not base64") from None


def render(engine: Engine, format_: str, data: Any) -> str:
    """A report in another format.

    The header is this server's own: a client cannot make it state other error rates.

    Args:
        engine: whose model made the report.
        format_: ``csv`` or ``html``.
        data: the report, as ``/v1/scan`` gives it.

    Raises:
        ReportError: the data do not follow the report's schema, or the report is another model's.
    """
    _check(_validators()[0], data)
    head = engine.header(data["model"]["views"]) if data["model"]["views"] in engine.modes else None
    if head is None or data["model"]["card_sha256"] != head["model"]["card_sha256"]:
        raise ReportError("this report was made with another model; score the pictures again")
    records = [record_from(each) for each in data["records"]]
    thumbnails = data.get("thumbnails", [None] * len(records))
    if len(thumbnails) != len(records):
        raise ReportError("thumbnails: one for each record, or none at all")
    for record, thumbnail in zip(records, thumbnails, strict=True):
        record.thumbnail = None if thumbnail is None else _jpeg(thumbnail)
    stream = io.StringIO(newline="")
    writer = writer_to(stream, format_)
    writer.begin(head | {"started": _time(data["started"])})
    for record in records:
        writer.add(record)
    counts = Counter(record.verdict or "errors" for record in records)
    totals = {"images": len(records)} | {name: counts[name] for name in ("ai", "uncertain", "real", "errors")}
    writer.end(totals, data["interrupted"])
    return stream.getvalue()


def _jpeg(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        raise ReportError("thumbnails: not base64") from None
    if not found.startswith(b"\xff\xd8\xff") or len(found) > _THUMBNAIL_BYTES:
        raise ReportError(f"thumbnails: JPEG, at most {_THUMBNAIL_BYTES} bytes each")
    return found


def _time(text: str) -> str:
    """The time of a report's start, as a header has it."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ReportError("started: not a time") from None
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@functools.cache
def _validators() -> tuple[Draft202012Validator, Draft202012Validator]:
    """Of a whole report, whose records are checked one by one, and of a record."""
    schema = json.loads(schema_text())
    one = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": "#/$defs/record"}
    schema["properties"]["records"] = {"type": "array"}
    return Draft202012Validator(schema), Draft202012Validator(one)


def _check(validator: Draft202012Validator, data: Any) -> None:
    for error in validator.iter_errors(data):
        place = "/".join(map(str, error.absolute_path)) or "the data"
        raise ReportError(f"{place[:100]}: {error.message[:200]}")


def _small(digits: str) -> int:
    if len(digits) > 18:
        raise ValueError("an integer is too large")
    return int(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _depth(data: Any) -> int:
    """How deep lists and objects are nested."""
    deep = 0
    level = [data]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        deep += 1
    return deep
