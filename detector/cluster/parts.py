"""The output of a run: a folder of Parquet parts, local or in a store, with the report's head beside them.

``_head.json`` is written first, ``_manifest.json`` and the empty ``_SUCCESS`` when all parts are there. A
part has the columns of a record, and two of what the listing said: ``listed_bytes`` and ``listed_version``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..audit.stored import HEAD_FILE, MANIFEST_FILE, SUCCESS_FILE, StoredFile
from ..errors import AidetectError, InputError
from ..inputs.connect import Explained
from ..parquet import arrow, read_columns, row_count, schema
from ..record import COUNTS

# Parts that are opened at the same time.
_AT_ONCE = 16
KEY_BYTES = 16
# What the head's file has besides the head: the options that must be the same when a run is continued.
RUN = "run"


def part_schema() -> Any:
    """The Arrow schema of a part."""
    pa = arrow()
    fields = [pa.field("listed_bytes", pa.int64()), pa.field("listed_version", pa.string())]
    return pa.schema([*schema(), *fields])


def key(name: str, size: int | None, version: str | None) -> bytes:
    """What tells whether an input has changed since it was scored: a hash of its name, size and version."""
    text = f"{name}\0{size}\0{version}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=KEY_BYTES).digest()


class Done:
    """The keys of inputs that finished parts hold: 16 bytes each, however many there are."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys = np.sort(np.fromiter(keys, dtype=f"S{KEY_BYTES}"))

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, one: bytes) -> bool:
        at = int(np.searchsorted(self._keys, np.bytes_(one)))
        # numpy gives bytes back without the zeros at their end; all keys have the same length.
        return at < len(self._keys) and bytes(self._keys[at]) == one.rstrip(b"\0")


class Parts:
    """The folder.

    Args:
        name: its path or address.

    Raises:
        InputError: its store cannot be used.
    """

    def __init__(self, name: str) -> None:
        self._folder = StoredFile.at(name)
        self._name = self._folder.name
        self.path = self._folder.path
        self._store = self._folder.store

    def check(self, resume: bool) -> dict[str, Any] | None:
        """What the head's file holds, or ``None`` for a new folder.

        Raises:
            AidetectError: there is a run that is not to be continued, or there are Parquet files of none; or
                the folder cannot be used.
        """
        before: dict[str, Any] | None = self._read(HEAD_FILE)
        if before is None and self._folder.parts():
            raise AidetectError(f"{self._name} holds other Parquet files; give another folder")
        if before is not None and not resume:
            hint = "continue it with --resume, or give another folder"
            raise AidetectError(f"{self._name} holds a run: {hint}")
        return before

    def begin(self, head: dict[str, Any], run: dict[str, Any], resume: bool) -> Done:
        """Write the head; when resuming, keep the one that is there, and find what is done.

        Parts that were not finished are removed.

        Args:
            head: the report's head.
            run: further options that decide what is in a record, as JSON data.
            resume: continue what is there.

        Raises:
            AidetectError: there are parts already, or they are of another model or other options.
        """
        with Explained(self._name):
            self._store.makedirs(self.path, exist_ok=True)
        before = self.check(resume)
        if before is None:
            self._write(HEAD_FILE, json.dumps({**head, RUN: run}, indent=2))
            return Done()
        try:
            same = all(before[name] == head[name] for name in ("model", "decoding")) and before[RUN] == run
            same = same and before["device"]["dtype"] == head["device"]["dtype"]
        except (KeyError, TypeError) as error:
            raise AidetectError(f"{self._name}/{HEAD_FILE} is damaged: {error!r}") from None
        if not same:
            raise AidetectError(
                f"{self._name} holds a run with another model, number format or other options; repeat them, "
                "or give another folder"
            )
        if (self._folder / SUCCESS_FILE).exists():
            self._store.rm_file(f"{self.path}/{SUCCESS_FILE}")
        return Done(found for keys in self._each(self._keys) for found in keys)

    def finish(self, fail_on: str | float | None, head: dict[str, Any]) -> tuple[Counter[str], int]:
        """Count what all parts hold, and write the manifest.

        Args:
            fail_on: what makes a finding: ``ai``, ``uncertain``, a probability, or ``None`` for nothing.
            head: the report's head.

        Returns:
            Counts by verdict, of errors, accepted ones and images; and how many are findings.
        """
        totals: Counter[str] = Counter()
        findings = 0
        parts = []
        for name, counted, found in self._each(lambda part: self._count(part, fail_on)):
            totals.update(counted)
            findings += found
            parts.append({"name": name, "images": counted["images"]})
        counts = {name: totals[name] for name in COUNTS}
        self._write(MANIFEST_FILE, json.dumps({**head, "counts": counts, "parts": parts}, indent=2))
        self._write(SUCCESS_FILE, "")
        return totals, findings

    def written(self, seen: dict[str, int]) -> int:
        """How many images the finished parts hold. ``seen`` remembers the parts that were counted."""
        for path in self._folder.parts():
            if path.name not in seen:
                try:
                    with path.open() as stream:
                        seen[path.name] = row_count(stream)
                except (OSError, ValueError, InputError):  # not finished yet
                    continue
        return sum(seen.values())

    def arrow_filesystem(self) -> Any:
        """The file system as pyarrow wants it."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        arrow()
        return PyFileSystem(FSSpecHandler(self._store))

    def _each(self, function: Any) -> Iterator[Any]:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            yield from threads.map(function, self._folder.parts())

    def _keys(self, part: StoredFile) -> list[bytes]:
        """Keys of the inputs in a part. A part that was not finished is removed and has none."""
        columns = ["input", "input_base64", "listed_bytes", "listed_version"]
        try:
            with part.open() as stream:
                rows = read_columns(stream, columns).to_pylist()
        except ValueError:  # pyarrow's error for a file without its end
            self._store.rm_file(part.path)
            return []
        keys = []
        for row in rows:
            raw = row["input_base64"]
            name = row["input"] if raw is None else os.fsdecode(base64.b64decode(raw))
            keys.append(key(name, row["listed_bytes"], row["listed_version"]))
        return keys

    def _count(self, part: StoredFile, fail_on: str | float | None) -> tuple[str, Counter[str], int]:
        import pyarrow.compute as pc

        columns = ["status", "verdict", "probability", "accepted"]
        with part.open() as stream:
            table = read_columns(stream, columns)
        counts: Counter[str] = Counter(images=table.num_rows)
        for entry in pc.value_counts(table["verdict"]).to_pylist():
            counts[entry["values"] or "errors"] += entry["counts"]
        counts["accepted"] = table.num_rows - table["accepted"].null_count
        if fail_on is None:
            return part.path.rpartition("/")[2], counts, 0
        if isinstance(fail_on, float):
            reached = pc.greater_equal(table["probability"], fail_on)
        else:
            verdicts = ["ai"] if fail_on == "ai" else ["ai", "uncertain"]
            reached = pc.is_in(table["verdict"], value_set=arrow().array(verdicts))
        found = pc.and_(pc.fill_null(reached, False), pc.is_null(table["accepted"]))
        return part.path.rpartition("/")[2], counts, int(pc.sum(found).as_py() or 0)

    def _read(self, name: str) -> Any:
        file = self._folder / name
        if not file.exists():
            return None
        try:
            with file.open() as stream:
                return json.loads(stream.read())
        except ValueError as error:
            raise AidetectError(f"{file} is damaged: {error}") from None

    def _write(self, name: str, text: str) -> None:
        with Explained(self._name):
            self._store.pipe_file(f"{self.path}/{name}", text.encode())
