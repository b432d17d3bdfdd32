"""A zoo of files: every format in every mode that Pillow writes, and ways to damage them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from conftest import noise, shapes
from PIL import Image

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F", "LAB")
# What Pillow (and its plug-ins) write; options by format, so that files stay small and quick.
FORMATS: dict[str, list[dict[str, Any]]] = {
    "AVIF": [{"speed": 10}],
    "BMP": [{}],
    "BLP": [{}],
    "DDS": [{}],
    "DIB": [{}],
    "GIF": [{}],
    "HEIF": [{"quality": 70}],
    "ICNS": [{}],
    "ICO": [{"sizes": [(32, 24)]}],
    "IM": [{}],
    "JPEG": [{}, {"progressive": True}],
    "JPEG2000": [{"num_resolutions": 2}],
    "JXL": [{}],
    "MPO": [{}],
    "MSP": [{}],
    "PCX": [{}],
    "PNG": [{}],
    "PPM": [{}],
    "QOI": [{}],
    "SGI": [{}],
    "SPIDER": [{}],
    "TGA": [{}, {"compression": "tga_rle"}],
    "TIFF": [
        *({"compression": name} for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *({"compression": name} for name in ("group4", "zstd", "tiff_lzma")),
    ],
    "WEBP": [{"quality": 70}, {"lossless": True}],
    "XBM": [{}],
}
ANIMATED = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")


def in_mode(rgb: np.ndarray, mode: str) -> Image.Image:
    """A picture in a mode of Pillow's; one index of a palette is transparent."""
    image = Image.fromarray(rgb)
    if mode == "I;16":
        return Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(rgb[:, :, 2]))
        return image
    if mode == "P":
        image = image.quantize(64)
        image.info["transparency"] = 3
        return image
    return image.convert(mode)


def animals() -> Iterator[tuple[str, bytes]]:
    """A valid file of every format in every mode that it takes, by name."""
    import pillow_heif
    import pillow_jxl  # noqa: F401  (it registers itself)

    pillow_heif.register_heif_opener(thumbnails=False)
    rgb = np.concatenate([shapes(32, 12), noise(32, 12)])
    for format, variants in FORMATS.items():
        for number, options in enumerate(variants):
            for mode in MODES:
                data = _saved(in_mode(rgb, mode), format, options)
                if data is not None:
                    yield f"{format} {number} {mode}", data
    frames = [Image.fromarray(shapes(32, 24, seed)) for seed in range(3)]
    for format in ANIMATED:
        more = {} if format == "TIFF" else {"duration": 50}
        data = _saved(frames[0], format, {"save_all": True, "append_images": frames[1:], **more})
        assert data is not None
        yield f"{format} animated", data


def _saved(image: Image.Image, format: str, options: dict[str, Any]) -> bytes | None:
    """The file, or ``None`` where the format does not take the mode."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **options)
    except (OSError, ValueError, KeyError, SystemError, TypeError, RuntimeError):
        return None
    return buffer.getvalue()


def damaged(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The file cut at ten places, with ten bytes changed, and between foreign bytes."""
    for tenth in range(10):
        yield f"cut at {tenth} tenths", data[: len(data) * tenth // 10 + rng.randrange(len(data) // 10 + 1)]
    changed = bytearray(data)
    for _ in range(10):
        changed[rng.randrange(len(data))] = rng.randrange(256)
    yield "ten bytes changed", bytes(changed)
    foreign = rng.randbytes(50)
    yield "foreign bytes before", foreign + data
    yield "foreign bytes behind", data + foreign


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The file damaged at random: bytes changed, lengths blown up, cut, doubled, joined with another."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6, 12))):
        # Heads are where decoders go wrong: half of the damage lies there.
        reach = len(found) if rng.random() < 0.5 else min(len(found), 200)
        if reach == 0:
            break
        at = rng.randrange(reach)
        what = rng.randrange(8)
        if what < 3:
            found[at] = rng.randrange(256)
        elif what == 3:
            found[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0")
            )
        elif what == 4:
            del found[rng.randrange(len(found)) :]
        elif what == 5:
            del found[at : at + rng.randrange(1, 60)]
        elif what == 6:
            found[at:at] = found[at : at + rng.randrange(1, 200)]
        else:
            found[at:] = other[rng.randrange(len(other)) :]
    return bytes(found)
