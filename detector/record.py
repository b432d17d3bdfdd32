"""Records: the result for one image, in documented fields."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.thresholds import Thresholds

SCHEMA = "https://aidetect.invalid/schema/report-1.json"
# What a run counts. Every record is an image, or an error.
COUNTS = ("images", "ai", "uncertain", "real", "errors", "accepted", "cached")
NOTE = "Pixels only. 'real' means that no trace of a generator was found, not that it is authentic."


@dataclass(frozen=True)
class ViewScore:
    """One view of a score: its kind, box (left, upper, right, lower; in pixels) and probe logit."""

    kind: str
    box: tuple[int, int, int, int]
    logit: float


@dataclass
class Record:
    """The result for one input.

    Attributes:
        input: the input as given or found.
        status: ``ok`` or ``error``.
        error: ``{"type", "message"}`` or ``None``.
        file_sha256, file_bytes: of the bytes read; ``None`` if they could not be read.
        pixels_sha256: SHA-256 of the decoded RGB bytes of the frame that was scored.
        width, height: of that frame, in pixels.
        format: container format found in the bytes.
        background: ``white`` or ``black`` where the picture was scored as seen on that background; ``None``
            for the picture as stored.
        alpha_sha256: SHA-256 of the alpha channel, one byte a pixel; ``None`` for opaque pictures.
        turned: degrees, 0, 90, 180 or 270, by which the stored picture was turned clockwise before it was
            scored, so that its score does not depend on how it is stored. Boxes of views are those of the
            stored picture.
        frame, frames: index of the frame with the highest logit, and how many the container has.
        logit: raw logit; positive means AI.
        probability: calibrated probability, 0..1, for a prior of one half.
        generators: probabilities of generator families, highest first; ``None`` if the model has no
            attribution. Their sum is at most ``probability``.
        verdict: ``ai``, ``uncertain`` or ``real``.
        thresholds: the probabilities that separate the verdicts.
        views: logits of that frame's views.
        warnings: each a slug, a colon and a text.
        stability: how the verdict changed under re-encoding; ``None`` if not requested.
        evidence: what metadata and watermarks say, never part of the score; ``None`` if not requested.
        clip: of a clip its codec, length, shots and frames, each with time stamp, logit and verdict; ``None``
            for pictures. The other fields about pixels are then of the frame whose logit is nearest.
        strip: a small JPEG of each of a clip's frames, if thumbnails are requested; not part of `to_dict`.
        accepted: ``{"reason", "date"}`` of the baseline entry with these pixels, or ``None``.
        finding: whether it counts for ``--fail-on`` (without that option: whether the verdict is ``ai``).
        cached: whether the score came from the result cache; it is bit-equal to the computed one.
        thumbnail: a small JPEG of the scored frame, if requested; not part of `to_dict`.
        milliseconds: time for reading, decoding and this image's share of the forward passes.
    """

    input: str
    status: str = "ok"
    error: dict[str, str] | None = None
    file_sha256: str | None = None
    file_bytes: int | None = None
    pixels_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    background: str | None = None
    alpha_sha256: str | None = None
    turned: int = 0
    frame: int | None = None
    frames: int | None = None
    logit: float | None = None
    probability: float | None = None
    generators: dict[str, float] | None = None
    verdict: str | None = None
    thresholds: Thresholds | None = None
    views: list[ViewScore] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stability: dict[str, Any] | None = None
    evidence: list[dict[str, Any]] | None = None
    clip: dict[str, Any] | None = None
    strip: list[bytes] = field(default_factory=list)
    accepted: dict[str, str] | None = None
    finding: bool = False
    cached: bool = False
    thumbnail: bytes | None = None
    milliseconds: float = 0.0

    @property
    def fingerprint(self) -> str | None:
        """What names the picture: its pixels' hash; for one that is not opaque, one of its alpha as well.

        Of a clip it is a hash of those of its frames.
        """
        return fingerprint(self.pixels_sha256, self.alpha_sha256, self.clip)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON data that follows the shipped schema."""
        data = {
            "input": printable(self.input),
            "input_base64": raw_name(self.input),
            "status": self.status,
            "error": self.error,
            "file": {"sha256": self.file_sha256, "bytes": self.file_bytes},
            "pixels": {
                "sha256": self.pixels_sha256,
                "width": self.width,
                "height": self.height,
                "format": self.format,
                "frame": self.frame,
                "frames": self.frames,
                **self._transparency(),
                **({"turned": self.turned} if self.turned else {}),
            },
            "logit": self.logit,
            "type": self._type(),
            "verdict": self.verdict,
            "thresholds": (
                {"ai": self.thresholds.ai, "real": self.thresholds.real} if self.thresholds else None
            ),
            "views": [{"kind": v.kind, "box": list(v.box), "logit": v.logit} for v in self.views],
            "warnings": self.warnings,
            "cached": self.cached,
            "milliseconds": round(self.milliseconds, 1),
        }
        asked_for = {"stability": self.stability, "evidence": self.evidence, "accepted": self.accepted}
        asked_for |= {"clip": self.clip}
        return data | {name: value for name, value in asked_for.items() if value is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """The record that `to_dict` gave this data for. The data must follow the shipped schema.

        Milliseconds are rounded there, `finding` is whether the verdict is ``ai``, and there is no thumbnail.
        """
        from .models.thresholds import Thresholds

        file, pixels = data["file"], data["pixels"]
        raw = data["input_base64"]
        limits = data["thresholds"]
        asked_for: dict[str, Any] = {
            name: data.get(name) for name in ("stability", "evidence", "accepted", "clip")
        }
        return cls(
            input=data["input"] if raw is None else os.fsdecode(base64.b64decode(raw)),
            status=data["status"],
            error=data["error"],
            file_sha256=file["sha256"],
            file_bytes=file["bytes"],
            pixels_sha256=pixels["sha256"],
            **{name: pixels[name] for name in ("width", "height", "format", "frame", "frames")},
            **{name: pixels.get(name) for name in ("background", "alpha_sha256")},
            turned=pixels.get("turned", 0),
            logit=data["logit"],
            probability=data["type"]["ai_generated"],
            generators=data["type"].get("ai_generators"),
            verdict=data["verdict"],
            thresholds=None if limits is None else Thresholds(**limits),
            views=[ViewScore(v["kind"], (*v["box"],), v["logit"]) for v in data["views"]],
            warnings=data["warnings"],
            **asked_for,
            finding=data["verdict"] == "ai",
            cached=data.get("cached", False),
            milliseconds=data["milliseconds"],
        )

    def _transparency(self) -> dict[str, Any]:
        if self.alpha_sha256 is None:
            return {}
        return {"background": self.background, "alpha_sha256": self.alpha_sha256}

    def _type(self) -> dict[str, Any]:
        found: dict[str, Any] = {"ai_generated": self.probability}
        if self.generators is not None:
            found["ai_generators"] = self.generators
        return found


def fingerprint(
    pixels_sha256: str | None, alpha_sha256: str | None, clip: dict[str, Any] | None = None
) -> str | None:
    """What names a picture or a clip (see `Record.fingerprint`)."""
    if clip is not None:
        return hashlib.sha256(":".join(one["pixels_sha256"] for one in clip["frames"]).encode()).hexdigest()
    if alpha_sha256 is None:
        return pixels_sha256
    return hashlib.sha256(f"{pixels_sha256}:{alpha_sha256}".encode()).hexdigest()


def printable(name: str) -> str:
    """A name as valid Unicode: bytes that are not UTF-8 are shown as ``\\xNN``."""
    if not _has_raw_bytes(name):
        return name
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return name.encode("utf-8", "backslashreplace").decode()


def raw_name(name: str) -> str | None:
    """Base64 of a name's bytes if they are not UTF-8, so that the file can be found again; else ``None``."""
    if not _has_raw_bytes(name):
        return None
    try:
        return base64.b64encode(os.fsencode(name)).decode("ascii")
    except UnicodeEncodeError:  # surrogates that stand for no byte: no file has such a name
        return None


def _has_raw_bytes(name: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in name)
