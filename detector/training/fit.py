"""Fitting: the regressions behind the probe, Platt calibration, folds and sample weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..models.probe import Kernel, Probe, rounded

_COMPONENT_ROWS = 16384  # of which principal components are computed
_NEWTON_STEPS = 4  # of the squared hinge; the rows inside the margin hardly change after three
_BLOCK = 4096  # rows at a time


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
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK].astype(np.float32)
        part = share[start : start + _BLOCK]
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
) -> Probe:
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
    weight, bias = _logistic(x, labels, weights, l2, iterations)
    full, shift = unfold(weight)
    return Probe(full.astype(np.float32), bias - shift)


def _logistic(
    x: torch.Tensor, labels: np.ndarray, weights: np.ndarray, l2: float, iterations: int = 150
) -> tuple[torch.Tensor, float]:
    """Weights and bias of the regression that `fit_probe` describes, on reduced features."""
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
    return w.detach(), float(b.item())


def fit_pair(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    l2: float,
    components: int,
    centres: int,
    width: float,
    ridge: float,
    emphasis: np.ndarray | None = None,
) -> tuple[Probe, Probe]:
    """A linear probe and a kernel probe on the same leading components of standardised features.

    The linear one is `fit_probe`'s. The kernel one is a weighted support vector machine with squared hinge
    loss and a Gaussian kernel, in Nyström's approximation (Williams and Seeger, 2001): some of the rows are
    its centres. It minimises ``sum(weights * max(0, 1 - label * f)^2) + ridge * |f|^2``, labels 1 and -1,
    weights of mean 1, over ``f = sum(a_i * exp(-gamma * |z - centre_i|^2)) + bias``, by Newton's method in
    the primal (Chapelle, 2007): a ridge regression of all rows, then, a few times over, of those that are
    not beyond the margin. Deterministic on one machine.

    Args:
        features: ``[n, d]``, any float dtype.
        labels: ``[n]``, 1 for AI and 0 for real.
        weights: ``[n]``, positive.
        l2: of the linear probe.
        components: principal components kept.
        centres: number of centres; all rows when there are no more than that.
        width: ``gamma`` times the median squared distance of two rows.
        ridge: strength of the kernel probe's penalty.
        emphasis: what each standardised feature is multiplied by, ``[d]``, positive; ``None`` for ones.

    Returns:
        Both, of which the second's linear part is zero; their scales differ.
    """
    standard, found = leading(features, weights, components, emphasis)
    d = features.shape[1]
    basis = rounded(np.eye(d, dtype=np.float32) if found is None else found)
    z = projected(features, standard, basis)
    weight, bias = _logistic(torch.from_numpy(z), labels, weights, l2)
    full = basis @ weight.numpy() / standard.std
    linear = Probe(full.astype(np.float32), bias - float(np.dot(full, standard.mean)))

    rng = np.random.default_rng(0)
    some = z[rng.choice(len(z), min(len(z), 1500), replace=False)]
    apart = _squared_distances(some, some)[np.triu_indices(len(some), 1)]
    gamma = width / max(float(np.median(apart)) if len(apart) else 1.0, 1e-12)
    chosen = np.sort(rng.choice(len(z), min(len(z), centres), replace=False))
    bumps = rounded(z[chosen])
    near = np.empty((len(z), len(bumps)), np.float32)
    for start in range(0, len(z), _BLOCK):
        near[start : start + _BLOCK] = np.exp(-gamma * _squared_distances(z[start : start + _BLOCK], bumps))
    penalty = ridge * np.exp(-gamma * _squared_distances(bumps, bumps).astype(np.float64))
    target, share = np.where(labels > 0, 1.0, -1.0), weights / weights.mean()
    solved, offset = _ridge(near, target, share, penalty)
    for _ in range(_NEWTON_STEPS):
        inside = target * (near @ solved.astype(np.float32) + offset) < 1
        solved, offset = _ridge(near, target, np.where(inside, share, 0.0), penalty)
    kernel = Kernel(
        used=np.ones(d, bool),
        mean=standard.mean,
        std=standard.std,
        basis=basis,
        centres=bumps,
        weight=solved.astype(np.float32),
        gamma=gamma,
    )
    return linear, Probe(np.zeros(d, np.float32), offset, kernel)


def _ridge(
    near: np.ndarray, target: np.ndarray, share: np.ndarray, penalty: np.ndarray
) -> tuple[np.ndarray, float]:
    """Weights ``[m]`` and bias of a ridge regression on ``near``, ``[n, m]``, without rows of share 0."""
    m = near.shape[1]
    gram, right = np.zeros((m + 1, m + 1)), np.zeros(m + 1)
    rows = np.flatnonzero(share)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        root = np.sqrt(share[block])
        phi = np.ones((len(block), m + 1))  # float64: with products in float32 the solution is noise
        phi[:, :m] = near[block]
        phi *= root[:, None]
        gram += phi.T @ phi
        right += phi.T @ (root * target[block])
    gram[:m, :m] += penalty
    gram[np.diag_indices(m + 1)] += 1e-6 * gram.diagonal().mean()
    solved = np.linalg.solve(gram, right)
    return solved[:m], float(solved[m])


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of the rows of ``[n, r]`` and ``[m, r]``: ``[n, m]``."""
    found = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
    return np.asarray(np.maximum(found, 0))


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
        full = (w.numpy() if basis is None else basis @ w.numpy()) / standard.std
        return full, float(np.dot(full, standard.mean))

    return torch.from_numpy(x), unfold


def principal(
    features: np.ndarray, weights: np.ndarray, components: int
) -> tuple[Standard, np.ndarray, np.ndarray | None]:
    """Standardised features on their leading principal components, and the way back.

    Args:
        features: ``[n, d]``, any float dtype.
        weights: ``[n]``, positive.
        components: number kept; all features when there are no more than that.

    Returns:
        The standardisation, the reduced features ``[n, r]``, dtype ``float32``, and the components (see
        `leading`).
    """
    standard, basis = leading(features, weights, components)
    return standard, projected(features, standard, basis), basis


def leading(
    features: np.ndarray, weights: np.ndarray, components: int, emphasis: np.ndarray | None = None
) -> tuple[Standard, np.ndarray | None]:
    """Standardisation of features, and the leading principal components of the standardised ones.

    The components are those of at most 16,384 rows, drawn with a fixed seed: more move them too little to
    matter, and cost time and memory.

    Args:
        features: ``[n, d]``, any float dtype.
        weights: ``[n]``, positive; they count in the standardisation.
        components: number kept; all features when there are no more than that.
        emphasis: what each standardised feature is multiplied by, ``[d]``, positive; ``None`` for ones.

    Returns:
        The standardisation (its deviations divided by the emphasis), and the components as columns of
        ``[d, r]``, dtype ``float32`` (``None`` when all features are kept as they are).
    """
    standard = standardise(features, weights)
    if emphasis is not None:
        standard = Standard(standard.mean, (standard.std / emphasis).astype(np.float32))
    rank = min(components, *features.shape)
    if rank == features.shape[1]:
        return standard, None
    n = len(features)
    rows = np.sort(np.random.default_rng(0).choice(n, min(n, _COMPONENT_ROWS), replace=False))
    x = torch.from_numpy((features[rows].astype(np.float32) - standard.mean) / standard.std)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    _, _, basis = torch.svd_lowrank(x, q=rank, niter=2)
    torch.random.set_rng_state(state)
    return standard, basis.numpy()


def projected(features: np.ndarray, standard: Standard, basis: np.ndarray | None) -> np.ndarray:
    """Standardised features on components (see `leading`): ``[n, r]``, dtype ``float32``."""
    width = features.shape[1] if basis is None else basis.shape[1]
    out = np.empty((len(features), width), np.float32)
    for start in range(0, len(features), _BLOCK):
        block = (features[start : start + _BLOCK].astype(np.float32) - standard.mean) / standard.std
        out[start : start + _BLOCK] = block if basis is None else block @ basis
    return out


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


def group_folds(groups: Sequence[str], labels: Sequence[int], folds: int, seed: int = 0) -> np.ndarray:
    """A fold for each sample such that no group is split and both labels are spread evenly.

    The largest groups are placed first, each where its label is rarest; deterministic.

    Args:
        seed: another than 0 gives another partition: sizes are multiplied by log-normal chance before groups
            are put in order, and chance decides between folds that are equally good.
    """
    sizes = Counter(zip(groups, labels, strict=True))
    by_group: dict[str, Counter[int]] = {}
    for (group, label), count in sizes.items():
        by_group.setdefault(group, Counter())[label] += count
    load = [Counter[int]() for _ in range(folds)]
    fold_of = {}
    rng = np.random.default_rng(seed)
    factor = {group: float(np.exp(rng.normal())) if seed else 1.0 for group in sorted(by_group)}
    size = {group: sum(counts.values()) * factor[group] for group, counts in by_group.items()}
    for group, counts in sorted(by_group.items(), key=lambda item: (-size[item[0]], item[0])):
        label = counts.most_common(1)[0][0]
        order = rng.permutation(folds).tolist() if seed else range(folds)
        best = min(order, key=lambda k: (load[k][label], sum(load[k].values())))
        fold_of[group] = best
        load[best].update(counts)
    return np.array([fold_of[group] for group in groups])


def balanced_weights(
    labels: np.ndarray,
    sources: Sequence[str],
    groups: Sequence[str],
    power: float = 0.5,
    families: Sequence[str | None] | None = None,
    family_power: float = 0.0,
) -> np.ndarray:
    """Weights that give both classes half of the total and keep large sources, and large families of
    generators, from ruling.

    Args:
        labels: ``[n]``, 1 for AI and 0 for real.
        sources, groups: of each picture.
        power: 0 counts every picture alike, 1 every (source, group) pair alike.
        families: family of generators of each AI picture (see `families.family_of`); those without one
            count as a family of their own.
        family_power: 0 leaves the families what their pictures give them, 1 gives all of them the same.

    Returns:
        ``[n]``, positive, with mean 1 where both classes are there.
    """
    cells = list(zip(labels.tolist(), sources, groups, strict=True))
    counts = Counter(cells)
    weights = np.array([float(counts[cell]) ** -power for cell in cells])
    if families is not None:
        of = np.array([str(family) if label else "" for label, family in zip(labels, families, strict=True)])
        for family in set(of) - {""}:
            mine = of == family
            weights[mine] *= weights[mine].sum() ** -family_power
    for value in (0, 1):
        mine = labels == value
        weights[mine] *= len(labels) / 2 / max(weights[mine].sum(), 1e-12)
    return weights
