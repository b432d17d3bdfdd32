"""Reworking: each way, and what is drawn (see also test_launder)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import gradient, is_picture, shapes

from aidetect.detector.images import rework as module
from aidetect.detector.images.rework import LARGEST, WAYS, rework

PICTURE = shapes(160, 120)


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (3000, 2000)])
def test_what_is_large_is_scaled_down(shape: tuple[int, int]) -> None:
    for seed in range(12):
        found = rework(gradient(*shape), np.random.default_rng(seed))
        assert is_picture(found)
        assert max(found.shape) <= 1.1 * LARGEST


@pytest.mark.parametrize("name", WAYS)
def test_each_way_changes_a_picture_and_leaves_it_one(name: str) -> None:
    for seed in range(5):
        found = WAYS[name](PICTURE, np.random.default_rng(seed))
        assert is_picture(found)
        assert found.shape != PICTURE.shape or not np.array_equal(found, PICTURE)
        again = np.asarray(found[: PICTURE.shape[0], : PICTURE.shape[1]], float)
        if found.shape == PICTURE.shape and name not in ("colour", "turn", "screen"):
            assert np.abs(again - PICTURE).mean() < 16, "still the same picture"


def test_what_is_done_is_drawn_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both classes must go through the same: equal sizes draw equal ways.
    def ways_of(rgb: np.ndarray, seed: int) -> list[str]:
        seen: list[str] = []
        with monkeypatch.context() as patch:
            for name, way in WAYS.items():

                def note(
                    rgb: np.ndarray, rng: np.random.Generator, name: str = name, way: Any = way
                ) -> np.ndarray:
                    seen.append(name)
                    found: np.ndarray = way(rgb, rng)
                    return found

                patch.setitem(module.WAYS, name, note)
            rework(rgb, np.random.default_rng(seed))
        return seen

    found = set()
    for seed in range(60):
        ways = ways_of(PICTURE, seed)
        assert ways == ways_of(gradient(160, 120), seed)
        assert len(set(ways)) == len(ways) in (1, 2)
        found |= set(ways)
    assert found == set(WAYS)
