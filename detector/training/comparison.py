"""Comparison of another tool's scores with ours on the same pictures."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AidetectError
from .metrics import Rate, expected_calibration_error, number, rate, roc_auc, threshold_at_fpr
from .scoring import Scored

if TYPE_CHECKING:
    from ..models.thresholds import Thresholds


@dataclass(frozen=True)
class Comparison:
    """One tool's measures on the pictures that both tools scored.

    Attributes:
        tool: its name.
        n_ai, n_real: numbers of common pictures.
        auc, ece: as for `Condition`.
        threshold: probability at or above which the tool says AI; 0.5 for other tools.
        recall, fpr: at that threshold.
        tpr_at_1, tpr_at_5: recall at false positive rates of 1 % and 5 % on the common pictures.
    """

    tool: str
    n_ai: int
    n_real: int
    auc: float
    ece: float
    threshold: float
    recall: Rate
    fpr: Rate
    tpr_at_1: Rate
    tpr_at_5: Rate

    def to_dict(self) -> dict[str, Any]:
        """The measures as JSON data."""
        return {
            "pictures": {"ai": self.n_ai, "real": self.n_real},
            "auc": number(self.auc),
            "ece": number(self.ece),
            "threshold": self.threshold,
            "recall": self.recall.to_dict(),
            "fpr": self.fpr.to_dict(),
            "tpr_at_1_fpr": self.tpr_at_1.to_dict(),
            "tpr_at_5_fpr": self.tpr_at_5.to_dict(),
        }


def compare(
    scored: Iterable[Scored], other: Mapping[str, float], tool: str, thresholds: Thresholds
) -> tuple[Comparison, Comparison]:
    """Measure another tool's scores and ours on the pictures that both scored, in the condition ``clean``.

    Args:
        scored: ours.
        other: the other tool's scores by file, 0..1 (see `read_scores`).
        tool: the other tool's name.
        thresholds: ours.

    Returns:
        The other tool's measures and ours.

    Raises:
        AidetectError: there is no common picture, or none was scored in the condition ``clean``.
    """
    clean = [picture for picture in scored if picture.condition == "clean"]
    if not clean:
        raise AidetectError(f"scores of {tool} are compared on clean pictures: add the condition clean")
    theirs = match_scores([picture.name for picture in clean], other)
    common = [picture for picture in clean if picture.name in theirs]
    if not common:
        raise AidetectError(f"the scores of {tool} match none of the pictures")
    labels = [picture.label for picture in common]
    other_scores = [theirs[picture.name] for picture in common]
    our_logits = [picture.logit for picture in common]
    our_probabilities = [picture.probability for picture in common]
    return (
        _measures(tool, labels, other_scores, other_scores, 0.5),
        _measures("aidetect", labels, our_logits, our_probabilities, thresholds.ai),
    )


def _measures(
    tool: str, labels: Sequence[int], ranks: Sequence[float], probabilities: Sequence[float], threshold: float
) -> Comparison:
    truth, values = np.asarray(labels) == 1, np.asarray(ranks)
    called = np.asarray(probabilities) >= threshold
    n_ai, n_real = int(truth.sum()), int((~truth).sum())

    def reach(share: float) -> Rate:
        limit = threshold_at_fpr(labels, ranks, share)
        return rate(0, 0) if math.isnan(limit) else rate(int((values[truth] >= limit).sum()), n_ai)

    return Comparison(
        tool=tool,
        n_ai=n_ai,
        n_real=n_real,
        auc=roc_auc(labels, ranks),
        ece=expected_calibration_error(labels, probabilities),
        threshold=threshold,
        recall=rate(int(called[truth].sum()), n_ai),
        fpr=rate(int(called[~truth].sum()), n_real),
        tpr_at_1=reach(0.01),
        tpr_at_5=reach(0.05),
    )


def read_scores(path: Path) -> dict[str, float]:
    """Read another tool's scores: a CSV with ``file`` (or ``name``) and ``score``.

    Args:
        path: the CSV. A row without a score is left out: the tool could not read that picture.

    Returns:
        Scores, 0..1 and higher for AI, by file as given.

    Raises:
        AidetectError: the file cannot be read, lacks a column or holds no scores; or a score is not a number
            in 0..1, or differs from an earlier one for the same file.
    """
    scores: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            columns = rows.fieldnames or []
            column = next((c for c in ("file", "name") if c in columns), None)
            if column is None or "score" not in columns:
                raise AidetectError(f"{path} needs the columns file (or name) and score")
            for row in rows:
                file, text = row[column], row["score"]
                if not file or not text:
                    continue
                score = _score(text)
                if score is None:
                    raise AidetectError(f"{path}, line {rows.line_num}: {text!r} is not a number in 0..1")
                if scores.setdefault(file, score) != score:
                    raise AidetectError(f"{path}, line {rows.line_num}: a different score for {file}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AidetectError(f"cannot read the scores {path}: {error}") from None
    if not scores:
        raise AidetectError(f"{path} holds no scores")
    return scores


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def match_scores(names: Sequence[str], scores: Mapping[str, float]) -> dict[str, float]:
    """Find pictures' scores by path, else by base name if that is unique on both sides.

    Args:
        names: pictures' paths.
        scores: another tool's scores by path or name.

    Returns:
        Scores by picture's path, without those that have no score.
    """
    exact = {os.path.normpath(file): score for file, score in scores.items()}
    base = Counter(os.path.basename(file) for file in exact)  # noqa: PTH119 - may not be paths of this system
    by_base = {os.path.basename(file): score for file, score in exact.items()}  # noqa: PTH119
    ours = Counter(os.path.basename(name) for name in names)  # noqa: PTH119
    found = {}
    for name in names:
        short = os.path.basename(name)  # noqa: PTH119
        if (path := os.path.normpath(name)) in exact:
            found[name] = exact[path]
        elif base[short] == 1 and ours[short] == 1:
            found[name] = by_base[short]
    return found
