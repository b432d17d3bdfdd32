"""Re-packing pixels: the same picture in other wrappings, for the proof that only pixels count."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

# What is false in every copy: bytes behind the end, an XMP packet, and a box like those of C2PA.
TRAILING = b"\n<!-- trailing bytes: Midjourney, Stable Diffusion, DALL-E, parameters: steps=20 -->\n" * 4
XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    b"<rdf:Description xmlns:Iptc4xmpExt='http://iptc.org/std/Iptc4xmpExt/2008-02-29/' "
    b"Iptc4xmpExt:DigitalSourceType='http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'/>"
    b"</rdf:RDF></x:xmpmeta>"
)
JUMBF = (
    struct.pack(">I4s", 46, b"jumb")
    + struct.pack(">I4s", 38, b"jumd")
    + b"c2pa"
    + bytes(12)
    + b"\x03c2pa: false\x00"
)


C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def hostile_exif(orientation: int = 6) -> bytes:
    """EXIF data with a false camera, a false generator and an orientation that is not 1."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F], exif[0x0110] = "Canon", "EOS R5"
    exif[0x0131] = "Stable Diffusion XL; prompt: a cat"
    return exif.tobytes()


def hostile_icc() -> bytes:
    """A profile that swaps red and blue: applied, it would change every pixel."""

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 0x0100) + bytes(2)
    tags = {
        b"rXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def repacked(rgb: np.ndarray, alpha: np.ndarray | None = None) -> dict[str, bytes]:
    """Lossless copies of pixels, without metadata and with hostile metadata.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        alpha: its opacity, ``[height, width]``, dtype ``uint8``, where it is not opaque.

    Returns:
        Encoded files by a name for people. Containers that cannot hold the size or alpha are left out.
    """
    image = Image.fromarray(rgb if alpha is None else np.dstack([rgb, alpha]))
    copies: dict[str, bytes] = {}

    def add(name: str, format: str, tail: bytes = b"", **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        copies[name] = buffer.getvalue() + tail

    exif, icc = hostile_exif(), hostile_icc()
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "masterpiece, steps: 20, sampler: Euler a", zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    add("PNG, stripped", "PNG", compress_level=1)
    add(
        "PNG, hostile metadata",
        "PNG",
        TRAILING,
        compress_level=1,
        exif=exif,
        icc_profile=icc,
        pnginfo=text,
        dpi=(1, 1),
    )
    copies["PNG, hostile metadata"] = _png_with(copies["PNG, hostile metadata"], b"caBX", JUMBF)
    if max(rgb.shape[:2]) <= 16383:
        webp: dict[str, Any] = {"lossless": True, "quality": 0, "method": 0, "exact": True}
        add("WebP lossless, stripped", "WEBP", **webp)
        add("WebP lossless, hostile metadata", "WEBP", TRAILING, exif=exif, icc_profile=icc, xmp=XMP, **webp)
    add("TIFF, stripped", "TIFF")
    add("TIFF, hostile metadata", "TIFF", TRAILING, exif=exif, icc_profile=icc, tiffinfo={700: XMP})
    if alpha is None:
        add("BMP, trailing bytes", "BMP", TRAILING)
    return copies


def tampered(data: bytes, format: str) -> dict[str, bytes]:
    """The original file with hostile metadata put in beside its untouched image data.

    Args:
        data: the file.
        format: its container, as `aidetect.detector.images.pixels.Pixels.format` names it.

    Returns:
        Encoded files by a name for people.
    """
    insert: dict[str, Callable[[bytes], bytes]] = {
        "JPEG": _jpeg_with,
        "MPO": _jpeg_with,
        "PNG": lambda d: _png_with(d, b"caBX", JUMBF),
        "GIF": _gif_with,
        "WEBP": _webp_with,
        "AVIF": _bmff_with,
        "HEIF": _bmff_with,
    }
    copies = {}
    if format in insert:
        copies[f"{format} original, hostile metadata"] = insert[format](data)
    if format == "TIFF":
        turned = _tiff_turned(data)
        if turned is not None:
            copies["TIFF original, false orientation"] = turned
    if format not in ("AVIF", "HEIF"):  # their last box may reach to the end of the file
        copies[f"{format} original, trailing bytes"] = data + TRAILING
    return copies


def _png_with(data: bytes, name: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + body))
    return data[:33] + struct.pack(">I", len(body)) + name + body + crc + data[33:]


def _jpeg_with(data: bytes) -> bytes:
    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    exif = hostile_exif()
    exif = exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif
    extra = segment(0xE1, exif)
    extra += segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    extra += segment(0xE2, b"ICC_PROFILE\0\x01\x01" + hostile_icc())
    extra += segment(0xEB, b"JP\x00\x01\x00\x00\x00\x01" + JUMBF)
    extra += segment(0xFE, b"made with Stable Diffusion")
    return data[:2] + extra + data[2:]


def _gif_with(data: bytes) -> bytes:
    flags = data[10]
    at = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    note = b"made with Stable Diffusion"
    return data[:at] + b"\x21\xfe" + bytes([len(note)]) + note + b"\0" + data[at:]


def _webp_with(data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    size = int.from_bytes(data[4:8], "little")
    body = data[12 : 8 + size] + b"\0" * (size % 2)
    body += chunk(b"EXIF", hostile_exif()) + chunk(b"XMP ", XMP) + chunk(b"C2PA", JUMBF)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _bmff_with(data: bytes) -> bytes:
    body = C2PA_UUID + JUMBF
    return data + struct.pack(">I4s", 8 + len(body), b"uuid") + body


def _tiff_turned(data: bytes) -> bytes | None:
    """The file with the orientation entry of its first directory set to 6; ``None`` without one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack(order + "H", data[entry : entry + 2])[0] == 274:
            return data[: entry + 8] + struct.pack(order + "HH", 6, 0) + data[entry + 12 :]
    return None
