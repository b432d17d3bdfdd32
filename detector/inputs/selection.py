"""Choosing from a long listing: by time, the first ones, or a random sample."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .source import Source


@dataclass(frozen=True)
class Selection:
    """Which of the listed inputs are scored.

    Attributes:
        since: seconds since the epoch; older inputs are left out. Those whose time is not known are not.
        newer_than: as ``since``, but an input of exactly this time is left out, too.
        limit: no more than so many, the first ones.
        sample: so many, chosen at random and in the order of the listing.
        seed: of the random choice.
    """

    since: float | None = None
    newer_than: float | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0


def selected(
    sources: Iterable[Source], selection: Selection, enter: Callable[[Iterable[Source]], Iterator[Source]]
) -> Iterator[Source]:
    """The sources that are selected, in order.

    Args:
        sources: members of archives are not yet read (see `archives.entered`).
        selection: which to choose.
        enter: as `archives.entered`: members of a sample are drawn a second time.
    """
    kept: Iterable[Source] = (source for source in sources if is_new(source, selection))
    if selection.sample is not None:
        kept = _drawn_again(_sample(kept, selection.sample, selection.seed), enter)
    return itertools.islice(kept, selection.limit)


def is_new(source: Source, selection: Selection) -> bool:
    """Whether an input is new enough."""
    time = source.modified
    if time is None:
        return True
    if selection.since is not None and time < selection.since:
        return False
    return selection.newer_than is None or time > selection.newer_than


def _sample(sources: Iterable[Source], count: int, seed: int) -> list[Source]:
    """So many sources, each with the same chance, in order (reservoir sampling, Vitter's algorithm R)."""
    draw = random.Random(seed)
    chosen: list[tuple[int, Source]] = []
    for number, source in enumerate(sources):
        if number < count:
            chosen.append((number, source))
        elif (place := draw.randrange(number + 1)) < count:
            chosen[place] = (number, source)
    return [source for _, source in sorted(chosen, key=lambda item: item[0])]


def _drawn_again(
    sources: Iterable[Source], enter: Callable[[Iterable[Source]], Iterator[Source]]
) -> Iterator[Source]:
    """Sources, with members that can be read again: each archive is gone through once more."""
    for archive, group in itertools.groupby(sources, lambda source: source.archive):
        if archive is None:
            yield from group
            continue
        wanted = {source.index for source in group}
        for member in enter([archive]):
            if member.index in wanted:
                yield member
                wanted.remove(member.index)
            if not wanted:
                break
