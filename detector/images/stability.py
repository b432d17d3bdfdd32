"""Stability: re-encodings that leave a picture the same to the eye, and whether a verdict outlives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .launder import LONGEST, jpeg


def _half(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def _crop(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    h, w = max(1, round(height * 0.8)), max(1, round(width * 0.8))
    upper, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(rgb[upper : upper + h, left : left + w])


# What messengers, web sites and cropping do to a picture; JPEG is 4:2:0.
REENCODINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 90": lambda rgb: jpeg(rgb, 90),
    "JPEG 70": lambda rgb: jpeg(rgb, 70),
    "JPEG 50": lambda rgb: jpeg(rgb, 50),
    "half size": _half,
    "80 % crop": _crop,
}


def reencoded(rgb: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Every re-encoding of a picture, one at a time: a picture may take most of the memory.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.

    Yields:
        Names and pictures, ``[h, w, 3]`` of dtype ``uint8``; no JPEG of one longer than JPEG can hold.
    """
    rgb = np.ascontiguousarray(rgb)
    too_long = max(rgb.shape[:2]) > LONGEST["JPEG"]
    for name, encode in REENCODINGS.items():
        if not (too_long and name.startswith("JPEG")):
            yield name, encode(rgb)


def judge(verdict: str, copies: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The verdict that stands, given the re-encodings' verdicts.

    Args:
        verdict: ``ai``, ``uncertain`` or ``real``, of the picture itself.
        copies: ``{"name", "logit", "probability", "verdict"}`` of each re-encoding.

    Returns:
        The verdict, and the record's ``stability``: ``{"kept", "verdict", "copies"}`` with the verdict as
        it was before. ``ai`` and ``real`` are kept when most re-encodings share them and none is given
        the opposite; else they become ``uncertain``.
    """
    opposite = {"ai": "real", "real": "ai"}.get(verdict)
    found = [copy["verdict"] for copy in copies]
    kept = opposite is None or (opposite not in found and 2 * found.count(verdict) > len(found))
    return verdict if kept else "uncertain", {"kept": kept, "verdict": verdict, "copies": list(copies)}
