"""Stored reports, read again: JSON, JSON Lines, Parquet, and folders of Parquet parts.

JSON Lines and Parquet are read as a stream, so a report may be larger than memory. JSON is read whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import AidetectError, InputError
from ..inputs.connect import Explained, open_store, scheme_of
from ..inputs.redact import redacted
from ..inputs.source import file_error
from ..parquet import HEAD, INTERRUPTED, read_metadata, read_rows
from ..record import NOTE, SCHEMA, Record
from ..versions import tool

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


@dataclass(frozen=True)
class StoredFile:
    """A file or a folder, local or in a store.

    Attributes:
        store: its fsspec file system.
        path: its path there.
        name: what it is called in messages.
    """

    store: Any
    path: str
    name: str

    @classmethod
    def at(cls, name: str) -> StoredFile:
        """The one with this path or address.

        Raises:
            InputError: its store cannot be used.
        """
        if scheme_of(name) is not None:
            store, path = open_store(name)
            return cls(store, path.rstrip("/"), redacted(name).rstrip("/"))
        from fsspec.implementations.local import LocalFileSystem

        return cls(LocalFileSystem(), str(Path.cwd() / name), name)

    def __str__(self) -> str:
        return self.name

    def __truediv__(self, child: str) -> StoredFile:
        return StoredFile(self.store, f"{self.path}/{child}", f"{self.name}/{child}")

    def open(self) -> BinaryIO:
        """Its bytes as a stream that can seek.

        Raises:
            InputError: it cannot be read.
        """
        with Explained(self.name):
            return cast(BinaryIO, self.store.open(self.path, "rb"))

    def exists(self) -> bool:
        """Whether there is such a file or folder.

        Raises:
            InputError: that cannot be found out.
        """
        with Explained(self.name):
            return bool(self.store.exists(self.path))

    def parts(self) -> list[StoredFile]:
        """The Parquet files of a folder, sorted by name; none if there is no such folder.

        Raises:
            InputError: it cannot be listed.
        """
        self.store.invalidate_cache()
        try:
            with Explained(self.name):
                found = self.store.ls(self.path, detail=False)
        except InputError as error:
            if error.kind == "not_found":
                return []
            raise
        names = sorted(path.rpartition("/")[2] for path in found)
        return [self / name for name in names if name.endswith(".parquet")]


def open_report(name: str) -> Stored:
    """Open a stored report, whatever its suffix.

    Args:
        name: a path or an address.

    Raises:
        AidetectError: it cannot be read, or is no report.
    """
    place = StoredFile.at(name)
    try:
        with Explained(place.name):
            is_folder = place.store.isdir(place.path)
        if is_folder:
            return _folder(place)
        with place.open() as stream:
            start = stream.read(4)
        if start == _PARQUET:
            return _parquet(place)
        return _json_lines(place) if _is_lines(place) else _json(place)
    except (OSError, InputError) as error:
        told = file_error(error) if isinstance(error, OSError) else error
        raise AidetectError(f"cannot read {place}: {told}") from None


def _damaged(place: StoredFile, where: str, error: Exception) -> AidetectError:
    reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    kinds = "a JSON, JSON Lines or Parquet report of this version"
    return AidetectError(f"{place} is not {kinds}, or is damaged{where}: {reason}")


def _records(place: StoredFile, data: Iterator[Any]) -> Iterator[Record]:
    """Records from JSON data that are made one by one, and may be damaged."""
    good = 0
    try:
        for item in data:
            record = Record.from_dict(item)
            _check(record)
            good += 1
            yield record
    except (KeyError, TypeError, AttributeError, ValueError, OSError, RecursionError) as error:
        raise _damaged(place, f" at record {good + 1}", error) from None


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
    if record.turned not in (0, 90, 180, 270):
        raise ValueError(record.turned)
    if record.clip is not None:
        _members(record.clip, codec=_TEXT, seconds=_NUMBER, fps=_NUMBER, shots=_WHOLE, agreement=_NUMBER)
        _members(record.clip, note=_TEXT, frames=(list,))
        if not record.clip["frames"]:
            raise ValueError(record.clip)
        for frame in record.clip["frames"]:
            _members(frame, time=_NUMBER, shot=_WHOLE, pixels_sha256=_TEXT, logit=_NUMBER)
            _members(frame, probability=_NUMBER, verdict=_TEXT)
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


def _checked(place: StoredFile, head: Any) -> dict[str, Any]:
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
        raise _damaged(place, " in its head", error) from None
    return found


def _json(place: StoredFile) -> Stored:
    try:
        data = json.loads(_text(place))
        records = data.pop("records")
        head = {name: value for name, value in data.items() if name not in ("counts", "interrupted")}
        interrupted = bool(data["interrupted"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(place, "", error) from None
    return Stored(_checked(place, head), interrupted, _records(place, iter(records)))


def _is_lines(place: StoredFile) -> bool:
    """Whether the first line is a whole record."""
    with place.open() as stream:
        try:
            return "input" in json.loads(stream.readline())
        except (ValueError, TypeError, RecursionError):
            return False


def _json_lines(place: StoredFile) -> Stored:
    def lines() -> Iterator[Any]:
        with place.open() as stream:
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
        raise _damaged(place, "", error) from None
    changed = place.store.modified(place.path)
    if changed.tzinfo is None:
        changed = changed.replace(tzinfo=UTC)
    head = {
        "schema": SCHEMA,
        "tool": tool(),
        "model": model,
        "libraries": {},
        "device": {"name": None, "dtype": "unknown", "why": "JSON Lines does not state it"},
        "command": None,
        "started": changed.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "note": NOTE,
    }
    return Stored(_checked(place, head), False, _records(place, lines()))


def _rows(place: StoredFile) -> Iterator[Any]:
    with place.open() as stream:
        yield from read_rows(stream)


def _metadata(place: StoredFile) -> dict[bytes, bytes]:
    try:
        with place.open() as stream:
            return read_metadata(stream)
    except ValueError as error:
        raise _damaged(place, "", error) from None


def _head_of(place: StoredFile, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        return _checked(place, json.loads(metadata[HEAD]))
    except (KeyError, ValueError) as error:
        raise _damaged(place, " in its metadata", error) from None


def _parquet(place: StoredFile) -> Stored:
    metadata = _metadata(place)
    interrupted = metadata.get(INTERRUPTED, b"true") != b"false"
    records = _records(place, _rows(place))
    return Stored(_head_of(place, metadata), interrupted, records)


def _folder(place: StoredFile) -> Stored:
    parts = place.parts()
    if (place / HEAD_FILE).exists():
        try:
            head = _checked(place, json.loads(_text(place / HEAD_FILE)))
        except ValueError as error:
            raise _damaged(place / HEAD_FILE, "", error) from None
        head.pop("run", None)  # for whoever continues the run
        interrupted = not (place / SUCCESS_FILE).exists()
    elif parts:
        metadata = [_metadata(part) for part in parts]
        head = _head_of(parts[0], metadata[0])
        interrupted = any(found.get(INTERRUPTED, b"true") != b"false" for found in metadata)
    else:
        raise AidetectError(f"{place} has no Parquet files")

    def records() -> Iterator[Record]:
        for part in parts:
            yield from _records(part, _rows(part))

    return Stored(head, interrupted, records())


def _text(place: StoredFile) -> str:
    with place.open() as stream:
        return stream.read().decode()
