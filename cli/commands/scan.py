"""``aidetect scan``: score images and report."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from aidetect.detector.inputs.fetch import FetchOptions
from aidetect.detector.inputs.source import read_list

from ..cluster import cluster_options, scan_on_ray
from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    ends_quietly,
    errors_for_people,
    model_options,
    progress_bar,
    result_cache,
    say,
)
from ..files import (
    detector_for,
    file_options,
    finish,
    frames_option,
    video_options,
    walk_options,
)
from ..formats.writers import SORTS, format_option, open_output, output_format
from ..places import Inputs, OutputPath, check_output, place_options, published, selection
from ..tally import Tally, fail_on_option

# Longest side of the thumbnails in an HTML report, in pixels.
_THUMBNAIL = 160


@click.command(context_settings=CONTEXT, epilog="`aidetect scan --print-schema` documents every JSON field.")
@click.argument("names", nargs=-1, metavar="[FILE|FOLDER|ARCHIVE|URL|-]...")
@click.option(
    "--from",
    "lists",
    multiple=True,
    metavar="LIST",
    help="Read inputs from a file, one per line, or from standard input if LIST is - (repeatable).",
)
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="Names in a LIST are separated by NUL characters, as `find -print0` writes them.",
)
@file_options
@place_options
@click.option("--no-network", is_flag=True, help="Refuse http(s) URLs and object stores.")
@click.option(
    "--max-downloads",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    metavar="N",
    help="Number of parallel downloads, and reads from object stores.",
)
@click.option(
    "--max-download-mb",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="MIB",
    help="Refuse larger downloads.",
)
@frames_option
@video_options
@model_options
@click.option(
    "--stability",
    is_flag=True,
    help="Also score five altered copies of each image. The verdict becomes uncertain unless most copies "
    "get the same one and none gets the opposite.",
)
@click.option(
    "--evidence",
    is_flag=True,
    help="Report what metadata and watermarks claim. This never changes the score.",
)
@click.option(
    "--trust-list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="PEM certificates of authorities that C2PA signers are checked against (with --evidence).",
)
@format_option
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    help="Write to this file or address (s3://bucket/report.csv). It appears only when complete.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="input",
    show_default=True,
    help="Order of the results. All orders but `input` wait for the last image.",
)
@click.option(
    "--only",
    type=click.Choice(["ai", "uncertain", "real", "error"]),
    multiple=True,
    help="Write only these results (repeatable). Counts and exit code still cover all images.",
)
@fail_on_option
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Findings accepted with `aidetect baseline create`. They are marked as accepted and do not fail the "
    "run.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with code 0 instead of 1, 3 or 4.")
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append all results to an audit log. Each line holds the hash of the line before.",
)
@cluster_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema of --format json and exit.")
@ends_quietly
def scan(names: tuple[str, ...], **options: Any) -> None:
    """Score images and clips, and report which are likely AI-generated.

    Inputs are files, folders, archives, PDF files, URLs, object stores (s3://bucket/prefix), or - for one
    image on standard input. Of clips (MP4, MOV, WebM, MKV, AVI) frames are scored; this needs the extra
    `video`. Files that cannot be read are reported and do not stop the run. Results go to standard output,
    progress and messages to standard error.

    \b
    Exit codes:
      0    no image is at or above --fail-on
      1    an image is at or above --fail-on
      2    usage error
      3    some inputs could not be read (code 1 takes precedence)
      4    no images found
      5    model missing or damaged
      130  interrupted; the results so far were written

    \b
    Examples:
      aidetect scan ./folder
      aidetect scan clip.mp4 --video-fps 2
      aidetect scan a.jpg https://example.com/b.png --format json
      aidetect scan ./uploads --fail-on ai -o report.csv
      aidetect scan photos.zip scans.pdf s3://bucket/2026/ --since 7d
      find . -name '*.png' -print0 | aidetect scan -0 --from - --format jsonl
      curl -s https://example.com/c.webp | aidetect scan -
    """
    if options["print_schema"]:
        from ..formats.writers import schema_text

        click.echo(schema_text(), nl=False)
        return
    given = _names(names, options["lists"], options["null"])
    fetch = FetchOptions(
        allowed=not options["no_network"],
        at_once=options["max_downloads"],
        max_bytes=options["max_download_mb"] * 2**20,
    )
    if options["engine"] == "ray":
        finish(scan_on_ray(given, fetch, options))
    inputs = Inputs(given, walk_options(options, clips=True), selection(options), fetch)
    with contextlib.closing(inputs.ahead):
        try:
            found = inputs.ahead.any()
        except KeyboardInterrupt:
            say("aidetect: interrupted before the first image was found")
            finish(ExitCode.INTERRUPTED)
        code = _run(inputs, fetch, options) if found else ExitCode.NOTHING
    if code == ExitCode.NOTHING:
        say("aidetect: no images found (see --all-files, --hidden, --include)")
    if inputs.hint and (code == ExitCode.NOTHING or not options["quiet"]):
        say(f"aidetect: {inputs.hint}")
    if code not in (ExitCode.MODEL, ExitCode.INTERRUPTED) and options["exit_zero"]:
        code = ExitCode.OK
    finish(code)


def _names(inputs: Iterable[str], lists: Iterable[str], null: bool) -> list[str]:
    names = list(inputs)
    lists = list(lists)
    if not names and not lists:
        raise CommandError("no input given; try: aidetect scan ./folder (help: aidetect scan -h)")
    if names.count("-") + lists.count("-") > 1:
        raise CommandError("standard input can be read only once")
    for name in lists:
        try:
            if name == "-":
                names += read_list(sys.stdin.buffer, null)
            else:
                with Path(name).open("rb") as stream:
                    names += read_list(stream, null)
        except OSError as error:
            raise CommandError(f"cannot read the list {name}: {error.strerror}") from None
    return names


def _run(inputs: Inputs, fetch: FetchOptions, options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.audit.baseline import read_baseline
    from aidetect.detector.audit.report import header
    from aidetect.detector.pending import Extras
    from aidetect.detector.record import printable

    output: Path | str | None = options["output"]
    check_output(output)
    format_ = output_format(options["format_"], output)
    started = datetime.now(UTC)
    detector = detector_for(options)
    sources = inputs.ahead
    extras = Extras(
        stability=options["stability"],
        evidence=options["evidence"],
        trust_list=_trust_list(options["trust_list"], options["evidence"]),
        thumbnail=_THUMBNAIL if format_ == "html" else 0,
    )
    tally = Tally(options["fail_on"], Counter())
    only = set(options["only"])
    quiet = options["quiet"]
    interrupted = False
    with contextlib.ExitStack() as stack:
        stack.enter_context(errors_for_people())
        accepted = read_baseline(options["baseline"]) if options["baseline"] else {}
        cache = stack.enter_context(result_cache(detector, not options["no_cache"]))
        log = stack.enter_context(_logging(options["log"]))
        path = stack.enter_context(published(output))
        writer = stack.enter_context(open_output(format_, path, options["sort"]))
        head = header(detector, started, shlex.join(["aidetect", *sys.argv[1:]]))
        settings = click.get_current_context().find_root().obj
        head["configuration"] = printable(str(settings.path)) if settings and settings.path else None
        log("start", head)
        writer.begin(head)
        with progress_bar(sources.total, quiet) as bar:
            stream = detector.stream(sources, fetch, sys.stdin.buffer, cache=cache, extras=extras)
            try:
                for record in stream:
                    entry = accepted.get(record.fingerprint)
                    if entry is not None:
                        record.accepted = {"reason": entry.reason, "date": entry.date}
                    tally.add(record)
                    log("record", {"record": record.to_dict()})
                    if record.error:
                        say(f"aidetect: {record.input}: {record.error['message']}")
                    if not only or (record.verdict or "error") in only:
                        writer.add(record)
                    bar.total = sources.total
                    bar.update()
            except KeyboardInterrupt:
                interrupted = True
            finally:
                stream.close()
        writer.end(tally.as_dict(), interrupted)
        code = ExitCode.INTERRUPTED if interrupted else tally.exit_code()
        log("end", {"counts": tally.as_dict(), "exit_code": int(code)})
    if interrupted:
        of = "" if sources.total is None else f" of {sources.total}"
        say(f"aidetect: interrupted; {tally.counts['images']}{of} results were written")
    elif not quiet:
        if tally.counts["clips"]:
            say("aidetect: clips: how often verdicts are wrong was not measured on videos of generators")
        seconds = (datetime.now(UTC) - started).total_seconds()
        card = detector.model.card
        say(tally.summary(seconds, detector.device.name, card.name, card.error_rates(detector.mode)))
    return code


def _trust_list(path: Path | None, evidence: bool) -> str | None:
    if path is None:
        return None
    if not evidence:
        raise CommandError("--trust-list says whom to trust for C2PA manifests; it needs --evidence")
    from aidetect.detector.errors import AidetectError
    from aidetect.detector.evidence.c2pa import checked_trust_list

    try:
        return checked_trust_list(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, AidetectError) as error:
        raise CommandError(f"cannot use the trust list {path}: {error}") from None


@contextlib.contextmanager
def _logging(path: Path | None) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """A function that appends an event of this run to the audit log, or does nothing without a log."""
    if path is None:
        yield lambda event, data: None
        return
    from aidetect.detector.audit.auditlog import AuditLog

    log = AuditLog(path)
    run = {"run": secrets.token_hex(8)}
    try:
        yield lambda event, data: log.append(event, run | data)
    finally:
        log.close()
