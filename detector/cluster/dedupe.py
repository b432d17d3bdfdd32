"""Pictures that are equal in pixels, grouped before they are scored: each group is scored once.

Everything is read and decoded once to find the groups, and one picture of each group a second time. What is
kept of the others is small: their record so far, and the hashes of their frames.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from typing import Any

from ..inputs.source import Source
from ..parquet import arrow
from .workers import Choice, Description, Item, Settings, group_table, prepare, prepared_rows, preparer_for

PICTURE = "picture"


def look(
    table: Any, settings: Settings, description: Description, choice: Choice, done: Any
) -> Iterator[Any]:
    """Read and decode sources, and say which picture each is. Arguments are those of `workers.decode`.

    Yields:
        A table of one row for each input: the column `PICTURE`, and a pickled pair of item and source.
    """
    with preparer_for(settings, description, choice) as preparer:
        for item, source in prepared_rows(table, preparer, choice, done):
            name = _picture(item) or item.prepared.record.input.encode("utf-8", "surrogateescape")
            for frame in item.prepared.frames:
                frame.views, frame.turned = [], None
            yield arrow().table(
                {PICTURE: [hashlib.sha256(name).digest()], "pair": [pickle.dumps((item, source))]}
            )


def grouped(table: Any) -> Any:
    """The rows of one picture as one row."""
    return arrow().table({"pairs": [table["pair"].to_pylist()]})


def decode_groups(table: Any, settings: Settings, description: Description, choice: Choice) -> Iterator[Any]:
    """Decode one picture of each group again.

    Args:
        table: rows of `grouped`.
        settings, description, choice: as for `workers.decode`.

    Yields:
        A table of one row for each group: what `workers.Scorer` takes.
    """
    with preparer_for(settings, description, choice) as preparer:
        for pairs in table["pairs"].to_pylist():
            members: list[tuple[Item, Source]] = [pickle.loads(pair) for pair in pairs]
            items = [item for item, _ in members]
            wanted = _picture(items[0])
            if wanted is not None:
                for _, source in members:
                    again = prepare(preparer, source)
                    if _picture(Item(again, None, None)) == wanted:
                        items[0].prepared.frames = again.frames
                        break
                else:
                    for item in items:
                        _give_up(item)
            yield group_table(items)


def _picture(item: Item) -> bytes | None:
    """What two pictures share that get the same score; ``None`` for what could not be decoded."""
    keys = [
        f"{frame.key}:{frame.frame}:{frame.reencoding}:{frame.backdrop}" for frame in item.prepared.frames
    ]
    return "\n".join(keys).encode() if keys else None


def _give_up(item: Item) -> None:
    record = item.prepared.record
    item.prepared.frames = []
    record.status = "error"
    record.error = {"type": "changed", "message": "the file changed while it was being scored; scan it again"}
