"""Base features: a model's training features, small enough to travel with it.

A probe cannot be extended from its weights alone: fitted on a new generator, it would forget the others.
So a model may carry the features it was fitted on. Each view is reduced to the leading principal components
of its kind and rounded to eight bits. Sufficient statistics would be smaller, but logistic regression and
kernels have none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import ModelError
from ..models.probe import KINDS, pack, read_tensors, unpack, write_tensors
from .dataset import Example
from .features import Sample, Vectors
from .fit import principal

FILE = "base.safetensors"
COMPONENTS = 296  # kept of each kind of view
_BLOCK = 2048


@dataclass(frozen=True)
class Base:
    """Training features of a model.

    Attributes:
        examples, samples: as training had them.
        tensors: ``used`` (``[length]``), and for each kind of view ``mean, std`` (``[d]``, of the used
            features), ``basis`` (``[d, r]``, int8, with ``basis.scale``) and ``features`` (``[n, r]``, int8,
            with ``features.scale``).
        place: kind and row of each key.
    """

    examples: list[Example]
    samples: list[Sample]
    tensors: dict[str, np.ndarray]
    place: dict[str, tuple[str, int]]

    def without(self, pictures: Collection[str]) -> Base:
        """The same base without some pictures (see `Example.picture`)."""
        kept = [i for i, example in enumerate(self.examples) if example.picture not in pictures]
        number = {old: new for new, old in enumerate(kept)}
        samples = [replace(s, example=number[s.example]) for s in self.samples if s.example in number]
        return replace(self, examples=[self.examples[i] for i in kept], samples=samples)

    def rows(self, keys: Sequence[str], used: np.ndarray | None = None) -> np.ndarray:
        """Feature vectors, ``[n, length]``, dtype ``float16``, as near as the kept components come.

        Features that the model did not use are zero.

        Args:
            used: give these features alone, ``[length]``, dtype ``bool``.

        Raises:
            KeyError: a key is not of this base.
        """
        places = [self.place[key] for key in keys]
        kept = self.tensors["used"] > 0
        wanted = np.ones(len(kept), bool) if used is None else used
        out = np.zeros((len(keys), int(wanted.sum())), np.float16)
        for kind in KINDS:
            at = np.array([i for i, (k, _) in enumerate(places) if k == kind], int)
            if not len(at):
                continue
            index = np.array([places[i][1] for i in at])
            basis = torch.from_numpy(unpack(self.tensors, f"{kind}.basis"))
            for start in range(0, len(at), _BLOCK):
                part = self.tensors[f"{kind}.features"][index[start : start + _BLOCK]].astype(np.float32)
                part *= self.tensors[f"{kind}.features.scale"]
                full = (torch.from_numpy(part) @ basis.T).numpy()
                full = full * self.tensors[f"{kind}.std"] + self.tensors[f"{kind}.mean"]
                clipped = np.clip(full[:, wanted[kept]], -65504, 65504)
                out[np.ix_(at[start : start + _BLOCK], kept[wanted])] = clipped
        return out


@dataclass(frozen=True)
class Joined:
    """Vectors of a base and of a cache, looked up in the base first."""

    base: Base
    cache: Vectors

    def rows(self, keys: Sequence[str], used: np.ndarray | None = None) -> np.ndarray:
        """Feature vectors, ``[n, d]``, dtype ``float16``; only the ``used`` columns where a mask is given."""
        old = [i for i, key in enumerate(keys) if key in self.base.place]
        new = [i for i, key in enumerate(keys) if key not in self.base.place]
        if not new:
            return self.base.rows(keys, used)
        fresh = self.cache.rows([keys[i] for i in new], used)
        out = np.empty((len(keys), fresh.shape[1]), np.float16)
        out[new] = fresh
        if old:
            out[old] = self.base.rows([keys[i] for i in old], used)
        return out


def write_base(
    path: Path,
    examples: Sequence[Example],
    samples: Sequence[Sample],
    vectors: Vectors,
    used: np.ndarray,
    components: int,
) -> None:
    """Write the training features of a model.

    Args:
        used: which features the probes look at, ``[length]``, dtype ``bool``; the others are not kept.
        components: principal components kept of each kind of view.
    """
    tensors: dict[str, np.ndarray] = {"used": used.astype(np.uint8)}
    order: list[Sample] = []
    for kind in KINDS:
        mine = [sample for sample in samples if sample.probe == kind]
        order += mine
        x = vectors.rows([sample.key for sample in mine], used)
        standard, scores, basis = principal(x, np.ones(len(mine)), components)
        if basis is None:
            basis = np.eye(x.shape[1], dtype=np.float32)
        tensors[f"{kind}.mean"], tensors[f"{kind}.std"] = standard.mean, standard.std
        pack(tensors, f"{kind}.basis", basis)
        pack(tensors, f"{kind}.features", scores)
    named = sorted({sample.example for sample in order})
    number = {old: new for new, old in enumerate(named)}
    index = {
        # Paths on this machine stay out; names within groups are enough to distinguish pictures.
        "examples": [{**asdict(examples[i]), "path": examples[i].path.name} for i in named],
        "samples": [[number[s.example], s.kind, s.copy, s.key] for s in order],
    }
    packed = zlib.compress(json.dumps(index, separators=(",", ":")).encode(), 9)
    tensors["index"] = np.frombuffer(packed, np.uint8)
    write_tensors(path, tensors)


def read_base(path: Path) -> Base:
    """Read the training features of a model, its hash checked by the caller.

    Raises:
        ModelError: the file is damaged.
    """
    tensors = read_tensors(path)
    try:
        index = json.loads(zlib.decompress(tensors.pop("index").tobytes()))
        examples = [Example(**{**data, "path": Path(data["path"])}) for data in index["examples"]]
        samples = [Sample(example, kind, copy, key) for example, kind, copy, key in index["samples"]]
        place: dict[str, tuple[str, int]] = {}
        for kind in KINDS:
            mine = [sample for sample in samples if sample.probe == kind]
            place |= {sample.key: (kind, row) for row, sample in enumerate(mine)}
            length, components = tensors[f"{kind}.basis"].shape
            if tensors[f"{kind}.features"].shape != (len(mine), components):
                raise ValueError(f"{kind} features do not fit their index")
            if length != tensors["used"].sum():
                raise ValueError(f"{kind} features are not those that are used")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ModelError(f"cannot read {path}: {error!r}") from None
    return Base(examples, samples, tensors, place)
