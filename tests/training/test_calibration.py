"""Thresholds that hold for other repositories."""

from __future__ import annotations

import numpy as np
import pytest

from aidetect.detector.training.calibration import threshold_over_groups


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
