"""Linear layers on the faster of torch's two libraries for CPUs.

Float32 layers run on oneDNN on CPUs with AVX-512, of which MKL makes little use where Intel has not made the
CPU. On CPUs with AVX2 only, MKL is faster. Layers in bfloat16 run on oneDNN. Results of the two differ in the
last bits. They do not depend on the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "swish": functional.silu,
    "gelu": functional.gelu,
}


@functools.cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN's linear layer, and that gives the same results as torch's own."""
    x, weight, bias = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2)
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, functional.linear(x, weight, bias))


def prefers_onednn(x: torch.Tensor) -> bool:
    """Whether oneDNN is the faster way to multiply this tensor."""
    if x.device.type != "cpu" or not has_onednn():
        return False
    if x.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return x.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def depends_on_batch(dtype: torch.dtype) -> bool:
    """Whether this CPU gives a view another result of a linear layer when other views are in its batch.

    A picture's score must depend on its pixels alone. Tried on one layer of a ViT-B/16 in that dtype.
    """
    rng = torch.Generator().manual_seed(0)
    shapes = (8, 197, 768), (768, 768), (768,)
    x, weight, bias = (torch.randn(shape, generator=rng).to(dtype) for shape in shapes)
    together = linear(x, weight, bias, "swish")
    return not all(torch.equal(linear(x[:n], weight, bias, "swish"), together[:n]) for n in (1, 3))


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: str = "none"
) -> torch.Tensor:
    """``activation(x @ weight.T + bias)``.

    Args:
        x: ``[..., in]``, of the weights' dtype.
        weight: ``[out, in]``.
        bias: ``[out]``.
        activation: ``none``, ``swish`` (SiLU) or ``gelu``.
    """
    if prefers_onednn(x):
        form = "none" if activation == "gelu" else ""
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], form)  # type: ignore[no-any-return]
    return _ACTIVATIONS[activation](functional.linear(x, weight, bias))
