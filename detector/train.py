"""Training: features of labelled pictures in, a model folder with its measured error rates out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from . import modelcard
from .attribution import fit_families, joined
from .base import FILE as BASE_FILE
from .checksum import file_sha256
from .dataset import REWORKED, Example
from .errors import AidetectError
from .evaluation import CUTS, MIX, REWORK, Evaluation, Scored, evaluate
from .families import family_of
from .features import STANDARD, WHOLE_JPEG, Sample, Vectors
from .fit import balanced_weights, fit_pair, group_folds, platt
from .heldout import FILE as HELD_OUT_FILE
from .heldout import write_held_out
from .metrics import number, rate, roc_auc
from .model import CARD_SCHEMA, MODEL_CARD, Thresholds
from .plots import write_plots
from .probe import KINDS, Calibration, FamilyProbe, Probe, probe_tensors, write_tensors
from .speed import measured
from .tower import Tower
from .views import ViewPlan

PROBE_FILE = "probe.safetensors"
DEFAULT_MODES: dict[str, dict[str, Any]] = {
    "fast": {"whole": True, "native": 0, "whole_jpeg": WHOLE_JPEG, "trim": True},
    "standard": STANDARD,
    "thorough": {**STANDARD, "native": 9},
}


@dataclass(frozen=True)
class Recipe:
    """Choices of a fit.

    Attributes:
        l2_whole, l2_native: penalty of the logistic regression on each kind of view.
        class_blocks, mean_blocks: the blocks whose class tokens and patch means the probes look at, from
            and up to, as shares of the tower's depth.
        emphasis_whole, emphasis_native: what three groups of standardised features are multiplied by: class
            tokens of the earlier blocks looked at, of the last quarter of the tower, and patch means.
        components: principal components of the features that are kept.
        centres, width, ridge: of the kernel probe, a support vector machine (see `fit_pair`).
        share: of the kernel probe in the votes that are averaged, each scaled to the same spread.
        crops: native crops of a picture's copy that are fitted. Further ones, and the ends of a picture far
            from square, are measured and calibrated on; in the fit they gained nothing.
        folds: number of group-held-out folds.
        power: how strongly large sources are weighted down (0 not at all, 1 fully).
        family_power: the same of large families of generators.
        laundered_whole, laundered_native: weight of a laundered copy beside a clean one in the fit.
        false_positive_rate: of the ``ai`` threshold, on held-out reals, clean and laundered apart.
        miss_rate: share of held-out AI pictures that may fall below the ``real`` threshold.
        seed: of the partition of repositories into folds (see `group_folds`), recorded in the card; nothing
            else is drawn: extraction's randomness comes from the pixels, fitting has none.
    """

    l2_whole: float = 0.3
    l2_native: float = 0.3
    class_blocks: tuple[float, float] = (5 / 12, 1.0)
    mean_blocks: tuple[float, float] = (3 / 12, 8 / 12)
    emphasis_whole: tuple[float, float, float] = (1.0, 0.6, 1.4)
    emphasis_native: tuple[float, float, float] = (1.5, 0.4, 0.7)
    components: int = 1024
    centres: int = 4096
    width: float = 0.7
    ridge: float = 0.2
    share: float = 0.7
    crops: int = 2
    folds: int = 5
    power: float = 0.5
    family_power: float = 0.5
    laundered_whole: float = 0.5
    laundered_native: float = 0.45
    false_positive_rate: float = 0.01
    miss_rate: float = 0.1
    seed: int = 0

    def tokens(self, blocks: int) -> np.ndarray:
        """Which tokens of a view the probes look at: ``[2 * blocks]``, dtype ``bool``, class tokens first."""
        used = np.zeros(2 * blocks, bool)
        for start, (low, high) in ((0, self.class_blocks), (blocks, self.mean_blocks)):
            used[start + round(low * blocks) : start + round(high * blocks)] = True
        return used

    def emphasis(self, kind: str, blocks: int, width: int) -> np.ndarray:
        """What the used features of a kind of view are multiplied by, ``[used features]``."""
        early, late, mean = self.emphasis_whole if kind == "whole" else self.emphasis_native
        each = np.where(np.arange(2 * blocks) < round(0.75 * blocks), early, late)
        each[blocks:] = mean
        return np.repeat(each[self.tokens(blocks)], width)

    def features(self, blocks: int) -> str:
        """What a card says of the tokens that the probes look at."""
        spans = [
            f"{round(low * blocks) + 1} to {round(high * blocks)}"
            for low, high in (self.class_blocks, self.mean_blocks)
        ]
        return (
            f"class tokens of blocks {spans[0]} and means of the patch tokens of blocks {spans[1]}, "
            f"of {blocks}, before projection"
        )


def condition_of(example: Example, copy: int) -> str:
    """``clean``, `MIX` for a copy laundered as a whole file, `CUTS` for one laundered as a small cut,
    `REWORK` for one that was reworked.
    """
    if not copy:
        return "clean"
    if example.laundered == REWORKED:
        return REWORK
    return MIX if example.laundered or example.view == "full" else CUTS


@dataclass
class Pictures:
    """Held-out logits, a row a picture and copy.

    Attributes:
        examples: one representative example a row.
        copies: copy number, 0 for clean.
        logits: ``[n]`` each, NaN where the picture has none: ``whole``, of the centred square; ``spread``,
            the mean of the squares that are taken in its place of a picture far from square, else as
            ``whole``; ``native``, the mean of its crops.
        crops, squares: how many native crops and how many squares beside the centred one each row's logits
            are means of, ``[n]``.
        labels: ``[n]``, 1 for AI.
        conditions: name of each row's condition, ``[n]``.
    """

    examples: list[Example]
    copies: np.ndarray
    logits: dict[str, np.ndarray]
    crops: np.ndarray
    squares: np.ndarray
    labels: np.ndarray = field(init=False)
    conditions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.labels = np.array([example.label for example in self.examples])
        rows = zip(self.examples, self.copies, strict=True)
        self.conditions = np.array([condition_of(example, int(copy)) for example, copy in rows])

    def measured(self, mode: str) -> np.ndarray:
        """Which rows have the views that a mode needs, ``[n]``, dtype ``bool``."""
        return np.asarray(~np.isnan(self.joined(Calibration(0.5, 1.0, 0.0), mode)))

    def joined(self, calibration: Calibration, mode: str) -> np.ndarray:
        """Raw logits of a mode, ``[n]``; NaN where a picture lacks the views it needs."""
        if mode == "fast":
            return self.logits["whole"]
        return calibration.share * self.logits["spread"] + (1 - calibration.share) * self.logits["native"]


def held_out(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: Vectors,
    recipe: Recipe,
    used: np.ndarray,
    emphasis: Mapping[str, np.ndarray],
    on_stage: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Probe], Pictures]:
    """Fit the probes on everything, and score every sample by probes that never saw its group.

    Args:
        used: which features the probes look at, ``[length]``, dtype ``bool``; their weights for the others
            are zero.
        emphasis: what the used features are multiplied by, by kind of view (see `fit_pair`).

    Raises:
        AidetectError: one of the classes or kinds is missing, or there are too few groups.
    """
    probes: dict[str, Probe] = {}
    out: dict[tuple[str, int], dict[str, list[float]]] = {}
    named: dict[tuple[str, int], Example] = {}
    for kind in KINDS:
        mine = [sample for sample in samples if sample.probe == kind]
        labels = np.array([examples[s.example].label for s in mine])
        groups = [examples[s.example].group for s in mine]
        for label, name in ((1, "AI"), (0, "real")):
            count = len({g for g, value in zip(groups, labels, strict=True) if value == label})
            if count < 2:
                raise AidetectError(f"too few groups of {name} pictures with a {kind} view: {count}, need 2")
        x = cache.rows([s.key for s in mine], used)
        fitted = in_fit(mine, examples, recipe.crops)
        # Folds share out what is fitted; every other view is of a group that has such. Reworked copies do not
        # count: models with and without them are measured by the same folds.
        reworked = [condition_of(examples[s.example], s.copy) == REWORK for s in mine]
        known = np.flatnonzero(fitted & ~np.array(reworked))
        names = [groups[i] for i in known]
        shared_out = group_folds(names, labels[known].tolist(), recipe.folds, recipe.seed)
        fold_of = dict(zip(names, shared_out, strict=True))
        fold = np.array([fold_of.get(group, 0) for group in groups])
        votes = np.empty((len(mine), 2))
        for k in range(recipe.folds):
            on_stage(f"{kind} view: fold {k + 1} of {recipe.folds}")
            test, train = fold == k, (fold != k) & fitted
            rows = [mine[i] for i in np.flatnonzero(train)]
            votes[test] = both_votes(
                *fit_kind(kind, x[train], rows, examples, recipe, emphasis[kind]), x[test]
            )
        on_stage(f"{kind} view: final fit on {fitted.sum()} views")
        parts = np.array([1 - recipe.share, recipe.share]) / np.maximum(votes.std(axis=0), 1e-12)
        slope, intercept = platt(votes @ parts, labels, np.ones(len(mine)))
        parts *= slope
        rows = [mine[i] for i in np.flatnonzero(fitted)]
        linear, kernel = fit_kind(kind, x[fitted], rows, examples, recipe, emphasis[kind])
        probes[kind] = _joined(linear, kernel, parts, intercept, used)
        for sample, logit in zip(mine, votes @ parts + intercept, strict=True):
            example = examples[sample.example]
            key = (example.picture, sample.copy)
            out.setdefault(key, {}).setdefault(sample.kind, []).append(float(logit))
            named.setdefault(key, example)
    keys = sorted(out)
    columns = {
        name: np.array([mean_logit(out[key], kinds) for key in keys])
        for name, kinds in (("whole", ["whole"]), ("spread", ["end", "whole"]), ("native", ["native"]))
    }
    copies = np.array([copy for _, copy in keys])
    crops, squares = (np.array([len(out[key].get(kind, ())) for key in keys]) for kind in ("native", "end"))
    return probes, Pictures([named[key] for key in keys], copies, columns, crops, squares)


def in_fit(samples: Sequence[Sample], examples: Sequence[Example], crops: int) -> np.ndarray:
    """Which samples are fitted (see `Recipe.crops`), ``[n]``, dtype ``bool``."""
    seen: Counter[tuple[str, int]] = Counter()
    fitted = np.zeros(len(samples), bool)
    for i, sample in enumerate(samples):
        if sample.kind == "native":
            copy = (examples[sample.example].picture, sample.copy)
            seen[copy] += 1
            fitted[i] = seen[copy] <= crops
        else:
            fitted[i] = sample.kind == "whole"
    return fitted


def mean_logit(logits: Mapping[str, Sequence[float]], kinds: Sequence[str]) -> float:
    """Mean of the logits of the first of these kinds that there are any of, else NaN."""
    return next((float(np.mean(logits[kind])) for kind in kinds if kind in logits), float("nan"))


def _joined(linear: Probe, kernel: Probe, parts: np.ndarray, intercept: float, used: np.ndarray) -> Probe:
    """The probe whose logit is ``parts[0] * linear + parts[1] * kernel + intercept``, over all features."""
    assert kernel.kernel is not None
    scaled = (kernel.kernel.weight * parts[1]).astype(np.float32)
    return Probe(
        _spread((linear.weight * parts[0]).astype(np.float32), used),
        float(linear.bias * parts[0] + kernel.bias * parts[1] + intercept),
        replace(kernel.kernel, used=used, weight=scaled),
    )


def _spread(weight: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Weights ``[..., used features]`` at their places among all features, zeros elsewhere."""
    full = np.zeros((*weight.shape[:-1], len(used)), weight.dtype)
    full[..., used] = weight
    return full


def both_votes(linear: Probe, kernel: Probe, x: np.ndarray) -> np.ndarray:
    """What the two probes of `fit_kind` say of views ``[n, used features]``: ``[n, 2]``."""
    assert kernel.kernel is not None
    return np.stack([linear.logits(x), kernel.kernel.values(x) + kernel.bias], axis=1)


def fit_kind(
    kind: str,
    x: np.ndarray,
    rows: Sequence[Sample],
    examples: Sequence[Example],
    recipe: Recipe,
    emphasis: np.ndarray,
) -> tuple[Probe, Probe]:
    """Fit one kind's linear and kernel probe. The weights are of these rows alone, so that both classes
    count alike in every fold and the logits of different folds can be compared.
    """
    seen = [examples[sample.example] for sample in rows]
    labels = np.array([example.label for example in seen])
    weights = balanced_weights(
        labels,
        [example.source for example in seen],
        [example.group for example in seen],
        recipe.power,
        [family_of(example.generator) for example in seen],
        recipe.family_power,
    )
    l2, laundered = recipe.l2_native, recipe.laundered_native
    if kind == "whole":
        l2, laundered = recipe.l2_whole, recipe.laundered_whole
    weights *= np.where([sample.copy > 0 for sample in rows], laundered, 1.0)
    return fit_pair(
        x,
        labels,
        weights,
        l2=l2,
        components=recipe.components,
        centres=recipe.centres,
        width=recipe.width,
        ridge=recipe.ridge,
        emphasis=emphasis,
    )


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


@dataclass(frozen=True)
class Fitted:
    """A fitted model, not yet written.

    Attributes:
        probes: by kind of view.
        modes, details: entries of its card.
        evaluations, scores: held-out errors and scores by mode.
        used: which features of a view the probes look at, ``[length]``, dtype ``bool``.
        families, attribution: family probes and what was measured of them; empty with under two families.
    """

    probes: dict[str, Probe]
    modes: dict[str, Any]
    details: dict[str, Any]
    evaluations: dict[str, Evaluation]
    scores: dict[str, list[Scored]]
    used: np.ndarray
    families: dict[str, FamilyProbe]
    attribution: dict[str, Any]


def fit_model(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: Vectors,
    tower: Tower,
    recipe: Recipe = Recipe(),
    on_stage: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Fit, calibrate and measure a model on extracted features.

    Raises:
        AidetectError: a class or a view is missing, or there are too few groups.
    """
    tokens, width = feature_shape(tower)
    used = np.repeat(recipe.tokens(tokens // 2), width)
    emphasis = {kind: recipe.emphasis(kind, tokens // 2, width) for kind in KINDS}
    probes, pictures = held_out(examples, samples, cache, recipe, used, emphasis, on_stage)
    modes, evaluations, scores = {}, {}, {}
    for mode, views in DEFAULT_MODES.items():
        calibration, thresholds = calibrate(pictures, mode, recipe)
        scores[mode] = scored(pictures, calibration, thresholds, mode)
        evaluations[mode] = evaluate(scores[mode], thresholds)
        modes[mode] = {
            "views": views,
            "calibration": vars(calibration),
            "thresholds": vars(thresholds),
            "error_rates": error_rates(evaluations[mode]),
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
    plans = {mode: ViewPlan(size, interpolation, **views) for mode, views in DEFAULT_MODES.items()}
    details = {
        "features": recipe.features(tokens // 2),
        "training": training,
        "measured_by": measured_by,
        "recipe": vars(recipe),
        "speed": measured(tower, plans),
    }
    families, attribution = fit_attribution(examples, samples, cache, recipe, used, on_stage)
    return Fitted(probes, modes, details, evaluations, scores, used, families, attribution)


def fit_attribution(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: Vectors,
    recipe: Recipe,
    used: np.ndarray,
    on_stage: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, FamilyProbe], dict[str, Any]]:
    """Fit the family probes on AI pictures, and measure them on groups they never saw.

    A family with pictures from one group alone cannot be measured so, and is left out of the figures.

    Returns:
        Probes by kind of view, and ``names, top_1, top_3, confusion`` (joined over kinds of view); both
        empty with fewer than two families or groups, and where no family can be measured.
    """
    wanted = [s for s in samples if examples[s.example].label and family_of(examples[s.example].generator)]
    family = {s.example: str(family_of(examples[s.example].generator)) for s in wanted}
    by_kind = {kind: [s for s in wanted if s.probe == kind] for kind in KINDS}
    names = tuple(sorted(set(family.values())))
    complete = all({family[s.example] for s in mine} == set(names) for mine in by_kind.values())
    if len(names) < 2 or not complete or len({examples[s.example].group for s in wanted}) < 2:
        return {}, {}
    probes = {}
    rows: dict[tuple[str, int], list[tuple[str, np.ndarray]]] = {}
    truth: dict[tuple[str, int], str] = {}
    for kind, mine in by_kind.items():
        on_stage(f"{kind} view: families")
        target = [family[s.example] for s in mine]
        groups = [examples[s.example].group for s in mine]
        x = cache.rows([s.key for s in mine], used)
        counts = Counter(zip(target, groups, strict=True))
        weights = np.array([counts[cell] ** -0.5 for cell in zip(target, groups, strict=True)])
        fitted = in_fit(mine, examples, recipe.crops)
        known = np.flatnonzero(fitted)
        final = fit_families(x[known], [target[i] for i in known], weights[known])
        probes[kind] = FamilyProbe(final.names, _spread(final.weight, used), final.bias)
        fold = group_folds(groups, [names.index(t) for t in target], recipe.folds, recipe.seed)
        for k in range(recipe.folds):
            train = np.flatnonzero((fold != k) & fitted)
            seen = {target[i] for i in train}
            test = [i for i in np.flatnonzero(fold == k) if target[i] in seen]
            if not test or len(seen) < 2:
                continue
            probe = fit_families(x[train], [target[i] for i in train], weights[train])
            full = np.full((len(test), len(names)), -30.0)
            full[:, [names.index(n) for n in probe.names]] = probe.log_probabilities(x[test])
            for i, row in zip(test, full, strict=True):
                example = examples[mine[i].example]
                key = (example.picture, mine[i].copy)
                rows.setdefault(key, []).append((kind, row))
                truth[key] = target[i]
    if not rows:
        return {}, {}
    confusion = {name: Counter[str]() for name in names}
    top_1 = top_3 = 0
    for key, found in rows.items():
        order = np.argsort(-joined(*zip(*found, strict=True)))
        confusion[truth[key]][names[order[0]]] += 1
        top_1 += names[order[0]] == truth[key]
        top_3 += truth[key] in [names[i] for i in order[:3]]
    return probes, {
        "names": list(names),
        "measured_on": "AI pictures of held-out repositories whose family others have too",
        "top_1": rate(top_1, len(rows)).to_dict(),
        "top_3": rate(top_3, len(rows)).to_dict(),
        "confusion": {name: dict(found.most_common()) for name, found in confusion.items() if found},
    }


def feature_shape(tower: Tower) -> tuple[int, int]:
    """Tokens a view (class tokens of all blocks, then the means of their patch tokens) and their width."""
    size = tower.preprocess.size
    tokens, width = tower.features(np.zeros((1, size, size, 3), np.uint8), patch_mean=True)[0].shape
    return tokens, width


def write_model(
    folder: Path,
    fitted: Fitted,
    tower_card: Mapping[str, Any],
    details: Mapping[str, Any],
    base: Callable[[Path], None] | None = None,
) -> Path:
    """Write a model folder: probe tensors, held-out scores, ``MODEL_CARD.md``, plots, and the card.

    Plots are left out where matplotlib is not installed.

    The card holds the hash of every file written here.

    Args:
        tower_card: the card's ``tower`` object.
        details: further entries of the card.
        base: what writes the training features to a path, for a model that others can extend.

    Returns:
        The card's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for kind, probe in fitted.probes.items():
        tensors |= probe_tensors(kind, probe)
    for kind, families in fitted.families.items():
        tensors[f"families.{kind}.weight"] = families.weight.astype(np.float32)
        tensors[f"families.{kind}.bias"] = families.bias.astype(np.float32)
    write_tensors(folder / PROBE_FILE, tensors)
    card = {
        "schema": CARD_SCHEMA,
        "name": folder.resolve().name,
        "date": datetime.now(UTC).date().isoformat(),
        "tower": dict(tower_card),
        "probe": {"file": PROBE_FILE, "length": len(fitted.used), "patch_mean": True},
        "modes": fitted.modes,
        **({"attribution": fitted.attribution} if fitted.attribution else {}),
        **fitted.details,
        **details,
    }
    (folder / modelcard.FILE).write_text(modelcard.render(card, fitted.evaluations), encoding="utf-8")
    write_held_out(folder / HELD_OUT_FILE, fitted.scores)
    written = [folder / PROBE_FILE, folder / modelcard.FILE, folder / HELD_OUT_FILE, *_plots(fitted, folder)]
    (folder / BASE_FILE).unlink(missing_ok=True)
    if base is not None:
        base(folder / BASE_FILE)
        written.append(folder / BASE_FILE)
    card["files"] = {path.name: file_sha256(path) for path in written}
    path = folder / MODEL_CARD
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def _plots(fitted: Fitted, folder: Path) -> list[Path]:
    try:
        return write_plots(fitted.evaluations["standard"], fitted.scores["standard"], folder)
    except AidetectError:  # matplotlib is an extra
        return []


def data_sha256(examples: Sequence[Example], samples: Sequence[Sample]) -> str:
    """SHA-256 over labels, groups and feature keys (which hold the pixels' hashes), order-free."""
    lines = sorted(f"{examples[s.example].label} {examples[s.example].group} {s.key}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
