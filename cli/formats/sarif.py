"""SARIF 2.1.0 (OASIS Standard, errata 01): the exchange format of code scanners.

Results are written as they come, one per line, followed by the invocation, which is known last. The output is
ASCII, so that no file name can affect a terminal. An image has no lines, but GitHub shows only results that
have one, so every result is on line 1.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from aidetect.detector.record import Record

from ..common import false_positives, visible
from .writers import percent

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULE = "ai-generated-image"
ROOT = "SRCROOT"

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://[^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_STRAY_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)
_HELP = (
    "The pixels of this image look like those of AI-generated images. This is a probability, not proof: some "
    "real images are called ai, most often polished photographs and digital paintings. Look at the image, "
    "and ask where it came from. If it may stay, accept it with a reason ({0}aidetect baseline create{0}) "
    "and scan with {0}--baseline{0}. If one pixel of it changes, it is a new finding."
)


def level(record: Record) -> str | None:
    """The level of a record: ``error``, ``warning``, ``note``, or ``None`` for no result.

    ``error`` is a finding, which counts for ``--fail-on``. ``warning`` is any other image called ai, and
    ``note`` any other uncertain one.
    """
    if record.finding:
        return "error"
    return {"ai": "warning", "uncertain": "note"}.get(record.verdict or "")


def in_words(record: Record, header: dict[str, Any]) -> str:
    """The message for a scored image: one sentence that does not name it.

    Args:
        record: a record of status ``ok``.
        header: the report's header. Its error rates say how often real images are called ai.
    """
    says = {
        "ai": "Likely AI-generated",
        "uncertain": "Possibly AI-generated, needs human review",
        "real": "No clear trace of a generator",
    }[str(record.verdict)]
    details = [percent(record.probability or 0.0), f"verdict {record.verdict}"]
    if (record.frames or 1) > 1:
        details.append(f"frame {record.frame} of {record.frames}")
    clause = false_positives(header["model"]["error_rates"])
    if clause and record.verdict == "ai":
        details.append(clause)
    limit = ", but at or above --fail-on" if record.finding and record.verdict == "real" else ""
    return f"{says} ({'; '.join(details)}){limit}"


def below(name: str, folder: Path) -> str | None:
    """A file's path relative to a folder, with ``/``, or ``None`` if it is not inside.

    Links are not followed: the name stays as scanned.
    """
    if name == "-" or _ADDRESS.match(name):
        return None
    path = Path(os.path.normpath(Path.cwd() / name))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None


class Writer:
    """One SARIF log with one run, and a result for each image that is ai, uncertain or a finding."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        self._folder = Path.cwd()
        self._header: dict[str, Any] = {}
        self._notifications: list[dict[str, Any]] = []
        self._first = True

    def begin(self, header: dict[str, Any]) -> None:
        """Write the start of the log: the tool, its rule, and the base of relative URIs."""
        self._header = header
        run = {
            "tool": {"driver": _driver(header)},
            "originalUriBaseIds": {ROOT: {"uri": _folder_uri(self._folder)}},
        }
        log = {"$schema": SCHEMA, "version": "2.1.0"}
        self._stream.write(_open(log) + ', "runs": [\n' + _open(run) + ', "results": [')
        self._stream.flush()

    def add(self, record: Record) -> None:
        """Write one record's result, if it has one. Keep unreadable inputs for the end."""
        if record.error:
            self._notifications.append(self._unreadable(record, record.error))
        elif level(record):
            self._stream.write(("\n" if self._first else ",\n") + json.dumps(self._result(record)))
            self._stream.flush()
            self._first = False

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Write the invocation and close the log."""
        notifications = list(self._notifications)
        if interrupted:
            text = f"Interrupted after {counts['images']} images; the others were not scanned."
            notifications.append({"level": "error", "message": {"text": text}})
        invocation = {
            "executionSuccessful": not interrupted,
            "startTimeUtc": self._header["started"],
            "endTimeUtc": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "workingDirectory": {"uri": _folder_uri(self._folder)},
            "toolExecutionNotifications": notifications,
        }
        if self._header.get("command"):
            invocation["commandLine"] = visible(self._header["command"])
        tail = {"invocations": [invocation], "properties": {"counts": counts}}
        self._stream.write("\n], " + json.dumps(tail).removeprefix("{") + "\n]}\n")
        self._stream.flush()

    def _result(self, record: Record) -> dict[str, Any]:
        limits = record.thresholds
        region = {"startLine": 1}
        return {
            "ruleId": RULE,
            "ruleIndex": 0,
            "level": level(record),
            "message": {"text": in_words(record, self._header)},
            "locations": [
                {"physicalLocation": {"artifactLocation": self._artifact(record.input), "region": region}}
            ],
            "partialFingerprints": {"pixelsSha256/v1": record.pixels_sha256},
            "rank": round(100 * (record.probability or 0.0), 2),
            # In one run either all results have suppressions or none has, hence the empty list.
            "suppressions": _suppressions(record),
            "properties": {
                "verdict": record.verdict,
                "probability": record.probability,
                "logit": record.logit,
                "thresholds": {"ai": limits.ai, "real": limits.real} if limits else None,
                "warnings": record.warnings,
            },
        }

    def _unreadable(self, record: Record, error: dict[str, str]) -> dict[str, Any]:
        return {
            "level": "error",
            "message": {"text": _literal(f"{visible(record.input)}: {visible(error['message'])}")},
            "descriptor": {"id": error["type"]},
            "locations": [{"physicalLocation": {"artifactLocation": self._artifact(record.input)}}],
        }

    def _artifact(self, name: str) -> dict[str, Any]:
        """An input's ``artifactLocation``. Bytes that a URI must not contain become ``%XX``."""
        if name == "-":
            return {"uri": "-", "description": {"text": "standard input"}}
        address = _ADDRESS.match(name)
        if address:
            host, rest = (_STRAY_PERCENT.sub("%25", part) for part in address.groups())
            return {"uri": _quote(host, "%:/@[]!$&'()*+,;=") + _quote(rest, "%:/@?#!$&'()*+,;=")}
        relative = below(name, self._folder)
        if relative is None:
            return {"uri": Path(os.path.normpath(self._folder / name)).as_uri()}
        return {"uri": _quote(relative, "/"), "uriBaseId": ROOT}


def _driver(header: dict[str, Any]) -> dict[str, Any]:
    tool, model = header["tool"], header["model"]
    rule = {
        "id": RULE,
        "name": "AiGeneratedImage",
        "shortDescription": {"text": "Image is likely AI-generated"},
        "fullDescription": {
            "text": "Judging by its pixels, the whole image was likely made by a generative model."
        },
        "help": {"text": _HELP.format(""), "markdown": _HELP.format("`")},
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["ai-generated", "image"]},
    }
    return {
        "name": tool["name"],
        "version": tool["version"],
        "semanticVersion": tool["version"],
        "rules": [rule],
        "properties": {
            "model": model["name"],
            "modelCardSha256": model["card_sha256"],
            "views": model["views"],
        },
    }


def _suppressions(record: Record) -> list[dict[str, Any]]:
    if record.accepted is None:
        return []
    return [
        {
            "kind": "external",
            "status": "accepted",
            "justification": visible(record.accepted["reason"]),
            "properties": {"date": visible(record.accepted["date"])},
        }
    ]


def _open(value: dict[str, Any]) -> str:
    """An object as JSON without its closing brace."""
    return json.dumps(value).removesuffix("}")


def _quote(text: str, safe: str) -> str:
    return quote(os.fsencode(text), safe=safe)


def _folder_uri(folder: Path) -> str:
    return folder.as_uri().rstrip("/") + "/"


def _literal(text: str) -> str:
    """Text that a SARIF viewer shows unchanged: no placeholder ``{0}`` and no link ``[...](...)``."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")
