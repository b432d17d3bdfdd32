"""Calibration: what turns held-out logits into probabilities, thresholds and stated error rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.model import Thresholds
from ..models.probe import Calibration
from . import modelcard
from .conditions import CUTS, MIX
from .crossfit import Pictures
from .evaluation import Evaluation
from .fit import platt
from .metrics import number, roc_auc
from .recipe import Recipe
from .scoring import Scored


def calibrate(pictures: Pictures, mode: str, recipe: Recipe) -> tuple[Calibration, Thresholds]:
    """Calibration and thresholds of a mode, on held-out logits of clean and laundered copies alike.

    The ``ai`` threshold keeps the recipe's false positive rate in each condition apart (clean, laundered as
    files, laundered as cuts): the highest of their thresholds. Reworked ones may go above it.
    """
    both = pictures.measured(mode)
    labels = pictures.labels[both]
    share = 1.0
    if mode != "fast":
        grid = np.linspace(0.2, 0.8, 13)
        whole, native = pictures.logits["spread"][both], pictures.logits["native"][both]
        share = float(max(grid, key=lambda s: roc_auc(labels, s * whole + (1 - s) * native)))
    raw = pictures.joined(Calibration(share, 1.0, 0.0), mode)[both]
    slope, intercept = platt(raw, labels, np.ones(len(raw)))
    calibration = Calibration(share, slope, intercept)
    probability = np.array([calibration.probability(logit) for logit in raw])
    fakes, conditions = np.sort(probability[labels == 1]), pictures.conditions[both]
    ai = 0.0
    for condition in ("clean", MIX, CUTS):
        reals = np.sort(probability[(conditions == condition) & (labels == 0)])
        if len(reals):
            at = min(len(reals) - 1, int(np.ceil((1 - recipe.false_positive_rate) * len(reals))))
            ai = max(ai, float(reals[at]))
    real = float(fakes[int(np.floor(recipe.miss_rate * len(fakes)))])
    return calibration, Thresholds(ai=round(ai, 4), real=round(min(real, ai), 4))


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
    return found


def error_rates(evaluation: Evaluation) -> dict[str, Any]:
    """What a card says of a mode's errors: on the laundered mix, or on what there is without one."""
    condition = modelcard.stated_condition(evaluation)
    laundering = "as they are" if condition.name == "clean" else "laundered at random"
    polished = condition.polished
    return {
        "measured_on": f"pictures of held-out repositories, {laundering}",
        "false_positive_rate": condition.fpr.to_dict(),
        "recall": condition.recall.to_dict(),
        "missed_as_real": condition.missed.to_dict(),
        "auc": number(condition.auc),
        "recall_at_1_percent_fpr": condition.tpr_at_1.to_dict(),
        "by_group": condition.by_group.to_dict() if condition.by_group else None,
        "polished_false_positive_rate": polished.fpr.to_dict() if polished else None,
        "by_content": {c.name: c.to_dict() for c in condition.content},
    }
