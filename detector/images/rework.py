"""Reworking: what people and their apps do to pictures beyond passing them on.

`launder` does what a messenger or a web site does unasked. Here are the things done on purpose, and rough
ones: sharpening, filters for colour, enlarging, turning, cleaning of noise, palettes, a photograph of a
screen. Like laundering it looks at neither the picture nor its class, so that nothing done to it can stand
for a class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from .launder import blur, jpeg, noise, resize, webp

LARGEST = 2400  # longest side of what is reworked, in pixels
_SIDES = 640, 1600  # of those that are scaled down first


def _scaled(rgb: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    kernel = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[rng.integers(3)]
    return resize(rgb, scale, kernel)


def _sharpen(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mask = ImageFilter.UnsharpMask(rng.uniform(0.6, 2.5), int(rng.integers(40, 180)), int(rng.integers(4)))
    return np.asarray(Image.fromarray(rgb).filter(mask))


def _colour(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(rgb)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.4, 1.7)
    image = ImageEnhance.Color(image).enhance(saturation)
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.4))
    levels = np.arange(256) / 255
    curves = [255 * levels ** rng.uniform(0.75, 1.33) * rng.uniform(0.88, 1.12) for _ in range(3)]
    if rng.random() < 0.5:  # brightness alone, no tint
        curves = [curves[0]] * 3
    return np.asarray(image.point(np.clip(np.rint(np.concatenate(curves)), 0, 255).astype(int).tolist()))


def _enlarge(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _scaled(rgb, min(rng.uniform(1.2, 2.4), max(1.0, LARGEST / max(rgb.shape[:2]))), rng)


def _denoise(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(rgb)
    smooth = image.filter(ImageFilter.MedianFilter(3))
    if rng.random() < 0.4:
        smooth = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.6)))
    return np.asarray(Image.blend(image, smooth, rng.uniform(0.5, 1.0)))


def _grain(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grains: np.ndarray = rng.normal(0, 1, rgb.shape[:2]).astype(np.float32)
    if rng.random() < 0.5:
        grains = grains + np.roll(grains, 1, 0)
        grains = (grains + np.roll(grains, 1, 1)) / 2  # coarser, and as strong
    grained = np.clip(rgb + rng.uniform(3, 12) * grains[..., None], 0, 255)
    return np.asarray(grained, np.uint8)


def _turn(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned a little, or seen at a slant, and cut so that no border shows."""
    height, width = rgb.shape[:2]
    inward = rng.uniform(0.0, 0.08, 8)
    left, right = inward[:2] * width, (1 - inward[2:4]) * width
    top, bottom = inward[4:6] * height, (1 - inward[6:]) * height
    corners = (left[0], top[0], left[1], bottom[0], right[0], bottom[1], right[1], top[1])
    image = Image.fromarray(rgb)
    turned = image.transform((width, height), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    return np.asarray(turned)


def _palette(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dither = (Image.Dither.NONE, Image.Dither.FLOYDSTEINBERG)[int(rng.random() < 0.7)]
    colours = int(rng.choice([64, 128, 256, 256]))
    return np.asarray(Image.fromarray(rgb).quantize(colours, dither=dither).convert("RGB"))


def _again(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saved, cropped off its blocks, and scaled."""
    rgb = _saved(rgb, rng, 35, 85)
    top, left = (int(rng.integers(1, max(2, side // 8))) if side > 64 else 0 for side in rgb.shape[:2])
    return _scaled(rgb[top:, left:], rng.uniform(0.6, 1.1), rng)


def _screen(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photographed from a screen: a slant, the beat of two grids, uneven light, noise."""
    rgb = blur(_turn(rgb, rng), rng.uniform(0.4, 1.0))
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    period, angle = rng.uniform(2.2, 9.0), rng.uniform(-0.3, 0.3)
    across = np.cos(angle) * x + np.sin(angle) * y
    along = np.cos(angle) * y - np.sin(angle) * x
    light = 1 + rng.uniform(0, 0.08) * np.sin(2 * np.pi * across / period)
    light += rng.uniform(0, 0.06) * np.sin(2 * np.pi * along / period)
    centre = rng.uniform(0.3, 0.7, 2)
    light *= 1 - rng.uniform(0, 0.6) * ((x / width - centre[0]) ** 2 + (y / height - centre[1]) ** 2)
    lit = rgb * light[..., None] * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    return noise(lit, rng.uniform(1, 5), rng)


def _saved(rgb: np.ndarray, rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    quality, subsampling = int(rng.integers(low, high)), (0, 2, 2)[int(rng.integers(3))]
    return jpeg(rgb, quality, subsampling)


WAYS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "sharpen": _sharpen,
    "colour": _colour,
    "enlarge": _enlarge,
    "denoise": _denoise,
    "grain": _grain,
    "turn": _turn,
    "palette": _palette,
    "again": _again,
    "screen": _screen,
}


def rework(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rework a picture at random: scaled down (six times in ten), one or two `WAYS`, saved (nine in ten).

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        rng: source of what is done; the same seed does the same.

    Returns:
        ``uint8``, its longer side at most a tenth over `LARGEST` pixels.
    """
    ways = [list(WAYS)[i] for i in rng.choice(len(WAYS), 1 + int(rng.random() < 0.4), replace=False)]
    longest = max(rgb.shape[:2])
    side = rng.uniform(*_SIDES) if rng.random() < 0.6 else LARGEST
    if side < longest:
        rgb = _scaled(rgb, side / longest, rng)
    for way in ways:
        rgb = WAYS[way](rgb, rng)
    draw = rng.random()
    if draw < 0.7:
        return _saved(rgb, rng, 40, 96)
    if draw < 0.9:
        return webp(rgb, int(rng.integers(40, 96)))
    return rgb
