"""Measured accuracy as tables or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from ..common import use_colour, visible

if TYPE_CHECKING:
    from aidetect.detector.training.comparison import Comparison
    from aidetect.detector.training.evaluation import Category, Condition, Evaluation
    from aidetect.detector.training.metrics import Rate
    from aidetect.detector.training.scoring import Scored

_EMPTY = "-"


@dataclass
class Outcome:
    """What was measured, and on what.

    Attributes:
        head: what a JSON report begins with: model, device, what was asked for.
        scored: the scores.
        errors: of pictures that could not be read: ``input``, ``type``, ``message``.
        evaluation: measures of the scores.
        comparisons: of another tool and this one, on the pictures that both scored.
    """

    head: dict[str, Any]
    scored: list[Scored] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    comparisons: list[tuple[Comparison, Comparison]] = field(default_factory=list)


def write_json(outcome: Outcome, stream: IO[str]) -> None:
    """Write all of it as one JSON object."""
    assert outcome.evaluation is not None
    report = {
        **outcome.head,
        "evaluation": outcome.evaluation.to_dict(),
        "comparisons": [
            {"tool": other.tool, "theirs": other.to_dict(), "ours": ours.to_dict()}
            for other, ours in outcome.comparisons
        ],
        "errors": outcome.errors,
    }
    json.dump(report, stream, indent=2, ensure_ascii=False, allow_nan=False)
    stream.write("\n")


def write_tables(outcome: Outcome, stream: IO[str]) -> None:
    """Write tables for people: as wide as the terminal, or as they need where there is none."""
    from rich.console import Console

    from aidetect.detector.training.modelcard import interval_cells

    terminal = stream.isatty()
    # In a file or pipe nothing is cut off, and there are no colour codes.
    console = Console(
        file=stream,
        width=None if terminal else 1000,
        color_system="auto" if use_colour(stream) else None,
        force_terminal=terminal,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
    )
    evaluation = outcome.evaluation
    assert evaluation is not None
    model, device = outcome.head["model"], outcome.head.get("device")
    where = f"{device['name']} {device['dtype']}" if device else outcome.head["measured_on"]
    console.print(
        f"model {model['name']} of {model['date']} (card {model['card_sha256'][:12]}), "
        f"views {model['views']}, {where}\n"
        f"verdict ai from {evaluation.thresholds.ai:.4g}, real below {evaluation.thresholds.real:.4g}; "
        "in brackets: 95 % interval, number of pictures"
    )
    conditions = list(evaluation.conditions.values())
    counts = {(c.recall.n, c.fpr.n) for c in conditions}
    most = max(counts)
    each = "each" if len(counts) == 1 else "unless noted"
    about = f"{most[0]} AI and {most[1]} real pictures {each}"
    for title, columns, cells in _CONDITION_TABLES:
        rows = [[_condition_name(c, most), *cells(c)] for c in conditions]
        _print(console, f"{title} ({about})", ("condition", *columns), rows)
    rows = [
        [c.name, str(found.ai_groups), str(found.real_groups), *interval_cells(found)]
        for c in conditions
        if (found := c.by_group)
    ]
    if rows:
        columns = ("condition", "AI groups", "real groups", "AUC", *_TPR_COLUMNS, "recall", "FPR")
        _print(console, "95 % intervals from a bootstrap over groups", columns, rows)
    marked = False
    for condition in _detailed(conditions):
        marked |= _print_categories(console, condition)
    for other, ours in outcome.comparisons:
        title = f"{other.tool}, on {other.n_ai} AI and {other.n_real} real pictures that both scored"
        columns = ("measure", other.tool, ours.tool)
        _print(console, title, columns, zip(_MEASURES, _measures(other), _measures(ours), strict=True))
    if marked:
        console.print("\n* fewer than 30 pictures: too few for a reliable rate")


def _detailed(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions whose categories are printed. JSON has them for all conditions."""
    chosen = [condition for condition in conditions if condition.name in ("clean", "mix")]
    return chosen or list(conditions[:1])


def _print_categories(console: Any, condition: Condition) -> bool:
    """Print a condition's categories. Return whether any has too few pictures."""
    reals = [*([condition.polished] if condition.polished else []), *condition.sources]
    name = condition.name
    tables: list[tuple[str, Sequence[str], Sequence[Category], Sequence[str]]] = [
        (
            "AI pictures by generator family",
            ("family", "recall", "recall at 5 % FPR"),
            condition.families,
            ("recall", "recall_at_5"),
        ),
        (
            "AI pictures by generator",
            ("generator", "recall", "recall at 5 % FPR"),
            condition.generators,
            ("recall", "recall_at_5"),
        ),
        ("Real pictures by source", ("source", "FPR"), reals, ("fpr",)),
        (
            "By content",
            ("content", "recall", "recall at 5 % FPR", "FPR"),
            condition.content,
            ("recall", "recall_at_5", "fpr"),
        ),
    ]
    for title, columns, categories, rates in tables:
        if categories:
            rows = [[c.name, *(_rate(getattr(c, rate)) for rate in rates)] for c in categories]
            if categories is condition.families and (mean := condition.family_mean)[0] > 1:
                rows.append([f"mean of {mean[0]} without *", *map(_percent, mean[1:])])
            _print(console, f"{title} ({name})", columns, rows)
    return any(c.too_few for _, _, categories, _ in tables for c in categories)


_TPR_COLUMNS = ("TPR at 1 % FPR", "TPR at 5 % FPR")
_CONDITION_TABLES: tuple[tuple[str, Sequence[str], Callable[[Condition], list[str]]], ...] = (
    (
        "At the thresholds",
        ("bal. acc.", "recall", "FPR", "AI called real"),
        lambda c: [_percent(c.balanced_accuracy), *(_short_rate(r) for r in (c.recall, c.fpr, c.missed))],
    ),
    (
        "Ranking and calibration",
        ("AUC", *_TPR_COLUMNS, "ECE"),
        lambda c: [_number(c.auc), _short_rate(c.tpr_at_1), _short_rate(c.tpr_at_5), _number(c.ece)],
    ),
)


def _condition_name(condition: Condition, most: tuple[int, int]) -> str:
    counts = condition.recall.n, condition.fpr.n
    return condition.name if counts == most else f"{condition.name} ({counts[0]} AI, {counts[1]} real)"


_MEASURES = ("AUC", *_TPR_COLUMNS, "ECE", "threshold", "recall at threshold", "FPR at threshold")


def _measures(found: Comparison) -> list[str]:
    return [
        _number(found.auc),
        _short_rate(found.tpr_at_1),
        _short_rate(found.tpr_at_5),
        _number(found.ece),
        _number(found.threshold),
        _short_rate(found.recall),
        _short_rate(found.fpr),
    ]


def _print(console: Any, title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if index else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print()
    console.print(Text(visible(title), style="bold"))
    console.print(table)


def _number(value: float) -> str:
    return _EMPTY if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return _EMPTY if math.isnan(value) else f"{value:.1%}"


def _rate(value: Rate) -> str:
    """Rate, interval and number of pictures."""
    return f"{_short_rate(value)[:-1]}, {value.n})" if value.n else _EMPTY


def _short_rate(value: Rate) -> str:
    """Rate and interval."""
    if not value.n:
        return _EMPTY
    mark = "*" if value.too_few else ""
    return f"{value.value:.1%}{mark} ({100 * value.low:.1f}-{100 * value.high:.1f})"


WRITERS = {"table": write_tables, "json": write_json}
