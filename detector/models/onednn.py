"""Faster matrix products on CPUs: a tower's float32 layers run on oneDNN instead of torch's BLAS.

torch computes float32 linear layers with the BLAS it was built with, MKL. MKL makes little use of AVX-512 on
CPUs that are not Intel's. oneDNN, which comes with torch, does: on an AMD EPYC with AVX-512 a CLIP ViT-B/16
runs twice as fast. On CPUs with AVX2 only, MKL is faster (by a fifth on an AMD EPYC), and torch's layers
stay. Results differ in the last bits. They do not depend on the batch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def helps() -> bool:
    """Whether oneDNN is faster on this CPU, which is so with AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def available() -> bool:
    """Whether this torch has oneDNN's linear layer, and that gives the same results as torch's own."""
    x, weight, bias = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2)
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, functional.linear(x, weight, bias))


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``x @ weight.T + bias``, by oneDNN for float32 on a CPU, else by torch."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


class Linear(nn.Module):
    """A linear layer with the parameters of torch's layer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``."""
        return linear(x, self.weight, self.bias)


class SelfAttention(nn.Module):
    """Self-attention with the parameters of torch's layer, for inference without a mask.

    Raises:
        ValueError: when called with a mask, for weights, or for other attention than self-attention.
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = layer.num_heads
        self.in_proj_weight, self.in_proj_bias = layer.in_proj_weight, layer.in_proj_bias
        self.out_proj = Linear(layer.out_proj)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Self-attention of ``[n, tokens, width]``, with the arguments of `nn.MultiheadAttention`."""
        if need_weights or attn_mask is not None or key is not query or value is not query:
            raise ValueError("only self-attention without a mask and without weights")
        n, tokens, width = query.shape
        each = linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = each.view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(found.transpose(1, 2).reshape(n, tokens, width)), None


def _plain(layer: nn.Module) -> bool:
    """Whether `SelfAttention` can replace a layer."""
    if not isinstance(layer, nn.MultiheadAttention):
        return False
    return layer.batch_first and layer.in_proj_weight is not None and layer.bias_k is None


def quicken(module: nn.Module) -> None:
    """Replace torch's layers by these in the residual blocks of a vision transformer.

    Nothing changes in a module without open_clip's residual blocks, or where oneDNN is missing or slower.
    """
    from open_clip.transformer import ResidualAttentionBlock

    if not (helps() and available()):
        return
    for block in module.modules():
        if not isinstance(block, ResidualAttentionBlock):
            continue
        if _plain(block.attn):
            block.attn = SelfAttention(block.attn)
        for name in ("c_fc", "c_proj"):
            layer = getattr(block.mlp, name, None)
            if type(layer) is nn.Linear:
                setattr(block.mlp, name, Linear(layer))
