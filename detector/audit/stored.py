"""Stored reports, read again: JSON, JSON Lines, Parquet, and folders of Parquet parts.

JSON Lines and Parquet are read as a stream, so a report may be larger than memory. JSON is read whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import AidetectError
from ..parquet import HEAD, INTERRUPTED, read_metadata, read_rows
from ..record import SCHEMA, Record
from ..versions import tool
from .report import NOTE

# Files of a folder of parts: the report's head, the counts of its parts, and the sign that all are there.
HEAD_FILE, MANIFEST_FILE, SUCCESS_FILE = "_head.json", "_manifest.json", "_SUCCESS"
VERDICTS = ("ai", "uncertain", "real")
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Stored:
    """A stored report.

    Attributes:
        head: its head. A JSON Lines report states only the model's name, card and views. When the file was
            last changed stands for its start.
        interrupted: whether the run was stopped early, or is not done yet.
        records: its records, read as they are asked for. They raise `AidetectError` where it is damaged.
    """

    head: dict[str, Any]
    interrupted: bool
    records: Iterator[Record]


def open_report(path: Path) -> Stored:
    """Open a stored report, whatever its suffix.

    Raises:
        AidetectError: it cannot be read, or is no report.
    """
    try:
        if path.is_dir():
            return _folder(path)
        with path.open("rb") as stream:
            start = stream.read(4)
        if start == _PARQUET:
            return _parquet(path)
        return _json_lines(path) if _is_lines(path) else _json(path)
    except OSError as error:
        raise AidetectError(f"cannot read {path}: {error.strerror or error}") from None


def _damaged(path: Path, where: str, error: Exception) -> AidetectError:
    return AidetectError(f"{path} is no report of this version, or is damaged{where}: {error!r}")


def _records(path: Path, data: Iterator[Any]) -> Iterator[Record]:
    """Records from JSON data that are made one by one, and may be damaged."""
    good = 0
    try:
        for item in data:
            record = Record.from_dict(item)
            _check(record)
            good += 1
            yield record
    except (KeyError, TypeError, AttributeError, ValueError, OSError, RecursionError) as error:
        raise _damaged(path, f" at record {good + 1}", error) from None


_TEXT, _WHOLE, _NUMBER = (str,), (int,), (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("file_sha256", "pixels_sha256", "format", "background", "alpha_sha256"), _TEXT),
    **dict.fromkeys(("file_bytes", "width", "height", "frame", "frames"), _WHOLE),
    **dict.fromkeys(("logit", "probability", "milliseconds"), _NUMBER),
    **{"input": _TEXT, "verdict": _TEXT, "cached": (bool,), "status": _TEXT},
}
_NEEDED = ("input", "cached", "milliseconds", "status")
_SCORED = ("format", "width", "height", "frame", "frames", "logit", "probability", "verdict")


def _check(record: Record) -> None:
    """Check what the formats rely on, since a stored report may have been changed by anything.

    Raises:
        ValueError, TypeError, KeyError: a value is missing, or of another kind.
    """
    needed = {*_NEEDED, *(_SCORED if record.status == "ok" else ())}
    for name, kinds in _FIELDS.items():
        value = getattr(record, name)
        if value is not None or name in needed:
            _expect(value, kinds)
    if record.status == "ok":
        if record.verdict not in VERDICTS or not 0 <= float(record.probability or 0) <= 1 or record.error:
            raise ValueError(record.verdict, record.probability, record.error)
    else:
        if (record.status, record.verdict, record.probability) != ("error", None, None):
            raise ValueError(record.status)
        _members(record.error, type=_TEXT, message=_TEXT)
    if record.thresholds is not None:
        _members(vars(record.thresholds), ai=_NUMBER, real=_NUMBER)
    for warning in _expect(record.warnings, (list,)):
        _expect(warning, _TEXT)
    for view in _expect(record.views, (list,)):
        _members(vars(view), kind=_TEXT, logit=_NUMBER)
        if [type(edge) for edge in view.box] != [int] * 4:
            raise TypeError(view.box)
    if record.generators is not None:
        _expect(record.generators, (dict,))
        for value in record.generators.values():
            _expect(value, _NUMBER)
    if record.evidence is not None:
        for item in _expect(record.evidence, (list,)):
            _members(item, kind=_TEXT, where=_TEXT, says=_TEXT, detail=(dict,))
    if record.accepted is not None:
        _members(record.accepted, reason=_TEXT, date=_TEXT)
    if record.stability is not None:
        _members(record.stability, kept=(bool,), verdict=_TEXT, copies=(list,))
        for copy in record.stability["copies"]:
            _members(copy, name=_TEXT, logit=_NUMBER, probability=_NUMBER, verdict=_TEXT)


def _expect(value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) not in kinds:
        raise TypeError(value)
    return value


def _members(data: Any, **kinds: tuple[type, ...]) -> None:
    for name, kind in kinds.items():
        _expect(data[name], kind)


def _checked(path: Path, head: Any) -> dict[str, Any]:
    """A head that has what the formats need."""
    try:
        if head["schema"] != SCHEMA:
            raise ValueError(head["schema"])
        model = head["model"]
        model["name"] + model["card_sha256"] + model["views"] + head["started"]
        float(model["thresholds"]["ai"]) + float(model["thresholds"]["real"])
        model["error_rates"].get("recall"), head["device"]["name"], head["libraries"].items()
        found: dict[str, Any] = head
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, " in its head", error) from None
    return found


def _json(path: Path) -> Stored:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        records = data.pop("records")
        head = {name: value for name, value in data.items() if name not in ("counts", "interrupted")}
        interrupted = bool(data["interrupted"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "", error) from None
    return Stored(_checked(path, head), interrupted, _records(path, iter(records)))


def _is_lines(path: Path) -> bool:
    """Whether the first line is a whole record."""
    with path.open("rb") as stream:
        try:
            return "input" in json.loads(stream.readline())
        except (ValueError, TypeError, RecursionError):
            return False


def _json_lines(path: Path) -> Stored:
    def lines() -> Iterator[Any]:
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())

    try:
        first = next(lines())
        limits = first["thresholds"] or {"ai": 1.0, "real": 0.0}
        model = {
            **first["model"],
            "date": None,
            "tower_sha256": None,
            "prior": 0.5,
            "thresholds": limits,
            "error_rates": {},
        }
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise _damaged(path, "", error) from None
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    head = {
        "schema": SCHEMA,
        "tool": tool(),
        "model": model,
        "libraries": {},
        "device": {"name": None, "dtype": "unknown", "why": "JSON Lines does not state it"},
        "command": None,
        "started": changed.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "note": NOTE,
    }
    return Stored(_checked(path, head), False, _records(path, lines()))


def _rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as stream:
        yield from read_rows(stream)


def _metadata(path: Path) -> dict[bytes, bytes]:
    try:
        with path.open("rb") as stream:
            return read_metadata(stream)
    except ValueError as error:
        raise _damaged(path, "", error) from None


def _head_of(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        return _checked(path, json.loads(metadata[HEAD]))
    except (KeyError, ValueError) as error:
        raise _damaged(path, " in its metadata", error) from None


def _parquet(path: Path) -> Stored:
    metadata = _metadata(path)
    interrupted = metadata.get(INTERRUPTED, b"true") != b"false"
    records = _records(path, _rows(path))
    return Stored(_head_of(path, metadata), interrupted, records)


def _folder(path: Path) -> Stored:
    parts = sorted(path.glob("*.parquet"))
    head_file = path / HEAD_FILE
    if head_file.exists():
        try:
            head = _checked(head_file, json.loads(head_file.read_text(encoding="utf-8")))
            head.pop("run", None)  # for whoever continues the run
        except ValueError as error:
            raise _damaged(head_file, "", error) from None
        interrupted = not (path / SUCCESS_FILE).exists()
    elif parts:
        metadata = [_metadata(part) for part in parts]
        head = _head_of(parts[0], metadata[0])
        interrupted = any(found.get(INTERRUPTED, b"true") != b"false" for found in metadata)
    else:
        raise AidetectError(f"{path} has no Parquet files")

    def records() -> Iterator[Record]:
        for part in parts:
            yield from _records(part, _rows(part))

    return Stored(head, interrupted, records())
