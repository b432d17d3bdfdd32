"""``aidetect prove``: show that only the pixels affect a score."""

from __future__ import annotations

import json
import sys
import tempfile
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
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--video-frames",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    metavar="N",
    help="Compare at most this many frames of a clip.",
)
@model_options
@table_or_json
@ends_quietly
def prove(
    files: tuple[str, ...],
    video_frames: int,
    format_: str,
    model: str | None,
    device: str,
    mode: str,
    **options: Any,
) -> None:
    """Show that only the pixels affect a score.

    Each image is decoded and saved losslessly in other containers, with and without hostile
    metadata: EXIF with a false orientation, a colour-swapping ICC profile, XMP, C2PA-like boxes, text and
    trailing bytes. A copy of the original file gets such metadata too. Every copy is scored on its own. All
    must have the same pixel hash and exactly the same logit. Only the first frame of an animation is used.

    The streams of a clip are written to new files of its container, without metadata and with hostile
    metadata. Copies of the original file get another name, a false rotation, false XMP and C2PA-like boxes,
    and trailing bytes. All must have the same frames, and exactly the same logits.

    \b
    Exit codes:
      0    all copies are equal
      1    a copy differs
      2    usage error
      3    a file could not be read
      5    model missing or damaged

    \b
    Examples:
      aidetect prove photo.jpg
      aidetect prove *.png --format json
      aidetect prove clip.mp4 --video-frames 4
    """
    from aidetect.detector.clips.sampling import Sampling

    sampling = Sampling(frames=video_frames)
    detector = load_detector(model, device, mode, frames=1, sampling=sampling, **options)
    worst = ExitCode.OK
    results = []
    for name in files:
        try:
            copies = _prove(detector, name)
        except InputError as error:
            say(f"aidetect: {name}: {error}")
            worst = worst or ExitCode.UNREADABLE
            continue
        equal = all(copy.equal for copy in copies)
        worst = worst if equal else ExitCode.FINDINGS
        results.append({"input": visible(name), "equal": equal, "copies": list(map(_as_json, copies))})
        if format_ == "table":
            _show(name, copies, equal)
    if format_ == "json":
        click.echo(json.dumps(results, indent=2, ensure_ascii=False))
    raise SystemExit(int(worst))


def _prove(detector: Any, name: str) -> list[Any]:
    notes: list[str] = []
    copies: list[Any] = []
    unreadable: InputError | None = None
    with errors_for_people():
        try:
            copies = _copies(detector, name, notes)
        except InputError as error:  # of this file: the others are still proven
            unreadable = error
        except OSError as error:
            raise CommandError(f"a copy of {name} cannot be written: {error}") from None
        except MemoryError:
            raise CommandError("not enough memory to copy this image") from None
    if unreadable is not None:
        raise unreadable
    for note in notes:
        say(f"aidetect: {name}: {note}")
    return copies


def _copies(detector: Any, name: str, notes: list[str]) -> list[Any]:
    from aidetect.detector.audit.clipproof import prove_clip
    from aidetect.detector.audit.proof import prove as prove_image
    from aidetect.detector.clips.container import HEAD, container, container_of

    if name != "-" and container_of(Path(name)):
        return list(prove_clip(detector, Path(name), notes))
    data = read_stream(sys.stdin.buffer) if name == "-" else read_file(Path(name))
    if container(data[:HEAD]) is None:
        return list(prove_image(detector, data))
    with tempfile.TemporaryDirectory(prefix="aidetect-") as folder:
        path = Path(folder) / "clip"
        path.write_bytes(data)
        return list(prove_clip(detector, path, notes))


def _as_json(copy: Any) -> dict[str, Any]:
    found = dict(vars(copy))
    if copy.frames is None:
        del found["frames"]
    return found


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
    frames = copies[0].frames
    what = "pixel hash and logit"
    if frames is not None:
        what += " of the one frame" if len(frames) == 1 else f" of each of {len(frames)} frames"
    click.echo(f"  {what} are {verdict}")
