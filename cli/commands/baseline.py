"""``aidetect baseline``: accept findings so that they no longer fail a scan."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from aidetect.detector.audit.baseline import Accepted, baseline_text, read_baseline
from aidetect.detector.inputs.ahead import Ahead
from aidetect.detector.inputs.fetch import LIMITS
from aidetect.detector.inputs.filters import WalkOptions
from aidetect.detector.inputs.selection import Selection

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    atomic_file,
    ends_quietly,
    errors_for_people,
    model_options,
    progress_bar,
    result_cache,
    say,
    table_or_json,
    visible,
)
from ..files import detector_for
from ..formats.writers import percent
from ..places import Inputs

DEFAULT = "aidetect-baseline.json"


@click.group(context_settings=CONTEXT)
def baseline() -> None:
    """Accept findings so that they no longer fail a scan.

    A baseline lists accepted images by the hash of their pixels, each with a reason and a date.
    `aidetect scan --baseline FILE` marks them as accepted and does not fail because of them. If a single
    pixel of an image changes, it is a new finding.

    \b
    Examples:
      aidetect baseline create ./assets --reason 'approved by the art team'
      aidetect scan ./assets --fail-on ai --baseline aidetect-baseline.json
      aidetect baseline show
    """


@baseline.command()
@click.argument("inputs", nargs=-1, metavar="[FILE|FOLDER]...")
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take findings from a JSON report of `aidetect scan` (repeatable).",
)
@click.option("--reason", required=True, help="Why the images are accepted. Stored with each of them.")
@click.option(
    "--accept",
    type=click.Choice(["ai", "uncertain", "any"]),
    default="ai",
    show_default=True,
    help="Which images to accept: verdict ai, also uncertain, or any.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="Baseline file to write.",
)
@click.option("--update", is_flag=True, help="Add to an existing baseline. Its entries do not change.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@model_options
@ends_quietly
def create(
    inputs: tuple[str, ...], reports: tuple[Path, ...], output: Path, update: bool, **options: Any
) -> None:
    """Create a baseline from images, which are scanned, or from reports.

    \b
    Exit codes:
      0    written
      2    usage error
      3    written, but some images could not be read
      4    no images found
      5    model missing or damaged

    \b
    Examples:
      aidetect baseline create ./assets --reason 'approved by the art team'
      aidetect baseline create --report report.json --reason 'reviewed'
      aidetect baseline create new.png --update --reason 'commissioned'
    """
    if not inputs and not reports:
        raise CommandError("give images to scan, or --report FILE")
    reason = options["reason"].strip()
    if not reason:
        raise CommandError("--reason is empty; say why the images are accepted")
    if output.exists() and not update:
        raise CommandError(f"{output} exists already; add to it with --update, or remove it first")
    wanted = {"ai": {"ai"}, "uncertain": {"ai", "uncertain"}, "any": {"ai", "uncertain", "real"}}
    with errors_for_people():
        entries = read_baseline(output) if update and output.exists() else {}
        before = len(entries)
        unreadable = 0
        today = datetime.now(UTC).date().isoformat()
        records = [record for path in reports for record in _reported(path)]
        for record in [*records, *_scanned(inputs, options)]:
            if record["status"] != "ok":
                unreadable += 1
            elif record["verdict"] in wanted[options["accept"]]:
                new = _entry(record, reason, today)
                entries.setdefault(new.pixels_sha256, new)
    with atomic_file(output) as stream:
        stream.write(baseline_text(entries))
    if not options["quiet"]:
        count = len(entries) - before
        say(f"{output}: {count} image{'' if count == 1 else 's'} accepted, {len(entries)} in total")
    if unreadable:
        say(
            f"aidetect: {unreadable} image{'' if unreadable == 1 else 's'} could not be read and "
            "are not in the baseline"
        )
        raise SystemExit(int(ExitCode.UNREADABLE))


@baseline.command()
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=DEFAULT, metavar="[FILE]"
)
@table_or_json
@ends_quietly
def show(file: Path, format_: str) -> None:
    """List the accepted images in a baseline."""
    with errors_for_people():
        entries = read_baseline(file)
    if format_ == "json":
        click.echo(json.dumps([dataclasses.asdict(e) for e in entries.values()], indent=2))
        return
    for entry in entries.values():
        probability = "-" if entry.probability is None else percent(entry.probability)
        click.echo(
            f"{entry.date}  {probability:>6}  {entry.pixels_sha256[:12]}  "
            f"{visible(entry.input)}  ({visible(entry.reason)})"
        )


def _entry(record: dict[str, Any], reason: str, today: str) -> Accepted:
    from aidetect.detector.record import fingerprint

    pixels = record["pixels"]
    return Accepted(
        str(fingerprint(pixels["sha256"], pixels.get("alpha_sha256"), record.get("clip"))),
        reason,
        today,
        record["input"],
        record["verdict"],
        record["type"]["ai_generated"],
    )


def _reported(path: Path) -> list[dict[str, Any]]:
    from aidetect.detector.audit.recheck import read_report

    records: list[dict[str, Any]] = read_report(path)["records"]
    return records


def _scanned(inputs: tuple[str, ...], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not inputs:
        return
    with contextlib.closing(Inputs(inputs, WalkOptions(), Selection(), LIMITS).ahead) as sources:
        yield from _records(sources, options)


def _records(sources: Ahead, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not sources.any():
        raise CommandError("no images found", ExitCode.NOTHING)
    detector = detector_for(options)
    with progress_bar(sources.total, options["quiet"]) as bar, result_cache(detector) as cache:
        for record in detector.stream(sources, cache=cache):
            bar.total = sources.total
            if record.error:
                say(f"aidetect: {record.input}: {record.error['message']}")
            yield record.to_dict()
            bar.update()
