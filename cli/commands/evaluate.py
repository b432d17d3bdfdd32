"""``aidetect evaluate``: measure the accuracy of a model on labelled pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    report_head,
    say,
    utf8_output,
)
from ..formats.measured import WRITERS, Outcome

if TYPE_CHECKING:
    from aidetect.detector.errors import InputError
    from aidetect.detector.models.thresholds import Thresholds
    from aidetect.detector.training.dataset import Example

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
        outcome = Outcome(
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
    outcome: Outcome, thresholds: Thresholds, others: Sequence[tuple[str, Any]], options: dict[str, Any]
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
) -> Outcome:
    from aidetect.detector.record import printable
    from aidetect.detector.training.scoring import score_examples

    outcome = Outcome({})
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
    head = report_head(detector, started)
    return {"kind": "evaluation", **head, "asked": {"conditions": list(conditions), "limit": limit}}


def _write(outcome: Outcome, format_: str, output: Path | None) -> None:
    if output is not None:
        with atomic_file(output) as stream:
            WRITERS[format_](outcome, stream)
        return
    utf8_output()
    WRITERS[format_](outcome, sys.stdout)
    sys.stdout.flush()
