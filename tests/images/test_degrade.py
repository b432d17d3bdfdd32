"""Named ways in which pictures lose quality."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import noise, shapes

from aidetect.detector.images.degrade import ROUGHER, SMALLER, WAYS, enlarged, pair
from aidetect.detector.images.margins import content_box
from aidetect.detector.training.conditions import CONDITIONS
from aidetect.detector.training.dataset import DEGRADED


@pytest.mark.parametrize("name", WAYS)
def test_every_way_is_the_same_each_time_and_leaves_the_picture_given_alone(name: str) -> None:
    given = shapes(400, 300)
    before = given.copy()
    found = WAYS[name](given)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert np.array_equal(found, WAYS[name](given))
    assert np.array_equal(given, before)
    assert not np.array_equal(found, given)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 2)])
def test_pictures_of_any_shape_are_degraded(name: str, shape: tuple[int, int]) -> None:
    height, width = shape
    found = WAYS[name](noise(width, height))
    assert min(found.shape) >= 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("half-jpeg-80", (300, 200)),
        ("third-jpeg-80", (200, 133)),
        ("1024-jpeg-80", (600, 400)),
        ("512-jpeg-80", (512, 341)),
        ("256-jpeg-80", (256, 171)),
        ("enlarged-64", (600, 400)),
        ("corner", (360, 240)),
        ("pair", (1200, 400)),
        ("bars", (600, 496)),
        ("turn-90", (400, 600)),
    ],
)
def test_sizes(name: str, size: tuple[int, int]) -> None:
    height, width = WAYS[name](shapes(600, 400)).shape[:2]
    assert (width, height) == size


def test_small_copies_lose_detail_and_the_smaller_the_more() -> None:
    given = noise(600, 400)

    def detail(rgb: np.ndarray) -> float:
        return float(np.abs(np.diff(rgb.astype(float), axis=1)).mean())

    assert detail(enlarged(given, 64)) < detail(enlarged(given, 128)) < detail(enlarged(given, 256)) < 20


def test_enlarged_copies_are_not_made_larger_than_before_nor_than_1024_pixels() -> None:
    assert enlarged(noise(90, 60), 128).shape == (60, 90, 3)
    assert enlarged(noise(2000, 1000), 128).shape == (512, 1024, 3)


def test_grey_is_grey_and_a_pair_is_a_picture_and_its_mirror_image() -> None:
    found = WAYS["grey"](shapes(300, 200)).astype(int)
    assert np.abs(found[..., 0] - found[..., 1]).max() <= 2
    twice = pair(shapes(320, 160)).astype(int)
    assert np.abs(twice[:, :320] - twice[:, 320:][:, ::-1]).mean() < 2


def test_bars_are_left_out_of_what_is_judged() -> None:
    found = WAYS["bars"](noise(400, 300))
    _, upper, _, lower = content_box(found)
    assert (upper, lower) != (0, found.shape[0])
    assert lower - upper <= 304


def test_ways_are_conditions_and_numbers_of_copies() -> None:
    assert set(WAYS) == {*SMALLER, *ROUGHER} <= set(CONDITIONS)
    assert list(DEGRADED) == list(WAYS)
    assert DEGRADED["half-jpeg-80"] == 101
    assert len(set(DEGRADED.values())) == len(WAYS)
