"""Training: features of labelled pictures in, a model folder with its measured error rates out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .checksum import file_sha256
from .dataset import Example
from .errors import AidetectError
from .features import FeatureCache, Sample
from .fit import balanced_weights, fit_probe, group_folds, platt
from .metrics import rate, roc_auc, tpr_at_fpr
from .model import CARD_SCHEMA, MODEL_CARD
from .probe import KINDS, Calibration, LinearProbe
from .tower import Tower

PROBE_FILE = "probe.safetensors"
DEFAULT_MODES = {
    "fast": {"whole": True, "native": 0},
    "standard": {"whole": True, "native": 2},
    "thorough": {"whole": True, "native": 9},
}


@dataclass(frozen=True)
class Recipe:
    """Choices of a fit.

    Attributes:
        l2_whole, l2_native: penalty of the logistic regression on each kind of view.
        components: principal components of the features that are kept.
        folds: number of group-held-out folds.
        power: how strongly large sources are weighted down (0 not at all, 1 fully).
        false_positive_rate: of the ``ai`` threshold, on laundered reals.
        miss_rate: share of laundered AI pictures that may fall below the ``real`` threshold.
        seed: recorded in the card; extraction's randomness comes from the pixels, fitting has none.
    """

    l2_whole: float = 0.1
    l2_native: float = 0.3
    components: int = 1024
    folds: int = 5
    power: float = 0.5
    false_positive_rate: float = 0.01
    miss_rate: float = 0.1
    seed: int = 0


@dataclass
class Pictures:
    """Held-out logits, a row a picture and copy.

    Attributes:
        examples: one representative example a row.
        copies: copy number, 0 for clean.
        logits: by kind, ``[n]``, NaN where the picture has no such view.
    """

    examples: list[Example]
    copies: np.ndarray
    logits: dict[str, np.ndarray]
    labels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.labels = np.array([example.label for example in self.examples])

    def joined(self, calibration: Calibration, mode: str) -> np.ndarray:
        """Raw logits of a mode, ``[n]``; NaN where a picture lacks the views it needs."""
        whole, native = self.logits["whole"], self.logits["native"]
        if mode == "fast":
            return whole
        return calibration.share * whole + (1 - calibration.share) * native


def held_out(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: FeatureCache,
    recipe: Recipe,
    length: int,
    on_stage: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, LinearProbe], Pictures]:
    """Fit the probes on everything, and score every sample by probes that never saw its group.

    Args:
        length: number of leading features used.

    Raises:
        AidetectError: one of the classes or kinds is missing, or there are too few groups.
    """
    probes: dict[str, LinearProbe] = {}
    out: dict[tuple[str, int], dict[str, float]] = {}
    named: dict[tuple[str, int], Example] = {}
    for kind in KINDS:
        mine = [sample for sample in samples if sample.kind == kind]
        labels = np.array([examples[s.example].label for s in mine])
        groups = [examples[s.example].group for s in mine]
        sources = [examples[s.example].source for s in mine]
        for label, name in ((1, "AI"), (0, "real")):
            count = len({g for g, value in zip(groups, labels, strict=True) if value == label})
            if count < 2:
                raise AidetectError(f"too few groups of {name} pictures with a {kind} view: {count}, need 2")
        x = np.stack([cache.get(s.key)[:length] for s in mine])
        weights = balanced_weights(labels, sources, groups, recipe.power)
        fold = group_folds(groups, labels.tolist(), recipe.folds)
        logits = np.empty(len(mine))
        l2 = recipe.l2_whole if kind == "whole" else recipe.l2_native
        for k in range(recipe.folds):
            on_stage(f"{kind} view: fold {k + 1} of {recipe.folds}")
            train = fold != k
            probe = fit_probe(x[train], labels[train], weights[train], l2, components=recipe.components)
            logits[~train] = probe.logits(x[~train])
        on_stage(f"{kind} view: final fit on {len(mine)} views")
        probes[kind] = fit_probe(x, labels, weights, l2, components=recipe.components)
        for sample, logit in zip(mine, logits, strict=True):
            example = examples[sample.example]
            key = (f"{example.group}|{example.original or example.name}", sample.copy)
            out.setdefault(key, {})[kind] = float(logit)
            named.setdefault(key, example)
    keys = sorted(out)
    columns = {kind: np.array([out[key].get(kind, np.nan) for key in keys]) for kind in KINDS}
    copies = np.array([copy for _, copy in keys])
    return probes, Pictures([named[key] for key in keys], copies, columns)


def calibrate(pictures: Pictures, mode: str, recipe: Recipe) -> tuple[Calibration, dict[str, float]]:
    """Calibration and thresholds of a mode, on held-out logits of the laundered copies.

    Without laundered copies the clean ones are used.
    """
    rows = pictures.copies > 0 if (pictures.copies > 0).any() else pictures.copies == 0
    both = rows & ~np.isnan(pictures.logits["whole"])
    if mode != "fast":
        both &= ~np.isnan(pictures.logits["native"])
    labels = pictures.labels[both]
    share = 1.0
    if mode != "fast":
        grid = np.linspace(0.2, 0.8, 13)
        whole, native = pictures.logits["whole"][both], pictures.logits["native"][both]
        share = float(max(grid, key=lambda s: roc_auc(labels, s * whole + (1 - s) * native)))
    raw = pictures.joined(Calibration(share, 1.0, 0.0), mode)[both]
    slope, intercept = platt(raw, labels, np.ones(len(raw)))
    calibration = Calibration(share, slope, intercept)
    probability = 1 / (1 + np.exp(-(slope * raw + intercept)))
    reals, fakes = np.sort(probability[labels == 0]), np.sort(probability[labels == 1])
    ai = float(reals[min(len(reals) - 1, int(np.ceil((1 - recipe.false_positive_rate) * len(reals))))])
    real = float(fakes[int(np.floor(recipe.miss_rate * len(fakes)))])
    return calibration, {"ai": round(ai, 4), "real": round(min(real, ai), 4)}


def error_rates(
    pictures: Pictures, calibration: Calibration, thresholds: Mapping[str, float], mode: str
) -> dict[str, Any]:
    """False positive rate and recall at the thresholds with n and 95 % Wilson intervals."""
    raw = pictures.joined(calibration, mode)
    usable = ~np.isnan(raw)
    rows = usable & (pictures.copies > 0) if (pictures.copies > 0).any() else usable
    probability = 1 / (1 + np.exp(-(calibration.slope * raw + calibration.intercept)))
    called = probability >= thresholds["ai"]
    content = np.array([example.content for example in pictures.examples])
    polished = np.array([example.source.startswith("polished-") for example in pictures.examples])
    real, fake = rows & (pictures.labels == 0), rows & (pictures.labels == 1)

    def part(mask: np.ndarray) -> dict[str, Any]:
        return rate(int(called[mask].sum()), int(mask.sum())).to_dict()

    result: dict[str, Any] = {
        "measured_on": "pictures of held-out repositories, laundered at random",
        "false_positive_rate": part(real),
        "recall": part(fake),
        "missed_as_real": rate(
            int((probability[fake] < thresholds["real"]).sum()), int(fake.sum())
        ).to_dict(),
        "auc": round(float(roc_auc(pictures.labels[rows], raw[rows])), 4),
        "recall_at_1_percent_fpr": round(float(tpr_at_fpr(pictures.labels[rows], raw[rows], 0.01)), 4),
        "polished_false_positive_rate": part(real & polished),
        "by_content": {},
    }
    for name in sorted(set(content)):
        mine = content == name
        result["by_content"][name] = {
            "false_positive_rate": part(real & mine),
            "recall": part(fake & mine),
            "too_few": bool((real & mine).sum() < 30),
        }
    return result


@dataclass(frozen=True)
class Fitted:
    """A fitted model, not yet written: probes, modes and further entries of its card."""

    probes: dict[str, LinearProbe]
    modes: dict[str, Any]
    details: dict[str, Any]


def fit_model(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: FeatureCache,
    tower: Tower,
    recipe: Recipe = Recipe(),
    on_stage: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Fit, calibrate and measure a model on extracted features.

    Raises:
        AidetectError: a class or a view is missing, or there are too few groups.
    """
    length = blocks_length(tower)
    probes, pictures = held_out(examples, samples, cache, recipe, length, on_stage)
    modes = {}
    for mode, views in DEFAULT_MODES.items():
        calibration, thresholds = calibrate(pictures, mode, recipe)
        modes[mode] = {
            "views": views,
            "calibration": vars(calibration),
            "thresholds": thresholds,
            "error_rates": error_rates(pictures, calibration, thresholds, mode),
        }
    training = {
        "sha256": data_sha256(examples, samples),
        "views": len(samples),
        "pictures": len({(e.group, e.original or e.name) for e in examples}),
        "groups": len({e.group for e in examples}),
        "copies": sorted({s.copy for s in samples}),
    }
    return Fitted(probes, modes, {"training": training, "recipe": vars(recipe)})


def blocks_length(tower: Tower) -> int:
    """Length of a view's features: class token and mean of the patch tokens of every block."""
    size = tower.preprocess.size
    blank = np.zeros((1, size, size, 3), np.uint8)
    return int(tower.features(blank, patch_mean=True)[0].size)


def write_model(
    folder: Path,
    probes: Mapping[str, LinearProbe],
    modes: Mapping[str, Any],
    tower_card: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Path:
    """Write a model folder: probe tensors and card, with the hash of every file.

    Args:
        modes: by name: ``views, calibration, thresholds, error_rates``.
        tower_card: the card's ``tower`` object.
        details: further entries of the card, e.g. the training data's hash.

    Returns:
        The card's path.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for kind, probe in probes.items():
        tensors[f"{kind}.weight"] = np.ascontiguousarray(probe.weight, dtype=np.float32)
        tensors[f"{kind}.bias"] = np.array([probe.bias], dtype=np.float32)
    save_file(tensors, folder / PROBE_FILE)
    files = {
        path.name: file_sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MODEL_CARD
    }
    card = {
        "schema": CARD_SCHEMA,
        "name": folder.resolve().name,
        "date": datetime.now(UTC).date().isoformat(),
        "tower": dict(tower_card),
        "features": "class token and mean of the patch tokens of every block, before projection",
        "probe": {"file": PROBE_FILE, "length": len(next(iter(probes.values())).weight), "patch_mean": True},
        "modes": dict(modes),
        **details,
        "files": files,
    }
    path = folder / MODEL_CARD
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def data_sha256(examples: Sequence[Example], samples: Sequence[Sample]) -> str:
    """SHA-256 over labels, groups and feature keys (which hold the pixels' hashes), order-free."""
    lines = sorted(f"{examples[s.example].label} {examples[s.example].group} {s.key}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
