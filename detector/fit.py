"""Fitting: the logistic regression behind the probe, Platt calibration, folds and sample weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .probe import LinearProbe


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each feature, ``[d]`` each, dtype ``float32``."""

    mean: np.ndarray
    std: np.ndarray


def standardise(features: np.ndarray, weights: np.ndarray) -> Standard:
    """Weighted mean and standard deviation of the columns of ``[n, d]``."""
    share = (weights / weights.sum()).astype(np.float32)
    mean = np.zeros(features.shape[1], np.float32)
    square = np.zeros_like(mean)
    for start in range(0, len(features), 4096):
        block = features[start : start + 4096].astype(np.float32)
        part = share[start : start + 4096]
        mean += part @ block
        square += part @ (block * block)
    return Standard(mean, np.sqrt(np.maximum(square - mean * mean, 1e-8)))


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    l2: float,
    *,
    components: int = 1024,
    iterations: int = 150,
) -> LinearProbe:
    """L2-regularised, weighted logistic regression on the leading components of standardised features.

    Minimises ``sum(weights * log_loss) / sum(weights) + l2 / 2 * |w|^2`` with L-BFGS over weights ``w``
    of the leading principal components (randomised singular value decomposition, Halko et al., 2011).
    Deterministic on one machine.

    Args:
        features: ``[n, d]``, any float dtype.
        labels: ``[n]``, 1 for AI and 0 for real.
        weights: ``[n]``, positive.
        l2: strength of the penalty.
        components: number of principal components kept; all when there are no more than that.

    Returns:
        The probe, with standardisation folded into its weights.
    """
    x, unfold = reduced(features, weights, components)
    sign = torch.from_numpy(np.where(labels > 0, 1.0, -1.0).astype(np.float32))
    share = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    w = torch.zeros(x.shape[1], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [w, b],
        max_iter=iterations,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=1e-8,
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = (share * torch.nn.functional.softplus(-sign * (x @ w + b))).sum() + l2 / 2 * (w * w).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weight, shift = unfold(w.detach())
    return LinearProbe(weight.astype(np.float32), float(b.item() - shift))


def reduced(
    features: np.ndarray, weights: np.ndarray, components: int
) -> tuple[torch.Tensor, Callable[[torch.Tensor], tuple[np.ndarray, float]]]:
    """Leading principal components of standardised features, and the way back.

    The components come from a randomised singular value decomposition (Halko et al., 2011), seeded.

    Args:
        features: ``[n, d]``, any float dtype.
        weights: ``[n]``, positive.
        components: number kept; all features when there are no more than that.

    Returns:
        The reduced features ``[n, r]``, and a function that turns weights ``[r]`` on them into weights
        ``[d]`` on the features as they were and the constant to take from the bias.
    """
    standard, x, basis = principal(features, weights, components)

    def unfold(w: torch.Tensor) -> tuple[np.ndarray, float]:
        full = (w if basis is None else basis @ w).numpy() / standard.std
        return full, float(np.dot(full, standard.mean))

    return x, unfold


def principal(
    features: np.ndarray, weights: np.ndarray, components: int
) -> tuple[Standard, torch.Tensor, torch.Tensor | None]:
    """Standardised features on their leading principal components, and what leads back.

    Returns:
        The standardisation, the reduced features ``[n, r]``, and the components as columns of
        ``[d, r]`` (``None`` when all features are kept as they are).
    """
    standard = standardise(features, weights)
    x = torch.empty(features.shape, dtype=torch.float32)
    for start in range(0, len(features), 4096):
        block = features[start : start + 4096].astype(np.float32)
        x[start : start + 4096] = torch.from_numpy((block - standard.mean) / standard.std)
    rank = min(components, *x.shape)
    basis: torch.Tensor | None = None
    if rank < x.shape[1]:
        state = torch.random.get_rng_state()
        torch.manual_seed(0)
        _, _, basis = torch.svd_lowrank(x, q=rank, niter=2)
        torch.random.set_rng_state(state)
        x = x @ basis
    return standard, x, basis


def platt(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Platt's slope and intercept, by Newton's method on the weighted log loss (Platt, 1999).

    Classes are given equal weight, so that the probability assumes a prior of one half.
    """
    weight = weights.astype(np.float64).copy()
    for value in (0, 1):
        weight[labels == value] /= max(weight[labels == value].sum(), 1e-12) * 2
    design = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    theta = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -60, 60)))
        gradient = design.T @ (weight * (p - labels)) + 1e-6 * theta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return float(theta[0]), float(theta[1])


def group_folds(groups: Sequence[str], labels: Sequence[int], folds: int) -> np.ndarray:
    """A fold for each sample such that no group is split and both labels are spread evenly.

    The largest groups are placed first, each where its label is rarest; deterministic.
    """
    sizes = Counter(zip(groups, labels, strict=True))
    by_group: dict[str, Counter[int]] = {}
    for (group, label), count in sizes.items():
        by_group.setdefault(group, Counter())[label] += count
    load = [Counter[int]() for _ in range(folds)]
    fold_of = {}
    for group, counts in sorted(by_group.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        label = counts.most_common(1)[0][0]
        best = min(range(folds), key=lambda k: (load[k][label], sum(load[k].values()), k))
        fold_of[group] = best
        load[best].update(counts)
    return np.array([fold_of[group] for group in groups])


def balanced_weights(
    labels: np.ndarray, sources: Sequence[str], groups: Sequence[str], power: float = 0.5
) -> np.ndarray:
    """Weights that give both classes half of the total and keep large sources from ruling.

    Args:
        power: 0 counts every picture alike, 1 every (source, group) pair alike.
    """
    cells = list(zip(labels.tolist(), sources, groups, strict=True))
    counts = Counter(cells)
    weights = np.array([float(counts[cell]) ** -power for cell in cells])
    for value in (0, 1):
        mine = labels == value
        weights[mine] *= len(labels) / 2 / max(weights[mine].sum(), 1e-12)
    return weights
