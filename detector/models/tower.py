"""The image tower: a frozen open_clip vision transformer that turns views into features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from .checksum import file_sha256, verify_files
from .onednn import quicken

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
        module: an open_clip ``VisionTransformer`` (or another module with its ``forward_intermediates``).
        preprocess: the tower's own preprocessing.
        sha256: hash of its weights.

    Attributes:
        patch_mean: whether `features` also gives the mean of the patch tokens by default.
    """

    def __init__(self, module: nn.Module, preprocess: Preprocess, sha256: str) -> None:
        self.module = module.eval().requires_grad_(False)
        quicken(self.module)
        self.preprocess = preprocess
        self.sha256 = sha256
        self.patch_mean = False
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255

    def to(self, device: torch.device, dtype: torch.dtype) -> Tower:
        """Move the tower to a device and number format, and return it."""
        self.module.to(device=device, dtype=dtype)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        self.device, self.dtype = device, dtype
        return self

    @torch.inference_mode()
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
        out = self._forward(views)
        tokens = [prefix[:, 0] for prefix in out["image_intermediates_prefix"]]
        if self.patch_mean if patch_mean is None else patch_mean:
            tokens += [grid.float().mean(dim=(2, 3)) for grid in out["image_intermediates"]]
        return torch.stack([t.float() for t in tokens], dim=1).cpu().numpy()

    @torch.inference_mode()
    def patch_tokens(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class tokens and all patch tokens of every block, of which `features` gives the mean.

        Args:
            views: ``[n, size, size, 3]``, dtype ``uint8``. Pass only a few: the tokens take much memory.

        Returns:
            Class tokens ``[n, blocks, width]`` and patch tokens ``[n, blocks, rows, columns, width]``,
            both ``float32``.
        """
        out = self._forward(views)
        classes = torch.stack([prefix[:, 0].float() for prefix in out["image_intermediates_prefix"]], dim=1)
        grids = torch.stack([g.float().permute(0, 2, 3, 1) for g in out["image_intermediates"]], dim=1)
        return classes.cpu().numpy(), grids.cpu().numpy()

    def _forward(self, views: np.ndarray) -> dict[str, list[torch.Tensor]]:
        """Outputs of all blocks for views ``[n, size, size, 3]``, ``uint8``, by open_clip's names."""
        pixels = torch.from_numpy(views).to(self.device).permute(0, 3, 1, 2).float()
        pixels = ((pixels - self._mean) / self._std).to(self.dtype)
        out: dict[str, list[torch.Tensor]] = self.module.forward_intermediates(  # type: ignore[operator]
            pixels, intermediates_only=True, output_extra_tokens=True
        )
        return out


def load_tower(folder: Path) -> Tower:
    """Load a tower folder: ``tower.json`` and the files that it lists, after verifying their hashes.

    Raises:
        ModelError: a file is missing, altered or unreadable.
    """
    card = read_tower_card(folder)
    verify_files(folder, card["files"])
    weights = folder / card["weights"]
    return Tower(
        build_module(card["architecture"], read_weights(weights), card.get("quick_gelu"), card.get("config")),
        Preprocess.from_dict(card["preprocess"]),
        card["files"][card["weights"]],
    )


def load_hub_tower(architecture: str, tag: str, sha256: str | None = None) -> Tower:
    """Load a tower by open_clip's architecture and tag, or from a local checkpoint.

    Args:
        architecture: an open_clip model name, or ``hf-hub:owner/name``.
        tag: one of open_clip's pretrained tags, or the path of a checkpoint.
        sha256: expected hash of the loaded tensors (see `tensors_sha256`); ``None`` to accept any.

    Raises:
        ModelError: open_clip cannot provide it, or the hash differs.
    """
    import open_clip

    source: dict[str, Any] = {} if architecture.startswith("hf-hub:") else {"pretrained": tag}
    try:
        model = open_clip.create_model(architecture, require_pretrained=True, **source)
    except Exception as error:  # open_clip, hub and torch raise many kinds here
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load the tower {architecture} ({tag}): {text}") from None
    visual = model.visual
    config = open_clip.get_model_preprocess_cfg(model)
    found = tensors_sha256(visual.state_dict())
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"the tower {architecture} ({tag}) has hash {found[:12]}, the card expects {sha256[:12]}: "
            "this is not the tower the probe was fitted on"
        )
    return Tower(visual, Preprocess.from_dict(config), found)


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
    """Read a safetensors file, turning int8 matrices with a ``.scale`` companion into float32.

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
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(".scale"):
            continue
        if tensor.dtype == torch.int8:
            scale = stored[f"{name}.scale"]
            weights[name] = tensor.float() * (scale if name == "proj" else scale[:, None])
        else:
            weights[name] = tensor.float()
    return weights


def build_module(
    architecture: str,
    weights: Mapping[str, torch.Tensor],
    quick_gelu: bool | None = None,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build open_clip's image tower without the text tower, with the given weights.

    Args:
        architecture: an open_clip model name.
        weights: the image tower's tensors.
        quick_gelu: whether the activation is QuickGELU; ``None`` means as in the configuration.
        config: the architecture's configuration (``embed_dim``, ``vision_cfg``), for towers that open_clip
            does not list.

    Raises:
        ModelError: open_clip has no such architecture, or the tensors do not fit it.
    """
    import open_clip
    from open_clip.transformer import QuickGELU, VisionTransformer

    config = config or open_clip.get_model_config(architecture)
    if config is None:
        raise ModelError(f"open_clip has no architecture called {architecture!r}")
    vision = dict(config["vision_cfg"])
    known = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
    if set(vision) - known:
        raise ModelError(f"the tower of {architecture} is not a plain vision transformer")
    if quick_gelu is None:
        quick_gelu = bool(config.get("quick_gelu", False))
    with torch.device("meta"):
        module: nn.Module = VisionTransformer(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision.get("head_width", 64),
            mlp_ratio=vision.get("mlp_ratio", 4.0),
            output_dim=config["embed_dim"],
            act_layer=QuickGELU if quick_gelu else nn.GELU,
        )
    try:
        module.load_state_dict(dict(weights), strict=True, assign=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"the weights do not fit {architecture}: {text}") from None
    return module


def tensors_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and float32 bytes of tensors, sorted by name."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


__all__ = [
    "Preprocess",
    "Tower",
    "build_module",
    "file_sha256",
    "load_hub_tower",
    "load_tower",
    "read_card",
    "read_weights",
    "tensors_sha256",
]
