"""``aidetect prove``: show that only the pixels affect a score."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from aidetect.detector.errors import InputError
from aidetect.detector.inputs.source import read_file, read_stream

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    ends_quietly,
    errors_for_people,
    load_detector,
    model_options,
    say,
    table_or_json,
    visible,
)


@click.command(context_settings=CONTEXT)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@model_options
@table_or_json
@ends_quietly
def prove(
    images: tuple[str, ...], format_: str, model: str | None, device: str, mode: str, **options: Any
) -> None:
    """Show that only the pixels affect a score.

    Each image is decoded and saved losslessly in other containers, with and without hostile
    metadata: EXIF with a false orientation, a colour-swapping ICC profile, XMP, C2PA-like boxes, text and
    trailing bytes. A copy of the original file gets such metadata too. Every copy is scored on its own. All
    must have the same pixel hash and exactly the same logit. Only the first frame of an animation is used.

    \b
    Exit codes:
      0    all copies are equal
      1    a copy differs
      2    usage error
      3    an image could not be read
      5    model missing or damaged

    \b
    Examples:
      aidetect prove photo.jpg
      aidetect prove *.png --format json
    """
    detector = load_detector(model, device, mode, frames=1, **options)
    worst = ExitCode.OK
    results = []
    for name in images:
        try:
            data = read_stream(sys.stdin.buffer) if name == "-" else read_file(Path(name))
            copies = _prove(detector, data)
        except InputError as error:
            say(f"aidetect: {name}: {error}")
            worst = worst or ExitCode.UNREADABLE
            continue
        equal = all(copy.equal for copy in copies)
        worst = worst if equal else ExitCode.FINDINGS
        results.append({"input": visible(name), "equal": equal, "copies": [vars(copy) for copy in copies]})
        if format_ == "table":
            _show(name, copies, equal)
    if format_ == "json":
        click.echo(json.dumps(results, indent=2, ensure_ascii=False))
    raise SystemExit(int(worst))


def _prove(detector: Any, data: bytes) -> list[Any]:
    from aidetect.detector.audit.proof import prove as run

    with errors_for_people():
        try:
            return list(run(detector, data))
        except InputError:
            raise
        except MemoryError:
            raise CommandError("not enough memory to copy this image") from None


def _show(name: str, copies: list[Any], equal: bool) -> None:
    click.echo(visible(name))
    for copy in copies:
        sign = "=" if copy.equal else "DIFFERS"
        sha = (copy.pixels_sha256 or "undecodable")[:16]
        logit = "-" if copy.logit is None else float(copy.logit).hex()
        value = "" if copy.logit is None else f"{copy.logit:+.6f}"
        click.echo(f"  {sign:<7} pixels {sha}  logit {value} ({logit})  {copy.name}")
    count = len(copies)
    verdict = f"equal in all {count} copies" if equal else "NOT equal in all copies"
    click.echo(f"  pixel hash and logit are {verdict}")
