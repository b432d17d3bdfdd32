"""Laundering: the random histories pictures go through before they reach us.

Messengers and web sites scale, crop and re-encode. Training and evaluation put both classes through
the same histories, so that no history can stand for a class.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

_KERNELS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
)
# Sides that the containers can hold; a longer picture stays as it is.
LONGEST = {"JPEG": 65500, "WEBP": 16383}


def jpeg(rgb: np.ndarray, quality: int, subsampling: int = 2) -> np.ndarray:
    """Re-encode as JPEG; ``subsampling`` 0 is 4:4:4, 2 is 4:2:0. ``uint8`` in and out."""
    return _through(rgb, format="JPEG", quality=quality, subsampling=subsampling)


def webp(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Re-encode as lossy WebP. ``uint8`` in and out."""
    return _through(rgb, format="WEBP", quality=quality, method=2)


def _through(rgb: np.ndarray, format: str, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format, **options)
    buffer.seek(0)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resize(rgb: np.ndarray, scale: float, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Scale both sides by ``scale`` (sides of at least 1 pixel remain)."""
    height, width = rgb.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(rgb).resize(size, kernel))


def crop(rgb: np.ndarray, share: float) -> np.ndarray:
    """Keep the central ``share`` of both sides, off the JPEG grid."""
    height, width = rgb.shape[:2]
    h, w = max(1, int(height * share)), max(1, int(width * share))
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(rgb[top : top + h, left : left + w])


def blur(rgb: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; ``sigma`` in pixels."""
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(sigma)))


def noise(rgb: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Additive Gaussian noise; ``sigma`` in grey levels."""
    noisy = rgb + rng.normal(0, sigma, rgb.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


SWEEP: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda rgb: rgb,
    **{f"jpeg-{q}": partial(jpeg, quality=q) for q in (95, 85, 75, 60, 45, 30)},
    **{f"webp-{q}": partial(webp, quality=q) for q in (90, 75, 50)},
    **{f"resize-{s}": partial(resize, scale=s) for s in (0.75, 0.5, 0.25, 1.5)},
    "crop-80": lambda rgb: crop(rgb, 0.8),
    "blur-1": lambda rgb: blur(rgb, 1.0),
    "noise-4": lambda rgb: noise(rgb, 4.0, np.random.default_rng(0)),
    "chain": lambda rgb: jpeg(jpeg(resize(rgb, 0.7), 80), 70),
}


def launder(rgb: np.ndarray, rng: np.random.Generator, *, smallest_scale: float = 0.35) -> np.ndarray:
    """Put a picture through one random history, drawn without looking at it.

    Down-scaling (half of the time, by a random kernel), a random crop phase, light blur or noise,
    then nothing, one or two re-encodings.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        rng: source of the history; the same seed gives the same history.
        smallest_scale: lower end of the down-scaling range; 1 is its upper end.
    """
    if rng.random() < 0.5:
        kernel = _KERNELS[int(rng.integers(len(_KERNELS)))]
        rgb = resize(rgb, float(rng.uniform(smallest_scale, 1.0)), kernel)
    height, width = rgb.shape[:2]
    top, left = (int(rng.integers(0, 8)) if side > 64 else 0 for side in (height, width))
    rgb = np.ascontiguousarray(rgb[top:, left:])
    draw = rng.random()
    if draw < 0.08:
        rgb = blur(rgb, float(rng.uniform(0.3, 1.0)))
    elif draw < 0.16:
        rgb = noise(rgb, float(rng.uniform(1, 5)), rng)
    draw = rng.random()
    if max(rgb.shape[:2]) > LONGEST["JPEG" if draw < 0.6 else "WEBP"]:
        return rgb
    if draw < 0.6:
        rgb = jpeg(rgb, int(rng.integers(30, 99)), (0, 2)[int(rng.integers(2))])
        if draw < 0.15:
            rgb = jpeg(rgb, int(rng.integers(50, 96)))
    elif draw < 0.8:
        rgb = webp(rgb, int(rng.integers(40, 96)))
    return rgb
