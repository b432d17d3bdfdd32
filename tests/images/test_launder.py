"""Laundering (and reworking): deterministic, of valid pictures, and blind to what it launders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import gradient, is_picture, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from aidetect.detector.images import launder as module
from aidetect.detector.images.launder import SWEEP, blur, crop, jpeg, launder, noise, resize, webp
from aidetect.detector.images.rework import rework

PICTURE = shapes(160, 120)
AT_RANDOM = pytest.mark.parametrize("change", [launder, rework])
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@AT_RANDOM
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_same_seed_same_history(change: Change, seed: int) -> None:
    before = PICTURE.copy()
    first = change(PICTURE, np.random.default_rng(seed))
    second = change(PICTURE, np.random.default_rng(seed))
    assert np.array_equal(first, second)
    assert is_picture(first)
    assert np.array_equal(PICTURE, before)


@AT_RANDOM
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    shape=st.one_of(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.just((1, 1))),
)
def test_small_pictures_survive(change: Change, seed: int, shape: tuple[int, int]) -> None:
    assert is_picture(change(gradient(*shape), np.random.default_rng(seed)))


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1)])
def test_strips_survive_every_history(shape: tuple[int, int]) -> None:
    # WebP holds at most 16383 pixels a side.
    strip = gradient(*shape)
    for seed in range(30):
        assert is_picture(launder(strip, np.random.default_rng(seed)))
    for name, change in SWEEP.items():
        if name.startswith("webp"):  # a named condition is met or refused, never passed over
            with pytest.raises(ValueError):
                change(strip)
        else:
            assert is_picture(change(strip)), name


@AT_RANDOM
def test_seeds_differ(change: Change) -> None:
    found = {change(PICTURE, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert len(found) > 15


def test_smallest_scale_bounds_the_reduction() -> None:
    for scale in (0.35, 0.6, 1.0):
        widths, heights = zip(
            *(
                launder(PICTURE, np.random.default_rng(seed), smallest_scale=scale).shape[1::-1]
                for seed in range(80)
            ),
            strict=True,
        )
        assert min(widths) >= round(160 * scale) - 8
        assert min(heights) >= round(120 * scale) - 8
        assert max(widths) <= 160
        if scale < 1:
            assert min(widths) < 0.9 * 160


def test_history_is_drawn_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both classes must go through the same histories: equal sizes draw equal steps.
    def steps_of(rgb: np.ndarray, seed: int) -> list[tuple[str, tuple[object, ...]]]:
        steps: list[tuple[str, tuple[object, ...]]] = []
        with monkeypatch.context() as patch:
            for name in ("resize", "blur", "noise", "jpeg", "webp"):
                real = getattr(module, name)

                def note(rgb: np.ndarray, *args: object, name: str = name, real: object = real) -> np.ndarray:
                    steps.append((name, tuple(a for a in args if not isinstance(a, np.random.Generator))))
                    return real(rgb, *args)

                patch.setattr(module, name, note)
            launder(rgb, np.random.default_rng(seed))
        return steps

    seen = set()
    for seed in range(40):
        steps = steps_of(PICTURE, seed)
        assert steps == steps_of(gradient(160, 120), seed)
        seen |= {name for name, _ in steps}
    assert seen == {"resize", "blur", "noise", "jpeg", "webp"}


def test_reencoding_changes_little_and_more_at_low_quality() -> None:
    def loss(rgb: np.ndarray) -> float:
        return float(np.abs(rgb.astype(int) - PICTURE).mean())

    assert 0 < loss(jpeg(PICTURE, 95)) < loss(jpeg(PICTURE, 60)) < loss(jpeg(PICTURE, 20)) < 20
    assert 0 < loss(webp(PICTURE, 90)) < loss(webp(PICTURE, 30)) < 20
    assert loss(jpeg(PICTURE, 90, 0)) < loss(jpeg(PICTURE, 90, 2))


def test_geometry_of_the_steps() -> None:
    assert resize(PICTURE, 0.5).shape == (60, 80, 3)
    assert resize(PICTURE, 1.5).shape == (180, 240, 3)
    assert resize(gradient(1, 3), 0.1).shape == (1, 1, 3)
    assert np.array_equal(crop(PICTURE, 0.5), PICTURE[30:90, 40:120])
    assert crop(gradient(1, 1), 0.5).shape == (1, 1, 3)
    assert blur(PICTURE, 1).shape == PICTURE.shape


def test_blur_smooths_and_noise_roughens() -> None:
    def roughness(rgb: np.ndarray) -> float:
        return float(np.abs(np.diff(rgb.astype(int), axis=1)).mean())

    assert roughness(blur(PICTURE, 1.0)) < roughness(PICTURE)
    noisy = noise(gradient(160, 120), 4.0, np.random.default_rng(0))
    assert roughness(noisy) > roughness(gradient(160, 120))
    middle = np.full((64, 64, 3), 128, np.uint8)
    assert abs(noise(middle, 4.0, np.random.default_rng(0)).std() - 4) < 0.3


def test_noise_is_clipped_not_wrapped() -> None:
    for level in (0, 255):
        flat = np.full((32, 32, 3), level, np.uint8)
        assert np.abs(noise(flat, 5.0, np.random.default_rng(1)).astype(int) - level).max() < 40


@pytest.mark.parametrize("name", SWEEP)
def test_sweep_is_deterministic_and_does_what_its_name_says(name: str) -> None:
    found = SWEEP[name](PICTURE)
    assert is_picture(found)
    assert np.array_equal(found, SWEEP[name](PICTURE))
    if name == "clean":
        assert np.array_equal(found, PICTURE)
    else:
        assert found.shape != PICTURE.shape or not np.array_equal(found, PICTURE)
    if name.startswith("resize-"):
        scale = float(name.removeprefix("resize-"))
        assert found.shape[:2] == (round(120 * scale), round(160 * scale))
    elif name.startswith("jpeg-"):
        assert np.array_equal(found, jpeg(PICTURE, int(name.removeprefix("jpeg-"))))
    elif name.startswith("webp-"):
        assert np.array_equal(found, webp(PICTURE, int(name.removeprefix("webp-"))))
