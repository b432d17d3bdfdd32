"""Bars, captions and pages around a picture are found, and plain backgrounds are not taken for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, gradient, noise, shapes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from aidetect.detector.explain.influence import find_tiles
from aidetect.detector.images.launder import jpeg
from aidetect.detector.images.margins import content_box
from aidetect.detector.images.views import ViewPlan, looked_at, make_views

BLACK, WHITE, GREEN = (0, 0, 0), (255, 255, 255), (20, 140, 90)
# Left, top, right, bottom; the first two multiples of 8, else a few pixels of the picture are left out too.
BARS = [
    (0, 64, 0, 61),
    (80, 0, 80, 0),
    (48, 40, 30, 21),
    (0, 88, 0, 0),
    (0, 0, 0, 90),
    (88, 0, 0, 0),
    (0, 0, 90, 0),
]

PLAN = ViewPlan(64, native=3, whole_jpeg=90, spread=True, trim=True)


def within(rgb: np.ndarray, bars: tuple[int, int, int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """A picture with bars at its left, top, right and bottom."""
    left, upper, right, lower = bars
    height, width = rgb.shape[:2]
    out = np.empty((height + upper + lower, width + left + right, 3), np.uint8)
    out[:] = colour
    out[upper : upper + height, left : left + width] = rgb
    return out


def inner(rgb: np.ndarray, bars: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    left, upper = bars[:2]
    return left, upper, left + rgb.shape[1], upper + rgb.shape[0]


def whole(rgb: np.ndarray) -> tuple[int, int, int, int]:
    return 0, 0, rgb.shape[1], rgb.shape[0]


@pytest.mark.parametrize("bars", BARS)
@pytest.mark.parametrize("colour", [BLACK, WHITE, GREEN])
def test_bars_are_found(bars: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    picture = noise(300, 200)
    assert content_box(within(picture, bars, colour)) == inner(picture, bars)


@pytest.mark.parametrize("quality", [90, 70, 50])
@pytest.mark.parametrize("bars", BARS)
def test_bars_are_found_after_an_encoding(bars: tuple[int, int, int, int], quality: int) -> None:
    picture = np.maximum(shapes(320, 240), 70)  # what is black itself joins a black bar
    found = content_box(jpeg(within(picture, bars, BLACK), quality))
    assert max(abs(a - b) for a, b in zip(found, inner(picture, bars), strict=True)) <= 6


def test_bars_are_found_under_noise() -> None:
    picture = noise(300, 200)
    barred = within(picture, (0, 64, 0, 60), WHITE).astype(float)
    noisy = np.clip(barred + np.random.default_rng(0).normal(0, 4, barred.shape), 0, 255).astype(np.uint8)
    assert content_box(noisy) == (0, 64, 300, 264)


def test_bars_within_bars_are_found() -> None:
    picture = noise(300, 200)
    outer = within(within(picture, (0, 54, 0, 50), BLACK), (64, 10, 60, 10), WHITE)
    assert content_box(outer) == (64, 64, 364, 264)


@pytest.mark.parametrize("bar", range(40, 48))
def test_the_corner_lies_on_the_blocks_of_the_file(bar: int) -> None:
    barred = within(noise(300, 200), (bar, bar, 0, 0), BLACK)
    corner = 40 if bar == 40 else 48
    assert content_box(barred) == (corner, corner, 300 + bar, 200 + bar)
    crops = [view for view in make_views(barred, PLAN) if view.kind == "native"]
    assert len(crops) == 3 and all(side % 8 == 0 for view in crops for side in view.box[:2])


@pytest.mark.parametrize("above", [True, False])
def test_captions_are_found(above: bool) -> None:
    picture = noise(400, 300)
    strip = Image.new("RGB", (400, 80), WHITE)
    font = ImageFont.load_default(24)
    ImageDraw.Draw(strip).text((10, 10), "when the build passes\non the first try", BLACK, font)
    parts = [np.asarray(strip), picture]
    box = content_box(np.concatenate(parts if above else parts[::-1]))
    assert box == ((0, 80, 400, 380) if above else (0, 0, 400, 300))


def page(*pictures: np.ndarray, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    """A screenshot: a tool bar, pictures beside one another, lines of text at their right and below."""
    ink = BLACK if sum(background) > 384 else WHITE
    image = Image.new("RGB", (1200, 800), background)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 1200, 40), fill=(200, 205, 210))
    for i, picture in enumerate(pictures):
        image.paste(Image.fromarray(picture), (104 + 424 * i, 96))
    font = ImageFont.load_default(18)
    for i in range(12):
        draw.text((960, 110 + 30 * i), "what people say of it"[: 8 + i], ink, font)
    draw.text((104, 700), "3,141 views   592 comments   share   save", ink, font)
    return np.asarray(image)


@pytest.mark.parametrize("background", [WHITE, (24, 26, 30), (230, 220, 200)])
@pytest.mark.parametrize("quality", [0, 85])
def test_the_picture_on_a_page_is_found(background: tuple[int, int, int], quality: int) -> None:
    picture = np.maximum(shapes(760, 560), 70)
    shot = page(picture, background=background)
    found = content_box(jpeg(shot, quality) if quality else shot)
    assert max(abs(a - b) for a, b in zip(found, (104, 96, 864, 656), strict=True)) <= 8
    left, upper, right, lower = found
    assert quality or (left >= 104 and upper >= 96 and right <= 864 and lower <= 656)


def test_of_several_pictures_on_a_page_none_is_taken_out() -> None:
    shot = page(noise(300, 300), noise(300, 300, seed=1))
    left, upper, right, lower = content_box(shot)
    assert left <= 104 and upper <= 96 and right >= 828 and lower >= 396  # both of them stay


def drawing(background: tuple[int, int, int]) -> np.ndarray:
    """Something drawn in the middle of a plain page."""
    image = Image.new("RGB", (400, 300), background)
    draw = ImageDraw.Draw(image)
    draw.ellipse((120, 60, 300, 250), fill=(200, 40, 30))
    draw.line((40, 40, 360, 200), fill=(10, 10, 120), width=5)
    return np.asarray(image)


@pytest.mark.parametrize(
    "rgb",
    [
        drawing(WHITE),
        drawing(BLACK),
        noise(300, 200),
        gradient(400, 300),
        shapes(320, 240),
        np.full((300, 400, 3), 128, np.uint8),
        within(noise(300, 200), (0, 3, 0, 3), BLACK),  # too thin to matter
        within(noise(40, 300), (200, 0, 200, 0), BLACK),  # too little would be left
        np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[:, None, None], 400, 1).repeat(3, 2),
    ],
)
def test_what_is_no_strip_stays(rgb: np.ndarray) -> None:
    assert content_box(rgb) == whole(rgb)


SIDES = st.one_of(st.integers(1, 30), st.sampled_from([63, 64, 65, 200, 600]))


@given(
    width=SIDES,
    height=SIDES,
    bars=st.tuples(*[st.sampled_from([0, 0, 1, 7, 40, 300])] * 4),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    flat=st.booleans(),
)
def test_boxes_lie_within_any_picture(
    width: int, height: int, bars: tuple[int, int, int, int], colour: tuple[int, int, int], flat: bool
) -> None:
    picture = np.full((height, width, 3), 77, np.uint8) if flat else noise(width, height)
    rgb = within(picture, bars, colour)
    left, upper, right, lower = content_box(rgb)
    assert 0 <= left < right <= rgb.shape[1] and 0 <= upper < lower <= rgb.shape[0]
    if (left, upper, right, lower) != whole(rgb):
        assert right - left >= min(64, rgb.shape[1]) and lower - upper >= min(64, rgb.shape[0])


@pytest.mark.parametrize("bars", BARS)
def test_views_are_those_of_the_picture_alone(bars: tuple[int, int, int, int]) -> None:
    picture = noise(300, 200)
    barred = within(picture, bars, BLACK)
    assert looked_at(barred, PLAN) == inner(picture, bars)
    alone, found = make_views(picture, PLAN), make_views(barred, PLAN)
    assert [view.kind for view in found] == [view.kind for view in alone]
    for view, other in zip(found, alone, strict=True):
        assert np.array_equal(view.rgb, other.rgb)
        moved = tuple(a + b for a, b in zip(other.box, bars[:2] * 2, strict=True))
        assert view.box == moved
    assert looked_at(barred, replace(PLAN, trim=False)) == whole(barred)


@pytest.mark.parametrize("colour", [BLACK, WHITE])
def test_bars_do_not_move_a_score(tiny_detector: Any, tmp_path: Path, colour: tuple[int, int, int]) -> None:
    picture = noise(300, 200)
    names = {"alone.png": picture, "barred.png": within(picture, (0, 80, 0, 80), colour)}
    for name, rgb in names.items():
        (tmp_path / name).write_bytes(encode(rgb, "PNG"))
    tiny_detector.plan = replace(tiny_detector.plan, trim=True)
    alone, barred = tiny_detector.score([tmp_path / name for name in names])
    assert barred.logit == alone.logit
    assert barred.warnings == alone.warnings
    assert (barred.width, barred.height) == (300, 360)
    tiny_detector.plan = replace(tiny_detector.plan, trim=False)
    (seen,) = tiny_detector.score([tmp_path / "barred.png"])
    assert seen.logit != alone.logit


def test_the_map_of_a_picture_leaves_its_bars_out(tiny_detector: Any) -> None:
    picture = noise(300, 200)
    tiny_detector.plan = replace(tiny_detector.plan, trim=True)
    tiles = find_tiles(tiny_detector, within(picture, (0, 80, 0, 80), BLACK), 4)
    alone = find_tiles(tiny_detector, picture, 4)
    assert [tile.logit for tile in tiles] == pytest.approx([tile.logit for tile in alone])
    assert [tile.box for tile in tiles] == [(a, b + 80, c, d + 80) for a, b, c, d in (t.box for t in alone)]
