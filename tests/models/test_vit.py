"""The vision transformer: open_clip's results, on oneDNN or not, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from aidetect.detector.models import onednn
from aidetect.detector.models.hub import OpenClip, plain
from aidetect.detector.models.tower import Preprocess, Tower

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WITHOUT = pytest.mark.skipif(not onednn.has_onednn(), reason="this torch has no oneDNN")


def visual(architecture: str, **options: object) -> nn.Module:
    torch.manual_seed(3)
    module: nn.Module = open_clip.create_model(architecture, **options).visual
    return module.eval().requires_grad_(False)


def views(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def tower(module: nn.Module) -> Tower:
    made = Tower(module, PREPROCESS, "")
    made.patch_mean = True
    return made


@pytest.fixture(params=[True, False], ids=["QuickGELU", "GELU"])
def theirs(request: pytest.FixtureRequest, tiny_architecture: str) -> nn.Module:
    return visual(tiny_architecture, force_quick_gelu=request.param)


@pytest.fixture(params=["AVX512", "AVX2"])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return str(request.param)


def test_tokens_are_open_clips(theirs: nn.Module, capability: str) -> None:
    ours = plain(theirs, 32)
    assert ours is not None
    assert onednn.prefers_onednn(torch.ones(1)) == (capability == "AVX512" and onednn.has_onednn())
    expected = tower(OpenClip(theirs))
    assert np.abs(tower(ours).features(views(5)) - expected.features(views(5))).max() < 1e-5
    for found, wanted in zip(
        tower(ours).patch_tokens(views(2)), expected.patch_tokens(views(2)), strict=True
    ):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-5


def test_the_batch_does_not_matter(theirs: nn.Module, capability: str) -> None:
    ours = plain(theirs, 32)
    assert ours is not None
    together = tower(ours).features(views(8))
    for n in (1, 2, 3, 5):
        assert np.array_equal(tower(ours).features(views(8)[:n]), together[:n])


def test_bfloat16_is_near(theirs: nn.Module) -> None:
    ours = plain(theirs, 32)
    assert ours is not None
    exact = tower(ours).features(views(4))
    near = tower(ours).to(torch.device("cpu"), torch.bfloat16).features(views(4))
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.1


def test_pixels_are_not_rounded_to_bfloat16(theirs: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of bfloat16 is up to a grey level of a normalised pixel."""
    seen = []
    real = torch.nn.functional.conv2d

    def conv2d(pixels: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        seen.append(pixels)
        return real(pixels, *rest, **options)

    monkeypatch.setattr("aidetect.detector.models.vit.functional.conv2d", conv2d)
    ours = plain(theirs, 32)
    assert ours is not None
    near = tower(ours).to(torch.device("cpu"), torch.bfloat16)
    assert {tokens.dtype for tokens in near._blocks(views(1))} == {torch.bfloat16}
    (pixels,) = [pixels for pixels in seen if pixels.shape[-1] == 32][-1:]
    assert pixels.dtype == torch.float32
    assert np.array_equal(np.rint((pixels[0].permute(1, 2, 0).numpy() * 0.25 + 0.5) * 255), views(1)[0])


class Other(nn.Module):
    """A tower whose blocks have the right names but which computes something else."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        if name == "inner":
            return super().__getattr__(name)
        return getattr(super().__getattr__("inner"), name)

    def state_dict(self, *args: object, **options: object) -> dict[str, torch.Tensor]:
        return self.inner.state_dict()

    def forward_intermediates(self, pixels: torch.Tensor, **options: bool) -> dict[str, list[torch.Tensor]]:
        return self.inner.forward_intermediates(-pixels, **options)  # type: ignore[no-any-return, operator]


def test_another_kind_of_tower_stays_open_clips(tiny_architecture: str) -> None:
    module = visual(tiny_architecture)
    assert plain(Other(module), 32) is None
    assert plain(nn.Linear(2, 2), 32) is None
    mean = module.state_dict()
    del mean["proj"]
    module.proj = None
    assert plain(module, 32) is None


def test_a_layer_whose_result_depends_on_the_batch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    onednn.depends_on_batch.cache_clear()
    assert not onednn.depends_on_batch(torch.float32)
    onednn.depends_on_batch.cache_clear()
    monkeypatch.setattr(onednn, "linear", lambda x, *rest: x.sum(dim=2) + len(x))
    assert onednn.depends_on_batch(torch.float32)
    onednn.depends_on_batch.cache_clear()


@WITHOUT
def test_one_layer_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=rng) for s in ((3, 8), (4, 8), (4,)))
    for name in ("none", "swish", "gelu"):
        both = []
        for capability in ("AVX512", "AVX2"):
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
            both.append(onednn.linear(x, weight, bias, name))
        assert torch.allclose(*both, atol=1e-6)


@pytest.fixture
def fresh() -> Iterator[None]:
    onednn.has_onednn.cache_clear()
    yield
    onednn.has_onednn.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_a_torch_without_onednn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Without(), raising=False)
    assert not onednn.has_onednn()


@pytest.mark.usefixtures("fresh")
def test_a_wrong_onednn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: torch.Tensor, *rest: object) -> torch.Tensor:
        return x * 0

    monkeypatch.setattr(torch.ops, "mkldnn", type("Wrong", (), {"_linear_pointwise": staticmethod(wrong)}))
    assert not onednn.has_onednn()
