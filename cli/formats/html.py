"""The report as one self-contained HTML page. It needs no network, no server and no JavaScript.

Each card is rendered when its record comes, and kept until the end, many in a temporary file, because the
totals at the top of the page are known last. A report of many images is split into pages with links
between them, because no browser likes a page of a gigabyte. All outside text goes through `_plain` and is
escaped by the template engine. The page allows only its own style and script, by their hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePath
from typing import IO, Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from aidetect.detector.record import Record, raw_name

from ..common import visible
from .writers import duration, percent

VERDICTS = {"ai": "AI", "uncertain": "Uncertain", "real": "Real", "error": "Unreadable"}
# Keys of the model card's error rates, and their names on the page.
_RATES = {
    "false_positive_rate": "Real images called ai",
    "polished_false_positive_rate": "of these, professional photos and digital paintings",
    "recall": "AI images called ai",
    "missed_as_real": "AI images called real",
}
# One in a hundred, as stated on the page.
_RARE = 0.01
# Cards beyond so many bytes are kept in a file.
_IN_MEMORY = 2**24
_CHUNK = 2**20  # characters
# More images than so many are on further pages.
PAGE_IMAGES = 5000


class Writer:
    """One self-contained page: totals and limits, then one card per image.

    Args:
        stream: where the page is written, or the first of several.
        colour: not used.
        name: the file name of the page, from which the further pages get theirs.
        beside: opens a further file by its name; without it there is one page, however long.
    """

    def __init__(
        self, stream: IO[str], colour: bool, name: str = "", beside: Callable[[str], IO[str]] | None = None
    ) -> None:
        self._stream = stream
        self._name = PurePath(name)
        self._beside = beside
        self._cards = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115
        self._pages = [_Page(1)]
        self._header: dict[str, Any] = {}
        self._card = templates().get_template("card.html")

    def begin(self, header: dict[str, Any]) -> None:
        """Take the report's header."""
        self._header = header

    def add(self, record: Record) -> None:
        """Render one record's card."""
        page = self._pages[-1]
        if self._beside is not None and page.shown["images"] == PAGE_IMAGES:
            page = _Page(page.first + PAGE_IMAGES)
            self._pages.append(page)
        verdict = record.verdict or "error"
        number = page.first + page.shown["images"]
        page.shown.update(["images", verdict])
        page.shown["warned"] += bool(record.warnings)
        page.shown["accepted"] += record.accepted is not None
        page.length += self._cards.write(self._card.render(card_context(record, number)))

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Write the pages: the top with the totals, the cards, the footer."""
        head = self._header
        names = [self._name_of(i) for i in range(len(self._pages))]
        context = {
            **head,
            "counts": {"error" if key == "errors" else key: value for key, value in counts.items()},
            "interrupted": interrupted,
            "verdicts": VERDICTS,
            **trust_context(head["model"]["error_rates"]),
            "style": Markup(part("page.css")),
            "script": Markup(part("page.js")),
            "policy": _policy(),
            "links": [f"./{quote(os.fsencode(name))}" for name in names],
        }
        self._cards.seek(0)
        for at, page in enumerate(self._pages):
            stream = self._stream if at == 0 or self._beside is None else self._beside(names[at])
            self._write(stream, page, context | {"at": at, "first": page.first, "shown": page.shown})
            if at:
                stream.close()
        self._cards.close()
        self._stream.flush()

    def _name_of(self, page: int) -> str:
        """The file name of a page, counted from 0."""
        name = self._name
        return f"{name.stem}.page-{page + 1}{name.suffix}" if page else name.name

    def _write(self, stream: IO[str], page: _Page, context: dict[str, Any]) -> None:
        stream.write(templates().get_template("head.html").render(context))
        left = page.length
        while left:
            left -= stream.write(self._cards.read(min(left, _CHUNK)))
        stream.write(templates().get_template("tail.html").render(context))


@dataclass
class _Page:
    """One page: the number of its first image, how many characters its cards have, what they show."""

    first: int
    length: int = 0
    shown: Counter[str] = field(default_factory=Counter)


def card_context(record: Record, number: int) -> dict[str, Any]:
    """What the template ``card.html`` wants: a record, and its number on the page."""
    verdict = record.verdict or "error"
    return {
        "r": record,
        "number": number,
        "verdict": verdict,
        "label": VERDICTS[verdict],
        "name": _name(record.input),
        "raw_name": _raw_name(record.input),
        "limits": record.thresholds,
        "thumbnail": _base64(record.thumbnail) if record.thumbnail else None,
        "strip": [_base64(each) for each in record.strip],
        "curve": _curve(record.clip) if record.clip else None,
    }


def _base64(jpeg: bytes) -> Markup:
    return Markup(base64.b64encode(jpeg).decode("ascii"))


def _curve(clip: dict[str, Any]) -> dict[str, Any]:
    """The curve of a clip's probabilities: its lines in a square of 100 by 100, and each frame's place.

    A line ends where frames were left out because they look like earlier ones.
    """
    times = [max(0.0, frame["time"]) for frame in clip["frames"]]
    length = max(clip["seconds"], *times, 0.001)
    places = [
        (at / length, 1 - frame["probability"]) for at, frame in zip(times, clip["frames"], strict=True)
    ]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    lines: list[list[str]] = [[]]
    for gap, (x, y) in zip([0.0, *gaps], places, strict=True):
        if gaps and gap > 1.6 * min(gaps):
            lines.append([])
        lines[-1].append(f"{100 * x:.2f},{100 * y:.2f}")
    return {"lines": [" ".join(line) for line in lines], "places": places}


def trust_context(error_rates: dict[str, Any]) -> dict[str, Any]:
    """What the macro ``trust`` wants besides the model: its rates by name, and what they mean for rare AI."""
    return {"rates": _rates(error_rates), "wrong": _wrong_when_rare(error_rates)}


@functools.cache
def part(name: str, package: str = __package__) -> str:
    """The text of a file in a package's folder ``page``."""
    return files(package).joinpath(f"page/{name}").read_text(encoding="utf-8")


def _template(name: str, package: str) -> str | None:
    """A template without the line ends between its tags, which the browser would keep as nodes."""
    try:
        text = part(name, package)
    except FileNotFoundError:
        return None
    return re.sub(r">\n(?=<|{%)", ">", text)


def _plain(value: Any) -> Any:
    """Text with invisible characters, and those that change the text direction, shown as escapes."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def templates(*packages: str) -> Environment:
    """The report's templates, and those in the folder ``page`` of other packages."""
    places = (*packages, __package__)
    environment = Environment(
        loader=ChoiceLoader([FunctionLoader(functools.partial(_template, package=p)) for p in places]),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "rate": lambda value: f"{value:.1%}",
        "place": lambda value: f"{100 * value:.2f}%",
        "number": lambda value: f"{value:,}",
        "logit": lambda value: f"{value:+.4f}",
        "size": _size,
        "words": _words,
    }
    environment.filters["duration"] = duration
    return environment


def _policy() -> str:
    """A content security policy: no network, and no style or script except the page's own."""
    style, script = (
        base64.b64encode(hashlib.sha256(part(name).encode()).digest()).decode()
        for name in ("page.css", "page.js")
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _raw_name(name: str) -> str | None:
    try:
        return raw_name(name)
    except UnicodeEncodeError:  # surrogates that do not stand for a byte: not a file name
        return None


def _words(value: Any) -> str:
    """A value from evidence as text: a string, a number, a list, or values by name."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return str(value)


def _name(name: str) -> tuple[str, str]:
    """The folder of a name, with its separator, and the rest."""
    cut = max(name.rstrip("/").rfind("/"), name.rfind(os.sep) if os.sep != "/" else -1) + 1
    return name[:cut], name[cut:]


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.1f} KiB" if size < 2**20 else f"{size / 2**20:.1f} MiB"


def _rates(rates: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(text, rates[key]) for key, text in _RATES.items() if rates.get(key)]


def _wrong_when_rare(rates: dict[str, Any]) -> float | None:
    """Share of ``ai`` verdicts that are wrong if one image in a hundred is AI-generated."""
    if not rates.get("false_positive_rate") or not rates.get("recall"):
        return None
    accused = rates["false_positive_rate"]["value"] * (1 - _RARE)
    found = rates["recall"]["value"] * _RARE
    return accused / (accused + found) if accused + found else None
