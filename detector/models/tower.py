"""The image tower: a frozen vision transformer that turns views into features."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from .checksum import verify_files
from .transfer import Waiting, transfer
from .vit import VisionTransformer

TOWER_CARD = "tower.json"


@dataclass(frozen=True)
class Preprocess:
    """How views become the tower's input. It is stored with the tower, not in the code.

    Attributes:
        size: side of the square input, in pixels.
        mean, std: per channel, for values in 0..1.
        interpolation: ``bicubic`` or ``bilinear``.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocess:
        """Read the ``preprocess`` object of a tower card."""
        size = data["size"]
        if isinstance(size, (list, tuple)):
            size = size[0]
        return cls(int(size), tuple(data["mean"]), tuple(data["std"]), str(data["interpolation"]))


class Tower:
    """A frozen vision transformer that gives the tokens of all its blocks.

    Args:
        module: takes normalised pixels ``[n, 3, size, size]``, dtype ``float32``, and yields the tokens
            ``[n, 1 + patches, width]`` after each block, the class token first; a `VisionTransformer`, or
            another one wrapped by `hub`.
        preprocess: the tower's own preprocessing.
        sha256: hash of its weights.

    Attributes:
        patch_mean: whether `features` also gives the mean of the patch tokens by default.
    """

    def __init__(self, module: nn.Module, preprocess: Preprocess, sha256: str) -> None:
        self.module = module.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.sha256 = sha256
        self.patch_mean = False
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._transfer = transfer(self.device)
        self._mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255

    def to(self, device: torch.device, dtype: torch.dtype) -> Tower:
        """Move the tower to a device and number format, and return it.

        Raises:
            ModelError: its weights were rounded to bfloat16 before.
        """
        if self.dtype != torch.float32 and dtype == torch.float32:
            raise ModelError("the tower's weights were rounded to bfloat16; load the model again for float32")
        self.module.to(device=device, dtype=dtype)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        self.device, self.dtype, self._transfer = device, dtype, transfer(device)
        return self

    def features(self, views: np.ndarray, patch_mean: bool | None = None) -> np.ndarray:
        """Class tokens of every block, before any projection.

        Args:
            views: ``[n, size, size, 3]``, dtype ``uint8``.
            patch_mean: also return the mean of the patch tokens of every block; ``None`` means the
                tower's attribute decides.

        Returns:
            ``[n, blocks, width]``, or ``[n, 2 * blocks, width]`` with the patch means after the
            class tokens; dtype ``float32``.

        Using every block follows RINE (Koutlis and Papadopoulos, 2024).
        """
        return self.begin(views, patch_mean)()

    @torch.inference_mode()
    def begin(self, views: np.ndarray, patch_mean: bool | None = None) -> Waiting:
        """Begin with `features`. On a CUDA device this returns before they are computed.

        Returns:
            A function that waits for the features and gives them.
        """
        means = self.patch_mean if patch_mean is None else patch_mean
        classes, patches = [], []
        for tokens in self._blocks(views):
            classes.append(tokens[:, 0].float())
            if means:
                patches.append(tokens[:, 1:].float().mean(dim=1))
        return self._transfer.back(torch.stack(classes + patches, dim=1))

    @torch.inference_mode()
    def patch_tokens(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class tokens and all patch tokens of every block, of which `features` gives the mean.

        Args:
            views: ``[n, size, size, 3]``, dtype ``uint8``. Pass only a few: the tokens take much memory.

        Returns:
            Class tokens ``[n, blocks, width]`` and patch tokens ``[n, blocks, rows, columns, width]``,
            both ``float32``.
        """
        blocks = [tokens.float() for tokens in self._blocks(views)]
        classes = torch.stack([tokens[:, 0] for tokens in blocks], dim=1)
        grids = torch.stack([tokens[:, 1:] for tokens in blocks], dim=1)
        side = math.isqrt(grids.shape[2])
        return classes.cpu().numpy(), grids.cpu().numpy().reshape(*grids.shape[:2], side, side, -1)

    def views_per_second(self, batch_size: int, seconds: float = 2.0) -> float:
        """Measured speed of `features` in batches of that size, over about so many seconds."""
        views = np.zeros((batch_size, self.preprocess.size, self.preprocess.size, 3), np.uint8)
        self.features(views)
        start = time.perf_counter()
        done = 0
        while (taken := time.perf_counter() - start) < seconds:
            self.features(views)
            done += batch_size
        return done / taken

    def _blocks(self, views: np.ndarray) -> Iterator[torch.Tensor]:
        """Tokens after each block, for views ``[n, size, size, 3]``, ``uint8``."""
        pixels = self._transfer.there(views).permute(0, 3, 1, 2).float()
        found: Iterator[torch.Tensor] = self.module((pixels - self._mean) / self._std)
        return found


def load_tower(folder: Path, dtype: torch.dtype = torch.float32) -> Tower:
    """Load a tower folder: ``tower.json`` and the files that it lists, after verifying their hashes.

    Args:
        folder: the tower folder.
        dtype: the number format that it will run with. It can be set later too, but that takes longer.

    Raises:
        ModelError: a file is missing, altered or unreadable.
    """
    card = read_tower_card(folder)
    verify_files(folder, card["files"])
    path = folder / card["weights"]
    names = card["architecture"], card.get("quick_gelu"), card.get("config")
    module = build_module(names[0], each_weight(path), *names[1:], dtype=dtype)
    tower = Tower(module, Preprocess.from_dict(card["preprocess"]), card["files"][card["weights"]])
    return tower.to(tower.device, dtype)


def read_card(path: Path) -> dict[str, Any]:
    """Read a JSON card.

    Raises:
        ModelError: it is missing or not a JSON object.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"no model here: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None
    if not isinstance(card, dict):
        raise ModelError(f"{path} is not a card: it must be a JSON object")
    return card


def read_tower_card(folder: Path) -> dict[str, Any]:
    """Read a tower folder's card.

    Raises:
        ModelError: the card is missing or incomplete.
    """
    path = folder / TOWER_CARD
    card = read_card(path)
    try:
        Preprocess.from_dict(card["preprocess"])
        known = card["weights"] in dict(card["files"]) and bool(card["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the card {path} is not usable: {error!r}") from None
    if not known:
        raise ModelError(f"the card {path} is not usable: it gives no hash for its weights")
    return card


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of `each_weight`, by name."""
    return dict(each_weight(path))


def each_weight(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a safetensors file as float32; int8 matrices are scaled by their ``.scale`` companions.

    ``weight = int8 * scale[:, None]``; for ``proj`` (input x output) the scale is per column.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None
    for name, tensor in stored.items():
        if name.endswith(".scale"):
            continue
        if tensor.dtype == torch.int8:
            scale = stored[f"{name}.scale"]
            yield name, tensor * (scale if name == "proj" else scale[:, None])
        else:
            yield name, tensor.float()


def build_module(
    architecture: str,
    weights: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]],
    quick_gelu: bool | None = None,
    config: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> VisionTransformer:
    """Build an image tower with the given weights.

    Args:
        architecture: an open_clip model name.
        weights: the image tower's tensors, float32, by open_clip's names.
        quick_gelu: whether the activation is QuickGELU; ``None`` means as in the configuration.
        config: the architecture's configuration (``embed_dim``, ``vision_cfg``); ``None`` to ask open_clip.
        dtype: of the module.

    Raises:
        ModelError: open_clip has no such architecture, or the tensors do not fit it.
    """
    if config is None:
        import open_clip

        config = open_clip.get_model_config(architecture)
    if config is None:
        raise ModelError(f"open_clip has no architecture called {architecture!r}")
    vision = dict(config["vision_cfg"])
    known = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
    if set(vision) - known:
        raise ModelError(f"the tower of {architecture} is not a plain vision transformer")
    with torch.device("meta"):
        module = VisionTransformer(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision.get("head_width", 64),
            mlp_ratio=vision.get("mlp_ratio", 4.0),
            output_dim=config["embed_dim"],
            quick_gelu=bool(config.get("quick_gelu", False)) if quick_gelu is None else quick_gelu,
        )
    try:
        module.load(weights.items() if isinstance(weights, Mapping) else weights, dtype)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"the weights do not fit {architecture}: {text}") from None
    return module
