"""Proof, for any given image, that its score comes from pixels alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..detector import Detector
from ..images.pixels import decode
from ..images.repack import repacked, tampered
from ..inputs.source import Source


@dataclass(frozen=True)
class Copy:
    """One copy of an image or a clip, and its score.

    Attributes:
        name: what was done to it.
        pixels_sha256: SHA-256 of its decoded pixels, or ``None`` if it could not be decoded; of a clip a hash
            of those of its frames.
        logit: its raw logit, or ``None``.
        equal: whether both are equal to the original's, bit for bit; of a clip also those of each frame.
        frames: of a clip its frames, as in its record.
    """

    name: str
    pixels_sha256: str | None
    logit: float | None
    equal: bool
    frames: list[dict[str, Any]] | None = None


def prove(detector: Detector, data: bytes) -> Iterator[Copy]:
    """Score an image and its re-packed and tampered copies, each one separately.

    Args:
        detector: created with ``frames=1``, because only the first frame is re-packed.
        data: the bytes of the image's file.

    Yields:
        One `Copy` each, the original first.

    Raises:
        InputError: the original cannot be decoded.
    """
    notes: list[str] = []
    decoded = decode(data, max_pixels=detector.max_pixels, frames=1, strict=detector.strict, notes=notes)
    (pixels,) = decoded
    copies = {"original": data, **repacked(pixels.rgb, pixels.alpha)}
    if not any(note.startswith(("truncated", "damaged")) for note in notes):
        copies |= tampered(data, pixels.format)  # what is put into a damaged file may become its picture
    first: tuple[str | None, float | None] | None = None
    for name, copy in copies.items():
        source = Source(name, "memory", payload=copy)
        (record,) = detector.stream([source], remember=False)
        found = (record.pixels_sha256, record.logit)
        first = first or found
        yield Copy(name, *found, equal=found == first and record.status == "ok")
