"""Training: features of labelled pictures in, a fitted, calibrated and measured model out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images.views import ViewPlan
from ..models.probe import KINDS, ClassProbe, Probe
from ..models.tower import Tower
from .calibration import calibrate, error_rates, fit_stages, scored
from .crossfit import held_out, in_fit
from .dataset import Example
from .evaluation import Evaluation, evaluate
from .familyfit import fit_attribution
from .features import STANDARD, Sample, Vectors
from .recipe import DEFAULT_MODES, Recipe
from .scoring import Scored
from .speed import measured


@dataclass(frozen=True)
class Fitted:
    """A fitted model, not yet written.

    Attributes:
        probes: by kind of view.
        modes, details: entries of its card.
        evaluations, scores: held-out errors and scores by mode.
        used: which features of a view the probes use, ``[length]``, dtype ``bool``.
        families, attribution: family probes and what was measured of them; empty with under two families.
    """

    probes: dict[str, Probe]
    modes: dict[str, Any]
    details: dict[str, Any]
    evaluations: dict[str, Evaluation]
    scores: dict[str, list[Scored]]
    used: np.ndarray
    families: dict[str, ClassProbe]
    attribution: dict[str, Any]


def fit_model(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: Vectors,
    tower: Tower,
    recipe: Recipe | None = None,
    on_stage: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Fit, calibrate and measure a model on extracted features.

    Raises:
        AidetectError: a class or a view is missing, or there are too few groups.
    """
    recipe = recipe or Recipe()
    tokens, width = feature_shape(tower)
    used = np.repeat(recipe.tokens(tokens // 2), width)
    emphasis = {kind: recipe.emphasis(kind, tokens // 2, width) for kind in KINDS}
    probes, pictures = held_out(examples, samples, cache, recipe, used, emphasis, on_stage)
    modes, evaluations, scores = {}, {}, {}
    stages = fit_stages(pictures, recipe)
    for mode, views in DEFAULT_MODES.items():
        calibration, thresholds = calibrate(pictures, mode, recipe)
        scores[mode] = scored(pictures, calibration, thresholds, mode)
        evaluations[mode] = evaluate(scores[mode], thresholds)
        modes[mode] = {
            "views": views,
            "calibration": vars(calibration),
            "thresholds": vars(thresholds),
            "error_rates": error_rates(evaluations[mode], scores[mode]),
            **({"stages": stages.to_data()} if mode == "adaptive" else {}),
        }
    training = {
        "sha256": data_sha256(examples, samples),
        "views": len(samples),
        "fitted": int(in_fit(samples, examples, recipe.crops).sum()),
        "pictures": len({e.picture for e in examples}),
        "groups": len({e.group for e in examples}),
        "copies": sorted({s.copy for s in samples}),
    }
    measured_in = pictures.measured("standard")
    measured_by = {
        "rows": int(measured_in.sum()),
        "all_crops": int((pictures.crops[measured_in] >= STANDARD["native"]).sum()),
        "several_squares": int((pictures.squares[measured_in] > 0).sum()),
    }
    on_stage("timing the modes")
    size, interpolation = tower.preprocess.size, tower.preprocess.interpolation
    # How many views `adaptive` scores depends on the pictures.
    timed = {mode: views for mode, views in DEFAULT_MODES.items() if mode != "adaptive"}
    plans = {mode: ViewPlan(size, interpolation, **views) for mode, views in timed.items()}
    details = {
        "features": recipe.features(tokens // 2),
        "training": training,
        "measured_by": measured_by,
        "recipe": vars(recipe),
        "speed": measured(tower, plans),
    }
    families, attribution = fit_attribution(examples, samples, cache, recipe, used, on_stage)
    return Fitted(probes, modes, details, evaluations, scores, used, families, attribution)


def feature_shape(tower: Tower) -> tuple[int, int]:
    """Tokens a view (class tokens of all blocks, then the means of their patch tokens) and their width."""
    size = tower.preprocess.size
    tokens, width = tower.features(np.zeros((1, size, size, 3), np.uint8), patch_mean=True)[0].shape
    return tokens, width


def data_sha256(examples: Sequence[Example], samples: Sequence[Sample]) -> str:
    """SHA-256 over labels, groups and feature keys (which hold the pixels' hashes), order-free."""
    lines = sorted(f"{examples[s.example].label} {examples[s.example].group} {s.key}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
