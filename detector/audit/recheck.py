"""Recheck: whether the inputs of an earlier report still give the same results."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import AidetectError, InputError
from ..inputs.archives import JOINT, entered, loaded
from ..inputs.expand import expand
from ..inputs.fetch import LIMITS, FetchOptions
from ..inputs.source import Source
from ..inputs.stores import scheme_of
from ..record import SCHEMA, Record

_GONE = "not_found"
_OF_ARCHIVES = ("damaged_archive", "encrypted", "missing_extra", "too_large")
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Recheck:
    """The result for one record of the report.

    Attributes:
        input: the input as named in the report.
        status: ``same``, ``changed`` or ``missing``.
        why: differences, one phrase each, including those that do not affect the status.
        before, after: logits, or ``None``.
    """

    input: str
    status: str
    why: list[str] = field(default_factory=list)
    before: float | None = None
    after: float | None = None


def read_report(path: Path) -> dict[str, Any]:
    """Read a report of ``aidetect scan --format json``.

    Raises:
        AidetectError: the file cannot be read, or is not such a report.
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
            _pixels(record)
        data["model"]["name"], data["model"]["card_sha256"], data["model"]["views"]
    except (KeyError, TypeError, AttributeError) as error:
        raise AidetectError(f"{path} is an incomplete or damaged report: {error!r}") from None
    return data


def source_of(record: Mapping[str, Any], base: Path | None = None, fetch: FetchOptions = LIMITS) -> Source:
    """The source that a record's input can be read from again.

    Args:
        record: a record of the report.
        base: folder that relative paths start from; ``None`` for the current one.
        fetch: how object stores are read.
    """
    name = str(record["input"])
    if name in ("-", "<bytes>", "<array>"):
        return Source(name, "error", InputError("not_found", "it came from standard input or memory"))
    if record.get("input_base64"):
        try:
            name = os.fsdecode(base64.b64decode(record["input_base64"], validate=True))
        except (binascii.Error, ValueError, TypeError):
            return Source(name, "error", InputError("not_found", "its name in the report is damaged"))
    scheme = scheme_of(name)
    if scheme in ("http", "https"):
        return Source(name, "url")
    if scheme is None and base is not None:
        name = str(base / name)
    source = Source(name, "file")
    if JOINT in name and not Path(name).is_file():
        return next(expand([name], fetch=fetch), source)
    kind = (record.get("error") or {}).get("type")
    if kind in _OF_ARCHIVES and record["file"]["sha256"] is None:
        archive = Source(name, "archive", address=None if scheme is None else name)
        for found in entered([archive], fetch):
            if found.name == name and found.error is not None and found.error.kind == kind:
                return found
    return source if scheme is None else next(expand([name], fetch=fetch), source)


def sources_of(
    records: Iterable[Mapping[str, Any]], base: Path | None = None, fetch: FetchOptions = LIMITS
) -> Iterator[Source]:
    """One source for each record, in order, with members of archives read into memory as they are drawn."""
    return loaded(entered((source_of(record, base, fetch) for record in records), fetch))


def compare(
    before: Mapping[str, Any], after: Record, tolerance: float, reading: Callable[[float], tuple[float, str]]
) -> Recheck:
    """Compare a report's record with a new one of the same input.

    Args:
        before: the report's record.
        after: the new record.
        tolerance: allowed difference of the logits of equal pixels.
        reading: gives the probability and the verdict for a logit (`Detector.reading`).
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
        return Recheck(name, "changed", ["it could not be read then, but can be read now"], None, new)
    if _pixels(before) != _pixels(after.to_dict()):
        return Recheck(name, "changed", ["the pixels differ"], old, new)
    why = []
    if before["file"]["sha256"] != after.file_sha256:
        why.append("the file's bytes differ, its pixels do not")
    assert new is not None
    if not isinstance(old, (int, float)) or not abs(old - new) <= tolerance:
        why.append("same pixels, different logit")
        return Recheck(name, "changed", why, old, new)
    probability, _ = reading(old)
    stated = before["type"]["ai_generated"]
    if not isinstance(stated, (int, float)) or abs(stated - probability) > _ROUNDING:
        why.append("its probability does not match its logit")
        return Recheck(name, "changed", why, old, new)
    then = (before.get("stability") or {}).get("verdict", before["verdict"])
    likely = {reading(old + step)[1] for step in (-tolerance, 0.0, tolerance)}
    if then not in likely and not (before.get("clip") and then == "uncertain"):
        return Recheck(name, "changed", [*why, "its verdict does not match its logit"], old, new)
    now = (after.stability or {}).get("verdict", after.verdict)
    if then != now:
        why.append(f"very close to a threshold: {then} then, {now} now")
    return Recheck(name, "same", why, old, new)


def _pixels(record: Mapping[str, Any]) -> Any:
    """The hash of a record's pixels; of a clip those of all its frames."""
    clip = record.get("clip") or {}
    return [one["pixels_sha256"] for one in clip["frames"]] if clip else record["pixels"]["sha256"]
