"""What runs on the machines of a cluster: decoding in tasks, scoring in actors. Ray calls these."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..images.views import ViewPlan
from ..inputs.archives import entered, loaded
from ..inputs.fetch import Fetcher, FetchOptions
from ..inputs.filters import WalkOptions
from ..inputs.selection import Selection, is_new
from ..inputs.source import Source
from ..models.thresholds import Thresholds
from ..parquet import model_name, to_row
from ..pending import Extras, Prepared
from ..prepare import Preparer
from .parts import part_schema

if TYPE_CHECKING:
    from ..detector import Detector


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know.

    Attributes:
        model: a model's name, or a path that all machines share; ``None`` for the default model.
        device, precision, mode, batch_size: as for `Detector.load`.
        max_pixels, frames, strict: as for `Detector`.
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
    batch: Mapping[str, np.ndarray], settings: Settings, description: Description, choice: Choice, done: Any
) -> Iterator[dict[str, Any]]:
    """Read and decode sources, and cut their views. One picture is under way at a time.

    Args:
        batch: rows of `listing.Listing`.
        settings: of the run.
        description: of the detector that will score them.
        choice: which members of archives are taken.
        done: a reference to the `Done` keys of finished parts.

    Yields:
        One row a picture: what `Scorer` takes.
    """
    import ray

    found: Done = ray.get(done)
    with Fetcher(choice.fetch) as fetcher:
        preparer = Preparer(
            *(description.plan, description.thresholds, settings.max_pixels, settings.frames, fetcher),
            *(None, None, settings.extras),
            strict=settings.strict,
        )
        columns = (batch[name] for name in ("source", "name", "listed_bytes", "listed_version"))
        for data, raw, size, version in zip(*columns, strict=True):
            source: Source = pickle.loads(data)
            name = os.fsdecode(raw)
            size, version = _listed(size), version or None
            for one in _entered(source, choice, lambda path: key(path, size, version) in found, name):
                prepared = preparer.prepare(one)
                prepared.record.input = name + one.name.removeprefix(source.name)
                yield {
                    "prepared": [pickle.dumps(prepared, pickle.HIGHEST_PROTOCOL)],
                    "listed_bytes": [size],
                    "listed_version": [version],
                }


def _listed(size: Any) -> int | None:
    """A size from a column of numbers, where those that are missing are NaN."""
    return None if size is None or np.isnan(size) else int(size)


def _entered(source: Source, choice: Choice, is_done: Callable[[str], bool], name: str) -> Iterator[Source]:
    """A source, or the members of an archive that are not done, read as they are drawn."""
    if source.kind != "archive":
        yield source
        return
    with contextlib.closing(entered([source], choice.fetch)) as members:
        yield from loaded(
            member
            for member in members
            if is_new(member, choice.selection) and not is_done(name + member.name.removeprefix(source.name))
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
        prepared: list[Prepared] = [pickle.loads(data) for data in table["prepared"].to_pylist()]
        records = self._detector.score_prepared(prepared)
        rows = []
        for record, listed in zip(
            records, table.select(["listed_bytes", "listed_version"]).to_pylist(), strict=True
        ):
            entry = self._settings.accepted.get(record.fingerprint or "")
            if entry is not None:
                record.accepted = dict(entry)
            rows.append(to_row(record, self._model) | listed)
        return type(table).from_pylist(rows, part_schema())
