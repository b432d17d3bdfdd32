"""Views: where they lie, and that they show what lies there."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import gradient, noise, shapes
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.images.views import (
    _CENTRES,
    ViewPlan,
    make_views,
    mirror_to,
    native_view,
    whole_view,
)

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 200, 500]))
SHAPES = st.one_of(st.tuples(SIZES, SIZES), st.sampled_from([(1, 1), (1, 20000), (20000, 1), (224, 224)]))


@given(shape=SHAPES, size=st.sampled_from([1, 8, 32, 224]), native=st.sampled_from(sorted(_CENTRES)))
def test_views_of_any_shape(shape: tuple[int, int], size: int, native: int) -> None:
    width, height = shape
    rgb = noise(width, height)
    views = make_views(rgb, ViewPlan(size, native=native))
    assert [view.kind for view in views] == ["whole"] + ["native"] * (len(views) - 1)
    assert len(views) <= 1 + native
    assert len(views) > bool(native)
    for view in views:
        left, upper, right, lower = view.box
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        assert view.rgb.shape == (size, size, 3)
        assert view.rgb.dtype == np.uint8
        assert view.rgb.flags.c_contiguous
    boxes = [view.box for view in views[1:]]
    assert len(boxes) == len(set(boxes))
    again = make_views(rgb.copy(), ViewPlan(size, native=native))
    assert all(np.array_equal(a.rgb, b.rgb) and a.box == b.box for a, b in zip(views, again, strict=True))


@given(
    shape=SHAPES,
    size=st.sampled_from([8, 32, 64]),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_native_view_is_cut_not_resampled(shape: tuple[int, int], size: int, x: float, y: float) -> None:
    width, height = shape
    rgb = noise(width, height)
    view = native_view(rgb, size, x, y)
    left, upper, right, lower = view.box
    assert left % 8 == 0
    assert upper % 8 == 0
    assert right - left == min(width, size)
    assert lower - upper == min(height, size)
    assert np.array_equal(view.rgb[: lower - upper, : right - left], rgb[upper:lower, left:right])


def test_native_crops_spread_over_the_picture() -> None:
    rgb = noise(1000, 800)
    plan = ViewPlan(224, whole=False, native=5)
    boxes = [view.box for view in make_views(rgb, plan)]
    assert boxes[0][:2] == (388 // 8 * 8, 288 // 8 * 8)
    centres = [((box[0] + box[2]) / 2000, (box[1] + box[3]) / 1600) for box in boxes[1:]]
    assert [(x > 0.5, y > 0.5) for x, y in centres] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_repeated_boxes_are_left_out() -> None:
    assert len(make_views(noise(32, 32), ViewPlan(32, native=9))) == 2
    assert len(make_views(noise(36, 36), ViewPlan(32, native=9))) == 2
    # Wide enough to move in one direction only.
    assert len(make_views(noise(200, 32), ViewPlan(32, native=9))) == 4
    assert len(make_views(noise(200, 200), ViewPlan(32, native=9))) == 10


def test_every_plan_gives_its_number_of_views_where_there_is_room() -> None:
    rgb = noise(400, 300)
    for native in _CENTRES:
        if native:
            assert len(make_views(rgb, ViewPlan(32, whole=False, native=native))) == native
        assert len(make_views(rgb, ViewPlan(32, native=native))) == native + 1


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((100, 60), (20, 0, 80, 60)),
        ((60, 100), (0, 20, 60, 80)),
        ((101, 60), (20, 0, 80, 60)),
        ((1, 20000), (0, 9999, 1, 10000)),
        ((20000, 1), (9999, 0, 10000, 1)),
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_whole_view_is_the_centred_square(shape: tuple[int, int], box: tuple[int, ...]) -> None:
    view = whole_view(noise(*shape), 32)
    assert view.box == box
    assert view.kind == "whole"


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 301), (357, 224), (256, 256)])
def test_what_lies_outside_the_square_leaves_the_whole_view_alone(width: int, height: int) -> None:
    rgb = shapes(width, height)
    view = whole_view(rgb, 64, quality=90)
    left, upper, right, lower = view.box
    alone = whole_view(rgb[upper:lower, left:right], 64, quality=90)
    assert np.array_equal(view.rgb, alone.rgb)


def test_whole_view_on_a_grid() -> None:
    rgb = noise(357, 224)
    view = whole_view(rgb, 224, grid=16)
    assert view.box == (64, 0, 288, 224)
    assert np.array_equal(view.rgb, rgb[:, 64:288])
    assert whole_view(noise(224, 300), 224, grid=16).box == (0, 32, 224, 256)


def test_whole_view_shows_the_square_reduced() -> None:
    rgb = gradient(300, 200)
    view = whole_view(rgb, 50)
    blocks = rgb[:, 50:250].reshape(50, 4, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(view.rgb - blocks)[2:-2, 2:-2].max() <= 2


def test_whole_view_is_antialiased() -> None:
    # One-pixel stripes must become grey, not stripes of another width.
    rgb = np.zeros((320, 320, 3), np.uint8)
    rgb[:, ::2] = 255
    for interpolation in ("bicubic", "bilinear"):
        small = whole_view(rgb, 32, interpolation).rgb[4:-4, 4:-4]
        assert np.abs(small.astype(int) - 127).max() < 12


def test_whole_view_of_the_right_size_is_not_touched() -> None:
    rgb = noise(48, 32)
    assert np.array_equal(whole_view(rgb, 32).rgb, rgb[:, 8:40])


def test_interpolations_differ() -> None:
    rgb = shapes(100, 100)
    assert not np.array_equal(whole_view(rgb, 32, "bicubic").rgb, whole_view(rgb, 32, "bilinear").rgb)


def test_mirroring() -> None:
    row = np.arange(3, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    wide = mirror_to(row, 8)
    assert wide.shape == (8, 8, 3)
    assert wide[0, :, 0].tolist() == [0, 1, 2, 2, 1, 0, 0, 1]
    assert all(np.array_equal(line, wide[0]) for line in wide)
    rgb = noise(9, 9)
    assert np.array_equal(mirror_to(rgb, 9), rgb)
    assert np.array_equal(mirror_to(rgb, 4), rgb)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (20000, 1)])
def test_mirrored_views_hold_only_the_pictures_colours(shape: tuple[int, int]) -> None:
    rgb = np.full((shape[1], shape[0], 3), 7, np.uint8)
    for view in make_views(rgb, ViewPlan(224, native=3)):
        assert (view.rgb == 7).all()


@pytest.mark.parametrize(
    "plan", [{"native": 6}, {"native": -1}, {"interpolation": "nearest"}, {"whole": False, "native": 0}]
)
def test_plans_that_make_no_sense(plan: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"native|interpolation|at least one view"):
        ViewPlan(32, **plan)


def test_the_whole_view_can_end_with_one_jpeg_encoding() -> None:
    rgb = shapes(200, 150)
    plain, coded = make_views(rgb, ViewPlan(64)), make_views(rgb, ViewPlan(64, whole_jpeg=90))
    again = make_views(rgb, ViewPlan(64, whole_jpeg=90))
    assert not np.array_equal(plain[0].rgb, coded[0].rgb)
    assert np.array_equal(coded[0].rgb, again[0].rgb)
    assert np.abs(plain[0].rgb.astype(int) - coded[0].rgb).mean() < 20
    native = [make_views(rgb, ViewPlan(64, native=1, whole_jpeg=q))[1].rgb for q in (0, 90)]
    assert np.array_equal(native[0], native[1])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("length", "starts"),
    [(100, [0]), (124, [12]), (125, [0, 25]), (199, [0, 99]), (200, [0, 50, 100]), (900, [0, 400, 800])],
)
def test_pictures_far_from_square_are_looked_at_as_several_squares(
    length: int, starts: list[int], turned: bool
) -> None:
    rgb = noise(length, 100)
    rgb = rgb.transpose(1, 0, 2).copy() if turned else rgb
    wide = rgb.shape[1] == length
    views = make_views(rgb, ViewPlan(32, native=1, spread=True))
    wholes = [view for view in views if view.kind == "whole"]
    assert [view.kind for view in views] == ["whole"] * len(starts) + ["native"]
    assert [view.box for view in wholes] == [
        (start, 0, start + 100, 100) if wide else (0, start, 100, start + 100) for start in starts
    ]
    for view in wholes:
        left, upper, right, lower = view.box
        alone = make_views(rgb[upper:lower, left:right].copy(), ViewPlan(32))[0]
        assert np.array_equal(view.rgb, alone.rgb)
    plain = make_views(rgb, ViewPlan(32, native=1))
    assert [view.kind for view in plain] == ["whole", "native"]
    assert not [
        v for v in make_views(rgb, ViewPlan(32, whole=False, native=1, spread=True)) if v.kind != "native"
    ]
