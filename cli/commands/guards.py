"""``aidetect guards``: check labelled pictures for shortcuts that a classifier could learn."""

from __future__ import annotations

import json
import math
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
    report_head,
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
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Use at most N pictures of each source, drawn at random with a fixed seed.",
)
@click.option(
    "--drift",
    type=click.IntRange(1),
    metavar="N",
    help="Also score N real pictures, from all sources, each saved in different ways.",
)
@model_options
@table_or_json
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def guards(**options: Any) -> None:
    """Check labelled pictures for shortcuts that a classifier could learn.

    A detector should learn how pictures were made. If AI and real pictures differ in something else, it may
    learn that instead. Each guard is a logistic regression that sees only one property: file size,
    dimensions, JPEG tables, a 16x16 thumbnail, or mean colour. Its AUC is measured on held-out groups:
    repositories if the index names them, else sources or subfolders. Near 0.5 there is nothing to learn.
    Near 1 a detector trained on these pictures may learn just that property. Run this before you trust a
    trained model.

    With --drift, the model scores the same real pictures unchanged, saved as PNG, resized, and saved as
    JPEG at falling quality. PNG must not change the score, and the score should not follow the JPEG quality.
    Each crop in an index is scored as a picture of its own. --model, --device, --views, --batch-size and
    --workers only apply to --drift.

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
            say("aidetect: no picture could be read, so there is nothing to measure")
            return ExitCode.NOTHING
        with progress_bar(None, quiet, " fits") as bar:

            def show(stage: str) -> None:
                bar.set_description(stage)
                bar.update()

            measured = measure(looks, show)
        if detector is not None:
            head = report_head(detector, started)
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
        say(f"{len(found)} pictures, {len(cuts)} files or crops, {len(errors)} failures ({seconds:.1f} s)")
    return ExitCode.UNREADABLE if errors else ExitCode.OK


def _detector(options: dict[str, Any], found: Sequence[Picture]) -> Any:
    """Load the model before the long part begins."""
    if not any(picture[0].label == 0 for picture in found):
        raise CommandError("--drift needs real pictures, but none were given")
    return load_detector(
        options["model"],
        options["device"],
        options["mode"],
        precision=options["precision"],
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
    click.echo("AUC on held-out groups of a classifier that sees only one property (0.5: nothing to learn)")
    rows = [[name, *(_auc(cells[name, view].auc) for view in views)] for name in names]
    for title, count in (("AI pictures", "n_ai"), ("real pictures", "n_real")):
        rows.append([title, *(str(getattr(cells[names[0], view], count)) for view in views)])
    _print(["guard", *views], rows)
    if any(math.isnan(guard.auc) for guard in measured):
        click.echo("- : a class has fewer than two groups, so none can be held out")


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
