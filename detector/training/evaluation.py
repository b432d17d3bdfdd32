"""Evaluation: counts the errors of scored pictures.

Error rates are given for every condition, overall and per generator, family of generators, source of real
pictures and content category, with 95 % Wilson intervals. These intervals assume that pictures are
independent. Pictures of one group are not, so overall measures have intervals over groups too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..models.families import family_of
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
from .scoring import Scored

if TYPE_CHECKING:
    from ..models.thresholds import Thresholds

POLISHED = "polished-"


@dataclass(frozen=True)
class Category:
    """Error rates of one generator, family of generators, source or content category.

    Attributes:
        name: its name.
        recall: share of its AI pictures with verdict ``ai``.
        recall_at_5: share of its AI pictures at or above the threshold with a false positive rate of 5 % on
            all real pictures of the condition.
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
        """Whether one of its rates is measured on fewer than 30 pictures."""
        return self.recall.too_few or self.fpr.too_few

    def to_dict(self) -> dict[str, Any]:
        """The category as JSON data, without rates over no pictures."""
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
        auc: area under the ROC curve of the logits; it and the next two are ``nan`` if a class is missing.
        balanced_accuracy: at the two thresholds; ``uncertain`` counts as wrong.
        ece: expected calibration error of the probabilities, 15 bins.
        recall: share of AI pictures with verdict ``ai``.
        fpr: share of real pictures with verdict ``ai``.
        missed: share of AI pictures with verdict ``real``.
        cleared: share of real pictures with verdict ``real``.
        tpr_at_1, tpr_at_5: recall at false positive rates of 1 % and 5 %.
        by_group: intervals of the measures over groups of pictures; ``None`` with too few groups.
        confusion: verdict counts, by label ``ai`` and ``real``.
        families: AI pictures by family of generators (see `family_of`), worst first; those without a family
            are left out.
        generators: AI pictures by generator, worst first.
        sources: real pictures by source, worst first.
        polished: real pictures of all sources named ``polished-...``; ``None`` if there are none.
        content: both classes by content category, sorted by name.
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
        """Number of families with at least 30 AI pictures, and their mean recalls.

        The means are those of `Category.recall` and `Category.recall_at_5`, with equal weight for each
        family; ``nan`` if there is no such family.
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
    """The error rates of a detector.

    Attributes:
        thresholds: those of the verdicts.
        conditions: `Condition` by name, in the order of first appearance.
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
        scored: pictures in any order; the rates of a condition are over its own pictures.
        thresholds: those of the verdicts.
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
    """Share of AI pictures at or above a logit; a rate over no pictures if the logit is ``nan``."""
    if math.isnan(limit):
        return rate(0, 0)
    return rate(sum(picture.logit >= limit for picture in ai), len(ai))
