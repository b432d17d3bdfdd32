"""Recheck: whether the inputs of an earlier report still give what it says."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import AidetectError, InputError
from ..inputs.source import Source
from ..record import SCHEMA, Record

_GONE = "not_found"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Recheck:
    """What became of one record.

    Attributes:
        input: the input as the report names it.
        status: ``same``, ``changed`` or ``missing``.
        why: what differs, one phrase each; also what differs without mattering.
        before, after: logits, where there are any.
    """

    input: str
    status: str
    why: list[str] = field(default_factory=list)
    before: float | None = None
    after: float | None = None


def read_report(path: Path) -> dict[str, Any]:
    """Read a report of ``aidetect scan --format json``.

    Raises:
        AidetectError: it cannot be read, or is no such report.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AidetectError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise AidetectError(f"{path} is not a JSON report: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise AidetectError(f"{path} is not a report of this version (make one: aidetect scan --format json)")
    try:
        for record in data["records"]:
            str(record["input"]), str(record["status"]), record["pixels"]["sha256"], record["file"]["sha256"]
            record["logit"], record["verdict"], record["type"]["ai_generated"], record.get("input_base64")
        data["model"]["name"], data["model"]["card_sha256"], data["model"]["views"]
    except (KeyError, TypeError, AttributeError) as error:
        raise AidetectError(f"{path} is not a whole report: {error!r} missing or of another type") from None
    return data


def source_of(record: Mapping[str, Any], base: Path | None = None) -> Source:
    """Where a record's input is to be found again.

    Args:
        base: folder that relative paths start from; ``None`` for the current one.
    """
    name = str(record["input"])
    if name in ("-", "<bytes>", "<array>"):
        return Source(name, "error", InputError("not_found", "it came from standard input or memory"))
    if record.get("input_base64"):
        try:
            name = os.fsdecode(base64.b64decode(record["input_base64"], validate=True))
        except (binascii.Error, ValueError, TypeError):
            return Source(name, "error", InputError("not_found", "the report's name for it is damaged"))
    if re.match(r"https?://", name, re.IGNORECASE):
        return Source(name, "url")
    return Source(name if base is None else str(base / name), "file")


def compare(
    before: Mapping[str, Any], after: Record, tolerance: float, reading: Callable[[float], tuple[float, str]]
) -> Recheck:
    """Compare a report's record with a new one of the same input.

    Args:
        before: the report's record.
        after: the new record.
        tolerance: by how much logits of equal pixels may differ.
        reading: the probability and the verdict that follow from a logit (`Detector.reading`).
    """
    name = str(before["input"])
    old, new = before["logit"], after.logit
    if after.status != "ok":
        error = after.error or {"type": "", "message": ""}
        then = before.get("error") or {}
        if error["type"] == _GONE and then.get("type") != _GONE:
            return Recheck(name, "missing", [error["message"]], old, None)
        if before["status"] == "ok":
            return Recheck(name, "changed", [f"no longer readable: {error['message']}"], old, None)
        same = before["file"]["sha256"] == after.file_sha256
        why = ["unreadable then and now"] if same else ["unreadable then and now, but its bytes differ"]
        return Recheck(name, "same" if same else "changed", why)
    if before["status"] != "ok":
        return Recheck(name, "changed", ["it could not be read then, and can be now"], None, new)
    if before["pixels"]["sha256"] != after.pixels_sha256:
        return Recheck(name, "changed", ["the pixels differ"], old, new)
    why = []
    if before["file"]["sha256"] != after.file_sha256:
        why.append("the file's bytes differ, its pixels do not")
    assert new is not None
    if not isinstance(old, (int, float)) or not abs(old - new) <= tolerance:
        why.append("equal pixels, another logit")
        return Recheck(name, "changed", why, old, new)
    probability, _ = reading(old)
    stated = before["type"]["ai_generated"]
    if not isinstance(stated, (int, float)) or abs(stated - probability) > _ROUNDING:
        why.append("its probability does not follow from its logit")
        return Recheck(name, "changed", why, old, new)
    then = (before.get("stability") or {}).get("verdict", before["verdict"])
    if then not in {reading(old + step)[1] for step in (-tolerance, 0.0, tolerance)}:
        return Recheck(name, "changed", [*why, "its verdict does not follow from its logit"], old, new)
    now = (after.stability or {}).get("verdict", after.verdict)
    if then != now:
        why.append(f"at the edge of a threshold: {then} then, {now} now")
    return Recheck(name, "same", why, old, new)
