"""``aidetect report``: stored reports in another format, or summed up."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common import CONTEXT, CommandError, ExitCode, ends_quietly, errors_for_people, progress_bar, say
from ..files import finish
from ..formats.sums import KEYS, Sums, sum_format
from ..formats.writers import SORTS, format_option, open_output, output_format
from ..places import OutputPath, check_output, published
from ..tally import Tally, fail_on_option

if TYPE_CHECKING:
    from aidetect.detector.audit.stored import Stored
    from aidetect.detector.record import Record


@click.command(context_settings=CONTEXT)
@click.argument(
    "reports",
    nargs=-1,
    required=True,
    metavar="REPORT|FOLDER...",
)
@format_option
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    metavar="PATH",
    help="Write to this file. It appears only when complete.",
)
@click.option(
    "--by",
    type=click.Choice(KEYS),
    default=None,
    help="Sum up instead: images and verdicts per folder, verdict, most likely generator, or day of the "
    "scan. As a table, CSV or JSON.",
)
@click.option(
    "--only",
    type=click.Choice(["ai", "uncertain", "real", "error"]),
    multiple=True,
    help="Take only these results (repeatable). Totals still cover all images.",
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=None,
    metavar="P",
    help="Take only results with at least this probability. Totals still cover all images.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="input",
    show_default=True,
    help="Order of the results. All orders but `input` keep all results in memory.",
)
@fail_on_option
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def report(reports: tuple[str, ...], **options: Any) -> None:
    """Write stored reports in another format, or sum them up. No image is read or scored again.

    A report is what `aidetect scan` wrote as JSON, JSON Lines or Parquet, or a folder of Parquet files, such
    as one that `scan --engine ray` writes. Several reports become one. They must be of the same model,
    except for a sum.

    \b
    Exit codes:
      0    done
      1    an image is at or above --fail-on
      2    usage error, or a report is damaged
      4    the reports hold no images

    \b
    Examples:
      aidetect report scan.jsonl -o page.html
      aidetect report parts/ --only ai --min-probability 0.99 -o found.csv
      aidetect report monday.parquet tuesday.parquet --by day
    """
    if options["by"]:
        sum_format(options["format_"], options["output"])  # refuse a wrong one before reading
    with errors_for_people():
        code = _run(reports, options)
    finish(code)


def _run(names: tuple[str, ...], options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.audit.stored import open_report

    stored = [open_report(name) for name in names]
    if not options["by"]:
        _same_model(names, stored)
    tally = Tally(options["fail_on"], Counter())
    output: Path | str | None = options["output"]
    check_output(output)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress_bar(None, options["quiet"]))
        records = _selected(stored, options, tally, bar)
        path = stack.enter_context(published(output))
        if options["by"]:
            sums = Sums(options["by"])
            for started, record in records:
                sums.add(record, started)
            sums.write(sum_format(options["format_"], output), path)
        else:
            format_ = output_format(options["format_"], output)
            writer = stack.enter_context(open_output(format_, path, options["sort"]))
            writer.begin(stored[0].head)
            for _, record in records:
                writer.add(record)
            writer.end(tally.as_dict(), any(one.interrupted for one in stored))
    if tally.counts["images"] == 0:
        say("aidetect: the reports hold no images")
        return ExitCode.NOTHING
    return ExitCode.FINDINGS if tally.findings else ExitCode.OK


def _same_model(names: tuple[str, ...], stored: list[Stored]) -> None:
    def model(one: Stored) -> tuple[str, str]:
        return one.head["model"]["card_sha256"], one.head["model"]["views"]

    for name, one in zip(names, stored, strict=True):
        if model(one) != model(stored[0]):
            raise CommandError(
                f"{name} and {names[0]} are of different models or views, and a report states one; write "
                "them apart, or sum them up with --by"
            )


def _selected(
    stored: list[Stored], options: dict[str, Any], tally: Tally, bar: Any
) -> Iterator[tuple[str, Record]]:
    """Records that the options select, each with the start of its run. All are counted."""
    only, least = set(options["only"]), options["min_probability"]
    for one in stored:
        for record in one.records:
            tally.add(record)
            bar.update()
            if only and (record.verdict or "error") not in only:
                continue
            if least is not None and (record.probability is None or record.probability < least):
                continue
            yield one.head["started"], record
