"""``aidetect explain``: one image's score in words, how stable it is, and where its evidence is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from aidetect.detector.errors import InputError
from aidetect.detector.inputs import stores
from aidetect.detector.inputs.redact import redacted
from aidetect.detector.inputs.source import Source, read_file, read_stream

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    atomic_file,
    ends_quietly,
    errors_for_people,
    model_options,
    progress_bar,
    say,
    utf8_output,
    visible,
)
from ..files import detector_for, max_pixels_option, raise_error, video_options
from ..formats.explained import Findings, as_dict, by_content, heading, lines, size
from ..places import one_source

if TYPE_CHECKING:
    from aidetect.detector.explain.influence import Influence
    from aidetect.detector.record import Record


@click.command(context_settings=CONTEXT)
@click.argument("image", metavar="FILE|URL|ARCHIVE!/MEMBER|-")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Write a heat map that shows where in the image the evidence is.",
)
@click.option(
    "--content",
    metavar="NAME",
    help="What the image shows (photo, art, face, ...). Prints the error rates for such images. It does not "
    "change the score.",
)
@click.option(
    "--at",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Explain the frame of a clip at this time.  [default: the frame nearest to the clip's score]",
)
@click.option("--no-network", is_flag=True, help="Refuse http(s) URLs.")
@max_pixels_option
@click.option(
    "--frames",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    metavar="N",
    help="Score at most this many frames of an animation. The one with the highest score is explained.",
)
@video_options
@model_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@ends_quietly
def explain(image: str, **options: Any) -> None:
    """Explain the score of one image, or of one frame of a clip.

    Prints what the score means and how often the model is wrong. Scores the image again as JPEG, at half
    size and cropped, to show how stable the verdict is.

    With -o, also draws a heat map. It shows the scores of crops at native resolution all over the image,
    and what each patch adds to the score of the whole image.

    \b
    Exit codes:
      0    explained, whatever the verdict
      2    usage error
      3    the image could not be read
      5    model missing or damaged
      130  interrupted

    \b
    Examples:
      aidetect explain photo.jpg
      aidetect explain photo.jpg -o heat.png
      aidetect explain painting.png --content art
      aidetect explain clip.mp4 --at 12.5
      aidetect explain https://example.com/a.webp --format json
      curl -s https://example.com/b.png | aidetect explain -
    """
    output: Path | None = options["output"]
    if output is not None:
        _check_output(output)
    started = datetime.now(UTC)
    if options["mode"] == "adaptive":
        raise CommandError("explain needs all views; use --views standard instead of adaptive")
    detector = detector_for(options)
    _check_content(detector, options["content"])
    with errors_for_people():
        try:
            findings = _explain(detector, image, options)
        except InputError as error:
            say(f"aidetect: {image}: {error}")
            raise SystemExit(int(ExitCode.UNREADABLE)) from None
        except MemoryError:
            raise CommandError("not enough memory to explain this image") from None
    utf8_output()
    if options["format_"] == "json":
        click.echo(json.dumps(as_dict(findings, started), indent=2, ensure_ascii=False))
        return
    for line in lines(findings):
        click.echo(line)


def _check_output(path: Path) -> None:
    """Check before the long work that the heat map can be written."""
    if path.suffix.lower() != ".png":
        raise CommandError(f"the heat map is a PNG file, but {path} does not end in .png")
    if not path.parent.is_dir():
        raise CommandError(f"cannot write {path}: no such folder")


def _check_content(detector: Any, content: str | None) -> None:
    known = sorted(by_content(detector))
    if content is not None and content not in known:
        have = f"choose one of: {', '.join(known)}" if known else "it has none by content"
        raise CommandError(f"no error rates for {content!r} in {detector.model.card.name}; {have}")


def _explain(detector: Any, image: str, options: Mapping[str, Any]) -> Findings:
    from aidetect.detector.explain import influence

    output: Path | None = options["output"]
    found = None
    data = _read(image, options)
    clip, at = None, options["at"]
    is_clip = _container(data) is not None
    if at is not None and not is_clip:
        raise InputError("not_a_clip", "--at is for clips; this is none")
    with progress_bar(3 if output else 2, False, " steps") as bar:
        if at is None and is_clip:
            clip, at = _scored_clip(detector, data, redacted(image))
        if at is None:
            assert isinstance(data, bytes)
            record, rgb = influence.score_frame(detector, data, redacted(image))
        else:
            record, rgb, at = influence.score_moment(detector, data, redacted(image), at)
        bar.update()
        record.stability = influence.find_stability(detector, rgb, str(record.verdict))
        bar.update()
        if output is not None:
            found = influence.find_influence(detector, rgb)
            _draw(detector, record, rgb, found, output)
            bar.update()
    return Findings(detector, record, options["content"], found, output, clip, at)


def _container(data: bytes | Path) -> str | None:
    from aidetect.detector.clips.container import HEAD, container, container_of

    return container_of(data) if isinstance(data, Path) else container(data[:HEAD])


def _scored_clip(detector: Any, data: bytes | Path, image: str) -> tuple[Record, float]:
    """A clip's record, and the time of the frame that stands for it."""
    source = Source(image, "file") if isinstance(data, Path) else Source(image, "memory", payload=data)
    (record,) = detector.stream([source])
    raise_error(record)
    return record, record.clip["frames"][record.frame]["time"]


def _read(image: str, options: Mapping[str, Any]) -> bytes | Path:
    from aidetect.detector.inputs.fetch import Fetcher, FetchOptions

    if image == "-":
        return read_stream(sys.stdin.buffer)
    fetch = FetchOptions(allowed=not options["no_network"])
    source = one_source(image, fetch)
    if source.kind == "url":
        with Fetcher(fetch) as fetcher:
            return fetcher.fetch(source.location)
    if source.kind == "remote":
        return stores.read(source.location, fetch, source.size)
    if isinstance(source.payload, bytes):
        return source.payload
    path = Path(source.location)
    return path if _container(path) else read_file(path)


def _draw(detector: Any, record: Record, rgb: Any, influence: Influence, output: Path) -> None:
    from aidetect.detector.explain.heatmap import heat_map, png

    details = f"{size(record)}, pixels {str(record.pixels_sha256)[:16]}, model {detector.model.card.name}"
    scored = sum(view.kind == "native" for view in record.views)
    picture = png(heat_map(rgb, influence, heading(record), visible(details), scored))
    try:
        with atomic_file(output) as stream:
            cast(TextIOWrapper, stream).buffer.write(picture)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}") from None
