"""JUnit XML: one test case per image, for the test reports of CI servers.

Cases are kept in a temporary file instead of memory, because their number comes first but is known last.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from typing import IO, Any
from xml.etree.ElementTree import Element, SubElement, tostring

from aidetect.detector.record import Record

from ..common import visible
from .sarif import in_words

# What XML 1.0 forbids, even as a character reference. `visible` has already escaped most of it.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Writer:
    """One suite. A finding is a failure, an unreadable input an error, and an accepted image is skipped."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._cases = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115
        self._header: dict[str, Any] = {}
        self._seen: Counter[str] = Counter()
        self._milliseconds = 0.0

    def begin(self, header: dict[str, Any]) -> None:
        """Take the report's header."""
        self._header = header

    def add(self, record: Record) -> None:
        """Write one record's test case."""
        self._milliseconds += record.milliseconds
        case = Element(
            "testcase",
            name=_text(record.input),
            classname=_text(os.path.dirname(record.input) or "aidetect"),  # noqa: PTH120
            time=_seconds(record.milliseconds),
        )
        outcome = self._outcome(record, case)
        self._seen.update(["tests", outcome])
        self._cases.write(tostring(case, "unicode") + "\n")

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Write the suite, with its counts first."""
        numbers = {name: str(self._seen[name]) for name in ("tests", "failures", "errors", "skipped")}
        numbers["time"] = _seconds(self._milliseconds)
        # Readers expect a time without a zone here. It is UTC.
        head = {"name": "aidetect", "timestamp": self._header["started"][:19]}
        suite = Element("testsuite", head | numbers)
        model = self._header["model"]
        _properties(suite, model=model["name"], card_sha256=model["card_sha256"], views=model["views"])
        self._stream.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        self._stream.write(tostring(Element("testsuites", numbers), "unicode").removesuffix(" />") + ">\n")
        self._stream.write(tostring(suite, "unicode").removesuffix("</testsuite>") + "\n")
        self._cases.seek(0)
        shutil.copyfileobj(self._cases, self._stream)
        self._cases.close()
        if interrupted:
            note = Element("system-err")
            note.text = f"Interrupted after {counts['images']} images; the others were not scanned."
            self._stream.write(tostring(note, "unicode") + "\n")
        self._stream.write("</testsuite>\n</testsuites>\n")
        self._stream.flush()

    def _outcome(self, record: Record, case: Element) -> str:
        """Add an image's outcome to its test case. Return the suite count it belongs to."""
        if record.error:
            SubElement(case, "error", type=record.error["type"], message=_text(record.error["message"]))
            return "errors"
        limits = record.thresholds
        known = {
            "verdict": record.verdict,
            "probability": record.probability,
            "logit": record.logit,
            "threshold_ai": limits.ai if limits else None,
            "threshold_real": limits.real if limits else None,
            "pixels_sha256": record.pixels_sha256,
        }
        _properties(case, **known)
        if record.finding:
            failure = SubElement(case, "failure", type="ai-generated", message=in_words(record, self._header))
            failure.text = "\n".join(f"{name}: {value}" for name, value in known.items())
            return "failures"
        if record.accepted is not None:
            SubElement(case, "skipped", message=_text(f"accepted: {record.accepted['reason']}"))
            return "skipped"
        return "passed"


def _properties(parent: Element, **values: Any) -> None:
    properties = SubElement(parent, "properties")
    for name, value in values.items():
        SubElement(properties, "property", name=name, value=_text(str(value)))


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}"


def _text(text: str) -> str:
    return _ILLEGAL.sub(lambda found: found[0].encode("unicode_escape").decode(), visible(text))
