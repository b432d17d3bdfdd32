"""Plots of an evaluation, as PNG files. They need the extra ``plots`` (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AidetectError
from .evaluation import Condition, Evaluation
from .metrics import Rate, calibration_curve, roc_curve
from .scoring import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinguishable with every kind of colour vision (Okabe and Ito, 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":", (0, (6, 2)), (0, (1, 1)))
_AI, _REAL = _COLOURS[1], _COLOURS[0]
_VERDICTS = ("ai", "uncertain", "real")


def write_plots(evaluation: Evaluation, scored: Sequence[Scored], folder: Path) -> list[Path]:
    """Write ``roc``, ``calibration``, ``histograms``, ``laundering`` and ``confusion`` as PNG.

    If there are many conditions, all plots but ``laundering`` show only ``clean``, ``mix`` and those with the
    lowest AUC.

    Args:
        evaluation: what to plot.
        scored: the pictures of the evaluation.
        folder: where to write. It is created if missing; files of these names are replaced.

    Returns:
        The files written.

    Raises:
        AidetectError: matplotlib is not installed, or the folder cannot be written.
    """
    check_matplotlib()
    drawings = {
        "roc": _roc(evaluation, scored),
        "calibration": _calibration(evaluation, scored),
        "histograms": _histograms(evaluation, scored),
        "laundering": _laundering(evaluation),
        "confusion": _confusion(evaluation),
    }
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawings.items():
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=120, format="png", metadata={"Software": None})
            written.append(path)
    except OSError as error:
        raise AidetectError(f"cannot write plots to {folder}: {error.strerror or error}") from None
    return written


def check_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        AidetectError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise AidetectError("plots need matplotlib: pip install 'aidetect[plots]'") from None


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure without a window (Agg), and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _shown(evaluation: Evaluation, most: int) -> list[Condition]:
    """At most ``most`` conditions: ``clean``, ``mix``, then those with the lowest AUC."""

    def order(condition: Condition) -> tuple[int, float]:
        first = {"clean": 0, "mix": 1}.get(condition.name, 2)
        return first, condition.auc if math.isfinite(condition.auc) else 2.0

    return sorted(evaluation.conditions.values(), key=order)[:most]


def _values(scored: Sequence[Scored], condition: Condition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits and probabilities of one condition, ``[n]`` each."""
    mine = [picture for picture in scored if picture.condition == condition.name]
    return (
        np.array([picture.label for picture in mine]),
        np.array([picture.logit for picture in mine]),
        np.array([picture.probability for picture in mine]),
    )


def _roc(evaluation: Evaluation, scored: Sequence[Scored]) -> Figure:
    figure, (left, right) = _figure(10, 4.8, 1, 2)
    for index, condition in enumerate(_shown(evaluation, 5)):
        fpr, tpr, _ = roc_curve(*_values(scored, condition)[:2])
        style: dict[str, Any] = {"color": _COLOURS[index], "linestyle": _LINES[index], "linewidth": 1.8}
        left.plot(fpr, tpr, label=f"{condition.name}: AUC {condition.auc:.3f}", **style)
        right.plot(fpr, tpr, drawstyle="steps-post", **style)
    for axes in (left, right):
        axes.set_xlabel("false positive rate (real pictures called AI)")
        axes.set_ylabel("true positive rate (AI pictures called AI)")
        axes.set_ylim(0, 1.01)
        axes.grid(alpha=0.3)
    chance = np.linspace(0, 1, 500)
    left.plot(chance, chance, color="0.6", linewidth=1, label="chance")
    left.set_xlim(0, 1)
    left.legend(loc="lower right", fontsize=9)
    right.plot(chance[1:], chance[1:], color="0.6", linewidth=1)
    right.set_xscale("log")
    right.set_xlim(1e-3, 1)
    left.set_title("ROC")
    right.set_title("ROC at low false positive rates")
    return figure


def _calibration(evaluation: Evaluation, scored: Sequence[Scored]) -> Figure:
    figure, (axes,) = _figure(5.6, 5.2)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect")
    for index, condition in enumerate(_shown(evaluation, 3)):
        labels, _, probabilities = _values(scored, condition)
        _, stated, observed, counts = calibration_curve(labels, probabilities)
        axes.plot(stated, observed, color=_COLOURS[index], linestyle=_LINES[index], linewidth=1.2)
        axes.scatter(
            stated,
            observed,
            s=12 + 150 * counts / counts.max(),
            color=_COLOURS[index],
            marker="os^"[index],
            alpha=0.8,
            label=f"{condition.name}: ECE {condition.ece:.3f}",
        )
    axes.set_xlabel("predicted probability of AI (mean of the bin)")
    axes.set_ylabel("observed share of AI")
    axes.set_title("Calibration (15 bins; larger marks mean more pictures)")
    axes.grid(alpha=0.3)
    legend = axes.legend(loc="upper left", fontsize=9)
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([40])  # type: ignore[union-attr]
    return figure


def _histograms(evaluation: Evaluation, scored: Sequence[Scored]) -> Figure:
    shown = _shown(evaluation, 3)
    figure, all_axes = _figure(7.5, 0.6 + 2.6 * len(shown), len(shown), 1)
    bins = [float(edge) for edge in np.linspace(0, 1, 41)]
    for axes, condition in zip(all_axes, shown, strict=True):
        labels, _, probabilities = _values(scored, condition)
        for label, name, colour, hatch in ((0, "real", _REAL, ""), (1, "AI", _AI, "///")):
            mine = probabilities[labels == label]
            axes.hist(
                mine,
                bins=bins,
                weights=np.full(len(mine), 100 / max(1, len(mine))),
                color=colour,
                alpha=0.5,
                hatch=hatch,
                edgecolor=colour,
                label=f"{name} (n={len(mine)})",
            )
        thresholds = evaluation.thresholds
        axes.axvline(thresholds.real, color="0.2", linestyle=":", label=f"real below {thresholds.real:.3g}")
        axes.axvline(thresholds.ai, color="0.2", linestyle="--", label=f"ai from {thresholds.ai:.3g}")
        axes.set_xlim(0, 1)
        axes.set_title(condition.name)
        axes.set_ylabel("% of the class")
        axes.legend(loc="upper center", fontsize=8)
    all_axes[-1].set_xlabel("predicted probability of AI")
    return figure


def _laundering(evaluation: Evaluation) -> Figure:
    conditions = list(evaluation.conditions.values())
    figure, (axes,) = _figure(8, 1.8 + 0.33 * len(conditions))
    rows = np.arange(len(conditions))
    axes.scatter(
        [condition.auc for condition in conditions],
        rows,
        color=_COLOURS[0],
        marker="o",
        label="AUC",
        zorder=3,
    )
    marks: list[tuple[str, str, str, list[Rate]]] = [
        ("TPR at 1 % FPR", _COLOURS[1], "s", [condition.tpr_at_1 for condition in conditions]),
        ("FPR at the ai threshold", _COLOURS[2], "^", [condition.fpr for condition in conditions]),
    ]
    for name, colour, marker, rates in marks:
        values = np.array([r.value for r in rates])
        ends = np.array([[r.value - r.low for r in rates], [r.high - r.value for r in rates]])
        axes.errorbar(
            values,
            rows,
            xerr=np.maximum(ends, 0),
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=2,
            label=f"{name} (95 % interval)",
        )
    axes.set_yticks(rows, [condition.name for condition in conditions])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.set_title("Effect of laundering")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _confusion(evaluation: Evaluation) -> Figure:
    shown = _shown(evaluation, 3)
    figure, all_axes = _figure(4.2 * len(shown), 3.2, 1, len(shown))
    for axes, condition in zip(all_axes, shown, strict=True):
        counts = np.array([[condition.confusion[label][v] for v in _VERDICTS] for label in ("ai", "real")])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "black" if share > 0.55 else "white"
            text = f"{count}\n{share:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
        axes.set_xticks(range(3), _VERDICTS)
        axes.set_yticks(range(2), ["AI", "real"])
        axes.set_xlabel("verdict")
        axes.set_ylabel("truth")
        axes.set_title(condition.name)
    return figure
