"""Cleaning a file before it is decoded: parts that hold no pixels must not be able to stop a decoder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
_JPEG_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 to APP13, APP15, COM; not JFIF and Adobe


def cleaned(data: bytes) -> bytes:
    """The file without its metadata, as far as that could make decoding fail.

    A compressed PNG text that expands without end stops Pillow; so does a malformed JPEG profile.
    """
    return _without_jpeg_metadata(_without_ancillary_png_chunks(data))


def _without_ancillary_png_chunks(data: bytes) -> bytes:
    if not data.startswith(PNG):
        return data
    kept = [PNG]
    for name, start, end in png_chunks(data):
        if name in _PNG_PIXEL_CHUNKS or end > len(data):
            kept.append(data[start:end])
    return b"".join(kept)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk up to IEND; the last may end beyond the data."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        yield name, at, end
        if name == b"IEND":
            return
        at = end


def png_transparency(data: bytes) -> bytes | None:
    """What a PNG's tRNS chunk holds; ``None`` without one, and for one whose checksum is wrong."""
    if not data.startswith(PNG):
        return None
    for name, start, end in png_chunks(data):
        if name == b"IDAT" or end > len(data):
            return None
        if name == b"tRNS":
            body = data[start + 8 : end - 4]
            right = zlib.crc32(name + body) == int.from_bytes(data[end - 4 : end], "big")
            return body if right else None
    return None


def png_renumbered(data: bytes) -> bytes:
    """An animated PNG with the numbers of its parts, and of its frames, put right."""
    kept, number, frames = [PNG], 0, 0
    names = [name for name, _, end in png_chunks(data) if end <= len(data)]
    frames = names.count(b"fcTL")
    for name, start, end in png_chunks(data):
        body = data[start + 8 : max(start + 8, end - 4)]
        if name in (b"fcTL", b"fdAT"):
            body = struct.pack(">I", number) + body[4:]
            number += 1
        elif name == b"acTL" and frames:
            body = struct.pack(">I", frames) + body[4:]
        else:
            kept.append(data[start:end])
            continue
        if end > len(data):  # the cut lies in this one: its length stays as it was
            kept.append(data[start : start + 8] + body)
        else:
            kept.append(struct.pack(">I4s", len(body), name) + body)
            kept.append(struct.pack(">I", zlib.crc32(name + body)))
    return b"".join(kept)


def _without_jpeg_metadata(data: bytes) -> bytes:
    """Drop the segments before a JPEG's first scan that hold no pixels."""
    if not data.startswith(b"\xff\xd8\xff"):
        return data
    kept, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and len(data) > at + 3:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # the scan, or nothing to skip by
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker not in _JPEG_METADATA:
            kept.append(data[at:end])
        at = end
    kept.append(data[at:])
    return b"".join(kept)


def jpeg_scans(data: bytes) -> tuple[int, int, bool]:
    """How far a JPEG goes.

    Returns:
        The number of scans that begin, where the last whole segment or scan ends, and whether the picture
        is coded in several scans (progressive).
    """
    at, scans, progressive = 2, 0, False
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
            if at < 0:
                return scans, len(data), progressive
            continue
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            return scans, at, progressive
        progressive = progressive or marker in (0xC2, 0xC6, 0xCA, 0xCE)
        at = end
        if marker == 0xDA:
            scans += 1
            at = _scan_end(data, end)
    return scans, min(at, len(data)), progressive


def _scan_end(data: bytes, at: int) -> int:
    """Where the coded data of a scan ends: at the next marker that is no restart, or with the data."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data) if at < 0 else at


def riff_missing(data: bytes) -> int:
    """How many bytes a RIFF file (WebP) lacks of what its head announces; 0 for other files."""
    if not data.startswith(b"RIFF") or len(data) < 8:
        return 0
    return max(0, 8 + int.from_bytes(data[4:8], "little") - len(data))


def webp_continued(data: bytes, filler: bytes) -> bytes | None:
    """A still WebP with its coded picture made longer by a filler; ``None`` when it holds none.

    Args:
        filler: repeated up to what the picture at most takes.
    """
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            body = data[at + 8 : at + 8 + length]
            missing = length - len(body) + 65536
            body += (filler * (missing // len(filler) + 1))[: missing + (len(body) + missing) % 2]
            riff = b"WEBP" + name + struct.pack("<I", len(body)) + body
            return b"RIFF" + struct.pack("<I", len(riff)) + riff
        if name not in (b"VP8X", b"ICCP", b"ALPH", b"EXIF", b"XMP "):
            return None
        at += 8 + length + length % 2
    return None
