"""The listing of a run as a Ray datasource: rows of sources, while they are being listed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ..inputs.source import Source, WalkOptions, expand
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
    return pa.schema(
        [("source", pa.binary()), ("listed_bytes", pa.int64()), ("listed_version", pa.string())]
    )


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
