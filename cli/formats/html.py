"""The report as one self-contained HTML page. It needs no network, no server and no JavaScript.

Each card is rendered when its record comes, and kept until the end, many in a temporary file, because the
totals at the top of the page are known last. All outside text goes through `_plain` and is
escaped by the template engine. The page allows only its own style and script, by their hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from importlib.resources import files
from typing import IO, Any

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


class Writer:
    """One self-contained page: totals and limits, then one card per image."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._cards = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115
        self._shown: Counter[str] = Counter()
        self._header: dict[str, Any] = {}
        self._card = templates().get_template("card.html")

    def begin(self, header: dict[str, Any]) -> None:
        """Take the report's header."""
        self._header = header

    def add(self, record: Record) -> None:
        """Render one record's card."""
        verdict = record.verdict or "error"
        self._shown.update(["images", verdict])
        self._shown["warned"] += bool(record.warnings)
        self._shown["accepted"] += record.accepted is not None
        self._cards.write(self._card.render(card_context(record, self._shown["images"])))

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Write the page: the top with the totals, the cards, the footer."""
        head = self._header
        page = templates()
        context = {
            **head,
            "counts": {"error" if key == "errors" else key: value for key, value in counts.items()},
            "shown": self._shown,
            "interrupted": interrupted,
            "verdicts": VERDICTS,
            **trust_context(head["model"]["error_rates"]),
            "style": Markup(part("page.css")),
            "script": Markup(part("page.js")),
            "policy": _policy(),
        }
        self._stream.write(page.get_template("head.html").render(context))
        self._cards.seek(0)
        shutil.copyfileobj(self._cards, self._stream)
        self._cards.close()
        self._stream.write(page.get_template("tail.html").render(context))
        self._stream.flush()


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
    """The curve of a clip's probabilities: its points in a square of 100 by 100, and each frame's place."""
    length = max([clip["seconds"], *(frame["time"] for frame in clip["frames"])]) or 1.0
    places = [(max(0.0, frame["time"]) / length, 1 - frame["probability"]) for frame in clip["frames"]]
    return {"line": " ".join(f"{100 * x:.2f},{100 * y:.2f}" for x, y in places), "places": places}


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
