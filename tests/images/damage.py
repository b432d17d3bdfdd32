"""Files damaged in known ways, drawn in code: each format cut, altered and mislabelled."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from conftest import encode, png_chunk, shapes
from PIL import Image

WIDTH, HEIGHT = 320, 240
PICTURE = shapes(WIDTH, HEIGHT, seed=4)

# Every way of storing a picture that is damaged here.
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 90}),
    "progressive jpeg": ("JPEG", {"quality": 90, "progressive": True}),
    "png": ("PNG", {}),
    "gif": ("GIF", {"interlace": 0}),
    "interlaced gif": ("GIF", {"interlace": 1}),
    "webp": ("WEBP", {"quality": 80}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "avif": ("AVIF", {"quality": 80, "speed": 10}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg 2000": ("JPEG2000", {}),
    "heic": ("HEIF", {"quality": 80}),
    "jpeg xl": ("JXL", {}),
}
CUTS = (1, 2, 100)  # bytes off the end
SHARES = (0.95, 0.75, 0.5, 0.25, 0.05)  # of the file kept


def whole_files() -> dict[str, bytes]:
    """An undamaged file of each kind."""
    files = {name: encode(PICTURE, format, **options) for name, (format, options) in WHOLE.items()}
    files["interlaced png"] = interlaced_png(PICTURE)
    files["transparent webp"] = encode(rgba(), "WEBP", quality=80)
    return files


def rgba() -> Image.Image:
    """The picture with an alpha channel that is opaque but for a corner."""
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:20, :20] = 0
    return Image.fromarray(np.concatenate([PICTURE, alpha], axis=2))


def interlaced_png(rgb: np.ndarray) -> bytes:
    """A PNG in seven passes (Adam7), which Pillow reads but does not write."""
    height, width = rgb.shape[:2]
    rows = b""
    for x, y, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in rgb[y::down, x::across])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def animation(format: str, count: int = 4, **options: Any) -> bytes:
    """An animation of quite different frames."""
    frames = [Image.fromarray(shapes(WIDTH, HEIGHT, seed=10 + i)) for i in range(count)]
    return encode(frames[0], format, save_all=True, append_images=frames[1:], duration=200, **options)


def chunk_places(png: bytes) -> list[tuple[bytes, int, int]]:
    """Name, start and end of each PNG chunk."""
    found, at = [], 8
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        found.append((name, at, at + 12 + length))
        at += 12 + length
    return found


def wrong_crc(png: bytes, wanted: bytes) -> bytes:
    """The PNG with a false checksum on the first chunk of that name."""
    end = next(end for name, _, end in chunk_places(png) if name == wanted)
    return png[: end - 1] + bytes([png[end - 1] ^ 0xFF]) + png[end:]


def wrong_sequence(apng: bytes) -> bytes:
    """The APNG with a false number on the third of its numbered chunks, checksum mended."""
    numbered = [(name, at, end) for name, at, end in chunk_places(apng) if name in (b"fcTL", b"fdAT")]
    name, at, end = numbered[2]
    body = struct.pack(">I", 77) + apng[at + 12 : end - 4]
    return apng[:at] + png_chunk(name, body) + apng[end:]


def damaged_files() -> dict[str, bytes]:
    """All damaged files by a name that says what was done."""
    files: dict[str, bytes] = {}
    for name, data in whole_files().items():
        for cut in CUTS:
            files[f"{name}, {cut} bytes off"] = data[:-cut]
        for share in SHARES:
            files[f"{name}, {share:.0%} kept"] = data[: int(share * len(data))]
        middle = bytearray(data)
        at = len(data) * 2 // 3
        middle[at : at + 8] = bytes(8)
        files[f"{name}, 8 zero bytes within"] = bytes(middle)
    png = encode(PICTURE)
    paletted = encode(Image.fromarray(PICTURE).quantize(64))
    files["png, wrong IDAT checksum"] = wrong_crc(png, b"IDAT")
    files["png, wrong IHDR checksum"] = wrong_crc(png, b"IHDR")
    files["png, wrong PLTE checksum"] = wrong_crc(paletted, b"PLTE")
    files["png, wrong IEND checksum"] = wrong_crc(png, b"IEND")
    files["png, no IEND"] = png[:-12]
    broken = zlib.decompress(b"".join(png[a + 8 : e - 4] for n, a, e in chunk_places(png) if n == b"IDAT"))
    packed = bytearray(zlib.compress(broken))
    packed[-1] ^= 0xFF
    files["png, wrong Adler checksum"] = png[:33] + png_chunk(b"IDAT", bytes(packed)) + png[-12:]
    apng, gif, webp = animation("PNG"), animation("GIF"), animation("WEBP", lossless=True)
    files["apng, wrong sequence"] = wrong_sequence(apng)
    for share in (0.9, 0.6, 0.15):
        files[f"apng, {share:.0%} kept"] = apng[: int(share * len(apng))]
        files[f"animated gif, {share:.0%} kept"] = gif[: int(share * len(gif))]
        files[f"animated webp, {share:.0%} kept"] = webp[: int(share * len(webp))]
    files["animated gif, no trailer"] = gif[:-1]
    jpeg = encode(PICTURE, "JPEG", quality=90)
    files["foreign bytes before a jpeg"] = b"\0\n" + jpeg
    files["a jpeg without tables"] = jpeg.replace(b"\xff\xdb", b"\xff\xfd")
    return files
