"""Attribution: which family of generators probably made an AI picture, from the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .probe import KINDS, counted

FLOOR = 0.05


def joined(kinds: Sequence[str], log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Log-probabilities of a picture, ``[families]``: the mean over the views of a kind, then over kinds.

    Args:
        kinds: kind of each view, at least one.
        log_probabilities: ``[families]`` for each view.
    """
    kinds, means = counted(kinds), []
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
        probability: probability that the picture is AI-generated, 0..1.
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
