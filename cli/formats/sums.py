"""Sums of a report: images and verdicts per folder, verdict, generator or day."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import IO, Any

from aidetect.detector.record import Record, printable

from ..common import CommandError, atomic_file, utf8_output, visible
from .writers import no_formula, output_format

KEYS = ("folder", "verdict", "generator", "day")
SUM_FORMATS = ("table", "csv", "json")
COLUMNS = ("images", "ai", "uncertain", "real", "errors")
NO_GENERATOR = "none"


def sum_format(named: str | None, path: Path | str | None) -> str:
    """The format for sums that ``--format`` or the suffix of ``-o`` names.

    Raises:
        CommandError: sums are not written in it.
    """
    format_ = output_format(named, path)
    if format_ not in SUM_FORMATS:
        raise CommandError(f"--by writes {', '.join(SUM_FORMATS)}, not {format_}")
    return format_


class Sums:
    """Counts per group.

    Args:
        by: what makes a group, one of `KEYS`.
    """

    def __init__(self, by: str) -> None:
        self._by = by
        self._groups: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, record: Record, started: str) -> None:
        """Count a record of a run that started then."""
        self._groups[self._key(record, started)].update(["images", record.verdict or "errors"])

    def rows(self) -> list[dict[str, Any]]:
        """One row a group, in the order of its key; generators in the order of their counts."""
        groups = sorted(self._groups.items())
        if self._by == "generator":
            groups.sort(key=lambda item: -item[1]["images"])
        return [{self._by: key, **{name: counts[name] for name in COLUMNS}} for key, counts in groups]

    def write(self, format_: str, path: Path | None) -> None:
        """Write the rows to a file, or to standard output."""
        if path is None:
            utf8_output(newline="")
            self._write(format_, sys.stdout)
            sys.stdout.flush()
        else:
            with atomic_file(path) as stream:
                self._write(format_, stream)

    def _write(self, format_: str, stream: IO[str]) -> None:
        rows = self.rows()
        if format_ == "json":
            stream.write(json.dumps({"by": self._by, "groups": rows}, indent=2, ensure_ascii=False) + "\n")
        elif format_ == "csv":
            table = csv.writer(stream, lineterminator="\r\n")
            table.writerow([self._by, *COLUMNS])
            table.writerows([no_formula(row[self._by]), *(row[name] for name in COLUMNS)] for row in rows)
        else:
            stream.write("".join(f"{name:>9}  " for name in COLUMNS) + f"{self._by}\n")
            for row in rows:
                stream.write("".join(f"{row[name]:>9}  " for name in COLUMNS) + visible(row[self._by]) + "\n")

    def _key(self, record: Record, started: str) -> str:
        if self._by == "folder":
            return printable(os.path.dirname(record.input)) or "."  # noqa: PTH120
        if self._by == "verdict":
            return record.verdict or "error"
        if self._by == "generator":
            return next(iter(record.generators or {}), NO_GENERATOR)
        return started[:10]
