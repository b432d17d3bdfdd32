"""Image towers from open_clip's hub or from a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from .tower import Preprocess, Tower
from .vit import VisionTransformer

# Tokens of two modules that compute the same differ by less than this, with float32 rounding.
_SAME = 1e-3


class OpenClip(nn.Module):
    """One of open_clip's image towers, behind the interface of `VisionTransformer`."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """As `VisionTransformer.forward`."""
        pixels = pixels.to(next(self.visual.parameters()).dtype)
        out: dict[str, list[torch.Tensor]] = self.visual.forward_intermediates(  # type: ignore[operator]
            pixels, intermediates_only=True, output_extra_tokens=True
        )
        each = zip(out["image_intermediates_prefix"], out["image_intermediates"], strict=True)
        for prefix, grid in each:
            yield torch.cat([prefix[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


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
    preprocess = Preprocess.from_dict(open_clip.get_model_preprocess_cfg(model))
    found = tensors_sha256(visual.state_dict())
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"the tower {architecture} ({tag}) has hash {found[:12]}, the card expects {sha256[:12]}: "
            "this is not the tower the probe was fitted on"
        )
    return Tower(plain(visual, preprocess.size) or OpenClip(visual), preprocess, found)


def plain(visual: nn.Module, size: int) -> VisionTransformer | None:
    """The same tower as a `VisionTransformer`, which is faster; ``None`` if it is another kind of tower.

    Args:
        visual: one of open_clip's image towers.
        size: side of its input, in pixels.
    """
    visual = visual.eval()
    state = visual.state_dict()
    try:
        blocks: Any = visual.transformer.resblocks  # type: ignore[union-attr]
        width, patch_size = state["conv1.weight"].shape[0], state["conv1.weight"].shape[-1]
        inner, heads = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0], blocks[0].attn.num_heads
        module = VisionTransformer(
            *(size, patch_size, width, len(blocks), heads),
            mlp_ratio=inner / width,
            output_dim=state["proj"].shape[1],
            quick_gelu=type(blocks[0].mlp.gelu).__name__ == "QuickGELU",
        )
        module.load(state.items())
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError):
        return None
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = zip(module(pixels), OpenClip(visual)(pixels), strict=True)
        return module if all(torch.allclose(ours, theirs, _SAME, _SAME) for ours, theirs in pairs) else None


def tensors_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and float32 bytes of tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
