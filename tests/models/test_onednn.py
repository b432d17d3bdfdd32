"""Layers through oneDNN: the same results as torch's own, whatever the batch."""

from __future__ import annotations

import copy

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from aidetect.detector.models import onednn
from aidetect.detector.models.tower import Preprocess, Tower

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def visual(architecture: str) -> nn.Module:
    torch.manual_seed(3)
    module: nn.Module = open_clip.create_model(architecture).visual
    return module.eval()


def views(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def test_features_are_those_of_torch_s_layers(
    tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = visual(tiny_architecture)
    monkeypatch.setattr(onednn, "helps", lambda: True)
    quick = Tower(copy.deepcopy(module), PREPROCESS, "")
    monkeypatch.setattr(onednn, "available", lambda: False)
    plain = Tower(module, PREPROCESS, "")
    kinds = {type(m) for m in plain.module.modules()}
    assert onednn.SelfAttention not in kinds and nn.MultiheadAttention in kinds
    expected = plain.features(views(6), patch_mean=True)
    assert np.abs(quick.features(views(6), patch_mean=True) - expected).max() < 1e-4


@pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(("capability", "replaced"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_the_layers_are_replaced_where_that_is_faster_and_the_batch_does_not_matter(
    tiny_architecture: str, monkeypatch: pytest.MonkeyPatch, capability: str, replaced: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    tower = Tower(visual(tiny_architecture), PREPROCESS, "")
    kinds = {type(m) for m in tower.module.transformer.modules()}
    assert (onednn.SelfAttention in kinds) == replaced
    assert (nn.MultiheadAttention in kinds) != replaced
    assert (nn.Linear in kinds) != replaced
    together = tower.features(views(8), patch_mean=True)
    for n in (1, 2, 3, 5):
        assert np.array_equal(tower.features(views(8)[:n], patch_mean=True), together[:n])


def test_a_mask_is_refused_and_other_formats_go_torch_s_way() -> None:
    layer = onednn.SelfAttention(nn.MultiheadAttention(8, 2, batch_first=True).requires_grad_(False))
    x = torch.ones(1, 3, 8)
    with pytest.raises(ValueError, match="without a mask"):
        layer(x, x, x, attn_mask=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="only self-attention"):
        layer(x, x.clone(), x)
    half, weight = x.bfloat16(), torch.eye(8, dtype=torch.bfloat16)
    assert torch.equal(onednn.linear(half, weight, None), half)


def test_a_torch_without_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Without(), raising=False)
    assert not onednn.available()

    def wrong(x: torch.Tensor, *rest: object) -> torch.Tensor:
        return x * 0

    monkeypatch.setattr(torch.ops, "mkldnn", type("Wrong", (), {"_linear_pointwise": staticmethod(wrong)}))
    assert not onednn.available()
