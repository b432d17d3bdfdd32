"""Cross-fitting: probes are fitted, and every picture is scored by probes that never saw its repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import AidetectError
from ..models.families import family_of
from ..models.probe import KINDS, Calibration, Probe
from .conditions import CUTS, MIX, REWORK
from .dataset import DEGRADED, REWORKED, Example
from .features import Sample, Vectors
from .fit import balanced_weights, fit_pair, group_folds, platt
from .recipe import Recipe

_WAY_OF = {copy: name for name, copy in DEGRADED.items()}


def condition_of(example: Example, copy: int) -> str:
    """``clean``, `MIX` for a copy laundered as a whole file, `CUTS` for one laundered as a small cut,
    `REWORK` for one that was reworked, else the name of the way in which it was degraded.
    """
    if copy in _WAY_OF:
        return _WAY_OF[copy]
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
            the mean of the squares that replace it where a picture is far from square, else as
            ``whole``; ``native``, the mean of its crops; ``first``, its first crop;
            ``adaptive``, what `calibration.fit_stages` adds.
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
        if mode == "adaptive":
            return self.logits["adaptive"]
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
        groups = [examples[s.example].side for s in mine]
        for label, name in ((1, "AI"), (0, "real")):
            count = len({g for g, value in zip(groups, labels, strict=True) if value == label})
            if count < 2:
                raise AidetectError(f"too few groups of {name} pictures with a {kind} view: {count}, need 2")
        x = cache.rows([s.key for s in mine], used)
        fitted = in_fit(mine, examples, recipe.crops)
        # Folds are made from the fitted views; every other view belongs to a group that has some. Reworked
        # copies do not count, so that models with and without them have the same folds.
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
    columns["first"] = np.array([out[key].get("native", [float("nan")])[0] for key in keys])
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
    """Mean of the logits of the first of these kinds that is present; NaN without any."""
    return next((float(np.mean(logits[kind])) for kind in kinds if kind in logits), float("nan"))


def _joined(linear: Probe, kernel: Probe, parts: np.ndarray, intercept: float, used: np.ndarray) -> Probe:
    """The probe whose logit is ``parts[0] * linear + parts[1] * kernel + intercept``, over all features."""
    assert kernel.kernel is not None
    scaled = (kernel.kernel.weight * parts[1]).astype(np.float32)
    return Probe(
        spread((linear.weight * parts[0]).astype(np.float32), used),
        float(linear.bias * parts[0] + kernel.bias * parts[1] + intercept),
        replace(kernel.kernel, used=used, weight=scaled),
    )


def both_votes(linear: Probe, kernel: Probe, x: np.ndarray) -> np.ndarray:
    """What the two probes of `fit_kind` say of views ``[n, used features]``: ``[n, 2]``."""
    assert kernel.kernel is not None
    return np.stack([linear.logits(x), kernel.kernel.values(x) + kernel.bias], axis=1)


def sample_weights(
    kind: str, rows: Sequence[Sample], examples: Sequence[Example], recipe: Recipe
) -> np.ndarray:
    """Weights of samples in a fit, ``[n]``: both classes count alike, large sources and families less than
    their share, laundered copies less than clean ones.
    """
    seen = [examples[sample.example] for sample in rows]
    weights = balanced_weights(
        np.array([example.label for example in seen]),
        [example.source for example in seen],
        [example.group for example in seen],
        recipe.power,
        [family_of(example.generator) for example in seen],
        recipe.family_power,
    )
    laundered = recipe.laundered_whole if kind == "whole" else recipe.laundered_native
    return np.asarray(weights * np.where([sample.copy > 0 for sample in rows], laundered, 1.0))


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
    labels = np.array([examples[sample.example].label for sample in rows])
    weights = sample_weights(kind, rows, examples, recipe)
    return fit_pair(
        x,
        labels,
        weights,
        l2=recipe.l2_whole if kind == "whole" else recipe.l2_native,
        components=recipe.components,
        centres=recipe.centres,
        width=recipe.width,
        ridge=recipe.ridge,
        emphasis=emphasis,
    )


def spread(weight: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Weights ``[..., used features]`` at their places among all features, zeros elsewhere."""
    full = np.zeros((*weight.shape[:-1], len(used)), weight.dtype)
    full[..., used] = weight
    return full
