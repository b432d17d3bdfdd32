"""Parquet: columns for DuckDB, pandas, Polars and Spark (`aidetect.detector.parquet` has the schema)."""

from __future__ import annotations

from typing import IO, Any

from aidetect.detector.errors import AidetectError
from aidetect.detector.parquet import RecordFile
from aidetect.detector.record import Record


class Writer:
    """One file. Row groups are written as they fill, the totals with the file's metadata at the end."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        if stream.isatty():
            raise AidetectError("Parquet is binary: write it to a file (-o report.parquet), or into a pipe")
        self._stream = stream.buffer  # type: ignore[attr-defined]
        self._file: RecordFile | None = None

    def begin(self, header: dict[str, Any]) -> None:
        """Write the start of the file. The header goes into its metadata."""
        self._file = RecordFile(self._stream, header)

    def add(self, record: Record) -> None:
        """Take one record."""
        assert self._file is not None
        self._file.add(record)

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Write what is left, and the file's metadata."""
        assert self._file is not None
        with self._file:
            self._file.end(counts, interrupted)
        self._stream.flush()
