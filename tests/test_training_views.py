"""Views that training sees must be those that a scan sees: what differs between them, a probe learns."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import encode, shapes

from aidetect.detector.features import WHOLE_JPEG, training_views
from aidetect.detector.launder import jpeg
from aidetect.detector.pixels import Pixels, decode
from aidetect.detector.views import ViewPlan, make_views

SIZE = 224


def originals() -> ModuleType:
    """The script that makes training pictures of originals."""
    path = Path(__file__).parent.parent / "benchmarks" / "originals.py"
    spec = importlib.util.spec_from_file_location("originals", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_of(width: int, height: int) -> bytes:
    """A JPEG file of a drawn picture."""
    return encode(shapes(width, height), "JPEG", quality=88)


def reduced_file(rgb: np.ndarray) -> bytes:
    """A reduced picture as an index has it."""
    return encode(rgb, "JPEG", quality=WHOLE_JPEG, subsampling=2)


def scanned(pixels: Pixels) -> np.ndarray:
    """The whole view that a scan takes."""
    return make_views(pixels.rgb, ViewPlan(SIZE, whole_jpeg=WHOLE_JPEG))[0].rgb


SHAPES = [(640, 427), (427, 640), (512, 512), (1600, 1201), (301, 224)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_whole_files_give_the_whole_view_of_a_scan(width: int, height: int) -> None:
    pixels = next(decode(file_of(width, height), frames=1))
    assert np.array_equal(training_views(pixels, "full", 0, SIZE, "bicubic")["whole"], scanned(pixels))


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_cuts_of_originals_give_the_whole_view_of_a_scan(width: int, height: int) -> None:
    data = file_of(width, height)
    ((name, cut),) = originals().cuts(data, ["whole"])
    view = training_views(next(decode(cut, frames=1)), name, 0, SIZE, "bicubic")["whole"]
    assert np.array_equal(view, scanned(next(decode(data, frames=1))))


@pytest.mark.parametrize(("width", "height"), [(336, 224), (299, 224), (224, 358), (224, 224)])
def test_reduced_pictures_are_cut_along_the_blocks_of_their_encoding(width: int, height: int) -> None:
    rgb = np.repeat(shapes(width, height)[..., :1], 3, axis=2)  # grey: chroma is smoothed across blocks
    saved = next(decode(reduced_file(rgb), frames=1))
    view = training_views(saved, "whole", 0, SIZE, "bicubic")["whole"]
    left, upper = ((side - SIZE) // 2 // 16 * 16 for side in (width, height))
    square = np.ascontiguousarray(rgb[upper : upper + SIZE, left : left + SIZE])
    assert np.array_equal(view, jpeg(square, WHOLE_JPEG))


def test_laundered_reduced_pictures_end_as_a_scan_does() -> None:
    pixels = next(decode(reduced_file(shapes(336, 224)), frames=1))
    view = training_views(pixels, "whole", 1, SIZE, "bicubic")["whole"]
    same_blocks = np.abs(jpeg(view, WHOLE_JPEG).astype(int) - view).mean()
    moved = np.ascontiguousarray(view[4:-4, 4:-4])
    other_blocks = np.abs(jpeg(moved, WHOLE_JPEG).astype(int) - moved).mean()
    assert same_blocks < other_blocks / 2
