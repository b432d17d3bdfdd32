"""What runs on the machines of a cluster: decoding in tasks, scoring in actors. Ray calls these."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..clips.sampling import Sampling
from ..errors import ModelError
from ..images.views import ViewPlan
from ..inputs.archives import entered, loaded
from ..inputs.fetch import Fetcher, FetchOptions
from ..inputs.filters import WalkOptions
from ..inputs.selection import Selection, is_new
from ..inputs.source import Source
from ..models.thresholds import Thresholds
from ..parquet import arrow, model_name, to_row
from ..pending import Extras, Prepared
from ..prepare import Preparer
from .parts import Done, key, part_schema

if TYPE_CHECKING:
    from ..detector import Detector


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know.

    Attributes:
        model: a model's name, or a path that all machines share; ``None`` for the default model.
        device, precision, mode, batch_size: as for `Detector.load`.
        max_pixels, frames, strict, sampling: as for `Detector`.
        extras: what to report besides scores.
        accepted: by fingerprint of the pixels: reason and date of accepted findings.
        threads: of an actor's forward passes.
    """

    model: str | None
    device: str
    precision: str
    mode: str
    batch_size: int | None
    max_pixels: int
    frames: int
    strict: bool
    sampling: Sampling
    extras: Extras = field(default_factory=Extras)
    accepted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    threads: int = 1


@dataclass(frozen=True)
class Choice:
    """Which inputs are scored.

    Attributes:
        walk: which files of folders, buckets and archives are taken.
        selection: which of these.
        fetch: limits of downloads.
    """

    walk: WalkOptions
    selection: Selection
    fetch: FetchOptions


@dataclass(frozen=True)
class Description:
    """What one worker says about its detector, and all others must share.

    Attributes:
        head: the report's head.
        identity: `Detector.identity`.
        plan: which views are cut.
        thresholds: those stated in the records.
    """

    head: dict[str, Any]
    identity: str
    plan: ViewPlan
    thresholds: Thresholds


@dataclass
class Item:
    """A picture on its way from a task to an actor, with what the listing said of its input."""

    prepared: Prepared
    listed_bytes: int | None
    listed_version: str | None


def load(settings: Settings) -> Detector:
    """Load the detector in a worker. All hashes are checked.

    Raises:
        ModelError: the model is missing or damaged here.
        AidetectError: the device or the precision cannot be used.
    """
    from ..models.memory import keep_freed
    from ..resources import wait_asleep

    keep_freed()  # as the command does
    wait_asleep()
    import torch

    from ..detector import Detector
    from ..models.model import DEFAULT_MODEL

    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    return Detector.load(
        settings.model or DEFAULT_MODEL,
        settings.device,
        settings.mode,
        precision=settings.precision,
        batch_size=settings.batch_size,
        workers=1,
        max_pixels=settings.max_pixels,
        frames=settings.frames,
        strict=settings.strict,
        sampling=settings.sampling,
    )


def describe(settings: Settings, started: datetime, command: str) -> Description:
    """Load the detector on a worker, and say what it is.

    Raises:
        ModelError, AidetectError: as `load`.
    """
    from ..audit.report import header

    detector = load(settings)
    head = header(detector, started, command)
    return Description(head, detector.identity, detector.plan, detector.thresholds)


def decode(
    table: Any, settings: Settings, description: Description, choice: Choice, done: Any
) -> Iterator[Any]:
    """Read and decode sources, and cut their views. One picture is under way at a time.

    Args:
        table: an Arrow table of rows of `listing.Listing`.
        settings: of the run.
        description: of the detector that will score them.
        choice: which members of archives are taken.
        done: a reference to the `Done` keys of finished parts.

    Yields:
        A table of one row for each picture: what `Scorer` takes.
    """
    with preparer_for(settings, description, choice) as preparer:
        for item, _ in prepared_rows(table, preparer, choice, done):
            yield group_table([item])


def prepared_rows(table: Any, preparer: Preparer, choice: Choice, done: Any) -> Iterator[tuple[Item, Source]]:
    """The pictures of a table of rows of `listing.Listing`, each with what it was read from.

    Args:
        table, choice, done: as for `decode`.
        preparer: reads and decodes.
    """
    import ray

    finished: Done = ray.get(done)
    for row in table.to_pylist():
        source: Source = pickle.loads(row["source"])
        for one in _entered(source, choice, functools.partial(_is_done, row, source.name, finished)):
            prepared = prepare(preparer, one)
            prepared.record.input = _name(row, source.name, one.name)
            yield Item(prepared, row["listed_bytes"], row["listed_version"]), one


def group_table(items: Sequence[Item]) -> Any:
    """Items as a table of one row. All but the first may lack views, if their pixels are the same."""
    pa = arrow()
    data = pickle.dumps(list(items), pickle.HIGHEST_PROTOCOL)
    return pa.table({"items": pa.array([data], pa.large_binary())})


@contextlib.contextmanager
def preparer_for(settings: Settings, description: Description, choice: Choice) -> Iterator[Preparer]:
    """What reads and decodes for a run."""
    with Fetcher(choice.fetch) as fetcher:
        yield Preparer(
            *(description.plan, description.thresholds, settings.max_pixels, settings.frames, fetcher),
            *(None, None, settings.extras),
            strict=settings.strict,
            sampling=settings.sampling,
        )


def prepare(preparer: Preparer, source: Source) -> Prepared:
    """Prepare a source, one after another."""
    prepared = preparer.prepare(source)
    if prepared.large:
        preparer.clips.leave()
    return prepared


def _name(row: Mapping[str, Any], whole: str, name: str) -> str:
    """The name that a row's source, or a member of it, has in its record. ``whole`` is the source's own."""
    return os.fsdecode(row["name"]) + name.removeprefix(whole)


def _is_done(row: Mapping[str, Any], whole: str, done: Done, member: Source) -> bool:
    return key(_name(row, whole, member.name), row["listed_bytes"], row["listed_version"]) in done


def _entered(source: Source, choice: Choice, is_done: Callable[[Source], bool]) -> Iterator[Source]:
    """A source, or the members of an archive that are not done, read as they are drawn."""
    if source.kind != "archive":
        yield source
        return
    yield from loaded(
        member
        for member in entered([source], choice.fetch)
        if is_new(member, choice.selection) and not is_done(member)
    )


class Scorer:
    """An actor's work: holds the model, and scores what tasks have decoded.

    Args:
        settings: of the run.
        description: what the first worker said. This one must have the same model, libraries and device.

    Raises:
        ModelError: it has others, or the model is missing or damaged here.
    """

    def __init__(self, settings: Settings, description: Description) -> None:
        self._detector = load(settings)
        self._settings = settings
        self._model = model_name(description.head)
        if self._detector.identity != description.identity:
            raise ModelError(
                f"the machine {os.uname().nodename} has another model, library version or device than the "
                f"first one, so scores would differ: {self._detector.identity} is not {description.identity}"
            )

    def __call__(self, table: Any) -> Any:
        """A table of what `decode` gave, as a table of records."""
        items: list[Item] = [item for data in table["items"].to_pylist() for item in pickle.loads(data)]
        records = self._detector.score_prepared(item.prepared for item in items)
        rows = []
        for item, record in zip(items, records, strict=True):
            entry = self._settings.accepted.get(record.fingerprint or "")
            if entry is not None:
                record.accepted = dict(entry)
            listed = {"listed_bytes": item.listed_bytes, "listed_version": item.listed_version}
            rows.append(to_row(record, self._model) | listed)
        return type(table).from_pylist(rows, part_schema())
