"""An explained score, in words or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..common import report_head, visible
from .writers import duration, percent

if TYPE_CHECKING:
    from aidetect.detector.explain.influence import Influence
    from aidetect.detector.record import Record

_WORDS = {"ai": "Likely AI-generated", "uncertain": "Unclear", "real": "No trace of a generator found"}
_WIDTH = 80
_TIE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Findings:
    """Everything that goes into the text and the JSON.

    Attributes:
        detector: what scored the picture.
        record: of the picture, or of the frame of a clip.
        content: what the user says the picture shows.
        influence: where the evidence is, if a heat map was asked for.
        heat_map: its file.
        clip: of the whole clip, where the frame that stands for it is explained.
        at: when the frame is shown, in seconds.
    """

    detector: Any
    record: Record
    content: str | None
    influence: Influence | None
    heat_map: Path | None
    clip: Record | None = None
    at: float | None = None


def as_dict(findings: Findings, started: datetime) -> dict[str, Any]:
    """The findings as JSON data.

    Args:
        started: when the command began.
    """
    from aidetect.detector.record import printable

    detector, record, content = findings.detector, findings.record, findings.content
    return report_head(detector, started) | {
        "summary": heading(record),
        "record": record.to_dict(),
        "at": findings.at,
        "clip": None if findings.clip is None else findings.clip.to_dict(),
        "share_of_whole": _share(detector, record),
        "content": None if content is None else {"name": content, **by_content(detector)[content]},
        "heat_map": None if findings.heat_map is None else printable(str(findings.heat_map)),
        "influence": None if findings.influence is None else findings.influence.to_dict(),
    }


def lines(findings: Findings) -> Iterator[str]:
    """The findings in words."""
    detector, record = findings.detector, findings.record
    limits = detector.thresholds
    moment = "" if findings.at is None else f", frame at {duration(findings.at)}"
    yield f"{visible(record.input)}  ({size(record)}{moment})"
    yield ""
    if findings.clip is not None:
        yield from _of_clip(findings.clip)
    yield heading(record)
    yield from _wrapped(
        "This assumes that half of all images are AI-generated. If fewer are, the probability is lower. "
        f"Verdict: {record.verdict} (ai from {percent(limits.ai)}, real below {percent(limits.real)})."
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
    yield f"The clip: {percent(cast(float, record.probability))}, {record.verdict}"
    for one in clip["frames"]:
        scores = f"{one['logit']:+6.2f}  {percent(one['probability']):>6}  {one['verdict']}"
        yield f"  {duration(one['time']):>8}  {scores}"
    yield from _wrapped(f"{clip['note']} What follows is about one frame.")
    yield ""


def heading(record: Record) -> str:
    """The verdict and the probability."""
    number = percent(cast(float, record.probability))
    more = "" if record.verdict == "ai" else " likely to be AI-generated"
    return f"{_WORDS[str(record.verdict)]}: {number}{more}"


def size(record: Record) -> str:
    """Size and format, and which frame it is."""
    frame = f", frame {record.frame} of {record.frames}" if (record.frames or 1) > 1 else ""
    return f"{record.width}x{record.height} {record.format}{frame}"


def _generators(detector: Any, record: Record) -> str:
    found = [f"{visible(name)}{_TIE}{percent(value)}" for name, value in (record.generators or {}).items()]
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
    return f"  {name:<24} {logit:+6.2f}  {percent(probability):>6}  {verdict}"


def _error_rates(findings: Findings) -> Iterator[str]:
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
    known = by_content(detector)
    if findings.content is not None:
        of = known[findings.content]
        yield from _rate(f"real {findings.content} called ai", of.get("fpr"))
        yield from _rate(f"AI {findings.content} called ai", of.get("recall"))
    elif known:
        parts = (
            f"{visible(name)}{_TIE}{_short(of.get('fpr'))}/{_short(of.get('recall'))}"
            for name, of in known.items()
        )
        yield from _wrapped(f"by content (choose it with --content), real/AI called ai: {', '.join(parts)}")


def by_content(detector: Any) -> dict[str, Any]:
    """What the model's card says of errors, by what pictures show."""
    return dict(detector.model.card.error_rates(detector.mode).get("by_content", {}))


def _rate(name: str, rate: Mapping[str, Any] | None) -> Iterator[str]:
    if rate is None:
        yield f"  {visible(name):<28} not measured"
        return
    low, high = 100 * rate["low"], 100 * rate["high"]
    yield f"  {visible(name):<28} {rate['value']:>6.1%}  ({low:.1f}-{high:.1f}%, n={rate['n']})"


def _short(rate: Mapping[str, Any] | None) -> str:
    return "-" if rate is None else f"{rate['value']:.1%}"


def _heat_map(findings: Findings) -> Iterator[str]:
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


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    lines = textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return [line.replace(_TIE, " ") for line in lines]
