"""The listing of a run as a Ray datasource: rows of sources, while they are being listed."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ..inputs.expand import expand
from ..inputs.filters import WalkOptions
from ..inputs.source import Source
from ..inputs.stores import scheme_of
from ..parquet import arrow
from .parts import Done, key

# Inputs that are listed by one task, one after another.
_INPUTS = 1000
# Sources in a block; Ray joins and splits them as it needs.
_ROWS = 500


class Listing(Datasource):  # type: ignore[misc]
    """Sources under some inputs, without those that are done.

    Args:
        inputs: paths and addresses, as given. Paths are those of the driver's working directory.
        options: which files of folders are taken.
        done: a reference to the `Done` keys of finished parts.
    """

    def __init__(self, inputs: Sequence[str], options: WalkOptions, done: Any) -> None:
        super().__init__()
        self._groups = [inputs[at : at + _INPUTS] for at in range(0, len(inputs), _INPUTS)]
        self._options = options
        self._done = done
        self._folder = Path.cwd()

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before everything is listed."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task for each group of inputs."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        folder, options, done = self._folder, self._options, self._done
        return [
            ReadTask(lambda group=group: _blocks(group, folder, options, done), unknown, _schema())
            for group in self._groups
        ]


def _schema() -> Any:
    pa = arrow()
    return pa.schema([("source", pa.binary()), ("listed_bytes", pa.int64()), ("listed_version", pa.string())])


def _blocks(inputs: Iterable[str], folder: Path, options: WalkOptions, done: Any) -> Iterator[Any]:
    found: Done = ray.get(done)
    rows: list[dict[str, Any]] = []
    for source in sources(inputs, folder, options):
        size, version = stamp(source)
        if key(source.name, size, version) in found:
            continue
        rows.append({"source": pickle.dumps(source), "listed_bytes": size, "listed_version": version})
        if len(rows) == _ROWS:
            yield arrow().Table.from_pylist(rows, _schema())
            rows = []
    yield arrow().Table.from_pylist(rows, _schema())


def sources(inputs: Iterable[str], folder: Path, options: WalkOptions) -> Iterator[Source]:
    """Sources as `expand` gives them in a folder, which need not be the working directory.

    Their names are those that the driver would give them; what is read is an absolute path.
    """
    for given in inputs:
        if scheme_of(given) is not None:
            yield from expand([given], options)
            continue
        absolute = str(folder / given)
        base = "" if str(Path(given)) == "." else str(Path(given)).rstrip("/") + "/"
        for source in expand([absolute], options):
            below = source.name.removeprefix(absolute).removeprefix("/")
            name = f"{base}{below}" if below else given
            yield replace(source, name=name, address=source.location)


def stamp(source: Source) -> tuple[int | None, str | None]:
    """The size of a source, and what changes with its content: its etag, or when it was modified."""
    size, modified = source.size, source.modified
    if source.kind == "file" and modified is None:
        with contextlib.suppress(OSError, ValueError):  # reading it will say what is wrong
            status = Path(source.location).stat()
            size, modified = status.st_size, status.st_mtime
    return size, None if modified is None else f"{modified:.6f}"
