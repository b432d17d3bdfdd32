"""Orientation: whether a picture is stored turned by quarters, from the features of its whole views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .probe import ClassProbe, read_tensors

# By how many quarters a picture is turned anticlockwise.
NAMES = ("0", "1", "2", "3")


@dataclass(frozen=True, eq=False)
class Orientation:
    """Judges by how many quarters a picture is turned.

    Attributes:
        probe: gives the probabilities of `NAMES` for one whole view.
        upright, turned: probabilities, 0.5..1, at which the answer of the whole views as stored is taken.
    """

    probe: ClassProbe
    upright: float
    turned: float

    def votes(self, features: np.ndarray) -> np.ndarray:
        """Log-probabilities of `NAMES`, ``[n, 4]``, from the features of whole views, ``[n, ...]``."""
        return self.probe.log_probabilities(features)

    def at_once(self, votes: Sequence[np.ndarray]) -> int | None:
        """Quarters, 0 to 3, by which a picture is turned anticlockwise; ``None`` where that is not sure.

        Args:
            votes: log-probabilities ``[4]`` of each of its whole views as stored.
        """
        mean = np.mean(np.stack(votes), axis=0)
        shares = np.exp(mean - mean.max())
        shares /= shares.sum()
        best = int(np.argmax(shares))
        if shares[0] >= self.upright:
            return 0
        return best if best and shares[best] >= self.turned else None

    @staticmethod
    def quarters(votes: Sequence[np.ndarray]) -> int:
        """Quarters, 0 to 3, by which a picture is turned anticlockwise, as far as that can be told.

        It is the same picture whichever way it is stored, so the four answers are joined: the result says
        which side is up even of a picture that has no top, always the same one.

        Args:
            votes: log-probabilities ``[4]`` of one square, as stored and turned back by 1, 2 and 3 quarters.
        """
        joined = sum(np.roll(vote, back) for back, vote in enumerate(votes))
        return int(np.argmax(joined))


def load_orientation(folder: Path, card: Mapping[str, Any], length: int) -> Orientation | None:
    """Read what a model's card names as ``orientation``; ``None`` if it names nothing.

    Args:
        length: number of features that the tower gives.

    Raises:
        ModelError: a tensor is missing or has the wrong shape.
    """
    if "orientation" not in card:
        return None
    path = folder / card["orientation"]["file"]
    if path.name not in card["files"]:
        raise ModelError(f"{folder}: the card gives no hash for {path.name}")
    tensors = read_tensors(path)
    try:
        weight, bias = tensors["weight"], tensors["bias"]
    except KeyError as error:
        raise ModelError(f"{path} lacks the tensor {error}") from None
    if weight.shape != (len(NAMES), length) or bias.shape != (len(NAMES),):
        raise ModelError(f"{path} does not fit a tower with {length} features")
    limits = (float(card["orientation"][name]) for name in ("upright", "turned"))
    return Orientation(ClassProbe(NAMES, weight, bias.astype(np.float64)), *limits)
