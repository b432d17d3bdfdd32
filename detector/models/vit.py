"""CLIP's vision transformer in plain torch, for inference: it gives the tokens of every block.

Parameters have open_clip's names, so its image towers load as they are. Importing open_clip would take longer
than scoring a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional

from .onednn import linear

# OpenAI's approximation of GELU is x * sigmoid(1.702 * x), which is SiLU(1.702 * x) / 1.702. The factor moves
# into the layers before and after it.
_QUICK = 1.702


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        each = linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = each.view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(q, k, v)
        return linear(
            found.transpose(1, 2).reshape(n, tokens, width), self.out_proj.weight, self.out_proj.bias
        )


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = linear(x, self.c_fc.weight, self.c_fc.bias, self.activation)
        return linear(inner, self.c_proj.weight, self.c_proj.bias)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, activation: str) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), _Attention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), _Mlp(width, inner, activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """The image tower of a CLIP model.

    Args:
        image_size, patch_size: in pixels; the picture is square.
        width: length of a token.
        layers: number of blocks.
        heads: attention heads of a block.
        mlp_ratio: width of a block's inner layer, as a multiple of ``width``.
        output_dim: length of CLIP's embedding, which is not computed here.
        quick_gelu: whether the activation is OpenAI's approximation of GELU.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        output_dim: int = 512,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size, self.quick_gelu = patch_size, quick_gelu
        tokens = (image_size // patch_size) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.proj = nn.Parameter(torch.empty(width, output_dim))  # unused, as ln_post is
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        activation = "swish" if quick_gelu else "gelu"
        blocks = [_Block(width, heads, int(width * mlp_ratio), activation) for _ in range(layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(*blocks)})

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype = torch.float32) -> None:
        """Take over the weights of an image tower, float32, by open_clip's names, and round them to a dtype.

        Raises:
            RuntimeError: a tensor is missing, unknown or of another shape.
        """
        own = {}
        for name, tensor in weights:
            if self.quick_gelu and ".mlp.c_fc." in name:
                own[name] = (tensor * _QUICK).to(dtype)
            elif self.quick_gelu and name.endswith(".mlp.c_proj.weight"):
                own[name] = (tensor / _QUICK).to(dtype)
            else:
                own[name] = tensor.to(dtype)
        self.load_state_dict(own, strict=True, assign=True)

    def forward(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """The tokens after each block, the class token first.

        Args:
            pixels: ``[n, 3, size, size]``, normalised, dtype ``float32``. bfloat16 would round them to steps
                of up to a grey level, and so hide what generators leave in them.

        Yields:
            ``[n, 1 + patches, width]``, of the weights' dtype.
        """
        dtype = self.conv1.weight.dtype
        x = functional.conv2d(pixels, self.conv1.weight.float(), stride=self.patch_size)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.float().expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre((x + self.positional_embedding.float()).to(dtype))
        for block in self.transformer["resblocks"].children():
            x = block(x)
            yield x
