"""Scoring labelled pictures, as they are and laundered."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AidetectError, InputError
from ..images.pixels import Pixels, decode
from ..images.views import ViewPlan, native_view, whole_view
from ..inputs.source import Source
from .conditions import check_conditions, laundered
from .dataset import Example, Reader
from .features import SMALLEST_SCALE

if TYPE_CHECKING:
    from ..detector import Detector

Picture = tuple[Example, ...]
_Copy = tuple[Picture, str, "list[np.ndarray] | InputError"]


@dataclass(frozen=True)
class Scored:
    """One labelled picture's score in one condition.

    Attributes:
        name: the picture's path; for cuts the first cut's.
        label: 1 for AI-generated, 0 for real.
        generator, source, group, content: as for `Example`.
        logit: raw logit; positive speaks for AI.
        probability: calibrated, 0..1.
        verdict: ``ai``, ``uncertain`` or ``real``.
        condition: how the picture was laundered, one of `CONDITIONS`.
    """

    name: str
    label: int
    generator: str
    source: str
    group: str
    content: str
    logit: float
    probability: float
    verdict: str
    condition: str = "clean"


def pictures(examples: Iterable[Example]) -> list[Picture]:
    """Examples joined to pictures: cuts (any view but ``full``) of one original stay together.

    Returns:
        One tuple a picture, in the order of their first examples; an example named twice counts once.

    Raises:
        AidetectError: one picture carries both labels, or an example has an unknown view.
    """
    labels: dict[tuple[Path, str | None], int] = {}
    found: dict[tuple[object, ...], list[Example]] = {}
    for example in examples:
        if example.view not in SMALLEST_SCALE:
            raise AidetectError(
                f"{example.name}: view {example.view!r} is none of {', '.join(SMALLEST_SCALE)}"
            )
        place = (example.path, example.member)
        if place in labels:
            if labels[place] != example.label:
                raise AidetectError(f"{example.name} is given both as AI and as real")
            continue
        labels[place] = example.label
        is_cut = example.view != "full" and example.original
        key = (example.label, example.group, example.original) if is_cut else place
        found.setdefault(key, []).append(example)
    return [tuple(members) for members in found.values()]


def choose(found: Sequence[Picture], limit: int, seed: int = 0) -> list[Picture]:
    """At most ``limit`` pictures of each source, chosen at random but always the same ones.

    Args:
        found: pictures, as `pictures` gives them.
        limit: at least 1.
        seed: another seed chooses other pictures.
    """
    places: dict[tuple[int, str], list[int]] = {}
    for index, picture in enumerate(found):
        places.setdefault((picture[0].label, picture[0].source), []).append(index)
    kept: set[int] = set()
    for (label, source), mine in places.items():
        rng = random.Random(f"{seed}/{label}/{source}")
        kept.update(mine if len(mine) <= limit else rng.sample(mine, limit))
    return [found[index] for index in sorted(kept)]


def score_examples(
    detector: Detector,
    examples: Iterable[Example],
    conditions: Sequence[str],
    on_progress: Callable[[int], None] = lambda done: None,
    on_error: Callable[[Example, InputError], None] = lambda example, error: None,
) -> Iterator[Scored]:
    """Score labelled pictures in several conditions; only a few pictures are held at a time.

    Whole files go through `Detector.stream`. Cuts that come from one original are scored as one
    picture: a ``tile`` by its native view, a ``whole`` by its whole-picture view (see `cut_logits`),
    joined by the detector's calibration; where one kind is lacking, the other stands alone.

    Args:
        conditions: names from `CONDITIONS`; each picture is decoded once for all of them.
        on_progress: called with the number of (picture, condition) pairs done so far.
        on_error: called once a failure, with the example that could not be read or laundered.

    Yields:
        `Scored`: whole files first, then cuts; each picture's conditions in the order given.

    Raises:
        AidetectError: an unknown condition, or a picture with both labels.
    """
    check_conditions(conditions)
    found = pictures(examples)
    done = 0

    def count(pairs: int) -> None:
        nonlocal done
        done += pairs
        on_progress(done)

    def failed(example: Example, error: InputError, pairs: int) -> None:
        on_error(example, error)
        count(pairs)

    files = [picture for picture in found if picture[0].view == "full"]
    cuts = [_looked_at(picture, detector.plan) for picture in found if picture[0].view != "full"]
    for score, mine in ((_score_files, files), (_score_cuts, cuts)):
        for scored in score(detector, _copies(detector, mine, conditions, failed)):
            count(1)
            yield scored


def _copies(
    detector: Detector,
    found: Sequence[Picture],
    conditions: Sequence[str],
    failed: Callable[[Example, InputError, int], None],
) -> Iterator[_Copy]:
    """Every picture's cuts in every condition, in order; laundered ahead by a few threads."""
    reader = Reader()
    pending: deque[Future[_Copy]] = deque()

    def work(picture: Picture, decoded: list[Pixels], condition: str) -> _Copy:
        # One history for all cuts of a picture: that of its first cut.
        key = decoded[0].key
        try:
            copies = [
                laundered(pixels.rgb, condition, key, example.view)
                for example, pixels in zip(picture, decoded, strict=True)
            ]
        except InputError as error:
            return picture, condition, error
        return picture, condition, copies

    def ready(most: int) -> Iterator[_Copy]:
        while len(pending) > most:
            picture, condition, copies = pending.popleft().result()
            if isinstance(copies, InputError):
                failed(picture[0], copies, 1)
            else:
                yield picture, condition, copies

    with ThreadPoolExecutor(detector.workers, thread_name_prefix="aidetect-launder") as pool:
        try:
            for picture in found:
                decoded: list[Pixels] = []
                try:
                    for example in picture:
                        data = reader.read(example)
                        frames = decode(data, max_pixels=detector.max_pixels, frames=1, strict=True)
                        decoded.append(next(frames))
                except InputError as error:
                    failed(example, error, len(conditions))
                    continue
                for condition in conditions:
                    pending.append(pool.submit(work, picture, decoded, condition))
                    yield from ready(detector.workers)
            yield from ready(0)
        finally:
            for future in pending:
                future.cancel()


def _score_files(detector: Detector, copies: Iterable[_Copy]) -> Iterator[Scored]:
    asked: deque[tuple[Example, str]] = deque()

    def sources() -> Iterator[Source]:
        for picture, condition, arrays in copies:
            assert not isinstance(arrays, InputError)
            asked.append((picture[0], condition))
            yield Source(picture[0].name, "memory", payload=arrays[0])

    for record in detector.stream(sources()):
        example, condition = asked.popleft()
        assert record.logit is not None, record.error
        yield _scored(detector, example, condition, record.logit)


def _looked_at(picture: Picture, plan: ViewPlan) -> Picture:
    """A picture's cuts without its centred square or without its ends: a plan uses one or the other."""
    unwanted = "whole" if plan.spread and any(e.view == "end" for e in picture) else "end"
    return tuple(e for e in picture if e.view != unwanted) or picture


def _score_cuts(detector: Detector, copies: Iterable[_Copy]) -> Iterator[Scored]:
    waiting: list[tuple[Example, str, int]] = []
    cuts: list[tuple[str, np.ndarray]] = []

    def flush() -> Iterator[Scored]:
        logits = cut_logits(detector, cuts)
        kinds = [_KIND[view] for view, _ in cuts]
        start = 0
        for example, condition, count in waiting:
            end = start + count
            logit = detector.stages.replay(kinds[start:end], logits[start:end])
            yield _scored(detector, example, condition, logit)
            start = end
        waiting.clear()
        cuts.clear()

    for picture, condition, arrays in copies:
        assert not isinstance(arrays, InputError)
        waiting.append((picture[0], condition, len(picture)))
        cuts += [(example.view, rgb) for example, rgb in zip(picture, arrays, strict=True)]
        if len(cuts) >= detector.batch_size:
            yield from flush()
    if waiting:
        yield from flush()


_KIND = {"tile": "native", "whole": "whole", "end": "whole"}


def cut_logits(detector: Detector, cuts: Sequence[tuple[str, np.ndarray]]) -> list[float]:
    """Logits of cuts, each from its one view.

    A ``tile`` has its original's pixels but not its content, so only the native probe may judge it; a
    ``whole`` or an ``end`` has been resized, so only the whole-picture probe may.

    Args:
        cuts: view (``tile``, ``whole`` or ``end``) and pixels (``[height, width, 3]``, dtype ``uint8``).

    Returns:
        One logit a cut, in order.

    Raises:
        ValueError: another view.
    """
    model, preprocess = detector.model, detector.model.tower.preprocess
    views = []
    for view, rgb in cuts:
        if view not in _KIND:
            raise ValueError(f"no cut is called {view!r}")
        if view == "tile":
            views.append(native_view(rgb, preprocess.size).rgb)
        else:
            views.append(whole_view(rgb, preprocess.size, preprocess.interpolation).rgb)
    logits: list[float] = []
    for start in range(0, len(cuts), detector.batch_size):
        end = start + detector.batch_size
        features = model.tower.features(np.stack(views[start:end]))
        for (view, _), row in zip(cuts[start:end], features, strict=True):
            logits.append(float(model.probes[_KIND[view]].logits(row[None])[0]))
    return logits


def _scored(detector: Detector, example: Example, condition: str, logit: float) -> Scored:
    probability = detector.calibration.probability(logit)
    return Scored(
        name=example.name,
        label=example.label,
        generator=example.generator,
        source=example.source,
        group=example.group,
        content=example.content,
        logit=logit,
        probability=probability,
        verdict=detector.thresholds.verdict(probability),
        condition=condition,
    )
