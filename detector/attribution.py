"""Attribution: which family of generators an AI picture resembles most, from the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .fit import reduced
from .probe import KINDS, FamilyProbe

FLOOR = 0.05


def fit_families(
    features: np.ndarray,
    families: Sequence[str],
    weights: np.ndarray,
    *,
    l2: float = 0.03,
    components: int = 512,
    iterations: int = 150,
) -> FamilyProbe:
    """Multinomial logistic regression on the leading components of standardised features.

    Args:
        features: ``[n, length]`` of AI pictures.
        families: family of each.
        weights: ``[n]``, positive.
    """
    names = tuple(sorted(set(families)))
    target = torch.tensor([names.index(family) for family in families])
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
    return FamilyProbe(names, weight, bias)


def joined(kinds: Sequence[str], log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Log-probabilities of a picture, ``[families]``: the mean over kinds of view of the mean of its views.

    Args:
        kinds: kind of each view, at least one.
        log_probabilities: ``[families]`` for each view.
    """
    means = []
    for kind in KINDS:
        mine = [row for k, row in zip(kinds, log_probabilities, strict=True) if k == kind]
        if mine:
            means.append(np.mean(mine, axis=0))
    return np.asarray(np.mean(means, axis=0))


def generators(
    probability: float, kinds: Sequence[str], log_probabilities: Sequence[np.ndarray], names: Sequence[str]
) -> dict[str, float]:
    """The ``ai_generators`` of a picture.

    Args:
        probability: that the picture is AI-generated.
        kinds: kind of each view.
        log_probabilities: ``[families]`` for each view.
        names: the families.

    Returns:
        Probabilities by family, highest first, each at least `FLOOR`; their sum is at most ``probability``.
    """
    logs = joined(kinds, log_probabilities)
    share = np.exp(logs - logs.max())
    share *= probability / share.sum()
    found: Mapping[str, float] = dict(zip(names, share.tolist(), strict=True))
    kept = {name: round(value, 4) for name, value in found.items() if value >= FLOOR}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))
