"""Baselines: accepted findings, identified by their pixels, which no longer fail a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import AidetectError

SCHEMA = "https://aidetect.invalid/schema/baseline-1.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Accepted:
    """One accepted finding.

    Attributes:
        pixels_sha256: SHA-256 of the decoded pixels, as in a record (of a picture that is not opaque,
            `Record.fingerprint`). Renaming or re-packing the picture does not change it. A single changed
            pixel makes a new finding.
        reason: why it was accepted.
        date: the day it was accepted, ``YYYY-MM-DD``.
        input: the picture's name at that time.
        verdict, probability: of that time.
    """

    pixels_sha256: str
    reason: str
    date: str
    input: str = ""
    verdict: str | None = None
    probability: float | None = None


def read_baseline(path: Path) -> dict[str, Accepted]:
    """Accepted findings by the SHA-256 of their pixels.

    Raises:
        AidetectError: the file cannot be read or is not a baseline.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AidetectError(f"cannot read the baseline {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise AidetectError(f"{path} is not a baseline: {error}") from None
    entries = data.get("accepted") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(entries, list):
        raise AidetectError(f"{path} is not a baseline of this version (make one: aidetect baseline create)")
    found = {}
    for number, entry in enumerate(entries, 1):
        accepted = _entry(entry)
        if accepted is None:
            raise AidetectError(f"{path}: entry {number} needs a pixels_sha256, a reason and a date")
        found[accepted.pixels_sha256] = accepted
    return found


def _entry(entry: Any) -> Accepted | None:
    if not isinstance(entry, Mapping):
        return None
    sha256, reason, date = (entry.get(name) for name in ("pixels_sha256", "reason", "date"))
    if not (isinstance(sha256, str) and isinstance(reason, str) and isinstance(date, str)):
        return None
    if not _SHA256.fullmatch(sha256):
        return None
    name = str(entry.get("input") or "")
    return Accepted(sha256, reason, date, name, entry.get("verdict"), entry.get("probability"))


def baseline_text(entries: Mapping[str, Accepted]) -> str:
    """The content of a baseline file: JSON, sorted by hash so that diffs stay small."""
    accepted = [asdict(entries[sha256]) for sha256 in sorted(entries)]
    return json.dumps({"schema": SCHEMA, "accepted": accepted}, indent=2, ensure_ascii=False) + "\n"
