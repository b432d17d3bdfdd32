"""Views that training sees must be those that a scan sees: what differs between them, a probe learns."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import encode, shapes

from aidetect.detector.images.launder import jpeg
from aidetect.detector.images.pixels import Pixels, decode
from aidetect.detector.images.rework import rework
from aidetect.detector.images.views import ViewPlan, make_views
from aidetect.detector.training.dataset import REWORKED
from aidetect.detector.training.features import WHOLE_JPEG, copy_of, random_source, training_views
from aidetect.detector.training.recipe import DEFAULT_MODES

SIZE = 224


def originals() -> ModuleType:
    """The script that makes training pictures of originals."""
    path = Path(__file__).parents[2] / "benchmarks" / "originals.py"
    spec = importlib.util.spec_from_file_location("originals", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_of(width: int, height: int, bars: int = 0) -> bytes:
    """A JPEG file of a drawn picture, with bars above and below it."""
    rgb = np.pad(255 - shapes(width, height) // 2, ((bars, bars), (0, 0), (0, 0)))
    return encode(rgb, "JPEG", quality=88)


def reduced_file(rgb: np.ndarray) -> bytes:
    """A reduced picture as an index has it."""
    return encode(rgb, "JPEG", quality=WHOLE_JPEG, subsampling=2)


def scanned(pixels: Pixels) -> np.ndarray:
    """The whole view that a scan takes."""
    return make_views(pixels.rgb, ViewPlan(SIZE, whole_jpeg=WHOLE_JPEG, trim=True))[0].rgb


SHAPES = [(640, 427), (427, 640), (512, 512), (1600, 1201), (301, 224)]


@pytest.mark.parametrize("bars", [0, 96])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_whole_files_give_the_views_of_a_scan(width: int, height: int, bars: int) -> None:
    pixels = next(decode(file_of(width, height, bars), frames=1))
    views = training_views(pixels, "full", 0, SIZE, "bicubic")
    assert np.array_equal(dict(views)["whole"], scanned(pixels))
    looked_at = make_views(pixels.rgb, ViewPlan(SIZE, **DEFAULT_MODES["standard"]))
    wholes = [rgb for kind, rgb in views if kind == "end"] or [views[0][1]]
    found = wholes + [rgb for kind, rgb in views if kind == "native"]
    assert len(found) == len(looked_at)
    assert all(np.array_equal(rgb, view.rgb) for rgb, view in zip(found, looked_at, strict=True))


@pytest.mark.parametrize("bars", [0, 96])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_cuts_of_originals_give_the_whole_view_of_a_scan(width: int, height: int, bars: int) -> None:
    data = file_of(width, height, bars)
    ((name, cut),) = originals().cuts(data, ["whole"])
    ((kind, view),) = training_views(next(decode(cut, frames=1)), name, 0, SIZE, "bicubic")
    assert kind == "whole" and np.array_equal(view, scanned(next(decode(data, frames=1))))


@pytest.mark.parametrize("bars", [0, 96])
def test_cuts_of_reworked_originals_are_those_of_the_reworked_picture(bars: int) -> None:
    script, data = originals(), file_of(640, 427, bars)
    pixels = next(decode(data, frames=1))
    rgb = rework(pixels.rgb, random_source(pixels.key, REWORKED))
    assert np.array_equal(script.copied(pixels, "reworked-")[0], rgb)
    (whole,) = make_views(rgb, ViewPlan(SIZE, whole_jpeg=WHOLE_JPEG, trim=True))
    ((name, cut),) = script.cuts(data, ["reworked-whole"])
    ((_, view),) = training_views(next(decode(cut, frames=1)), script.view_of(name), 0, SIZE, "bicubic")
    assert np.array_equal(view, whole.rgb)


def test_as_many_ai_as_real_originals_are_reworked() -> None:
    script = originals()
    there = [
        {"sha256": f"{label}{i}", "label": label, "repo": f"{label}{i % 3}", "path": str(i)}
        for label, count in (("ai", 20), ("real", 9))
        for i in range(count)
    ]
    wanted = script.chosen(there, [], 0, 0, 10)
    assert {name for names in wanted.values() for name in names} == {
        f"reworked-{name}" for name in ("whole", "tile", "tile-2")
    }
    assert sorted(key.rstrip("0123456789") for key in wanted) == ["ai"] * 5 + ["real"] * 5
    both = script.chosen(there, [], 20, 0, 10)
    assert all(set(names) <= set(both[key]) for key, names in wanted.items() if key in both)
    assert {script.prefix_of(name) for names in both.values() for name in names} == {"", "reworked-"}


@pytest.mark.parametrize(("width", "height", "squares"), [(640, 427, 2), (427, 890, 3), (500, 450, 0)])
@pytest.mark.parametrize("prefix", ["", "laundered-"])
@pytest.mark.parametrize("bars", [0, 96])
def test_cuts_of_originals_give_the_ends_that_a_scan_looks_at(
    width: int, height: int, squares: int, prefix: str, bars: int
) -> None:
    script, data = originals(), file_of(width, height, bars)
    pixels = next(decode(data, frames=1))
    rgb = copy_of(pixels, "full", 1)[0] if prefix else pixels.rgb
    plan = ViewPlan(SIZE, whole_jpeg=WHOLE_JPEG, spread=True, trim=True)
    cuts = list(script.cuts(data, [prefix + name for name in script.ENDS]))
    assert [name for name, _ in cuts] == [prefix + name for name in script.ENDS[:squares]]
    for (name, cut), looked_at in zip(cuts, make_views(rgb, plan), strict=False):
        view = script.view_of(name)
        found = training_views(next(decode(cut, frames=1)), view, 0, SIZE, "bicubic")
        assert [kind for kind, _ in found] == ["end"]
        assert np.array_equal(found[0][1], looked_at.rgb)


def test_three_tiles_of_an_original_are_from_three_places() -> None:
    script = originals()
    cuts = dict(script.cuts(file_of(1600, 1201), list(script.TILES)))
    tiles = [next(decode(cut, frames=1)).rgb for cut in cuts.values()]
    assert [tile.shape for tile in tiles] == [(256, 256, 3)] * 3
    assert len({tile.tobytes() for tile in tiles}) == 3
    (second,) = script.cuts(file_of(1600, 1201), ["tile-2"])
    assert second == ("tile-2", cuts["tile-2"])  # the same, whichever others are wanted


@pytest.mark.parametrize(("width", "height"), [(336, 224), (299, 224), (224, 358), (224, 224)])
def test_reduced_pictures_are_cut_along_the_blocks_of_their_encoding(width: int, height: int) -> None:
    rgb = np.repeat(shapes(width, height)[..., :1], 3, axis=2)  # grey: chroma is smoothed across blocks
    saved = next(decode(reduced_file(rgb), frames=1))
    view = training_views(saved, "whole", 0, SIZE, "bicubic")[0][1]
    left, upper = ((side - SIZE) // 2 // 16 * 16 for side in (width, height))
    square = np.ascontiguousarray(rgb[upper : upper + SIZE, left : left + SIZE])
    assert np.array_equal(view, jpeg(square, WHOLE_JPEG))


def test_laundered_reduced_pictures_end_as_a_scan_does() -> None:
    pixels = next(decode(reduced_file(shapes(336, 224)), frames=1))
    view = training_views(pixels, "whole", 1, SIZE, "bicubic")[0][1]
    same_blocks = np.abs(jpeg(view, WHOLE_JPEG).astype(int) - view).mean()
    moved = np.ascontiguousarray(view[4:-4, 4:-4])
    other_blocks = np.abs(jpeg(moved, WHOLE_JPEG).astype(int) - moved).mean()
    assert same_blocks < other_blocks / 2
