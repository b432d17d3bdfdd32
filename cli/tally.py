"""Counts of a run, and what they mean for its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from aidetect.detector.record import COUNTS

from .common import ExitCode, false_positives


class FailOn(click.ParamType[Any]):
    """The value of ``--fail-on``: a verdict, or a probability as a float."""

    name = "ai|uncertain|PROBABILITY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, checked."""
        if value in ("ai", "uncertain") or isinstance(value, float):
            return value
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not ai, uncertain or a probability", param, ctx)
        if not 0 <= number <= 1:
            self.fail(f"{value} is not between 0 and 1", param, ctx)
        return number


@dataclass
class Tally:
    """Counts of a run, which decide its exit code."""

    fail_on: str | float | None
    counts: Counter[str]
    findings: int = 0

    def add(self, record: Any) -> None:
        """Count a record, and mark it if it is a finding."""
        self.counts["images"] += 1
        if record.status != "ok":
            self.counts["errors"] += 1
            return
        self.counts[record.verdict] += 1
        self.counts["clips"] += record.clip is not None
        self.counts["accepted"] += record.accepted is not None
        self.counts["cached"] += record.cached
        record.finding = self.is_finding(record)
        self.findings += record.finding and self.fail_on is not None

    def is_finding(self, record: Any) -> bool:
        """Whether a record is at or above ``--fail-on`` (without it: has the verdict ``ai``)."""
        if record.accepted is not None or record.status != "ok":
            return False
        if isinstance(self.fail_on, float):
            return bool(record.probability >= self.fail_on)
        return record.verdict == "ai" or (self.fail_on == "uncertain" and record.verdict == "uncertain")

    def exit_code(self) -> ExitCode:
        """The exit code. Findings come before unreadable inputs."""
        if self.counts["images"] == 0:
            return ExitCode.NOTHING
        if self.findings:
            return ExitCode.FINDINGS
        return ExitCode.UNREADABLE if self.counts["errors"] else ExitCode.OK

    def as_dict(self) -> dict[str, int]:
        """Counts for reports."""
        return {name: self.counts[name] for name in COUNTS}

    def summary(self, seconds: float, where: str, model: str, rates: Mapping[str, Any]) -> str:
        """The run in one line.

        Args:
            seconds: how long it took.
            where: the device, or what computed.
            model: the model's name.
            rates: the error rates of its card.
        """
        counts, images = self.counts, self.counts["images"]
        parts = [f"{counts[verdict]} {verdict}" for verdict in ("ai", "uncertain", "real")]
        words = {"errors": "unreadable", "accepted": "accepted", "cached": "from the cache"}
        parts += [f"{counts[name]} {word}" for name, word in words.items() if counts[name]]
        clause = false_positives(rates)
        note = f"; {clause}" if clause else ""
        plural = "" if images == 1 else "s"
        return f"{images} image{plural}: {', '.join(parts)} ({seconds:.1f} s on {where}, model {model}{note})"


fail_on_option = click.option(
    "--fail-on",
    type=FailOn(),
    default=None,
    metavar="ai|uncertain|PROBABILITY",
    help="Exit with code 1 if an image is at or above this verdict or probability.",
)
