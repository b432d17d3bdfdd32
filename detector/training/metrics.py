"""Metrics of a detector: ranking, threshold and calibration measures, with intervals.

Labels are 1 for AI-generated and 0 for real. Higher scores mean AI. A measure is ``nan`` if it needs a class
that is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Rates over fewer pictures than this are marked.
TOO_FEW = 30
# With fewer groups of a class than this, intervals over groups mean nothing.
FEWEST_GROUPS = 10

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Rate:
    """A share of ``n`` cases with its 95 % Wilson interval.

    Attributes:
        value: 0..1; ``nan`` when ``n`` is 0.
        n: number of cases.
        low, high: ends of the interval, 0..1.
    """

    value: float
    n: int
    low: float
    high: float

    @property
    def too_few(self) -> bool:
        """Whether there are some cases, but fewer than `TOO_FEW`."""
        return 0 < self.n < TOO_FEW

    def to_dict(self) -> dict[str, Any]:
        """The rate as JSON data; its value is ``None`` if ``n`` is 0."""
        return {"value": number(self.value), "n": self.n, "low": self.low, "high": self.high}


def rate(successes: int, n: int) -> Rate:
    """A share with its 95 % Wilson interval.

    Args:
        successes: 0..n.
        n: number of cases; 0 gives ``nan`` and the interval 0..1.

    Raises:
        ValueError: ``successes`` is not within 0..n.
    """
    low, high = wilson_interval(successes, n)
    return Rate(successes / n if n else math.nan, n, low, high)


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, 1927).

    Args:
        successes: 0..n.
        n: number of independent cases; 0 gives the interval 0..1.
        z: normal quantile; 1.96 for 95 %.

    Returns:
        Lower and upper end, each 0..1.

    Raises:
        ValueError: ``successes`` is not within 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be within 0..{n}, not {successes}")
    if n == 0:
        return 0.0, 1.0
    share, square = successes / n, z * z / n
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def roc_auc(labels: Values, scores: Values) -> float:
    """Area under the ROC curve: probability that a random AI picture outscores a random real one.

    Ties count one half. It is computed from mid-ranks (Mann and Whitney, 1947; Hanley and McNeil, 1982).

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any finite numbers.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    positive, values = _checked(labels, scores)
    count = int(positive.sum())
    others = len(values) - count
    if not count or not others:
        return math.nan
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks = (ends - (sizes - 1) / 2)[inverse]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def roc_curve(labels: Values, scores: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the ROC curve, one per distinct score, from the highest threshold to the lowest.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any finite numbers.

    Returns:
        False positive rates, true positive rates and thresholds (AI at or above), each ``[points]``.
        The first point is (0, 0) at ``inf``. Rates of a missing class are ``nan``.

    Raises:
        ValueError: as for `roc_auc`.
    """
    positive, values = _checked(labels, scores)
    order = np.argsort(-values, kind="stable")
    values, positive = values[order], positive[order]
    last = np.flatnonzero(np.diff(values, append=-np.inf))
    found, false = np.cumsum(positive)[last], np.cumsum(~positive)[last]
    tpr = np.append(0.0, found) / (int(positive.sum()) or math.nan)
    fpr = np.append(0.0, false) / (int((~positive).sum()) or math.nan)
    return fpr, tpr, np.append(np.inf, values[last])


def threshold_at_fpr(labels: Values, scores: Values, fpr: float) -> float:
    """The lowest threshold with a false positive rate of at most ``fpr``.

    Only the real pictures decide it. It is conservative: if reals tie, the rate is lower.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any finite numbers.
        fpr: allowed share of reals at or above the threshold, 0..1.

    Returns:
        The threshold; ``-inf`` if all reals may lie above it, ``nan`` without reals.

    Raises:
        ValueError: as for `roc_auc`, or ``fpr`` is not within 0..1.
    """
    if not 0 <= fpr <= 1:
        raise ValueError(f"the false positive rate must be within 0..1, not {fpr}")
    positive, values = _checked(labels, scores)
    reals = np.sort(values[~positive])[::-1]
    if not len(reals):
        return math.nan
    allowed = math.floor(fpr * len(reals) + 1e-9)
    if allowed >= len(reals):
        return -math.inf
    return float(np.nextafter(reals[allowed], np.inf))


def tpr_at_fpr(labels: Values, scores: Values, fpr: float) -> float:
    """Share of AI pictures at or above `threshold_at_fpr`.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any finite numbers.
        fpr: allowed share of false positives, 0..1.

    Returns:
        0..1, or ``nan`` without AI pictures or without reals.

    Raises:
        ValueError: as for `threshold_at_fpr`.
    """
    threshold = threshold_at_fpr(labels, scores, fpr)
    positive, values = _checked(labels, scores)
    if math.isnan(threshold) or not positive.any():
        return math.nan
    return float((values[positive] >= threshold).mean())


Interval = tuple[float, float]


@dataclass(frozen=True)
class GroupIntervals:
    """95 % intervals of measures over groups of pictures, each end 0..1.

    Attributes:
        ai_groups, real_groups: numbers of groups with AI pictures and with real ones.
        auc, tpr_at_1, tpr_at_5: of the ranking measures.
        recall, fpr: of the shares of AI and of real pictures that are called AI.
    """

    ai_groups: int
    real_groups: int
    auc: Interval
    tpr_at_1: Interval
    tpr_at_5: Interval
    recall: Interval
    fpr: Interval

    def to_dict(self) -> dict[str, Any]:
        """The intervals as JSON data."""
        measures = {
            "auc": self.auc,
            "recall": self.recall,
            "fpr": self.fpr,
            "tpr_at_1_fpr": self.tpr_at_1,
            "tpr_at_5_fpr": self.tpr_at_5,
        }
        ends = {name: {"low": low, "high": high} for name, (low, high) in measures.items()}
        return {"groups": {"ai": self.ai_groups, "real": self.real_groups}, **ends}


def group_intervals(
    labels: Values, scores: Values, called: Values, groups: Sequence[str], *, draws: int = 400
) -> GroupIntervals | None:
    """Intervals of measures for a sample of other groups of pictures.

    Pictures of one group have much in common, so intervals that assume independent pictures are too narrow.
    This is the cluster bootstrap (Davison and Hinkley, 1997, section 3.8): whole groups are drawn with
    replacement, as many as there are, and everything is measured again. The ends are the 2.5th and 97.5th
    percentiles. The seed is fixed.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any finite numbers.
        called: ``[n]``, whether a picture is called AI.
        groups: ``[n]``, names of the pictures' groups.
        draws: number of draws.

    Returns:
        The intervals; ``None`` with fewer than `FEWEST_GROUPS` groups of a class.

    Raises:
        ValueError: as for `roc_auc`.
    """
    positive, values = _checked(labels, scores)
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = [len(np.unique(member[some])) for some in (positive, ~positive)]
    if min(counts) < FEWEST_GROUPS:
        return None
    flagged = np.asarray(called, dtype=float)
    levels, level = np.unique(-values, return_inverse=True)  # the highest score first
    rng = np.random.default_rng(0)
    found = np.empty((draws, 5))
    for row in found:
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        ai, real = times[member] * positive, times[member] * ~positive
        passed, false = (np.bincount(level, weights=w, minlength=len(levels)) for w in (ai, real))
        over, above = np.append(0, np.cumsum(passed)), np.append(0, np.cumsum(false))
        if not over[-1] or not above[-1]:
            row[:] = math.nan
            continue
        area = (false * (over[:-1] + over[1:]) / 2).sum() / (over[-1] * above[-1])
        reach = [over[above <= math.floor(share * above[-1] + 1e-9)][-1] / over[-1] for share in (0.01, 0.05)]
        row[:] = (area, *reach, (ai * flagged).sum() / over[-1], (real * flagged).sum() / above[-1])
    ends = np.nanpercentile(found, (2.5, 97.5), axis=0).T
    return GroupIntervals(counts[0], counts[1], *((float(low), float(high)) for low, high in ends))


def balanced_accuracy(labels: Values, decisions: Values) -> float:
    """Mean of the accuracy on AI pictures and the accuracy on reals.

    Args:
        labels: ``[n]``, 0 or 1.
        decisions: ``[n]``, 0 or 1; any other value means undecided and counts as wrong.

    Raises:
        ValueError: as for `roc_auc`.
    """
    positive, values = _checked(labels, decisions)
    if not positive.any() or positive.all():
        return math.nan
    return float(((values[positive] == 1).mean() + (values[~positive] == 0).mean()) / 2)


def balanced_accuracy_at(labels: Values, probabilities: Values, ai: float, real: float) -> float:
    """Balanced accuracy of a verdict with three values, where "uncertain" counts as wrong.

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, 0..1.
        ai: an AI picture counts as right at or above it.
        real: a real picture counts as right below it.

    Raises:
        ValueError: as for `roc_auc`.
    """
    _, values = _checked(labels, probabilities)
    return balanced_accuracy(labels, np.where(values >= ai, 1.0, np.where(values < real, 0.0, 0.5)))


def expected_calibration_error(labels: Values, probabilities: Values, bins: int = 15) -> float:
    """Mean absolute difference of mean probability and observed share of AI, over bins of equal width.

    Bins are weighted by their number of pictures (Naeini et al., 2015; Guo et al., 2017; here for the
    positive class).

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, 0..1; exactly 1 belongs to the last bin.
        bins: number of bins, at least 1.

    Raises:
        ValueError: as for `roc_auc`, or a probability is not within 0..1.
    """
    _, stated, observed, counts = calibration_curve(labels, probabilities, bins)
    if not counts.sum():
        return math.nan
    return float((counts * np.abs(stated - observed)).sum() / counts.sum())


def calibration_curve(
    labels: Values, probabilities: Values, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The points of a calibration plot, for the bins that hold pictures.

    Args:
        labels: ``[n]``, 0 or 1.
        probabilities: ``[n]``, 0..1.
        bins: number of bins of equal width, at least 1.

    Returns:
        Lower edges, mean probabilities, observed shares of AI and counts, each ``[filled bins]``.

    Raises:
        ValueError: as for `expected_calibration_error`.
    """
    positive, values = _checked(labels, probabilities)
    if bins < 1 or (len(values) and (values.min() < 0 or values.max() > 1)):
        raise ValueError("probabilities must be within 0..1, and there must be at least one bin")
    index = np.minimum((values * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = np.flatnonzero(counts)
    counts = counts[filled]
    stated = np.bincount(index, weights=values, minlength=bins)[filled] / counts
    observed = np.bincount(index, weights=positive.astype(float), minlength=bins)[filled] / counts
    return filled / bins, stated, observed, counts


def number(value: float) -> float | None:
    """A number as JSON data; ``None`` if it is not finite."""
    return value if math.isfinite(value) else None


def _checked(labels: Values, scores: Values) -> tuple[np.ndarray, np.ndarray]:
    """Labels as booleans and scores as ``float64``, both ``[n]``."""
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must be lists of the same length")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    return truth == 1, values
