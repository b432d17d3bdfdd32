"""The audit log: JSON Lines in which each line holds the SHA-256 of the line before it.

A changed, removed or moved line breaks the chain. Each line also ends with the SHA-256 of its own content, so
a change to the last line is found too. Whoever rewrites all lines from a change on can make a valid chain.
The hash of the last line, kept elsewhere, reveals that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import AidetectError

FIRST = "0" * 64
_TAIL = re.compile(rb', "sha256": "([0-9a-f]{64})"\}')
_TAIL_BYTES = 79


class AuditLog:
    """Appends events to a log. Several processes may append to one log at once.

    Args:
        path: the log; created if missing.

    Raises:
        AidetectError: the log cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._file = os.fdopen(handle, "r+b", buffering=0)
        except OSError as error:
            raise AidetectError(f"cannot write the log {path}: {error.strerror}") from None
        # Size of the file after our last line, and the hash and number of that line.
        self._end, self._previous, self._sequence = -1, FIRST, 0

    def append(self, event: str, data: dict[str, Any]) -> None:
        """Append one line. The system has it when this returns.

        Args:
            event: ``start``, ``record`` or ``end``.
            data: JSON data; the names ``sequence previous time event sha256`` are reserved.

        Raises:
            AidetectError: the line cannot be written, e.g. because the disk is full.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            with _locked(self._file):
                size = os.fstat(self._file.fileno()).st_size
                broken = False
                if size != self._end:  # another process wrote, or this is the first line
                    self._previous, self._sequence, broken = _last_line(self._file, size)
                number = self._sequence + 1
                head: dict[str, Any] = {"sequence": number, "previous": self._previous, "time": now}
                head["event"] = event
                if broken:
                    head["after_broken_line"] = True
                body = json.dumps(head | data, ensure_ascii=True)
                sha256 = hashlib.sha256(body.encode()).hexdigest()
                line = f'{body[:-1]}, "sha256": "{sha256}"}}'.encode()
                whole = (b"\n" if broken else b"") + line + b"\n"
                if self._file.write(whole) != len(whole):
                    raise OSError(0, "only a part of the line could be written")
                self._end = size + len(whole)
                self._previous, self._sequence = hashlib.sha256(line).hexdigest(), number
        except OSError as error:
            raise AidetectError(f"cannot write the log {self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Write everything to disk and close the file."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()


def _last_line(stream: BinaryIO, size: int) -> tuple[str, int, bool]:
    """Hash and sequence number of the last line, and whether it is incomplete."""
    if size == 0:
        return FIRST, 0, False
    block = 1 << 16
    data = b""
    at = size
    while at > 0 and data.rstrip(b"\n").count(b"\n") < 2:
        at = max(0, at - block)
        stream.seek(at)
        data = stream.read(size - at)
    lines = data.split(b"\n")
    broken = lines[-1] != b""
    last = lines[-1] if broken else lines[-2]
    sequence = _sequence(last)
    if sequence is None:  # an incomplete line gets the number after the line before it
        before = _sequence(lines[-2 if broken else -3]) if len(lines) > 2 - broken else None
        sequence = (before or 0) + 1
    return hashlib.sha256(last).hexdigest(), sequence, broken


def _sequence(line: bytes) -> int | None:
    try:
        number = json.loads(line)["sequence"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


@contextlib.contextmanager
def _locked(stream: BinaryIO) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no file locks on this system: only one process may write
        yield
        return
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


@dataclass
class LogReport:
    """The result of checking a log.

    Attributes:
        lines: number of lines.
        runs, finished: number of scans that started, and of those that finished.
        head: SHA-256 of the last line. Kept elsewhere, it shows later that nothing up to it was rewritten.
        problems: what breaks the chain, one sentence each, in the order of lines.
        notes: what does not break the chain but should be known.
    """

    lines: int = 0
    runs: int = 0
    finished: int = 0
    head: str = FIRST
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_log(path: Path, head: str | None = None) -> LogReport:
    """Check a log's chain.

    Args:
        path: the log.
        head: hash of a line, noted earlier. It is a problem if no line has it.

    Raises:
        AidetectError: the log cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _verify(stream, head)
    except OSError as error:
        raise AidetectError(f"cannot read the log {path}: {error.strerror}") from None


def _verify(stream: BinaryIO, head: str | None) -> LogReport:
    report = LogReport()
    expected, sequence = FIRST, 0
    open_runs: dict[str, int] = {}
    seen = head is None
    fragment = ""  # message about an incomplete line, until the next line says whether a run noticed it
    for number, raw in enumerate(stream, 1):
        line = raw.removesuffix(b"\n")
        report.lines = number
        sha256 = hashlib.sha256(line).hexdigest()
        seen = seen or sha256 == head
        data = _parse(line)
        if fragment:
            told = data is not None and data.get("after_broken_line") is True
            (report.notes if told else report.problems).append(fragment)
            fragment = ""
        if data is None:
            sequence += 1
            fragment = f"line {number}: incomplete ({len(line)} bytes)"
        else:
            found = data["sequence"]
            if data["previous"] != expected:
                report.problems.append(_broken(number, found, sequence))
            elif found != sequence + 1:
                report.problems.append(f"line {number}: numbered {found}, not {sequence + 1}")
            if not _own_hash_holds(line):
                report.problems.append(f"line {number}: its content was changed")
            if raw == line:
                report.problems.append(f"line {number}: the end is cut off (no line break)")
            _follow_runs(report, data, number, open_runs)
            sequence = found
        expected = sha256
    if fragment:
        report.problems.append(f"{fragment}: the end is cut off")
    report.head = expected
    if open_runs:
        numbers = ", ".join(str(n) for n in open_runs.values())
        report.notes.append(
            f"no end is recorded for the scan that started in line {numbers}: it was stopped, is still "
            "running, or the end of this log was cut off"
        )
    if not seen:
        report.problems.append(f"no line has the hash {head}: the log was rewritten or cut before it")
    return report


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or type(data.get("sequence")) is not int:
        return None
    return data if isinstance(data.get("previous"), str) else None


def _broken(number: int, found: int, before: int) -> str:
    if found == before + 1:
        return f"line {number}: it does not match the line before; one of the two was changed"
    if found > before + 1:
        if found == before + 2:
            return f"line {number}: the line numbered {before + 1} is missing before it"
        return f"line {number}: the lines numbered {before + 1} to {found - 1} are missing before it"
    return f"line {number}: out of order (number {found} after {before})"


def _own_hash_holds(line: bytes) -> bool:
    match = _TAIL.fullmatch(line[-_TAIL_BYTES:])
    return match is not None and hashlib.sha256(line[:-_TAIL_BYTES] + b"}").hexdigest() == match[1].decode()


def _follow_runs(report: LogReport, data: dict[str, Any], number: int, open_runs: dict[str, int]) -> None:
    run = str(data.get("run"))
    if data.get("event") == "start":
        report.runs += 1
        open_runs[run] = number
    elif data.get("event") == "end":
        report.finished += 1
        open_runs.pop(run, None)
