"""Degrading: single, named ways in which a picture loses quality before it reaches us.

`launder` and `rework` draw long random histories. Here each way has a name, so that errors can be measured
for it alone: smaller copies saved again, small copies enlarged, grey, coarse JPEG, a corner, a collage,
turned by a quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image

from .launder import LONGEST, jpeg, resize

_ENLARGED = 1024  # longest side of a small copy that is enlarged again, in pixels, at most


def smaller(rgb: np.ndarray, longest: int, quality: int = 80) -> np.ndarray:
    """Scale down to a longest side in pixels, and save as JPEG (4:2:0). Smaller pictures are only saved."""
    scale = min(1.0, longest / max(rgb.shape[:2]))
    return _saved(resize(rgb, scale) if scale < 1 else rgb, quality)


def share(rgb: np.ndarray, scale: float, quality: int = 80) -> np.ndarray:
    """Scale both sides, and save as JPEG (4:2:0)."""
    return _saved(resize(rgb, scale), quality)


def enlarged(rgb: np.ndarray, longest: int) -> np.ndarray:
    """Scale down to a longest side in pixels, enlarge again to the size before (1024 pixels at most), save
    as JPEG 90.
    """
    height, width = rgb.shape[:2]
    before = max(height, width)
    if before <= longest:
        return _saved(rgb, 90)
    small = resize(rgb, longest / before)
    factor = min(before, _ENLARGED) / before
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return _saved(np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)), 90)


def grey(rgb: np.ndarray) -> np.ndarray:
    """Grey in all three channels (ITU-R 601 luma), saved as JPEG 90."""
    return _saved(np.asarray(Image.fromarray(rgb).convert("L").convert("RGB")), 90)


def corner(rgb: np.ndarray, part: float = 0.6) -> np.ndarray:
    """The upper left corner, ``part`` of both sides, saved as JPEG 90."""
    height, width = rgb.shape[:2]
    return _saved(np.ascontiguousarray(rgb[: max(1, int(height * part)), : max(1, int(width * part))]), 90)


def pair(rgb: np.ndarray) -> np.ndarray:
    """The picture beside its mirror image, saved as JPEG 90."""
    return _saved(np.concatenate([rgb, rgb[:, ::-1]], axis=1), 90)


def bars(rgb: np.ndarray, part: float = 0.12) -> np.ndarray:
    """Black bars above and below, each ``part`` of the height, saved as JPEG 90."""
    height, width = rgb.shape[:2]
    bar = np.zeros((max(1, int(height * part)), width, 3), np.uint8)
    return _saved(np.concatenate([bar, rgb, bar]), 90)


def turned(rgb: np.ndarray, quarters: int) -> np.ndarray:
    """Turned by quarters, anticlockwise, as a phone's sensor stores a picture that its viewer turns back."""
    return np.ascontiguousarray(np.rot90(rgb, quarters))


def _saved(rgb: np.ndarray, quality: int) -> np.ndarray:
    return rgb if max(rgb.shape[:2]) > LONGEST["JPEG"] else jpeg(rgb, quality)


Way = Callable[[np.ndarray], np.ndarray]

# Smaller copies, as web sites and messengers make them.
SMALLER: Mapping[str, Way] = {
    "half-jpeg-80": partial(share, scale=1 / 2),
    "third-jpeg-80": partial(share, scale=1 / 3),
    "1024-jpeg-80": partial(smaller, longest=1024),
    "512-jpeg-80": partial(smaller, longest=512),
}
# Rougher ones.
ROUGHER: Mapping[str, Way] = {
    "256-jpeg-80": partial(smaller, longest=256),
    "enlarged-256": partial(enlarged, longest=256),
    "enlarged-128": partial(enlarged, longest=128),
    "enlarged-64": partial(enlarged, longest=64),
    "grey": grey,
    "jpeg-40": partial(jpeg, quality=40),
    "jpeg-25": partial(jpeg, quality=25),
    "jpeg-15": partial(jpeg, quality=15),
    "twice": lambda rgb: jpeg(smaller(rgb, 1280, 75), 70),
    "corner": corner,
    "pair": pair,
    "bars": bars,
    "turn-90": partial(turned, quarters=1),
    "turn-270": partial(turned, quarters=3),
}
# Both. ``uint8 [height, width, 3]`` in and out.
WAYS: Mapping[str, Way] = {**SMALLER, **ROUGHER}
