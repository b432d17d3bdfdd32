"""Records as rows of Parquet: typed columns named as in the CSV, and nested ones for what has parts.

Fields of a record that have no column are kept as JSON in the column ``more``, so a record comes back whole.
pyarrow is imported where a file is read or written; without it there is an `AidetectError`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any

from .errors import AidetectError
from .record import Record

HEAD, COUNTS, INTERRUPTED = b"aidetect.head", b"aidetect.counts", b"aidetect.interrupted"
# A row group is written when it has so many rows, or about so many bytes of text.
GROUP_ROWS, GROUP_BYTES = 8192, 2**25

# Columns of one value: name, type, and where the value is in the record's JSON data.
_PLAIN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("input", "string", ("input",)),
    ("input_base64", "string", ("input_base64",)),
    ("status", "string", ("status",)),
    ("verdict", "string", ("verdict",)),
    ("probability", "float64", ("type", "ai_generated")),
    ("logit", "float64", ("logit",)),
    ("width", "int32", ("pixels", "width")),
    ("height", "int32", ("pixels", "height")),
    ("format", "string", ("pixels", "format")),
    ("frame", "int32", ("pixels", "frame")),
    ("frames", "int32", ("pixels", "frames")),
    ("file_bytes", "int64", ("file", "bytes")),
    ("file_sha256", "string", ("file", "sha256")),
    ("pixels_sha256", "string", ("pixels", "sha256")),
    ("threshold_ai", "float64", ("thresholds", "ai")),
    ("threshold_real", "float64", ("thresholds", "real")),
    ("milliseconds", "float64", ("milliseconds",)),
    ("error_type", "string", ("error", "type")),
    ("error_message", "string", ("error", "message")),
    ("accepted", "string", ("accepted", "reason")),
    ("accepted_date", "string", ("accepted", "date")),
    ("stable", "bool", ("stability", "kept")),
    ("cached", "bool", ("cached",)),
    ("background", "string", ("pixels", "background")),
    ("alpha_sha256", "string", ("pixels", "alpha_sha256")),
    ("turned", "int32", ("pixels", "turned")),
)
# Parts of a record that are null, or absent, as a whole.
_NULL, _ABSENT = ("error", "thresholds"), ("accepted", "stability")


def arrow() -> Any:
    """The module pyarrow, with pyarrow.parquet.

    Raises:
        AidetectError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise AidetectError("Parquet needs another package: pip install 'aidetect[parquet]'") from None
    return pyarrow


def schema() -> Any:
    """The Arrow schema of a table of records. All columns may be null."""
    pa = arrow()
    types = {"string": pa.string(), "float64": pa.float64(), "bool": pa.bool_()}
    types |= {"int32": pa.int32(), "int64": pa.int64()}
    view = pa.struct([("kind", pa.string()), ("box", pa.list_(pa.int32())), ("logit", pa.float64())])
    copies = pa.struct(
        [(name, types[kind]) for name, kind in (("name", "string"), ("logit", "float64"))]
        + [(name, types[kind]) for name, kind in (("probability", "float64"), ("verdict", "string"))]
    )
    claim = pa.struct([(name, pa.string()) for name in ("kind", "where", "says", "detail")])
    nested = [
        ("model", pa.string()),
        ("warnings", pa.list_(pa.string())),
        ("views", pa.list_(view)),
        ("generators", pa.map_(pa.string(), pa.float64())),
        ("evidence", pa.list_(claim)),
        ("stability", pa.struct([("verdict", pa.string()), ("copies", pa.list_(copies))])),
        ("more", pa.string()),
    ]
    return pa.schema([(name, types[kind]) for name, kind, _ in _PLAIN] + nested)


def model_name(head: Mapping[str, Any]) -> str:
    """A model's name and the start of its card's SHA-256, as in the column ``model``."""
    return f"{head['model']['name']}@{head['model']['card_sha256'][:12]}"


def to_row(record: Record, model: str | None = None) -> dict[str, Any]:
    """A record as a row.

    Args:
        record: the record.
        model: the value of the column ``model``.
    """
    data = copy.deepcopy(record.to_dict())
    row: dict[str, Any] = {name: _take(data, path) for name, _, path in _PLAIN}
    generators = _take(data, ("type", "ai_generators"))
    evidence = data.pop("evidence", None)
    stability = data.pop("stability", None)
    row |= {
        "model": model,
        "warnings": data.pop("warnings"),
        "views": data.pop("views"),
        "generators": None if generators is None else list(generators.items()),
        "evidence": None if evidence is None else [_claim(item) for item in evidence],
        "stability": stability,
    }
    left = {name: value for name, value in data.items() if value not in ({}, None)}
    row["more"] = json.dumps(left) if left else None
    return row


def from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON data of the record that `to_row` gave this row for.

    Raises:
        KeyError, TypeError, ValueError: these are not the columns of a record.
    """
    data: dict[str, Any] = json.loads(row["more"]) if row.get("more") else {}
    for name, _, path in _PLAIN:
        place = data
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = row[name]
    for name in (*_NULL, *_ABSENT):
        if all(value is None for value in data[name].values()):
            data[name] = None
    if data["stability"] is not None:
        data["stability"] |= row["stability"]
    if row["alpha_sha256"] is None:
        del data["pixels"]["background"], data["pixels"]["alpha_sha256"]
    if row["turned"] is None:
        del data["pixels"]["turned"]
    if row["generators"] is not None:
        data["type"]["ai_generators"] = dict(row["generators"])
    data["warnings"], data["views"] = row["warnings"], row["views"]
    claims = row["evidence"]
    if claims is not None:
        data["evidence"] = [{**item, "detail": json.loads(item["detail"])} for item in claims]
    return {name: value for name, value in data.items() if value is not None or name not in _ABSENT}


def _take(data: dict[str, Any], path: Sequence[str]) -> Any:
    """Take a value out of nested data; ``None`` where it, or what should hold it, is missing or null."""
    for step in path[:-1]:
        data = data.get(step) or {}
    return data.pop(path[-1], None)


def _claim(item: Mapping[str, Any]) -> dict[str, str]:
    detail = json.dumps(item["detail"], ensure_ascii=False)
    return {"kind": item["kind"], "where": item["where"], "says": item["says"], "detail": detail}


class RecordFile:
    """A Parquet file of records, written a row group at a time. Use it as a context manager.

    Args:
        stream: where it is written, in order; it need not be seekable.
        head: the report's head, which goes into the file's metadata.

    Raises:
        AidetectError: pyarrow is not installed.
    """

    def __init__(self, stream: IO[bytes], head: Mapping[str, Any]) -> None:
        pa = arrow()
        self._schema = schema().with_metadata({HEAD: json.dumps(head)})
        self._writer = pa.parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._model = model_name(head)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, record: Record) -> None:
        """Take a record, and write the row group if it is full."""
        row = to_row(record, self._model)
        self._rows.append(row)
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, str))
        self._bytes += sum(len(item["says"]) + len(item["detail"]) for item in row["evidence"] or [])
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is left as a row group."""
        if self._rows:
            self._writer.write_table(arrow().Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0

    def end(self, counts: Mapping[str, int], interrupted: bool) -> None:
        """Write the last row group, and put the counts into the metadata."""
        self.flush()
        found = {COUNTS: json.dumps(dict(counts)), INTERRUPTED: json.dumps(interrupted)}
        self._writer.add_key_value_metadata(found)


def _opened(source: IO[bytes]) -> Any:
    """A Parquet file as `pyarrow.parquet.ParquetFile`, which reads nothing ahead.

    Arrow's own threads may still hold buffers of a Python file when the interpreter ends, and then the
    process aborts (apache/arrow issues 34314 and 50482). So its methods need ``use_threads=False``, too.
    """
    return arrow().parquet.ParquetFile(source, pre_buffer=False)


def row_count(source: IO[bytes]) -> int:
    """How many rows a Parquet file has.

    Raises:
        AidetectError: pyarrow is not installed.
        OSError, pyarrow.ArrowInvalid: it is no Parquet file. Both are a `ValueError` or an `OSError`.
    """
    return int(_opened(source).metadata.num_rows)


def read_columns(source: IO[bytes], columns: list[str]) -> Any:
    """Some columns of a Parquet file as an Arrow table, read by the calling thread alone.

    Raises:
        AidetectError: pyarrow is not installed.
        OSError, pyarrow.ArrowInvalid: it is no Parquet file. Both are a `ValueError` or an `OSError`.
    """
    return _opened(source).read(columns=columns, use_threads=False)


def read_metadata(source: IO[bytes]) -> dict[bytes, bytes]:
    """The metadata of a Parquet file.

    Raises:
        AidetectError: pyarrow is not installed.
        OSError, pyarrow.ArrowInvalid: it is no Parquet file. Both are a `ValueError` or an `OSError`.
    """
    found: dict[bytes, bytes] = _opened(source).metadata.metadata or {}
    return found


def read_rows(source: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file as JSON data of records, some thousand at a time in memory.

    Raises:
        AidetectError: pyarrow is not installed.
        KeyError, TypeError, ValueError, OSError: it is no Parquet file of records.
    """
    names = [name for name, _, _ in _PLAIN]
    names += ["model", "warnings", "views", "generators", "evidence", "stability", "more"]
    for batch in _opened(source).iter_batches(batch_size=1024, columns=names, use_threads=False):
        yield from map(from_row, batch.to_pylist())


def table_of(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Rows of `to_row` as an Arrow table."""
    return arrow().Table.from_pylist(list(rows), schema())
