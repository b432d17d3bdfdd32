"""``aidetect guards``: what a classifier could learn without looking at the making of a picture."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    ends_quietly,
    errors_for_people,
    labelled,
    load_detector,
    model_options,
    picture_options,
    progress_bar,
    say,
    table_or_json,
    utf8_output,
)

if TYPE_CHECKING:
    from aidetect.detector.errors import InputError
    from aidetect.detector.training.dataset import Example
    from aidetect.detector.training.guards import Drift, Guard
    from aidetect.detector.training.scoring import Picture


@click.command(context_settings=CONTEXT)
@picture_options
@click.option("--limit", type=click.IntRange(1), help="At most so many pictures of each source, drawn once.")
@click.option(
    "--drift",
    type=click.IntRange(1),
    metavar="N",
    help="Also score N real pictures, spread over the sources, saved in different ways.",
)
@model_options
@table_or_json
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def guards(**options: Any) -> None:
    """Show what a classifier could learn without looking at the making of a picture.

    Each guard is a logistic regression that sees one thing alone: the file's size, the dimensions, the
    JPEG's tables, a 16x16 thumbnail, or the mean colour. Given is its AUC on groups (repositories, else
    sources or subfolders) that it was not fitted on: near 0.5 there is nothing to learn, near 1 a detector
    trained on these pictures may learn just that. Run it before trusting any training.

    With --drift the model scores the same real pictures as they are, re-saved as PNG (no change is right),
    resized, and as JPEG of falling quality: the score must not march with quality. There, a cut of an index
    is scored as a picture of its own. --model, --device, --views, --batch-size and --workers are for
    --drift alone.

    \b
    Exit codes: 0 measured, 2 usage, 3 measured, but some pictures could not
    be read, 4 no picture could be, 5 model missing or damaged,
    130 interrupted.

    \b
    Examples:
      aidetect guards --index corpus/index.csv
      aidetect guards --ai ./generated --real ./photos --format json
      aidetect guards --index corpus/index.csv --limit 50 --drift 100 --views fast
    """
    if not (options["index"] or (options["ai"] and options["real"])):
        raise CommandError("give --index, or both --ai and --real (help: aidetect guards -h)")
    try:
        code = _run(options)
    except KeyboardInterrupt:
        say("aidetect: interrupted; nothing was written")
        code = ExitCode.INTERRUPTED
    if code != ExitCode.OK:
        raise SystemExit(int(code))


def _run(options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.audit.report import header
    from aidetect.detector.training.guards import look, measure
    from aidetect.detector.training.scoring import choose, pictures
    from aidetect.detector.versions import tool

    started, clock = datetime.now(UTC), time.monotonic()
    quiet: bool = options["quiet"]
    errors: list[dict[str, str]] = []
    head: dict[str, Any] = {"tool": tool()}
    drifts: list[Drift] = []
    with errors_for_people():
        examples = labelled(options)
        found = pictures(examples)
        if options["limit"]:
            found = choose(found, options["limit"])
        detector = _detector(options, found) if options["drift"] else None
        cuts = [example for picture in found for example in picture]
        with progress_bar(len(cuts), quiet) as bar:
            looks = look(cuts, _advance(bar), _note(errors))
        if not looks.examples:
            say("aidetect: nothing to measure: no picture could be read")
            return ExitCode.NOTHING
        with progress_bar(None, quiet, " fits") as bar:

            def show(stage: str) -> None:
                bar.set_description(stage)
                bar.update()

            measured = measure(looks, show)
        if detector is not None:
            head = header(detector, started, shlex.join(["aidetect", *sys.argv[1:]]))
            del head["schema"]  # that of scan's reports
            readable = set(looks.examples)
            drifts = _drift(detector, [p for p in found if readable.issuperset(p)], options, errors)
    report = {
        "kind": "guards",
        **head,
        "asked": {"limit": options["limit"], "drift": options["drift"]},
        "guards": [guard.to_dict() for guard in measured],
        "drift": [row.to_dict() for row in drifts],
        "errors": errors,
    }
    utf8_output()
    if options["format_"] == "json":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print_guards(measured)
        if drifts:
            _print_drift(drifts, head)
    if not quiet:
        seconds = time.monotonic() - clock
        say(f"{len(found)} pictures, {len(cuts)} files or cuts, {len(errors)} failures ({seconds:.1f} s)")
    return ExitCode.UNREADABLE if errors else ExitCode.OK


def _detector(options: dict[str, Any], found: Sequence[Picture]) -> Any:
    """Load the model before the long part begins."""
    if not any(picture[0].label == 0 for picture in found):
        raise CommandError("--drift scores real pictures, and none were given")
    return load_detector(
        options["model"],
        options["device"],
        options["mode"],
        batch_size=options["batch_size"],
        workers=options["workers"],
    )


def _drift(
    detector: Any, found: Sequence[Picture], options: dict[str, Any], errors: list[dict[str, str]]
) -> list[Drift]:
    from aidetect.detector.training.guards import DRIFT, drift, spread

    chosen = spread(found, options["drift"])
    with progress_bar(len(chosen) * len(DRIFT), options["quiet"], " scores") as bar:
        return drift(detector, chosen, _advance(bar), _note(errors))


def _advance(bar: Any) -> Callable[[int], None]:
    return lambda done: bar.update(done - bar.n)


def _note(errors: list[dict[str, str]]) -> Callable[[Example, InputError], None]:
    from aidetect.detector.record import printable

    def note(example: Example, error: InputError) -> None:
        say(f"aidetect: {example.name}: {error}")
        errors.append({"input": printable(example.name), "type": error.kind, "message": str(error)})

    return note


# --- tables ----------------------------------------------------------------------------------------


def _print_guards(measured: Sequence[Guard]) -> None:
    views = list(dict.fromkeys(guard.view for guard in measured))
    names = list(dict.fromkeys(guard.name for guard in measured))
    cells = {(guard.name, guard.view): guard for guard in measured}
    click.echo("AUC on held-out groups of a classifier that sees one thing alone (0.5: nothing to learn)")
    rows = [[name, *(_auc(cells[name, view].auc) for view in views)] for name in names]
    for title, count in (("AI pictures", "n_ai"), ("real pictures", "n_real")):
        rows.append([title, *(str(getattr(cells[names[0], view], count)) for view in views)])
    _print(["guard", *views], rows)
    if any(math.isnan(guard.auc) for guard in measured):
        click.echo("- : one class has fewer than two groups there, so that none can be held out")


def _print_drift(drifts: Sequence[Drift], head: dict[str, Any]) -> None:
    model, device = head["model"], head["device"]
    n = drifts[0].called_ai.n
    click.echo(
        f"\nScores of {n} real picture{'s' * (n != 1)}, each saved in different ways (model {model['name']}, "
        f"card {model['card_sha256'][:12]}, views {model['views']}, {device['name']} {device['dtype']})"
    )
    rows = []
    for row in drifts:
        called = row.called_ai
        share = f"{called.value:.1%} ({100 * called.low:.1f}-{100 * called.high:.1f})"
        rows.append([row.name, f"{row.logit:+.3f}", f"{row.change:+.3f}", f"{row.largest:.3f}", share])
    _print(["saved", "mean logit", "mean change", "largest change", "called ai (95 %)"], rows)


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [columns, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        first, *others = (
            f"{cell:>{width}}" if i else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join([first, *others]))


def _auc(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
