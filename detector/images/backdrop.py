"""Pictures that are not opaque, as they are seen on a page: on white and on black.

The RGB samples of a transparent pixel are seen nowhere, and alpha alone can hold a whole picture. So a
picture that is not opaque is judged as stored and as it is seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

BACKDROPS = {"white": 255, "black": 0}


def opacity(image: Image.Image, transparency: bytes | None = None) -> np.ndarray | None:
    """Opacity of a loaded image's current frame.

    Args:
        transparency: a PNG's tRNS chunk, where Pillow has not seen it.

    Returns:
        ``[height, width]``, dtype ``uint8``, 0..255; ``None`` where the image has no such thing.
    """
    if image.mode in ("RGBA", "LA"):
        return np.asarray(image.getchannel("A"))
    if image.mode in ("RGBa", "La", "PA"):
        alpha = image.convert({"RGBa": "RGBA", "La": "LA", "PA": "RGBA"}[image.mode]).getchannel("A")
        return np.asarray(alpha).copy()
    found = image.info.get("transparency") if transparency is None else transparency
    if found is None or isinstance(found, str):
        return None
    if image.mode == "P":
        table = np.full(256, 255, np.uint8)
        if isinstance(found, bytes):
            table[: len(found[:256])] = np.frombuffer(found[:256], np.uint8)
        elif isinstance(found, int) and 0 <= found < 256:
            table[found] = 0
        return np.asarray(table[np.asarray(image)])
    return _colour_key(image, found)


def _colour_key(image: Image.Image, key: bytes | int | tuple[int, ...]) -> np.ndarray | None:
    """Transparent where a pixel has the colour that a file names."""
    samples = np.asarray(image)
    bands = 1 if samples.ndim == 2 else samples.shape[2]
    if isinstance(key, bytes):
        if len(key) != 2 * bands:
            return None
        key = tuple(int.from_bytes(key[at : at + 2], "big") for at in range(0, len(key), 2))
    values = (key,) if isinstance(key, int) else tuple(key)
    if len(values) != bands:
        return None
    same = samples.reshape(*samples.shape[:2], bands) == np.array(values)
    return np.where(same.all(axis=2), 0, 255).astype(np.uint8)


def looks(rgb: np.ndarray, alpha: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    """A picture as stored, and as it is seen where it is not opaque.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        alpha: opacity, ``[height, width]``, dtype ``uint8``, or ``None``.

    Yields:
        The name of the backdrop (empty for the picture as stored) and the picture, like ``rgb``.
    """
    yield "", rgb
    if alpha is not None:
        for name, value in BACKDROPS.items():
            yield name, seen_on(rgb, alpha, value)


def seen_on(rgb: np.ndarray, alpha: np.ndarray, value: int) -> np.ndarray:
    """The picture on a grey backdrop: ``(rgb * alpha + value * (255 - alpha)) / 255``, rounded.

    Computed in whole numbers, a band of rows at a time, so that it is the same everywhere.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        alpha: ``[height, width]``, dtype ``uint8``.
        value: of the backdrop, 0..255.
    """
    height, width = rgb.shape[:2]
    samples, seen = rgb.reshape(height, -1), np.empty((height, 3 * width), np.uint8)
    step = max(1, 2**18 // max(1, width))
    for at in range(0, height, step):
        share = np.repeat(alpha[at : at + step], 3, axis=1).astype(np.uint16)
        mixed = samples[at : at + step] * share + np.uint16(value) * (255 - share)
        seen[at : at + step] = (mixed + 127) // 255  # at most 255 * 255 + 127, which 16 bits hold
    return seen.reshape(rgb.shape)
