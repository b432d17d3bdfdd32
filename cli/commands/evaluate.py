"""``aidetect evaluate``: measure the accuracy of a model on labelled pictures."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from aidetect.detector.images.degrade import WAYS
from aidetect.detector.images.launder import SWEEP

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    atomic_file,
    ends_quietly,
    errors_for_people,
    labelled,
    load_detector,
    model_options,
    picture_options,
    progress_bar,
    say,
    use_colour,
    utf8_output,
    visible,
)

if TYPE_CHECKING:
    from aidetect.detector.errors import InputError
    from aidetect.detector.models.thresholds import Thresholds
    from aidetect.detector.training.comparison import Comparison
    from aidetect.detector.training.dataset import Example
    from aidetect.detector.training.evaluation import Category, Condition, Evaluation
    from aidetect.detector.training.metrics import Rate
    from aidetect.detector.training.scoring import Scored

_CONDITIONS = [*SWEEP, *WAYS, "mix", "rework"]


def _named_files(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, Path]]:
    """``NAME=FILE.csv`` as name and path."""
    found = []
    for value in values:
        name, separator, file = value.partition("=")
        if not (name and separator and file):
            raise click.BadParameter(f"{value!r} is not NAME=FILE.csv", ctx, param)
        found.append((name, Path(file)))
    return found


@dataclass
class _Outcome:
    """The results of a run."""

    head: dict[str, Any]
    scored: list[Scored] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    comparisons: list[tuple[Comparison, Comparison]] = field(default_factory=list)


@click.command(context_settings=CONTEXT)
@picture_options
@click.option("--sweep", is_flag=True, help="Measure under all conditions, including mix and rework.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    type=click.Choice(_CONDITIONS),
    metavar="NAME",
    help=f"What is done to pictures before scoring (repeatable). One of {', '.join(_CONDITIONS)}. mix is "
    "random laundering, rework random editing.  "
    "[default: clean, mix]",
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Measure on the scores that training pictures got while held out. The model contains them, so no "
    "pictures are needed.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Use at most N pictures of each source, drawn at random with a fixed seed.",
)
@model_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default=None,
    help="Output format.  [default: from the suffix of -o, else table]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file. It appears only when complete.",
)
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write plots to this folder as PNG: ROC, calibration, histograms, laundering, confusion.",
)
@click.option(
    "--scores",
    multiple=True,
    callback=_named_files,
    metavar="NAME=FILE.csv",
    help="Compare with another tool's scores (repeatable). The CSV has the columns file (or name) and score, "
    "0 to 1.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def evaluate(**options: Any) -> None:
    """Measure the accuracy of a model on labelled pictures.

    Pictures are measured clean and laundered. Laundered pictures were scaled, cropped, blurred, made noisy
    or re-encoded, as pictures on the web often are.

    Subfolders of --ai count as generators, subfolders of --real as sources. Every rate comes with its
    number of pictures and its 95 % interval. Overall rates also get an interval from a bootstrap over whole
    groups (subfolders, or repositories in an index) if each class has at least ten. The verdict `uncertain`
    counts as wrong in the balanced accuracy. Crops of one original in an index (view tile or whole) count
    as one picture.

    \b
    Exit codes:
      0    measured
      2    usage error
      3    measured, but some pictures could not be read
      4    no picture could be read
      5    model missing or damaged
      130  interrupted; nothing was written

    \b
    Examples:
      aidetect evaluate --ai ./generated --real ./photos
      aidetect evaluate --index index.csv --sweep -o report.json --plots plots
      aidetect evaluate --ai g --real r --condition clean --scores other=other.csv
      aidetect evaluate --index index.csv --limit 50 --views fast
      aidetect evaluate --held-out
    """
    if options["held_out"]:
        for name in ("ai", "real", "index", "sweep", "conditions", "limit"):
            if options[name]:
                raise CommandError(
                    "--held-out takes no pictures, no conditions and no --limit: leave them out"
                )
        conditions = []
    elif not (options["ai"] or options["real"] or options["index"]):
        raise CommandError("no pictures given: use --ai and --real, or --index (help: aidetect evaluate -h)")
    else:
        conditions = _conditions(options)
    output: Path | None = options["output"]
    if output is not None and not output.absolute().parent.is_dir():
        raise CommandError(f"cannot write {output}: no such folder")
    try:
        code = _held_out(options) if options["held_out"] else _run(conditions, options)
    except KeyboardInterrupt:
        say("aidetect: interrupted; nothing was written")
        code = ExitCode.INTERRUPTED
    if code != ExitCode.OK:
        raise SystemExit(int(code))


def _conditions(options: dict[str, Any]) -> list[str]:
    """The requested conditions, each once."""
    asked = _CONDITIONS if options["sweep"] else list(options["conditions"]) or ["clean", "mix"]
    if options["scores"] and "clean" not in asked:
        raise CommandError("--scores compares clean pictures: add --condition clean")
    return list(dict.fromkeys(asked))


def _held_out(options: dict[str, Any]) -> ExitCode:
    """Measure on the held-out scores that a model contains."""
    from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card
    from aidetect.detector.training.comparison import read_scores
    from aidetect.detector.training.heldout import read_held_out
    from aidetect.detector.training.plots import check_matplotlib

    with errors_for_people():
        if options["plots"]:
            check_matplotlib()
        others = [(name, read_scores(path)) for name, path in options["scores"]]
        card = read_model_card(options["model"] or DEFAULT_MODEL)
        outcome = _Outcome(
            {
                "kind": "evaluation",
                "model": {
                    "name": card.name,
                    "date": card.data.get("date"),
                    "card_sha256": card.sha256,
                    "views": options["mode"],
                },
                "measured_on": "held-out training pictures, by probes that had not seen their repository",
            },
            read_held_out(card, options["mode"]),
        )
        _finish(outcome, card.thresholds(options["mode"]), others, options)
    return ExitCode.OK


def _finish(
    outcome: _Outcome, thresholds: Thresholds, others: Sequence[tuple[str, Any]], options: dict[str, Any]
) -> None:
    """Measure the scored pictures, compare with other tools, and write the result."""
    from aidetect.detector.training.comparison import compare
    from aidetect.detector.training.evaluation import evaluate as measure
    from aidetect.detector.training.plots import write_plots

    output: Path | None = options["output"]
    outcome.evaluation = measure(outcome.scored, thresholds)
    outcome.comparisons = [compare(outcome.scored, scores, name, thresholds) for name, scores in others]
    format_ = options["format_"] or ("json" if output and output.suffix.lower() == ".json" else "table")
    _write(outcome, format_, output)
    if options["plots"]:
        write_plots(outcome.evaluation, outcome.scored, options["plots"])


def _run(conditions: Sequence[str], options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.training.comparison import read_scores
    from aidetect.detector.training.plots import check_matplotlib
    from aidetect.detector.training.scoring import choose, pictures

    started, clock = datetime.now(UTC), time.monotonic()
    with errors_for_people():
        # Errors in the request are found here, before the long part begins.
        if options["plots"]:
            check_matplotlib()
        others = [(name, read_scores(path)) for name, path in options["scores"]]
        examples = labelled(options)
        found = pictures(examples)
        if options["limit"]:
            found = choose(found, options["limit"])
        labels = {picture[0].label for picture in found}
        if len(labels) == 1 and not options["quiet"]:
            given = "AI" if labels == {1} else "real"
            say(f"aidetect: only {given} pictures were given, so there is no AUC and no balanced accuracy")
        detector = load_detector(
            options["model"],
            options["device"],
            options["mode"],
            precision=options["precision"],
            batch_size=options["batch_size"],
            workers=options["workers"],
        )
        outcome = _score(detector, [e for picture in found for e in picture], conditions, len(found), options)
        outcome.head = _head(detector, started, conditions, options["limit"])
        if not outcome.scored:
            say("aidetect: no picture could be read, so there is nothing to measure")
            return ExitCode.NOTHING
        _finish(outcome, detector.thresholds, others, options)
    if not options["quiet"]:
        seconds = time.monotonic() - clock
        say(
            f"{len(found)} pictures in {len(conditions)} conditions, {len(outcome.errors)} failures "
            f"({seconds:.1f} s on {detector.device.name}, model {detector.model.card.name})"
        )
    return ExitCode.UNREADABLE if outcome.errors else ExitCode.OK


def _score(
    detector: Any, examples: list[Example], conditions: Sequence[str], count: int, options: dict[str, Any]
) -> _Outcome:
    from aidetect.detector.record import printable
    from aidetect.detector.training.scoring import score_examples

    outcome = _Outcome({})
    with progress_bar(count * len(conditions), options["quiet"], unit=" scores") as bar:

        def on_error(example: Example, error: InputError) -> None:
            say(f"aidetect: {example.name}: {error}")
            failure = {"input": printable(example.name), "type": error.kind, "message": str(error)}
            outcome.errors.append(failure)

        def on_progress(done: int) -> None:
            bar.update(done - bar.n)

        for scored in score_examples(detector, examples, conditions, on_progress, on_error):
            outcome.scored.append(scored)
    return outcome


def _head(detector: Any, started: datetime, conditions: Sequence[str], limit: int | None) -> dict[str, Any]:
    from aidetect.detector.audit.report import header

    head = header(detector, started, shlex.join(["aidetect", *sys.argv[1:]]))
    del head["schema"]  # the schema of scan's reports
    return {"kind": "evaluation", **head, "asked": {"conditions": list(conditions), "limit": limit}}


def _write(outcome: _Outcome, format_: str, output: Path | None) -> None:
    if output is not None:
        with atomic_file(output) as stream:
            _WRITERS[format_](outcome, stream)
        return
    utf8_output()
    _WRITERS[format_](outcome, sys.stdout)
    sys.stdout.flush()


def _write_json(outcome: _Outcome, stream: IO[str]) -> None:
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


# --- tables ----------------------------------------------------------------------------------------

_EMPTY = "-"


def _write_tables(outcome: _Outcome, stream: IO[str]) -> None:
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


_WRITERS = {"table": _write_tables, "json": _write_json}
