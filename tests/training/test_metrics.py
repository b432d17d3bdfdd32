"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aidetect.detector.training import metrics


def test_auc_counts_pairs_and_ties_one_half() -> None:
    # Pairs (ai, real): .8>.1, .8>.4, .35>.1, .35<.4 -> 3 of 4.
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(0.75)
    assert metrics.roc_auc([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.5)
    # Pairs: (1,1) tie, (1,2) lost, (3,1), (3,2) won -> 2.5 of 4.
    assert metrics.roc_auc([1, 1, 0, 0], [1, 3, 1, 2]) == pytest.approx(0.625)


def test_auc_agrees_with_counting_all_pairs() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(labels, 1), 1)
    ai, real = scores[labels == 1][:, None], scores[labels == 0][None]
    expected = ((ai > real) + 0.5 * (ai == real)).mean()
    assert metrics.roc_auc(labels, scores) == pytest.approx(expected)
    fpr, tpr, _ = metrics.roc_curve(labels, scores)
    area = (np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum()
    assert area == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[], [1, 1], [0]])
def test_a_missing_class_gives_nan(labels: list[int]) -> None:
    scores = [0.5] * len(labels)
    assert math.isnan(metrics.roc_auc(labels, scores))
    assert math.isnan(metrics.tpr_at_fpr(labels, scores, 0.05))
    assert math.isnan(metrics.balanced_accuracy_at(labels, scores, 0.5, 0.5))


def test_roc_curve_has_one_point_a_distinct_score() -> None:
    fpr, tpr, thresholds = metrics.roc_curve([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]
    assert thresholds.tolist() == [math.inf, 0.9, 0.5, 0.1]
    fpr, tpr, thresholds = metrics.roc_curve([], [])
    assert len(fpr) == len(tpr) == len(thresholds) == 1


def test_tpr_takes_its_threshold_from_the_reals_alone() -> None:
    reals = list(range(100))
    labels = [0] * 100 + [1] * 4
    scores = [*reals, 98, 98.5, 99, 100]
    # 1 % of 100 reals: one may pass (99), so AI must lie above 98.
    assert metrics.tpr_at_fpr(labels, scores, 0.01) == 0.75
    # 0.9 % of 100 allow none: AI must lie above 99.
    assert metrics.tpr_at_fpr(labels, scores, 0.009) == 0.25
    assert metrics.tpr_at_fpr(labels, scores, 1) == 1


def test_tied_reals_are_not_let_through() -> None:
    labels, scores = [0] * 20 + [1, 1], [0.0] * 18 + [1.0, 1.0, 1.0, 2.0]
    threshold = metrics.threshold_at_fpr(labels, scores, 0.05)
    assert threshold > 1
    assert metrics.tpr_at_fpr(labels, scores, 0.05) == 0.5


def test_balanced_accuracy_counts_uncertain_as_wrong() -> None:
    labels, probabilities = [1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.5, 0.1, 0.1, 0.5]
    assert metrics.balanced_accuracy_at(labels, probabilities, 0.8, 0.3) == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert metrics.balanced_accuracy_at(labels, probabilities, 0.5, 0.5) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert metrics.balanced_accuracy([1, 0, 0], [1, 0, 1]) == pytest.approx(0.75)


def test_calibration_error() -> None:
    assert metrics.expected_calibration_error([1, 0], [1.0, 0.0]) == 0
    # One bin: stated .75, observed .5.
    assert metrics.expected_calibration_error([1, 0], [0.9, 0.6], bins=1) == pytest.approx(0.25)
    # Bins 0..0.5 and 0.5..1: |.2-0| once, |.7-.5| over two -> .2 everywhere.
    assert metrics.expected_calibration_error([0, 1, 0], [0.2, 0.6, 0.8], bins=2) == pytest.approx(0.2)
    assert math.isnan(metrics.expected_calibration_error([], []))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metrics.expected_calibration_error([1], [1.5])


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 0, 0, 1),
        (0, 10, 0, 0.2775),
        (10, 10, 0.7225, 1),
        (5, 10, 0.2366, 0.7634),
        (1, 100, 0.0018, 0.0545),
    ],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_rate() -> None:
    found = metrics.rate(1, 4)
    assert (found.value, found.n, found.too_few) == (0.25, 4, True)
    assert found.low < 0.25 < found.high
    assert metrics.rate(0, 0).to_dict() == {"value": None, "n": 0, "low": 0.0, "high": 1.0}
    assert not metrics.rate(0, 0).too_few
    assert not metrics.rate(3, 30).too_few
    with pytest.raises(ValueError, match=r"within 0\.\.4, not 5"):
        metrics.rate(5, 4)


@pytest.mark.parametrize(
    ("labels", "scores"), [([0, 1], [0.5]), ([0, 2], [0.5, 0.5]), ([0, 1], [0.5, math.nan])]
)
def test_nonsense_is_refused(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"labels|scores"):
        metrics.roc_auc(labels, scores)


def _grouped(groups: int, each: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, scores and groups; what pictures of one group have in common moves their scores."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(groups) % 2, each)
    scores = np.round(
        labels + np.repeat(rng.normal(size=groups), each) + 0.5 * rng.normal(size=groups * each), 1
    )
    return labels, scores, [f"g{i // each}" for i in range(groups * each)]


def test_group_intervals_are_those_of_pictures_drawn_by_whole_groups() -> None:
    labels, scores, groups = _grouped(30, 8)
    called = scores > 1
    found = metrics.group_intervals(labels, scores, called, groups, draws=50)
    assert found is not None
    assert (found.ai_groups, found.real_groups) == (15, 15)
    names = sorted(set(groups))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(50):
        rows = np.concatenate(
            [np.flatnonzero(np.array(groups) == names[i]) for i in rng.integers(0, len(names), len(names))]
        )
        y, s, c = labels[rows], scores[rows], called[rows]
        reach = [metrics.tpr_at_fpr(y, s, share) for share in (0.01, 0.05)]
        drawn.append([metrics.roc_auc(y, s), *reach, c[y == 1].mean(), c[y == 0].mean()])
    ends = np.percentile(drawn, (2.5, 97.5), axis=0).T
    for interval, expected in zip(
        (found.auc, found.tpr_at_1, found.tpr_at_5, found.recall, found.fpr), ends, strict=True
    ):
        assert interval == pytest.approx(expected)


def test_group_intervals_are_wider_than_those_of_single_pictures() -> None:
    labels, scores, groups = _grouped(40, 10)
    together = metrics.group_intervals(labels, scores, scores > 1, groups)
    alone = metrics.group_intervals(labels, scores, scores > 1, [str(i) for i in range(len(labels))])
    assert together is not None
    assert alone is not None
    assert together.auc[1] - together.auc[0] > 1.5 * (alone.auc[1] - alone.auc[0])
    wilson = metrics.rate(int((scores > 1)[labels == 1].sum()), int(labels.sum()))
    assert alone.recall == pytest.approx((wilson.low, wilson.high), abs=0.02)


def test_few_groups_have_no_intervals() -> None:
    labels, scores, groups = _grouped(19, 4)
    assert metrics.group_intervals(labels, scores, scores > 1, groups) is None
    assert metrics.group_intervals([], [], [], []) is None
