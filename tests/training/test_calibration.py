"""Thresholds that hold for other repositories."""

from __future__ import annotations

import numpy as np
import pytest

from aidetect.detector.training.calibration import ai_threshold, threshold_over_groups
from aidetect.detector.training.recipe import Recipe


def share_at(probabilities: np.ndarray, threshold: float) -> float:
    return float((probabilities >= threshold).mean())


def test_without_a_margin_the_share_is_kept_on_the_pictures_themselves() -> None:
    rng = np.random.default_rng(0)
    found, groups = rng.random(5000), np.array([str(i % 50) for i in range(5000)])
    threshold = threshold_over_groups(found, groups, 0.01, 0.0)
    assert 0.009 <= share_at(found, threshold) <= 0.0102


@pytest.mark.parametrize("sure", [0.75, 0.9])
def test_repositories_that_differ_raise_the_threshold_and_like_ones_hardly(sure: float) -> None:
    rng = np.random.default_rng(1)
    groups = np.array([str(i // 100) for i in range(5000)])
    alike = rng.random(5000)
    apart = np.where(np.isin(groups, ["3", "17"]), 0.9 + 0.1 * rng.random(5000), 0.8 * rng.random(5000))
    plain, sure_alike = (threshold_over_groups(alike, groups, 0.01, s) for s in (0.0, sure))
    assert sure_alike - plain < 0.01
    plain, sure_apart = (threshold_over_groups(apart, groups, 0.01, s) for s in (0.0, sure))
    assert sure_apart > plain
    assert share_at(apart, sure_apart) < share_at(apart, plain)


def test_it_is_the_same_each_time() -> None:
    rng = np.random.default_rng(2)
    found, groups = rng.random(500), np.array([str(i % 7) for i in range(500)])
    assert threshold_over_groups(found, groups, 0.05, 0.9) == threshold_over_groups(found, groups, 0.05, 0.9)


def test_no_content_and_no_way_of_degrading_a_picture_is_above_its_rate() -> None:
    rng = np.random.default_rng(3)
    counts = {"clean": 4000, "half-jpeg-80": 400, "grey": 400, "bars": 60}
    conditions = np.repeat(list(counts), list(counts.values()))
    found, sides = 0.8 * rng.random(len(conditions)), np.array([str(i % 40) for i in range(len(conditions))])
    contents = np.where(np.arange(len(conditions)) < 200, "face", "photo")
    found[:10] = np.linspace(0.85, 0.89, 10)  # 5 % of the faces
    found[np.flatnonzero(conditions == "grey")[:20]] = np.linspace(0.95, 0.99, 20)  # 5 %
    found[np.flatnonzero(conditions == "bars")[:20]] = 0.999  # too few reals to count

    def threshold(mode: str, recipe: Recipe) -> float:
        return ai_threshold(found, conditions, contents, sides, mode, recipe)

    standard, fast = threshold("standard", Recipe()), threshold("fast", Recipe())
    assert (found[conditions == "grey"] >= standard).sum() == 8
    assert (found[conditions == "clean"] >= standard).mean() <= Recipe().false_positive_rate
    assert (found[:200] >= fast).sum() == 4, "there only the contents count apart"
    assert threshold("standard", Recipe(rougher_rate=0.06)) == fast
    assert threshold("fast", Recipe(content_rate=0.06)) < fast
    assert threshold("standard", Recipe(enough=60)) > 0.999
