"""Cautions: properties of the pixels with which scores are known to be less reliable."""

from __future__ import annotations

import numpy as np

SMALL = 224
TINY = 64


def cautions(width: int, height: int, whole: np.ndarray) -> list[str]:
    """Warnings for a picture, each ``slug: text``; they never change a score.

    Args:
        width, height: of the picture, or of what is looked at of it, in pixels.
        whole: its whole-picture view, ``[size, size, 3]``, dtype ``uint8``.
    """
    found = []
    short = min(width, height)
    if short < TINY:
        found.append(f"tiny: {width}x{height} is too small for a reliable score")
    elif short < SMALL:
        found.append(f"small: {width}x{height} has little native detail; the score is less reliable")
    if max(width, height) > 4 * short:
        found.append("strip: very long and narrow; only parts of it are looked at")
    if whole.std() < 4:
        found.append("flat: almost one colour; there is nothing to judge")
        return found
    red, green, blue = (whole[..., channel] for channel in range(3))
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    grey = float((high - low < 24).mean())
    extreme = float(((low > 225) | (high < 40)).mean())
    if grey > 0.9 and extreme > 0.6:
        found.append("document: looks like a page, a screenshot of text or line art; few such were tested")
    return found
