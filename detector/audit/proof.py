"""The proof that a score comes from pixels alone, made anew for any image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..detector import Detector
from ..images.pixels import decode
from ..images.repack import repacked, tampered
from ..inputs.source import Source


@dataclass(frozen=True)
class Copy:
    """One copy of an image and its score.

    Attributes:
        name: what was done to it.
        pixels_sha256: SHA-256 of its decoded pixels, or ``None`` when it could not be decoded.
        logit: its raw logit, or ``None``.
        equal: whether both equal the original's, bit for bit.
    """

    name: str
    pixels_sha256: str | None
    logit: float | None
    equal: bool


def prove(detector: Detector, data: bytes) -> Iterator[Copy]:
    """Score an image and its re-packed and tampered copies, each computed on its own.

    Args:
        detector: made with ``frames=1``: the first frame is what is re-packed.
        data: the image's file.

    Yields:
        The original first.

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
