"""``aidetect explain``: one image's score in words, how stable it is, and where its evidence is."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from ..places import one_source

if TYPE_CHECKING:
    from aidetect.detector.explain.influence import Influence
    from aidetect.detector.record import Record

_WORDS = {"ai": "Likely AI-generated", "uncertain": "Unclear", "real": "No trace of a generator found"}
_WIDTH = 80
_TIE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class _Findings:
    """Everything that goes into the text and the JSON."""

    detector: Any
    record: Record
    content: str | None
    influence: Influence | None
    heat_map: Path | None
    clip: Record | None = None  # of the whole clip, where the frame that stands for it is explained
    at: float | None = None  # when the frame is shown, in seconds


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
        except KeyboardInterrupt:
            say("aidetect: interrupted")
            raise SystemExit(int(ExitCode.INTERRUPTED)) from None
    utf8_output()
    if options["format_"] == "json":
        click.echo(json.dumps(_as_dict(findings, started), indent=2, ensure_ascii=False))
        return
    for line in _lines(findings):
        click.echo(line)


def _check_output(path: Path) -> None:
    """Check before the long work that the heat map can be written."""
    if path.suffix.lower() != ".png":
        raise CommandError(f"the heat map is a PNG file, but {path} does not end in .png")
    if not path.parent.is_dir():
        raise CommandError(f"cannot write {path}: no such folder")


def _check_content(detector: Any, content: str | None) -> None:
    known = sorted(_by_content(detector))
    if content is not None and content not in known:
        have = f"choose one of: {', '.join(known)}" if known else "it has none by content"
        raise CommandError(f"no error rates for {content!r} in {detector.model.card.name}; {have}")


def _explain(detector: Any, image: str, options: Mapping[str, Any]) -> _Findings:
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
    return _Findings(detector, record, options["content"], found, output, clip, at)


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

    details = f"{_size(record)}, pixels {str(record.pixels_sha256)[:16]}, model {detector.model.card.name}"
    scored = sum(view.kind == "native" for view in record.views)
    picture = png(heat_map(rgb, influence, _heading(record), visible(details), scored))
    try:
        with atomic_file(output) as stream:
            cast(TextIOWrapper, stream).buffer.write(picture)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}") from None


def _as_dict(findings: _Findings, started: datetime) -> dict[str, Any]:
    from aidetect.detector.audit.report import header
    from aidetect.detector.record import printable

    detector, record, content = findings.detector, findings.record, findings.content
    head = header(detector, started, shlex.join(["aidetect", *sys.argv[1:]]))
    del head["schema"]  # the schema of a scan's report
    return head | {
        "summary": _heading(record),
        "record": record.to_dict(),
        "at": findings.at,
        "clip": None if findings.clip is None else findings.clip.to_dict(),
        "share_of_whole": _share(detector, record),
        "content": None if content is None else {"name": content, **_by_content(detector)[content]},
        "heat_map": None if findings.heat_map is None else printable(str(findings.heat_map)),
        "influence": None if findings.influence is None else findings.influence.to_dict(),
    }


def _lines(findings: _Findings) -> Iterator[str]:
    detector, record = findings.detector, findings.record
    limits = detector.thresholds
    moment = "" if findings.at is None else f", frame at {_duration(findings.at)}"
    yield f"{visible(record.input)}  ({_size(record)}{moment})"
    yield ""
    if findings.clip is not None:
        yield from _of_clip(findings.clip)
    yield _heading(record)
    yield from _wrapped(
        "This assumes that half of all images are AI-generated. If fewer are, the probability is lower. "
        f"Verdict: {record.verdict} (ai from {_percent(limits.ai)}, real below {_percent(limits.real)})."
    )
    if record.generators is not None:
        yield from _wrapped(_generators(detector, record))
    yield ""
    yield from _views(detector, record)
    yield ""
    yield from _stability(record)
    yield ""
    yield from _error_rates(findings)
    yield ""
    for warning in record.warnings:
        slug, _, text = warning.partition(": ")
        yield from _wrapped(f"Warning ({slug}): {text}")
    yield from _wrapped(
        "A probability is not proof: neither that the image is AI-generated, nor that it is authentic.", ""
    )
    if findings.influence is not None:
        yield ""
        yield from _heat_map(findings)


def _of_clip(record: Record) -> Iterator[str]:
    """The score of a whole clip, and of each of its frames."""
    clip = cast("dict[str, Any]", record.clip)
    yield f"The clip: {_percent(cast(float, record.probability))}, {record.verdict}"
    for one in clip["frames"]:
        scores = f"{one['logit']:+6.2f}  {_percent(one['probability']):>6}  {one['verdict']}"
        yield f"  {_duration(one['time']):>8}  {scores}"
    yield from _wrapped(f"{clip['note']} What follows is about one frame.")
    yield ""


def _duration(seconds: float) -> str:
    from ..formats.writers import duration

    return duration(seconds)


def _heading(record: Record) -> str:
    number = _percent(cast(float, record.probability))
    more = "" if record.verdict == "ai" else " likely to be AI-generated"
    return f"{_WORDS[str(record.verdict)]}: {number}{more}"


def _size(record: Record) -> str:
    frame = f", frame {record.frame} of {record.frames}" if (record.frames or 1) > 1 else ""
    return f"{record.width}x{record.height} {record.format}{frame}"


def _generators(detector: Any, record: Record) -> str:
    found = [f"{visible(name)}{_TIE}{_percent(value)}" for name, value in (record.generators or {}).items()]
    right = detector.model.card.data.get("attribution", {}).get("top_1", {}).get("value")
    note = "" if right is None else f", right for {right:.0%} of AI images"
    names = ", ".join(found) or "none stands out"
    return f"Generator, if any (only a hint{note}): {names}."


def _share(detector: Any, record: Record) -> float:
    """The weight of the whole views in the score, 0 to 1."""
    kinds = {view.kind for view in record.views}
    return float(detector.calibration.share) if len(kinds) == 2 else float("whole" in kinds)


def _views(detector: Any, record: Record) -> Iterator[str]:
    share = _share(detector, record)
    wholes = sum(view.kind == "whole" for view in record.views)
    whole = "whole" if wholes == 1 else "mean of wholes"
    parts = {"whole": f"{whole} {share:.0%}", "native": f"mean of crops {1 - share:.0%}"}
    present = dict.fromkeys(view.kind for view in record.views)
    yield "Views scored                 logit (above zero points to AI)"
    boxes = ["{},{} - {},{}".format(*view.box) for view in record.views]
    width = max(19, *map(len, boxes))
    cells = [
        f"{v.kind:<6}  {box:<{width}} {v.logit:+6.2f}" for v, box in zip(record.views, boxes, strict=True)
    ]
    if len(cells) <= 4:
        yield from (f"  {cell}" for cell in cells)
    else:  # two per line, to fit on one screen
        for mine in (cells[:wholes], cells[wholes:]):
            yield from (f"  {'  '.join(mine[at : at + 2])}" for at in range(0, len(mine), 2))
    yield f"  {'score':<{width + 8}} {record.logit:+6.2f}   ({', '.join(parts[kind] for kind in present)})"


def _stability(record: Record) -> Iterator[str]:
    stability = cast("dict[str, Any]", record.stability)
    yield "Scored again after          logit      AI  verdict"
    yield _copy("(as given)", record.logit, record.probability, record.verdict)
    for copy in stability["copies"]:
        yield _copy(copy["name"], copy["logit"], copy["probability"], copy["verdict"])
    count = len(stability["copies"])
    same = sum(copy["verdict"] == record.verdict for copy in stability["copies"])
    outcome = "" if record.verdict == "uncertain" else ": it is not stable, treat it as uncertain"
    if stability["kept"] and outcome:
        outcome = ": it is stable"
    yield f"  {same} of {count} copies get the same verdict{outcome}."


def _copy(name: str, logit: Any, probability: Any, verdict: Any) -> str:
    return f"  {name:<24} {logit:+6.2f}  {_percent(probability):>6}  {verdict}"


def _error_rates(findings: _Findings) -> Iterator[str]:
    detector = findings.detector
    rates = detector.model.card.error_rates(detector.mode)
    yield f"How often {visible(detector.model.card.name)} is wrong (--views {detector.mode}; 95% intervals)"
    if not rates:
        yield "  The model card states no error rates."
        return
    if "measured_on" in rates:
        yield from _wrapped(f"measured on {visible(str(rates['measured_on']))}")
    yield from _rate("real images called ai", rates.get("false_positive_rate"))
    yield from _rate("AI images called ai", rates.get("recall"))
    by_content = _by_content(detector)
    if findings.content is not None:
        of = by_content[findings.content]
        yield from _rate(f"real {findings.content} called ai", of.get("fpr"))
        yield from _rate(f"AI {findings.content} called ai", of.get("recall"))
    elif by_content:
        parts = (
            f"{visible(name)}{_TIE}{_short(of.get('fpr'))}/{_short(of.get('recall'))}"
            for name, of in by_content.items()
        )
        yield from _wrapped(f"by content (choose it with --content), real/AI called ai: {', '.join(parts)}")


def _by_content(detector: Any) -> dict[str, Any]:
    return dict(detector.model.card.error_rates(detector.mode).get("by_content", {}))


def _rate(name: str, rate: Mapping[str, Any] | None) -> Iterator[str]:
    if rate is None:
        yield f"  {visible(name):<28} not measured"
        return
    low, high = 100 * rate["low"], 100 * rate["high"]
    yield f"  {visible(name):<28} {rate['value']:>6.1%}  ({low:.1f}-{high:.1f}%, n={rate['n']})"


def _short(rate: Mapping[str, Any] | None) -> str:
    return "-" if rate is None else f"{rate['value']:.1%}"


def _heat_map(findings: _Findings) -> Iterator[str]:
    found = cast("Influence", findings.influence)
    tiles = [tile.logit for tile in found.tiles]
    yield f"Heat map: {visible(str(findings.heat_map))}"
    if len(tiles) == 1:
        yield f"  1 native crop, logit {tiles[0]:+.2f}"
    else:
        yield from _wrapped(
            f"{len(tiles)} native crops, logits {min(tiles):+.2f} to {max(tiles):+.2f}, "
            f"{sum(tile > 0 for tile in tiles)} of them above zero"
        )
    if not found.patches:
        yield "  No map of the whole view: this model's score cannot be split over patches."
        return
    for each in found.patches:
        patches, token, bias = each.parts
        yield from _wrapped(
            f"whole view {each.logit:+.2f} = patches {patches:+.2f} (mapped), "
            f"class token {token:+.2f}, bias {bias:+.2f} (neither can be mapped)"
        )


def _percent(probability: float) -> str:
    from ..formats.writers import percent  # here, because it imports torch, and help must be fast

    return percent(probability)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    lines = textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return [line.replace(_TIE, " ") for line in lines]
