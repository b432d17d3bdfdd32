"""The probe turns features into logits. The calibration turns a raw logit into a probability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..images.views import CENTRE

KINDS = ("whole", "native")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A linear function in the feature space of a Gaussian kernel, centred at some of the training views.

    With ``z = ((x[used] - mean) / std) @ basis``, its value is
    ``sum(weight * exp(-gamma * |z - centre|^2))`` over the centres (Williams and Seeger, 2001).

    Attributes:
        used: which of a view's features it uses, ``[length]``, dtype ``bool``; ``d`` of them are true.
        mean, std: of those features, ``[d]`` each, dtype ``float32``.
        basis: principal components, ``[d, r]``, dtype ``float32``.
        centres: ``[m, r]``, dtype ``float32``.
        weight: ``[m]``, dtype ``float32``.
        gamma: inverse squared width, positive.
    """

    used: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    basis: np.ndarray
    centres: np.ndarray
    weight: np.ndarray
    gamma: float

    def value(self, row: np.ndarray) -> float:
        """The value at one view's features, ``[length]``, any float dtype."""
        away = self.centres - self._place(row)
        bumps = np.exp(-self.gamma * np.einsum("ij,ij->i", away, away).astype(np.float64))
        return float((bumps * self.weight).sum())

    def values(self, features: np.ndarray) -> np.ndarray:
        """The values at many views' features ``[n, length]``: equal to `value` up to rounding, but faster.

        Returns:
            ``[n]``, dtype ``float64``.
        """
        found = []
        squares = np.einsum("ij,ij->i", self.centres, self.centres)
        for start in range(0, len(features), 4096):
            z = self._place(features[start : start + 4096])
            apart = np.einsum("ij,ij->i", z, z)[:, None] + squares - 2 * (z @ self.centres.T)
            found.append(np.exp(-self.gamma * np.maximum(apart, 0)) @ self.weight.astype(np.float64))
        return np.concatenate(found)

    def slope(self, row: np.ndarray) -> np.ndarray:
        """Weights of a linear function that replaces this one between the mean view and ``row``.

        They are the gradient averaged along the straight line between the two (integrated gradients:
        Sundararajan et al., 2017). So ``slope @ (row - mean view)`` is the difference of the two values, up
        to the error of integrating with 32 points.

        Args:
            row: one view's features, ``[length]``, any float dtype.

        Returns:
            ``[length]``, dtype ``float64``; zero where a feature is not used.
        """
        z = self._place(row)
        nodes, shares = np.polynomial.legendre.leggauss(32)
        along = np.zeros(len(z))
        for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
            away = node * z - self.centres
            bumps = self.weight * np.exp(-self.gamma * np.einsum("ij,ij->i", away, away))
            along -= share * 2 * self.gamma * (bumps @ away)
        out = np.zeros(len(self.used))
        out[self.used] = (self.basis @ along) / self.std
        return out

    def _place(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(((rows[..., self.used].astype(np.float32) - self.mean) / self.std) @ self.basis)


@dataclass(frozen=True, eq=False)
class Probe:
    """Turns the features of one kind of view into a logit, with a linear part and usually a kernel part.

    Attributes:
        weight: ``[length]``, dtype ``float32``; includes the standardisation.
        bias: scalar.
        kernel: added to the linear part; ``None`` in models without one.
    """

    weight: np.ndarray
    bias: float
    kernel: Kernel | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits of views.

        Args:
            features: ``[n, blocks, width]`` or ``[n, blocks * width]``, any float dtype.

        Returns:
            ``[n]``, dtype ``float64``; positive means AI.
        """
        # Row by row: in a matrix product, rounding may depend on the other rows.
        weight = self.weight.astype(np.float64)
        flat = features.reshape(len(features), -1)
        found = np.array([(row.astype(np.float64) * weight).sum() for row in flat]) + self.bias
        if self.kernel is not None:
            found += np.array([self.kernel.value(row) for row in flat])
        return found

    def linear_at(self, row: np.ndarray) -> tuple[np.ndarray, float]:
        """A linear function that gives one view's logit, to show which features moved it.

        Args:
            row: the view's features, ``[length]``, any float dtype.

        Returns:
            Weights ``[length]``, dtype ``float64``, and a bias: ``weights @ row + bias`` is the logit.
        """
        row = row.reshape(-1).astype(np.float64)
        weight = self.weight.astype(np.float64)
        if self.kernel is not None:
            weight = weight + self.kernel.slope(row)
        return weight, float(self.logits(row[None])[0] - weight @ row)


@dataclass(frozen=True, eq=False)
class ClassProbe:
    """A multinomial linear probe for one kind of view.

    Attributes:
        names: of the classes, in the order of the rows.
        weight: ``[classes, length]``, dtype ``float32``; includes the standardisation.
        bias: ``[classes]``.
    """

    names: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Log-probabilities of the classes, ``[n, classes]``, of views ``[n, ...]``."""
        flat = features.reshape(len(features), -1).astype(np.float64)
        scores = flat @ self.weight.astype(np.float64).T + self.bias
        top = scores.max(axis=1, keepdims=True)
        return np.asarray(scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True)))


@dataclass(frozen=True)
class Calibration:
    """How the view logits of one mode are combined into a logit and a probability.

    ``logit = share * mean(whole) + (1 - share) * mean(native)``;
    ``probability = sigmoid(slope * logit + intercept)`` (Platt, 1999).

    Attributes:
        share: weight of the whole-picture views, 0..1.
        slope, intercept: Platt's parameters, for a prior of one half.
    """

    share: float
    slope: float
    intercept: float

    def join(self, kinds: Sequence[str], logits: Sequence[float]) -> float:
        """The picture's raw logit from its views' logits, the kinds as `counted`."""
        kinds, means = counted(kinds), {}
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


def probe_of(kind: str) -> str:
    """The kind of the probe that judges a kind of view: a ``centre`` view is judged as ``whole``."""
    return "whole" if kind == CENTRE else kind


def counted(kinds: Sequence[str]) -> Sequence[str]:
    """Kinds of a picture's views: a ``centre`` view counts as ``whole`` where there is no ``whole`` view."""
    return kinds if "whole" in kinds else [probe_of(kind) for kind in kinds]


def sigmoid(z: float) -> float:
    """Logistic function without overflow."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def probe_tensors(kind: str, probe: Probe) -> dict[str, np.ndarray]:
    """A probe as the tensors that `load_probes` reads. The matrices of a kernel are stored in eight bits.

    Fitting rounds them in the same way (`rounded`), so nothing is lost here.
    """
    tensors = {
        f"{kind}.weight": probe.weight.astype(np.float32),
        f"{kind}.bias": np.array([probe.bias]),
    }
    if probe.kernel is not None:
        kernel, name = probe.kernel, f"{kind}.kernel"
        tensors |= {f"{name}.used": kernel.used.astype(np.uint8), f"{name}.gamma": np.array([kernel.gamma])}
        tensors |= {f"{name}.mean": kernel.mean, f"{name}.std": kernel.std, f"{name}.weight": kernel.weight}
        pack(tensors, f"{name}.basis", kernel.basis)
        pack(tensors, f"{name}.centres", kernel.centres)
    return tensors


def load_probes(path: Path, length: int) -> dict[str, Probe]:
    """Read the probes of a model: tensors ``<kind>.weight`` and ``<kind>.bias``, and ``<kind>.kernel.*``
    if it has a kernel.

    Args:
        path: the safetensors file.
        length: number of features that the tower gives.

    Raises:
        ModelError: a tensor is missing or has the wrong length.
    """
    tensors = read_tensors(path)
    probes = {}
    for kind in KINDS:
        try:
            weight, bias = tensors[f"{kind}.weight"], tensors[f"{kind}.bias"]
            has_kernel = any(name.startswith(f"{kind}.kernel.") for name in tensors)
            kernel = _kernel(tensors, f"{kind}.kernel") if has_kernel else None
        except KeyError as error:
            raise ModelError(f"{path} lacks the tensor {error}") from None
        if weight.shape != (length,):
            raise ModelError(
                f"{path}: the {kind} probe takes {weight.size} features, the tower gives {length}"
            )
        if kernel is not None and not _fits(kernel, length):
            raise ModelError(f"{path}: the tensors of the {kind} probe's kernel do not fit each other")
        probes[kind] = Probe(weight, float(bias.reshape(-1)[0]), kernel)
    return probes


def _kernel(tensors: Mapping[str, np.ndarray], name: str) -> Kernel:
    return Kernel(
        used=tensors[f"{name}.used"] > 0,
        mean=tensors[f"{name}.mean"],
        std=tensors[f"{name}.std"],
        basis=unpack(tensors, f"{name}.basis"),
        centres=unpack(tensors, f"{name}.centres"),
        weight=tensors[f"{name}.weight"],
        gamma=float(tensors[f"{name}.gamma"].reshape(-1)[0]),
    )


def _fits(kernel: Kernel, length: int) -> bool:
    d, r = int(kernel.used.sum()), kernel.basis.shape[-1]
    return (
        kernel.used.shape == (length,)
        and kernel.mean.shape == kernel.std.shape == (d,)
        and kernel.basis.shape == (d, r)
        and kernel.centres.shape == (len(kernel.weight), r)
        and kernel.weight.ndim == 1
    )


def pack(tensors: dict[str, np.ndarray], name: str, columns: np.ndarray) -> None:
    """Store a matrix in ``tensors``: rounded to eight bits as ``name``, column scales as ``name.scale``."""
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-12) / 127
    tensors[name] = np.rint(columns / scale).astype(np.int8)
    tensors[f"{name}.scale"] = scale.astype(np.float32)


def unpack(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A matrix that `pack` stored, dtype ``float32``."""
    return np.asarray(np.multiply(tensors[name], tensors[f"{name}.scale"], dtype=np.float32))


def rounded(columns: np.ndarray) -> np.ndarray:
    """A matrix after `pack` and `unpack`, dtype ``float32``."""
    tensors: dict[str, np.ndarray] = {}
    pack(tensors, "x", columns)
    return unpack(tensors, "x")


def load_families(path: Path, length: int, names: tuple[str, ...]) -> dict[str, ClassProbe]:
    """Read the family probes of a model: tensors ``families.<kind>.weight`` and ``families.<kind>.bias``.

    Raises:
        ModelError: a tensor is missing or has the wrong shape.
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
        probes[kind] = ClassProbe(names, weight, bias.astype(np.float64))
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


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write NumPy arrays as a safetensors file, with the permissions that the process's umask gives.

    (safetensors' own writer makes a file that only its owner can read, so others could not use the model.)
    """
    from safetensors.numpy import save

    path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def calibration_from(data: Mapping[str, Any]) -> Calibration:
    """Read one mode's calibration from a card."""
    return Calibration(float(data["share"]), float(data["slope"]), float(data["intercept"]))
