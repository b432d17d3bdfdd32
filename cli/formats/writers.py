"""Writers for table, CSV, JSON, JSON Lines and the format of a cloud API."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import secrets
import string
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, Protocol

import click

from aidetect.detector.record import Record, printable

from ..common import atomic_file, use_colour, utf8_output, visible

FORMATS = ("table", "csv", "json", "jsonl", "sightengine", "html", "sarif", "junit", "github", "parquet")
SUFFIXES = {
    ".csv": "csv",
    ".htm": "html",
    ".html": "html",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".sarif": "sarif",
    ".txt": "table",
    ".xml": "junit",
}

SORTS = ("input", "probability", "verdict", "name")


class Writer(Protocol):
    """Takes a report's header, its records in order, and its counts."""

    def begin(self, header: dict[str, Any]) -> None:
        """Take the report's header."""

    def add(self, record: Record) -> None:
        """Take one record."""

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Take the counts. Nothing follows."""


def schema_text() -> str:
    """The JSON Schema of ``--format json``."""
    return files("aidetect.cli.formats").joinpath("schema/report-1.schema.json").read_text(encoding="utf-8")


format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default=None,
    help="Output format.  [default: from the suffix of -o, else table]",
)


def output_format(named: str | None, path: Path | str | None) -> str:
    """The format that ``--format`` names, else the one of the suffix of ``-o``, else ``table``."""
    return named or SUFFIXES.get(PurePosixPath(path or "").suffix.lower(), "table")


@contextlib.contextmanager
def open_output(format_: str, path: Path | None, sort: str = "input") -> Iterator[Writer]:
    """A writer to stdout, or to a file that appears only when complete."""
    if path is None:
        utf8_output(newline="")
        yield _sorted(_writer(format_)(sys.stdout, use_colour(sys.stdout)), sort)
        sys.stdout.flush()
    else:
        with atomic_file(path) as stream, contextlib.ExitStack() as further:
            more: dict[str, Any] = {}
            if format_ == "html":  # a long report has further pages, which appear just before the first
                more["name"] = path.name
                more["beside"] = lambda name: further.enter_context(atomic_file(path.with_name(name)))
            yield _sorted(_writer(format_)(stream, False, **more), sort)


def writer_to(stream: IO[str], format_: str) -> Writer:
    """A writer of plain text to a stream."""
    writer: Writer = _writer(format_)(stream, False)
    return writer


def _sorted(writer: Writer, sort: str) -> Writer:
    return writer if sort == "input" else _Sorted(writer, sort)


class _Sorted:
    """Collects the records, and passes them on in order at the end."""

    def __init__(self, writer: Writer, sort: str) -> None:
        self._writer = writer
        self._sort = sort
        self._records: list[Record] = []

    def begin(self, header: dict[str, Any]) -> None:
        self._writer.begin(header)

    def add(self, record: Record) -> None:
        self._records.append(record)

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        for record in sorted(self._records, key=self._key):
            self._writer.add(record)
        self._writer.end(counts, interrupted)

    def _key(self, record: Record) -> tuple[float, str]:
        order = {"ai": 0.0, "uncertain": 1.0, "real": 2.0, None: 3.0}
        if self._sort == "name":
            return (0.0, record.input)
        if self._sort == "verdict":
            return (order[record.verdict], record.input)
        return (-record.probability if record.probability is not None else 1.0, record.input)


class _Table:
    """One row per image, written at once. The columns have fixed widths, and the name comes last."""

    _COLOURS: ClassVar = {"ai": "31;1", "uncertain": "33", "real": "32", "error": "35"}

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._colour = colour

    def begin(self, header: dict[str, Any]) -> None:
        title = f"{'AI':>6}  {'verdict':<9}  {'size':>11}  {'format':<6}  image"
        self._line(self._paint("1", title))

    def add(self, record: Record) -> None:
        name = visible(record.input)
        if record.probability is None:
            error = visible((record.error or {}).get("message", "unknown error"))
            evidence = self._evidence(record)
            self._line(
                f"{'-':>6}  {self._paint('35', 'error    ')}  {'':>11}  {'':<6}  {name}  ({error}){evidence}"
            )
            return
        verdict = self._paint(self._COLOURS[str(record.verdict)], f"{record.verdict:<9}")
        size = f"{record.width}x{record.height}"
        frame = f"  (frame {record.frame} of {record.frames})" if (record.frames or 1) > 1 else ""
        if record.clip is not None:
            frame = f"  ({_count(record.clip['frames'], 'frame')} of {duration(record.clip['seconds'])})"
        cautions = [warning.split(":")[0] for warning in record.warnings]
        caution = f"  [{', '.join(cautions)}]" if cautions else ""
        if record.accepted:
            caution += f"  (accepted: {visible(record.accepted['reason'])})"
        caution += self._evidence(record)
        probability = percent(record.probability)
        self._line(f"{probability:>6}  {verdict}  {size:>11}  {record.format:<6}  {name}{frame}{caution}")

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        self._stream.flush()

    def _evidence(self, record: Record) -> str:
        lines = (f"\n{'':>33}  evidence: {visible(item['says'])}" for item in record.evidence or [])
        return "".join(lines)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def _count(items: list[Any], name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length or a time in a clip as text: minutes, and seconds with one decimal."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def percent(probability: float) -> str:
    """A probability as text. Never 0 % or 100 %, because neither is ever certain."""
    if probability > 0.999:
        return ">99.9%"
    if probability < 0.001:
        return "<0.1%"
    return f"{probability:.1%}"


CSV_COLUMNS = tuple(
    """
    input status verdict probability logit width height format frame frames file_bytes file_sha256
    pixels_sha256 threshold_ai threshold_real warnings milliseconds error_type error_message model
    accepted stable evidence cached
    """.split()
)


class _Csv:
    """RFC 4180, one row per image. Text that a spreadsheet would run as a formula is escaped."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._rows = csv.writer(stream, lineterminator="\r\n")
        self._model = ""

    def begin(self, header: dict[str, Any]) -> None:
        self._model = f"{header['model']['name']}@{header['model']['card_sha256'][:12]}"
        self._rows.writerow(CSV_COLUMNS)

    def add(self, record: Record) -> None:
        error = record.error or {}
        limits = record.thresholds
        row: list[Any] = [
            record.input,
            record.status,
            record.verdict,
            _number(record.probability),
            _number(record.logit),
            record.width,
            record.height,
            record.format,
            record.frame,
            record.frames,
            record.file_bytes,
            record.file_sha256,
            record.pixels_sha256,
            _number(limits.ai if limits else None),
            _number(limits.real if limits else None),
            "; ".join(record.warnings),
            round(record.milliseconds, 1),
            error.get("type"),
            error.get("message"),
            self._model,
            (record.accepted or {}).get("reason"),
            None if record.stability is None else record.stability["kept"],
            "; ".join(item["says"] for item in record.evidence or []),
            record.cached,
        ]
        self._rows.writerow([no_formula(printable(v)) if isinstance(v, str) else v for v in row])
        self._stream.flush()

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        self._stream.flush()


class _Number(float):
    """A float that CSV writes with six decimals."""

    def __repr__(self) -> str:
        return f"{float(self):.6f}"

    __str__ = __repr__


def _number(value: float | None) -> _Number | None:
    return None if value is None else _Number(value)


def no_formula(text: str) -> str:
    """Text with an apostrophe in front if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


class _Json:
    """One JSON document, written record by record."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._first = True

    def begin(self, header: dict[str, Any]) -> None:
        head = json.dumps(header, indent=2, ensure_ascii=False)
        self._stream.write(head.removesuffix("\n}") + ',\n  "records": [')

    def add(self, record: Record) -> None:
        text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False)
        indented = "\n".join(f"    {line}" for line in text.split("\n"))
        self._stream.write(("\n" if self._first else ",\n") + indented)
        self._first = False

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        tail = json.dumps({"counts": counts, "interrupted": interrupted}, indent=2)
        self._stream.write(("]" if self._first else "\n  ]") + "," + tail.removeprefix("{") + "\n")
        self._stream.flush()


class _JsonLines:
    """One record per line, written at once. Each line names the model."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._model: dict[str, Any] = {}

    def begin(self, header: dict[str, Any]) -> None:
        model = header["model"]
        self._model = {key: model[key] for key in ("name", "card_sha256", "views")}

    def add(self, record: Record) -> None:
        line = {**record.to_dict(), "model": self._model}
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        self._stream.flush()


class _Sightengine:
    """The reply of the cloud API's ``check.json`` with ``models=genai``, one per line."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream

    def begin(self, header: dict[str, Any]) -> None:
        pass

    def add(self, record: Record) -> None:
        request = {
            "id": f"req_{new_id()}",
            "timestamp": round(time.time(), 4),
            "operations": int(record.status == "ok"),
        }
        reply = cloud_reply(record, request)
        self._stream.write(json.dumps(reply, ensure_ascii=False) + "\n")
        self._stream.flush()

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        self._stream.flush()


MEDIA_ERROR = 1000
_ALPHABET = string.digits + string.ascii_letters


def cloud_reply(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """A record as the cloud API says it: ``check.json``, of clips ``video/check-sync.json``.

    What it does not know is under ``aidetect``.

    Args:
        record: a record, scored or not.
        request: the reply's ``request`` object.
    """
    ours = record.to_dict()
    kind = ours.pop("type")
    if record.status != "ok":
        error = {"type": "media_error", "code": MEDIA_ERROR, "message": ours["error"]["message"]}
        return {"status": "failure", "request": request, "error": error, "aidetect": ours}
    kind.setdefault("ai_generators", {})  # a client insists on it
    media = {"id": f"med_{new_id()}", "uri": ours["input"]}
    if record.clip is not None:
        ours["type"] = kind  # the clip's own: theirs has only its frames'
        data = {"frames": _cloud_frames(record.clip["frames"], media["id"])}
        return {"status": "success", "request": request, "media": media, "data": data, "aidetect": ours}
    return {"status": "success", "request": request, "type": kind, "media": media, "aidetect": ours}


def _cloud_frames(frames: list[dict[str, Any]], media: str) -> list[dict[str, Any]]:
    return [
        {
            "info": {"id": f"{media}_{number}", "position": round(1000 * frame["time"])},
            "type": {"ai_generated": frame["probability"]},
        }
        for number, frame in enumerate(frames, 1)
    ]


def new_id() -> str:
    """A random identifier: 21 base-62 characters."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(21))


_WRITERS: dict[str, Any] = {
    "table": _Table,
    "csv": _Csv,
    "json": _Json,
    "jsonl": _JsonLines,
    "sightengine": _Sightengine,
}


def _writer(format_: str) -> Any:
    """A format's writer: one from this module, or ``Writer`` in the module named after the format."""
    if format_ in _WRITERS:
        return _WRITERS[format_]
    return importlib.import_module(f"aidetect.cli.formats.{format_}").Writer
