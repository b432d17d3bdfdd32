"""The linear probe: from features to logits, and from a raw logit to a calibrated probability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError

KINDS = ("whole", "native")


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """One linear classifier over the flattened class tokens of every block.

    Attributes:
        weight: ``[blocks * width]``, dtype ``float32``; standardisation is folded in.
        bias: scalar.
    """

    weight: np.ndarray
    bias: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits of views.

        Args:
            features: ``[n, blocks, width]`` or ``[n, blocks * width]``, any float dtype.

        Returns:
            ``[n]``, dtype ``float64``; positive means AI.
        """
        # Row by row: a matrix product may round a view's logit otherwise in other company.
        weight = self.weight.astype(np.float64)
        flat = features.reshape(len(features), -1)
        return np.array([(row.astype(np.float64) * weight).sum() for row in flat]) + self.bias


@dataclass(frozen=True, eq=False)
class FamilyProbe:
    """A multinomial linear probe for one kind of view.

    Attributes:
        names: families, in the order of the rows.
        weight: ``[families, length]``, dtype ``float32``; standardisation is folded in.
        bias: ``[families]``.
    """

    names: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """``[n, families]`` log-probabilities, given that the picture is AI-generated."""
        flat = features.reshape(len(features), -1).astype(np.float64)
        scores = flat @ self.weight.astype(np.float64).T + self.bias
        top = scores.max(axis=1, keepdims=True)
        return np.asarray(scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True)))


@dataclass(frozen=True)
class Calibration:
    """How the view logits of one mode become a logit and a probability.

    ``logit = share * whole + (1 - share) * mean(native)``;
    ``probability = sigmoid(slope * logit + intercept)`` (Platt, 1999).

    Attributes:
        share: weight of the whole-picture logit, 0..1.
        slope, intercept: Platt's parameters, for a prior of one half.
    """

    share: float
    slope: float
    intercept: float

    def join(self, kinds: Sequence[str], logits: Sequence[float]) -> float:
        """The picture's raw logit from its views' logits."""
        means = {}
        for kind in KINDS:
            mine = [z for k, z in zip(kinds, logits, strict=True) if k == kind]
            if mine:
                means[kind] = math.fsum(mine) / len(mine)
        if len(means) == 1:
            return next(iter(means.values()))
        return self.share * means["whole"] + (1 - self.share) * means["native"]

    def probability(self, logit: float) -> float:
        """Calibrated probability, 0..1, that the picture is AI-generated."""
        return sigmoid(self.slope * logit + self.intercept)


def sigmoid(z: float) -> float:
    """Logistic function without overflow."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def load_probes(path: Path, length: int) -> dict[str, LinearProbe]:
    """Read the probes of a model: tensors ``<kind>.weight`` and ``<kind>.bias``.

    Args:
        length: the feature length that the tower gives.

    Raises:
        ModelError: a tensor is missing or of another length.
    """
    tensors = read_tensors(path)
    probes = {}
    for kind in KINDS:
        try:
            weight, bias = tensors[f"{kind}.weight"], tensors[f"{kind}.bias"]
        except KeyError as error:
            raise ModelError(f"{path} lacks the tensor {error}") from None
        if weight.shape != (length,):
            raise ModelError(
                f"{path}: the {kind} probe takes {weight.size} features, the tower gives {length}"
            )
        probes[kind] = LinearProbe(weight, float(bias.reshape(-1)[0]))
    return probes


def load_families(path: Path, length: int, names: tuple[str, ...]) -> dict[str, FamilyProbe]:
    """Read the family probes of a model: tensors ``families.<kind>.weight`` and ``families.<kind>.bias``.

    Raises:
        ModelError: a tensor is missing or of another shape.
    """
    tensors = read_tensors(path)
    probes = {}
    for kind in KINDS:
        try:
            weight, bias = tensors[f"families.{kind}.weight"], tensors[f"families.{kind}.bias"]
        except KeyError as error:
            raise ModelError(f"{path} lacks the tensor {error}") from None
        if weight.shape != (len(names), length) or bias.shape != (len(names),):
            raise ModelError(f"{path}: the {kind} family probe does not fit its {len(names)} names")
        probes[kind] = FamilyProbe(names, weight, bias.astype(np.float64))
    return probes


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file as NumPy arrays.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None


def calibration_from(data: Mapping[str, Any]) -> Calibration:
    """Read one mode's calibration from a card."""
    return Calibration(float(data["share"]), float(data["slope"]), float(data["intercept"]))
