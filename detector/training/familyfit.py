"""Probes for families of generators: fitted on AI pictures, measured on repositories they never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..models.attribution import joined
from ..models.families import family_of
from ..models.probe import KINDS, ClassProbe
from .crossfit import in_fit, spread
from .dataset import Example
from .features import Sample, Vectors
from .fit import group_folds, reduced
from .metrics import rate
from .recipe import Recipe


def fit_classes(
    features: np.ndarray,
    classes: Sequence[str],
    weights: np.ndarray,
    *,
    l2: float = 0.03,
    components: int = 512,
    iterations: int = 150,
) -> ClassProbe:
    """Multinomial logistic regression on the leading components of standardised features.

    Args:
        features: ``[n, length]``.
        classes: class of each.
        weights: ``[n]``, positive.
    """
    names = tuple(sorted(set(classes)))
    target = torch.tensor([names.index(name) for name in classes])
    x, unfold = reduced(features, weights, components)
    share = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    w = torch.zeros(x.shape[1], len(names), requires_grad=True)
    b = torch.zeros(len(names), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [w, b], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        each = torch.nn.functional.cross_entropy(x @ w + b, target, reduction="none")
        value = (share * each).sum() + l2 / 2 * (w * w).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    columns = [unfold(w.detach()[:, i]) for i in range(len(names))]
    weight = np.stack([column for column, _ in columns]).astype(np.float32)
    bias = b.detach().numpy().astype(np.float64) - np.array([shift for _, shift in columns])
    return ClassProbe(names, weight, bias)


def fit_attribution(
    examples: Sequence[Example],
    samples: Sequence[Sample],
    cache: Vectors,
    recipe: Recipe,
    used: np.ndarray,
    on_stage: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, ClassProbe], dict[str, Any]]:
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
    if len(names) < 2 or not complete or len({examples[s.example].side for s in wanted}) < 2:
        return {}, {}
    probes = {}
    rows: dict[tuple[str, int], list[tuple[str, np.ndarray]]] = {}
    truth: dict[tuple[str, int], str] = {}
    for kind, mine in by_kind.items():
        on_stage(f"{kind} view: families")
        target = [family[s.example] for s in mine]
        groups = [examples[s.example].side for s in mine]
        x = cache.rows([s.key for s in mine], used)
        counts = Counter(zip(target, groups, strict=True))
        weights = np.array([counts[cell] ** -0.5 for cell in zip(target, groups, strict=True)])
        fitted = in_fit(mine, examples, recipe.crops)
        known = np.flatnonzero(fitted)
        final = fit_classes(x[known], [target[i] for i in known], weights[known])
        probes[kind] = ClassProbe(final.names, spread(final.weight, used), final.bias)
        fold = group_folds(groups, [names.index(t) for t in target], recipe.folds, recipe.seed)
        for k in range(recipe.folds):
            train = np.flatnonzero((fold != k) & fitted)
            seen = {target[i] for i in train}
            test = [i for i in np.flatnonzero(fold == k) if target[i] in seen]
            if not test or len(seen) < 2:
                continue
            probe = fit_classes(x[train], [target[i] for i in train], weights[train])
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
