"""The header of a report: tool, model, libraries, device, options."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..detector import Detector
from ..inputs.redact import redacted
from ..record import NOTE, SCHEMA, printable
from ..versions import library_versions, tool
from .selftest import TOLERANCE


def header(detector: Detector, started: datetime, command: str | None = None) -> dict[str, Any]:
    """What a reader needs to repeat a run and to judge its results.

    Args:
        detector: the detector of the run.
        started: start time, with a time zone.
        command: the command line, if there was one.
    """
    card = detector.model.card
    return {
        "schema": SCHEMA,
        "tool": tool(),
        "model": {
            "name": card.name,
            "date": card.data.get("date"),
            "card_sha256": card.sha256,
            "tower_sha256": detector.model.tower.sha256,
            "views": detector.mode,
            "prior": 0.5,
            "thresholds": {"ai": detector.thresholds.ai, "real": detector.thresholds.real},
            "error_rates": card.error_rates(detector.mode),
        },
        "libraries": library_versions(),
        "device": {
            "name": detector.device.name,
            "dtype": detector.device.dtype_name,
            "why": detector.device.why,
        },
        "decoding": {
            **{"max_pixels": detector.max_pixels, "frames": detector.frames, "strict": detector.strict},
            **{"video_fps": detector.sampling.fps, "video_frames": detector.sampling.frames},
        },
        "tolerance": dict(TOLERANCE),
        "command": None if command is None else printable(redacted(command)),
        "started": started.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "note": NOTE,
    }
