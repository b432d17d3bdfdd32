"""``aidetect verify``: check a report by scoring its images again, or check an audit log."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    device_option,
    ends_quietly,
    errors_for_people,
    load_detector,
    progress_bar,
    say,
    table_or_json,
    visible,
)


@click.command(context_settings=CONTEXT)
@click.argument(
    "report", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[REPORT]"
)
@click.option(
    "--log",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check an audit log instead of a report.",
)
@click.option(
    "--head",
    metavar="SHA256",
    help="With --log: a line hash noted earlier. The log must still contain that line.",
)
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder that the report's relative paths start from.  [default: the current folder]",
)
@click.option(
    "--model",
    default=None,
    metavar="NAME|PATH",
    help="The report's model.  [default: the installed model of that name]",
)
@device_option
@click.option(
    "--precision",
    type=click.Choice(["report", "auto", "float32", "bfloat16"]),
    default="report",
    show_default=True,
    help="Number format of the tower. `report` takes the report's, where this device is fast in it.",
)
@click.option("--no-network", is_flag=True, help="Refuse http(s) URLs.")
@table_or_json
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print only what changed or is missing. No progress bar and no summary.",
)
@ends_quietly
def verify(report: Path | None, log: Path | None, **options: Any) -> None:
    """Check a report by scoring its images again, or check an audit log.

    A report must be JSON (`aidetect scan -o report.json`). Every input is read, hashed and scored again
    with the same model and views, without the result cache. An input is `same` if its pixels are equal and
    its logit differs by no more than the tolerance in the report. The tolerance is larger if the report or
    this run is in bfloat16. Otherwise it is `changed` or `missing`.

    An audit log (`aidetect scan --log FILE`) is intact if each line holds the hash of the line before. The
    hash of the last line is printed. Keep it elsewhere and pass it as --head later: it shows that no line
    up to that one was rewritten.

    \b
    Exit codes:
      0    everything is the same, or the log is intact
      1    something changed, or the log is broken
      2    usage error
      3    an input is missing (code 1 takes precedence)
      4    the report has no records
      5    the report's model is not installed, or differs from the installed one

    \b
    Examples:
      aidetect scan ./folder -o report.json && aidetect verify report.json
      aidetect verify report.json --base /mnt/case-7
      aidetect verify --log audit.jsonl
    """
    if (report is None) == (log is None):
        raise CommandError("give a report, or --log FILE")
    if options["head"] and log is None:
        raise CommandError("--head goes with --log")
    code = _verify_log(log, options) if log is not None else _verify_report(report, options)
    raise SystemExit(int(code))


def _verify_log(path: Path, options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.audit.auditlog import verify_log

    head = options["head"]
    if head is not None and (len(head) != 64 or set(head) - set("0123456789abcdef")):
        raise CommandError("--head must be the SHA-256 of a line, 64 hexadecimal digits in lower case")
    with errors_for_people():
        found = verify_log(path, head)
    if options["format_"] == "json":
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        for problem in found.problems:
            click.echo(f"BROKEN   {problem}")
        for note in found.notes:
            click.echo(f"note     {note}")
        state = "the log is broken" if found.problems else "the log is intact"
        plural = "" if found.runs == 1 else "s"
        click.echo(f"{state}: {found.lines} lines, {found.runs} scan{plural}, {found.finished} finished")
        click.echo(f"hash of the last line: {found.head}")
    return ExitCode.FINDINGS if found.problems else ExitCode.OK


def _verify_report(path: Path | None, options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.audit.recheck import compare, read_report, sources_of
    from aidetect.detector.audit.selftest import TOLERANCE
    from aidetect.detector.inputs.fetch import FetchOptions
    from aidetect.detector.pending import Extras

    assert path is not None
    with errors_for_people():
        report = read_report(path)
    model = report["model"]
    records = report["records"]
    then = str((report.get("device") or {}).get("dtype", "float32"))
    precision = options["precision"]
    if precision == "report":
        precision = "auto" if then == "bfloat16" else "float32"
    detector = load_detector(
        options["model"] or model["name"],
        options["device"],
        model["views"],
        precision=precision,
        **_decoding(report),
    )
    if detector.model.card.sha256 != model["card_sha256"]:
        raise CommandError(
            f"the report was made with another model named {model['name']}: its card has SHA-256 "
            f"{model['card_sha256'][:12]}, this one {detector.model.card.sha256[:12]}; give the right "
            "one with --model",
            ExitCode.MODEL,
        )
    dtype = detector.device.dtype_name
    stated = TOLERANCE | report.get("tolerance", {})
    tolerance = max(float(stated.get(name, 0.0)) for name in (dtype, then))
    extras = Extras(stability=any(record.get("stability") for record in records))
    fetch = FetchOptions(allowed=not options["no_network"])
    results = []
    with errors_for_people(), progress_bar(len(records), options["quiet"]) as bar:
        sources = sources_of(records, options["base"], fetch)
        for before, after in zip(records, detector.stream(sources, fetch, extras=extras), strict=True):
            results.append(compare(before, after, tolerance, detector.reading))
            if options["format_"] == "table" and not (options["quiet"] and results[-1].status == "same"):
                _show(results[-1])
            bar.update()
    counts = Counter(result.status for result in results)
    if options["format_"] == "json":
        data = {"report": visible(str(path)), "tolerance": tolerance, "counts": dict(counts)}
        click.echo(json.dumps({**data, "records": [vars(result) for result in results]}, indent=2))
    if not options["quiet"]:
        said = ", ".join(f"{counts[status]} {status}" for status in ("same", "changed", "missing"))
        where = f"{dtype} on {detector.device.name}"
        say(f"{len(results)} records: {said} (logits within {tolerance:g}, {where})")
    if not results:
        return ExitCode.NOTHING
    if counts["changed"]:
        return ExitCode.FINDINGS
    return ExitCode.UNREADABLE if counts["missing"] else ExitCode.OK


def _decoding(report: dict[str, Any]) -> dict[str, Any]:
    """How the report's inputs were decoded, as options of a detector."""
    from aidetect.detector.clips.sampling import Sampling

    found = dict(report.get("decoding", {}))
    fps, frames = found.pop("video_fps", None), found.pop("video_frames", None)
    return found if fps is None or frames is None else found | {"sampling": Sampling(fps, frames)}


def _show(result: Any) -> None:
    before = "-" if result.before is None else f"{result.before:+.4f}"
    after = "-" if result.after is None else f"{result.after:+.4f}"
    why = f"  ({visible('; '.join(result.why))})" if result.why else ""
    click.echo(f"{result.status:<7}  {before:>9} -> {after:>9}  {visible(result.input)}{why}")
