"""Evaluation: labelled pictures are scored clean and laundered, and the errors are counted.

Error rates are stated for every condition, overall and apart for each generator and family of
generators, each source of real pictures and each content category, with 95 % Wilson intervals. Those
take pictures for independent; pictures of one group are not, so overall measures have intervals over
groups too.
"""

from __future__ import annotations

import csv
import math
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .dataset import Example, Reader
from .errors import AidetectError, InputError
from .families import family_of
from .features import SMALLEST_SCALE, random_source
from .launder import SWEEP, launder
from .metrics import (
    GroupIntervals,
    Rate,
    balanced_accuracy_at,
    expected_calibration_error,
    group_intervals,
    number,
    rate,
    roc_auc,
    threshold_at_fpr,
)
from .pixels import Pixels, decode
from .rework import rework
from .source import Source
from .views import ViewPlan, native_view, whole_view

if TYPE_CHECKING:
    from .detector import Detector
    from .model import Thresholds

MIX = "mix"
CUTS = "mix-cuts"  # held-out cuts that training laundered as they are, small already
REWORK = "rework"  # sharpened, tinted, enlarged, turned ...: done on purpose
CONDITIONS = (*SWEEP, MIX, REWORK)
POLISHED = "polished-"


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


# --- scoring ---------------------------------------------------------------------------------------

Picture = tuple[Example, ...]
_Copy = tuple[Picture, str, "list[np.ndarray] | InputError"]


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


def laundered(rgb: np.ndarray, condition: str, key: str, view: str = "full") -> np.ndarray:
    """A picture in one condition.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        condition: one of `CONDITIONS`.
        key: what the random histories of ``mix`` and ``rework`` depend on (see `Pixels.key`).
        view: as for `Example`; it bounds how far ``mix`` shrinks.

    Raises:
        InputError: ``not_launderable``: an encoder refuses the picture, e.g. for its size.
        AidetectError: there is no such condition.
    """
    check_conditions([condition])
    try:
        if condition in SWEEP:
            return SWEEP[condition](rgb)
        rng = random_source(key, condition)
        if condition == REWORK:
            return rework(rgb, rng)
        return launder(rgb, rng, smallest_scale=SMALLEST_SCALE[view])
    except (OSError, ValueError, MemoryError) as error:
        raise InputError("not_launderable", f"cannot be put through {condition}: {error}") from None


def check_conditions(conditions: Iterable[str]) -> None:
    """Check names of conditions.

    Raises:
        AidetectError: one is unknown.
    """
    for condition in conditions:
        if condition not in CONDITIONS:
            raise AidetectError(f"no condition called {condition!r}; there are: {', '.join(CONDITIONS)}")


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
                        decoded.append(next(decode(data, max_pixels=detector.max_pixels, frames=1)))
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
    """A picture's cuts without its centred square or without its ends, as a plan looks at one of them."""
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
            logit = detector.calibration.join(kinds[start:end], logits[start:end])
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
    """Logits of cuts, each by the one view that it can stand for.

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


# --- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Category:
    """Error rates of one generator, family of generators, source or content category.

    Attributes:
        name: its name.
        recall: share of its AI pictures with verdict ``ai``.
        recall_at_5: the same at the threshold that 5 % of all the condition's reals reach.
        fpr: share of its real pictures with verdict ``ai``.
    """

    name: str
    recall: Rate
    recall_at_5: Rate
    fpr: Rate

    @property
    def n(self) -> int:
        """Number of pictures."""
        return self.recall.n + self.fpr.n

    @property
    def too_few(self) -> bool:
        """Whether one of its rates rests on fewer than 30 pictures."""
        return self.recall.too_few or self.fpr.too_few

    def to_dict(self) -> dict[str, Any]:
        """The category as JSON data; rates of nothing are left out."""
        rates = {"recall": self.recall, "recall_at_5_fpr": self.recall_at_5, "fpr": self.fpr}
        return {
            "n": self.n,
            **{name: value.to_dict() for name, value in rates.items() if value.n},
            "too_few": self.too_few,
        }


@dataclass(frozen=True)
class Condition:
    """Everything measured in one condition.

    Attributes:
        name: how the pictures were laundered.
        auc: area under the ROC curve of the logits; ``nan`` without both classes, as below.
        balanced_accuracy: at the two thresholds, ``uncertain`` counted as wrong.
        ece: expected calibration error of the probabilities, 15 bins.
        recall: share of AI pictures with verdict ``ai``.
        fpr: share of real pictures with verdict ``ai``.
        missed: share of AI pictures with verdict ``real``.
        cleared: share of real pictures with verdict ``real``.
        tpr_at_1, tpr_at_5: recall at the thresholds that 1 % and 5 % of the reals reach.
        by_group: intervals of the measures over other groups of pictures; ``None`` with too few groups.
        confusion: verdict counts, by label ``ai`` and ``real``.
        families: AI pictures by family of generators (see `family_of`), those of none left out, worst first.
        generators: AI pictures by generator, worst first.
        sources: real pictures by source, worst first.
        polished: the sources (last part, for folders) called ``polished-...`` together; ``None`` without any.
        content: both classes by content category, by name.
    """

    name: str
    auc: float
    balanced_accuracy: float
    ece: float
    recall: Rate
    fpr: Rate
    missed: Rate
    cleared: Rate
    tpr_at_1: Rate
    tpr_at_5: Rate
    by_group: GroupIntervals | None
    confusion: Mapping[str, Mapping[str, int]]
    families: Sequence[Category]
    generators: Sequence[Category]
    sources: Sequence[Category]
    polished: Category | None
    content: Sequence[Category]

    @property
    def family_mean(self) -> tuple[int, float, float]:
        """How many families have 30 AI pictures or more, and the means of their `Category.recall` and
        `Category.recall_at_5`, in which each family counts alike; ``nan`` where there are none.
        """
        found = [category for category in self.families if not category.too_few]
        if not found:
            return 0, math.nan, math.nan
        recall, at_5 = zip(*((c.recall.value, c.recall_at_5.value) for c in found), strict=True)
        return len(found), math.fsum(recall) / len(found), math.fsum(at_5) / len(found)

    def to_dict(self) -> dict[str, Any]:
        """The condition as JSON data."""
        families, recall, recall_at_5 = self.family_mean
        return {
            "pictures": {"ai": self.recall.n, "real": self.fpr.n},
            "auc": number(self.auc),
            "balanced_accuracy": number(self.balanced_accuracy),
            "ece": number(self.ece),
            "recall": self.recall.to_dict(),
            "fpr": self.fpr.to_dict(),
            "missed": self.missed.to_dict(),
            "cleared": self.cleared.to_dict(),
            "tpr_at_1_fpr": self.tpr_at_1.to_dict(),
            "tpr_at_5_fpr": self.tpr_at_5.to_dict(),
            "by_group": self.by_group.to_dict() if self.by_group else None,
            "confusion": {label: dict(counts) for label, counts in self.confusion.items()},
            "families": {c.name: c.to_dict() for c in self.families},
            "family_mean": {
                "families": families,
                "recall": number(recall),
                "recall_at_5_fpr": number(recall_at_5),
            },
            "generators": {c.name: c.to_dict() for c in self.generators},
            "sources": {c.name: c.to_dict() for c in self.sources},
            "polished": self.polished.to_dict() if self.polished else None,
            "content": {c.name: c.to_dict() for c in self.content},
        }


@dataclass(frozen=True)
class Evaluation:
    """What a detector got right and wrong.

    Attributes:
        thresholds: those the verdicts were given at.
        conditions: one `Condition` each, in the order they were first met.
    """

    thresholds: Thresholds
    conditions: Mapping[str, Condition]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON data."""
        return {
            "thresholds": {"ai": self.thresholds.ai, "real": self.thresholds.real},
            "conditions": {name: found.to_dict() for name, found in self.conditions.items()},
        }


def evaluate(scored: Iterable[Scored], thresholds: Thresholds) -> Evaluation:
    """Count the errors of scored pictures.

    Args:
        scored: pictures in any order; rates of one condition come from its own pictures alone.
        thresholds: those that gave the verdicts.
    """
    groups: dict[str, list[Scored]] = {}
    for picture in scored:
        groups.setdefault(picture.condition, []).append(picture)
    return Evaluation(thresholds, {name: _condition(name, mine, thresholds) for name, mine in groups.items()})


def _condition(name: str, mine: Sequence[Scored], thresholds: Thresholds) -> Condition:
    labels = [picture.label for picture in mine]
    logits = [picture.logit for picture in mine]
    probabilities = [picture.probability for picture in mine]
    ai = [picture for picture in mine if picture.label]
    real = [picture for picture in mine if not picture.label]
    limits = {share: threshold_at_fpr(labels, logits, share) for share in (0.01, 0.05)}
    at_5 = limits[0.05]
    polished = [picture for picture in real if picture.source.split("/")[-1].startswith(POLISHED)]
    return Condition(
        name=name,
        auc=roc_auc(labels, logits),
        balanced_accuracy=balanced_accuracy_at(labels, probabilities, thresholds.ai, thresholds.real),
        ece=expected_calibration_error(labels, probabilities),
        recall=_share(ai, "ai"),
        fpr=_share(real, "ai"),
        missed=_share(ai, "real"),
        cleared=_share(real, "real"),
        tpr_at_1=_reach(ai, limits[0.01]),
        tpr_at_5=_reach(ai, at_5),
        by_group=group_intervals(labels, logits, [p.verdict == "ai" for p in mine], [p.group for p in mine]),
        confusion={
            label: {v: sum(p.verdict == v for p in some) for v in ("ai", "uncertain", "real")}
            for label, some in (("ai", ai), ("real", real))
        },
        families=_categories(ai, lambda p: family_of(p.generator), at_5, lambda c: c.recall.value),
        generators=_categories(ai, lambda p: p.generator, at_5, lambda c: c.recall.value),
        sources=_categories(real, lambda p: p.source, at_5, lambda c: -c.fpr.value),
        polished=_category(f"{POLISHED}*", polished, at_5) if polished else None,
        content=_categories(mine, lambda p: p.content, at_5, lambda c: 0),
    )


def _categories(
    mine: Iterable[Scored],
    name: Callable[[Scored], str | None],
    limit: float,
    order: Callable[[Category], float],
) -> list[Category]:
    groups: dict[str, list[Scored]] = {}
    for picture in mine:
        if (key := name(picture)) is not None:
            groups.setdefault(key, []).append(picture)
    found = [_category(key, some, limit) for key, some in groups.items()]
    return sorted(found, key=lambda category: (order(category), category.name))


def _category(name: str, mine: Sequence[Scored], limit: float) -> Category:
    ai = [picture for picture in mine if picture.label]
    real = [picture for picture in mine if not picture.label]
    return Category(name, _share(ai, "ai"), _reach(ai, limit), _share(real, "ai"))


def _share(mine: Sequence[Scored], verdict: str) -> Rate:
    return rate(sum(picture.verdict == verdict for picture in mine), len(mine))


def _reach(ai: Sequence[Scored], limit: float) -> Rate:
    """Share of AI pictures at or above a logit; a rate of nothing where no reals gave the limit."""
    if math.isnan(limit):
        return rate(0, 0)
    return rate(sum(picture.logit >= limit for picture in ai), len(ai))


# --- comparison with other tools -------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One tool's measures on the pictures that both tools scored.

    Attributes:
        tool: its name.
        n_ai, n_real: numbers of common pictures.
        auc, ece: as for `Condition`.
        threshold: probability at or above which the tool says AI: 0.5 for other tools.
        recall, fpr: at that threshold.
        tpr_at_1, tpr_at_5: recall at the thresholds that 1 % and 5 % of the common reals reach.
    """

    tool: str
    n_ai: int
    n_real: int
    auc: float
    ece: float
    threshold: float
    recall: Rate
    fpr: Rate
    tpr_at_1: Rate
    tpr_at_5: Rate

    def to_dict(self) -> dict[str, Any]:
        """The measures as JSON data."""
        return {
            "pictures": {"ai": self.n_ai, "real": self.n_real},
            "auc": number(self.auc),
            "ece": number(self.ece),
            "threshold": self.threshold,
            "recall": self.recall.to_dict(),
            "fpr": self.fpr.to_dict(),
            "tpr_at_1_fpr": self.tpr_at_1.to_dict(),
            "tpr_at_5_fpr": self.tpr_at_5.to_dict(),
        }


def compare(
    scored: Iterable[Scored], other: Mapping[str, float], tool: str, thresholds: Thresholds
) -> tuple[Comparison, Comparison]:
    """Set another tool's scores beside ours, on the common pictures as they are (condition ``clean``).

    Args:
        scored: ours.
        other: the other tool's scores by file, 0..1 (see `read_scores`).
        tool: the other tool's name.
        thresholds: ours.

    Returns:
        The other tool's measures and ours.

    Raises:
        AidetectError: no picture is common, or nothing was scored clean.
    """
    clean = [picture for picture in scored if picture.condition == "clean"]
    if not clean:
        raise AidetectError(f"scores of {tool} are compared on clean pictures: add the condition clean")
    theirs = match_scores([picture.name for picture in clean], other)
    common = [picture for picture in clean if picture.name in theirs]
    if not common:
        raise AidetectError(f"the scores of {tool} name none of the pictures")
    labels = [picture.label for picture in common]
    other_scores = [theirs[picture.name] for picture in common]
    our_logits = [picture.logit for picture in common]
    our_probabilities = [picture.probability for picture in common]
    return (
        _measures(tool, labels, other_scores, other_scores, 0.5),
        _measures("aidetect", labels, our_logits, our_probabilities, thresholds.ai),
    )


def _measures(
    tool: str, labels: Sequence[int], ranks: Sequence[float], probabilities: Sequence[float], threshold: float
) -> Comparison:
    truth, values = np.asarray(labels) == 1, np.asarray(ranks)
    called = np.asarray(probabilities) >= threshold
    n_ai, n_real = int(truth.sum()), int((~truth).sum())

    def reach(share: float) -> Rate:
        limit = threshold_at_fpr(labels, ranks, share)
        return rate(0, 0) if math.isnan(limit) else rate(int((values[truth] >= limit).sum()), n_ai)

    return Comparison(
        tool=tool,
        n_ai=n_ai,
        n_real=n_real,
        auc=roc_auc(labels, ranks),
        ece=expected_calibration_error(labels, probabilities),
        threshold=threshold,
        recall=rate(int(called[truth].sum()), n_ai),
        fpr=rate(int(called[~truth].sum()), n_real),
        tpr_at_1=reach(0.01),
        tpr_at_5=reach(0.05),
    )


def read_scores(path: Path) -> dict[str, float]:
    """Read another tool's scores: a CSV with ``file`` (or ``name``) and ``score``.

    Args:
        path: the CSV; a row without a score (the tool could not read the picture) is left out.

    Returns:
        Scores, 0..1 and higher for AI, by file as given.

    Raises:
        AidetectError: it cannot be read, lacks a column, holds no scores, or a score is no number in
            0..1 or contradicts an earlier one of the same file.
    """
    scores: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            columns = rows.fieldnames or []
            column = next((c for c in ("file", "name") if c in columns), None)
            if column is None or "score" not in columns:
                raise AidetectError(f"{path} needs the columns file (or name) and score")
            for row in rows:
                file, text = row[column], row["score"]
                if not file or not text:
                    continue
                score = _score(text)
                if score is None:
                    raise AidetectError(f"{path}, line {rows.line_num}: {text!r} is no number in 0..1")
                if scores.setdefault(file, score) != score:
                    raise AidetectError(f"{path}, line {rows.line_num}: another score of {file}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AidetectError(f"cannot read the scores {path}: {error}") from None
    if not scores:
        raise AidetectError(f"{path} holds no scores")
    return scores


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def match_scores(names: Sequence[str], scores: Mapping[str, float]) -> dict[str, float]:
    """Find pictures' scores: by path as given, else by base name where that is unique on both sides.

    Args:
        names: pictures' paths.
        scores: another tool's scores by path or name.

    Returns:
        Scores by the names that have one.
    """
    exact = {os.path.normpath(file): score for file, score in scores.items()}
    base = Counter(os.path.basename(file) for file in exact)  # noqa: PTH119 - may not be paths of this system
    by_base = {os.path.basename(file): score for file, score in exact.items()}  # noqa: PTH119
    ours = Counter(os.path.basename(name) for name in names)  # noqa: PTH119
    found = {}
    for name in names:
        short = os.path.basename(name)  # noqa: PTH119
        if (path := os.path.normpath(name)) in exact:
            found[name] = exact[path]
        elif base[short] == 1 and ours[short] == 1:
            found[name] = by_base[short]
    return found
