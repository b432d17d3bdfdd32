"""The listing of a run as a Ray datasource: rows of sources, while they are being listed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from ..inputs.expand import expand
from ..inputs.selection import Selection, is_new, selected
from ..inputs.source import Source
from ..inputs.stores import scheme_of
from ..parquet import arrow
from .parts import Done, key
from .workers import Choice

# Inputs that are listed by one task, one after another.
_INPUTS = 1000
# Sources in a block; Ray joins and splits them as it needs.
_ROWS = 500


class Listing(Datasource):
    """Sources under some inputs, without those that are done.

    Args:
        inputs: paths and addresses, as given. Paths are those of the driver's working directory.
        choice: which of what is found.
        done: a reference to the `Done` keys of finished parts.
    """

    def __init__(self, inputs: Sequence[str], choice: Choice, done: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        counted = choice.selection.limit is not None or choice.selection.sample is not None
        size = max(1, len(inputs)) if counted else _INPUTS  # only one task can count
        self._groups = [inputs[at : at + size] for at in range(0, len(inputs), size)]
        self._choice = choice
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
        folder, choice, done = self._folder, self._choice, self._done

        def task(group: Sequence[str]) -> ReadTask:
            def read() -> Iterator[Any]:
                return _blocks(group, folder, choice, done)

            return ReadTask(read, unknown, _schema())

        return [task(group) for group in self._groups]


def _schema() -> Any:
    pa = arrow()
    texts = [("source", pa.binary()), ("name", pa.binary())]
    return pa.schema([*texts, ("listed_bytes", pa.int64()), ("listed_version", pa.string())])


def _blocks(inputs: Sequence[str], folder: Path, choice: Choice, done: Any) -> Iterator[Any]:
    """Tables of sources: pickled, with the names that records get, and their stamps."""
    found: Done = ray.get(done)
    rows: list[dict[str, Any]] = []
    for name, source in _sources(inputs, folder, choice):
        size, version = stamp(source)
        if key(name, size, version) in found:
            continue
        row = {"source": pickle.dumps(source), "name": os.fsencode(name)}
        rows.append({**row, "listed_bytes": size, "listed_version": version})
        if len(rows) == _ROWS:
            yield arrow().Table.from_pylist(rows, _schema())
            rows = []
    yield arrow().Table.from_pylist(rows, _schema())


def _sources(inputs: Sequence[str], folder: Path, choice: Choice) -> Iterator[tuple[str, Source]]:
    """Sources, with the names that the driver would give them. Archives are not entered.

    Each archive counts as one input.
    """
    absolute = [given if scheme_of(given) else str(folder / given) for given in inputs]

    def found() -> Iterator[Source]:
        for number, name in enumerate(absolute):
            for source in expand([name], choice.walk, choice.fetch):
                archive = source.kind == "archive"
                if archive or is_new(source, choice.selection):
                    yield replace(source, place=source.place if archive else None, index=number)

    counted = Selection(
        limit=choice.selection.limit, sample=choice.selection.sample, seed=choice.selection.seed
    )
    for source in selected(found(), counted, iter):
        yield _as_given(source.name, absolute[source.index], inputs[source.index]), source


def _as_given(name: str, absolute: str, given: str) -> str:
    """The name of a source below an input, as it would be if the input were searched as it was given."""
    if absolute == given or not name.startswith(absolute):
        return name
    below = name.removeprefix(absolute).removeprefix("/")
    base = "" if str(Path(given)) == "." else str(Path(given)).rstrip("/") + "/"
    return f"{base}{below}" if below else given


def stamp(source: Source) -> tuple[int | None, str | None]:
    """The size of a source, and what changes with its content: its etag, or when it was modified."""
    version = source.etag or (None if source.modified is None else f"{source.modified:.6f}")
    return source.size, version
