"""Calibration: what turns held-out logits into probabilities, thresholds and stated error rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..images.degrade import ROUGHER, SMALLER
from ..models.probe import Calibration
from ..models.stages import Stage, Stages
from ..models.thresholds import Thresholds
from . import modelcard
from .conditions import CUTS, MIX, place
from .crossfit import Pictures
from .evaluation import Evaluation, evaluate
from .fit import platt
from .metrics import number, rate, roc_auc
from .recipe import Recipe
from .scoring import Scored

SMALLER_COPIES = "smaller"  # all of `degrade.SMALLER` together


def calibrate(pictures: Pictures, mode: str, recipe: Recipe) -> tuple[Calibration, Thresholds]:
    """Calibration and thresholds of a mode, from held-out logits; of ``adaptive`` after `fit_stages`.

    Pictures count as they are, laundered, reworked and made smaller; rougher copies count for the ``ai``
    threshold alone (see `ai_threshold`).
    """
    both = _counted(pictures, mode)
    labels = pictures.labels[both]
    share = 1.0 if mode in ("fast", "adaptive") else _share(pictures, both)
    every = pictures.joined(Calibration(share, 1.0, 0.0), mode)
    raw = every[both]
    slope, intercept = platt(raw, labels, np.ones(len(raw)))
    calibration = Calibration(share, slope, intercept)
    probability = np.array([calibration.probability(logit) for logit in raw])
    fakes = np.sort(probability[labels == 1])
    real = float(fakes[int(np.floor(recipe.miss_rate * len(fakes)))])
    reals = np.flatnonzero((pictures.labels == 0) & ~np.isnan(every))
    ai = ai_threshold(
        np.array([calibration.probability(every[i]) for i in reals]),
        pictures.conditions[reals],
        np.array([pictures.examples[i].content for i in reals]),
        np.array([pictures.examples[i].side for i in reals]),
        mode,
        recipe,
    )
    return calibration, Thresholds(ai=ai, real=round(min(real, ai), 4))


def ai_threshold(
    probabilities: np.ndarray,
    conditions: np.ndarray,
    contents: np.ndarray,
    sides: np.ndarray,
    mode: str,
    recipe: Recipe,
) -> float:
    """The ``ai`` threshold of a mode, to four digits, that keeps the recipe's false positive rates.

    These are one rate in each of four conditions, in most other sets of repositories (see
    `threshold_over_groups`): clean, laundered as files, laundered as cuts, made smaller. One of each content
    in the first two of them; and, except in ``fast``, one in each way of making a picture smaller or
    rougher, where there are reals enough.

    Args:
        probabilities: ``[n]``, 0..1, held out, of real pictures.
        conditions, contents: ``[n]``, name of the condition and the content of each.
        sides: ``[n]``, owner of each (see `Example.side`).
    """
    limits = []
    for together in (["clean"], [MIX], [CUTS], list(SMALLER)):
        mine = np.isin(conditions, together)
        if mine.any():
            rate, sure = recipe.false_positive_rate, recipe.sure
            limits.append(threshold_over_groups(probabilities[mine], sides[mine], rate, sure))
    limits = [round(max(limits), 4)]
    parts = [
        ((conditions == condition) & (contents == content), recipe.content_rate)
        for condition in ("clean", MIX)
        for content in np.unique(contents)
    ]
    if mode != "fast":
        parts += [(conditions == way, recipe.smaller_rate) for way in SMALLER]
        parts += [(conditions == way, recipe.rougher_rate) for way in ROUGHER]
    for mine, rate in parts:
        ranked = np.sort(probabilities[mine])[::-1]
        if len(ranked) >= recipe.enough:
            above = np.nextafter(ranked[int(rate * len(ranked) + 1e-9)], 1)
            limits.append(float(np.ceil(above * 1e4) / 1e4))
    return max(limits)


def fit_stages(pictures: Pictures, recipe: Recipe) -> Stages:
    """The stages of ``adaptive``: each joins its views and is calibrated by Platt's method.

    The logits that pictures get in these stages are added to `pictures` as ``adaptive``. The last stage is
    that of ``standard``.
    """
    both = _counted(pictures, "standard")
    share = _share(pictures, both)
    rest = 1 - share
    columns = pictures.logits
    raws = [
        columns["whole"],
        share * columns["whole"] + rest * columns["first"],
        share * columns["spread"] + rest * columns["native"],
    ]
    limits = (recipe.open_first, recipe.open_second, None)
    each, found, open_ = [], np.full(len(pictures.labels), np.nan), np.ones(len(pictures.labels), bool)
    for raw, limit in zip(raws, limits, strict=True):
        slope, intercept = platt(raw[both], pictures.labels[both], np.ones(both.sum()))
        stage = Stage(Calibration(share, slope, intercept), limit)
        each.append(stage)
        logits = slope * raw + intercept
        found[open_] = logits[open_]
        if limit is not None:
            open_ &= (logits > limit[0]) & (logits < limit[1])
    columns["adaptive"] = np.where(pictures.measured("standard"), found, np.nan)
    return Stages(tuple(each))


def _counted(pictures: Pictures, mode: str) -> np.ndarray:
    return pictures.measured(mode) & ~np.isin(pictures.conditions, list(ROUGHER))


def _share(pictures: Pictures, rows: np.ndarray) -> float:
    """The weight of the whole views with which ``standard`` has the highest AUC."""
    whole, native, labels = (
        x[rows] for x in (pictures.logits["spread"], pictures.logits["native"], pictures.labels)
    )
    return float(max(np.linspace(0.2, 0.8, 13), key=lambda s: roc_auc(labels, s * whole + (1 - s) * native)))


def threshold_over_groups(
    probabilities: np.ndarray, groups: np.ndarray, share: float, sure: float, *, draws: int = 400
) -> float:
    """The threshold that a share of real pictures reaches at most, in most other sets of repositories.

    Whole groups are drawn with repetition, as for `metrics.group_intervals`, seeded. Each draw has a lowest
    threshold that the share keeps.

    Args:
        probabilities: ``[n]``, 0..1, of real pictures.
        groups: ``[n]``, what each belongs to.
        share: false positive rate, 0..1.
        sure: which quantile of the draws' thresholds is taken, 0..1; 0 for the threshold of the pictures
            as they are.
        draws: number of draws.
    """
    order = np.argsort(-probabilities)
    ranked = probabilities[order]
    names, member = np.unique(groups[order], return_inverse=True)
    rng = np.random.default_rng(0)

    def limit(times: np.ndarray) -> float:
        weight = times[member]
        above = np.cumsum(weight)
        allowed = int((above <= share * above[-1] + 1e-9).sum())
        return float(ranked[allowed - 1] if allowed else np.nextafter(ranked[0], 1))

    own = limit(np.ones(len(names)))
    if not sure:
        return own
    drawn = (np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(draws))
    return max(own, float(np.quantile([limit(times) for times in drawn], sure)))


def scored(pictures: Pictures, calibration: Calibration, thresholds: Thresholds, mode: str) -> list[Scored]:
    """Held-out scores of a mode, as evaluation counts them."""
    found = []
    for i, logit in enumerate(pictures.joined(calibration, mode)):
        if np.isnan(logit):
            continue
        example = pictures.examples[i]
        probability = calibration.probability(float(logit))
        found.append(
            Scored(
                name=f"{example.group}/{example.original or example.path.name}",
                label=example.label,
                generator=example.generator,
                source=example.source,
                group=example.group,
                content=example.content,
                logit=float(logit),
                probability=probability,
                verdict=thresholds.verdict(probability),
                condition=str(pictures.conditions[i]),
            )
        )
    return sorted(found, key=lambda one: place(one.condition))


def error_rates(evaluation: Evaluation, scores: Sequence[Scored]) -> dict[str, Any]:
    """What a card says of a mode's errors: on the laundered mix, or on what there is without one.

    ``false_positive_rate_at_most`` is of the condition in which most reals are called ``ai``: as they are,
    laundered, or made smaller.

    Args:
        evaluation: errors of the scores.
        scores: held-out scores of the mode.
    """
    condition = modelcard.stated_condition(evaluation)
    laundering = "as they are" if condition.name == "clean" else "laundered at random"
    polished = condition.polished
    return {
        "measured_on": f"pictures of held-out repositories, {laundering}",
        "false_positive_rate": condition.fpr.to_dict(),
        "false_positive_rate_at_most": _worst(evaluation, scores),
        "recall": condition.recall.to_dict(),
        "missed_as_real": condition.missed.to_dict(),
        "auc": number(condition.auc),
        "recall_at_1_percent_fpr": condition.tpr_at_1.to_dict(),
        "by_group": condition.by_group.to_dict() if condition.by_group else None,
        "polished_false_positive_rate": polished.fpr.to_dict() if polished else None,
        "by_content": {c.name: c.to_dict() for c in condition.content},
    }


def _worst(evaluation: Evaluation, scores: Sequence[Scored]) -> dict[str, Any]:
    pooled = evaluate(
        [replace(one, condition=SMALLER_COPIES) for one in scores if one.condition in SMALLER],
        evaluation.thresholds,
    )
    found = {**evaluation.conditions, **pooled.conditions}
    names = [name for name in ("clean", MIX, CUTS, SMALLER_COPIES) if name in found and found[name].fpr.n]
    if not names:
        return {"condition": None, **rate(0, 0).to_dict()}
    worst = max(names, key=lambda name: found[name].fpr.value)
    return {"condition": worst, **found[worst].fpr.to_dict()}
