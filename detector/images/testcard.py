"""A picture drawn in code, for the self-test and for timing."""

from __future__ import annotations

import numpy as np


def picture() -> np.ndarray:
    """A 320 x 256 picture of gradients, discs and stripes; integer arithmetic only, the same everywhere."""
    y, x = np.mgrid[0:256, 0:320].astype(np.int64)
    red = (x * 3 + y * 2) % 256
    green = 255 - (x * y // 97) % 256
    blue = np.where((x - 160) ** 2 + (y - 128) ** 2 < 90**2, (x * 7 + y * 11) % 251, (y * 5) % 256)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)
