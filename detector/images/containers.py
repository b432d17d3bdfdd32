"""Cleaning a file before it is decoded: parts that hold no pixels must not be able to stop a decoder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class WebpPicture:
    """The coded picture of a still WebP: its chunk's name, what there is of it, its size, and its alpha."""

    name: bytes
    body: bytes
    width: int
    height: int
    alpha: bytes

    def continued(self, filler: bytes) -> bytes:
        """Its chunks, alpha first, with the coded data followed by a filler."""
        alpha = _chunk(b"ALPH", self.alpha) if self.alpha else b""
        return alpha + _chunk(self.name, self.body + filler)

    def file(self, filler: bytes) -> bytes:
        """A WebP of this picture alone."""
        head = b""
        if self.alpha:
            size = (self.width - 1).to_bytes(3, "little") + (self.height - 1).to_bytes(3, "little")
            head = _chunk(b"VP8X", b"\x10\0\0\0" + size)
        return _riff(head + self.continued(filler))


def webp_picture(data: bytes) -> WebpPicture | None:
    """The coded picture in a still WebP; ``None`` when it holds none."""
    at, alpha = 12, b""
    for _ in range(100):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        if name == b"VP8 " and len(body) >= 10:
            width, height = (int.from_bytes(body[place : place + 2], "little") & 0x3FFF for place in (6, 8))
            return WebpPicture(name, body, max(1, width), max(1, height), alpha)
        if name == b"VP8L" and len(body) >= 5:
            bits = int.from_bytes(body[1:5], "little")
            return WebpPicture(name, body, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, b"")
        if name == b"ALPH" and len(body) == length:
            alpha = body
        elif name not in (b"VP8X", b"ICCP", b"EXIF", b"XMP "):
            break
        at += 8 + length + length % 2
    return None


def webp_frames(data: bytes) -> tuple[bytes, list[bytes]]:
    """An animated WebP in parts.

    Returns:
        What comes before its frames, and the frames' chunks: the last may be cut off.
    """
    at, head, frames = 12, b"", []
    for _ in range(100_000):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if name == b"ANMF":
            frames.append(data[at:end])
        elif name in (b"VP8X", b"ANIM", b"ICCP") and not frames:
            head += data[at:end]
        elif not frames or len(name) < 4:
            break
        at = end
    return head, frames


def webp_animation(head: bytes, frames: list[bytes], last: bytes) -> bytes:
    """An animated WebP of its parts (see `webp_frames`), with new chunks for the last frame's picture."""
    return _riff(head + b"".join(frames[:-1]) + _chunk(b"ANMF", frames[-1][8:24] + last))


def webp_of_frames(head: bytes, frames: list[bytes]) -> bytes:
    """An animated WebP of its parts (see `webp_frames`)."""
    return _riff(head + b"".join(frames))


def webp_still(frame: bytes) -> bytes:
    """A frame's picture as a WebP of its own, to be read by `webp_picture`."""
    return _riff(frame[24:])


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


# Codings of pictures in HEIF files, by the type of their items, that HEVC decoders cannot read.
_OTHER_CODINGS = {
    b"avc1": "AVC",
    b"vvc1": "VVC",
    b"evc1": "EVC",
    b"av01": "AV1",
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"unci": "uncompressed samples",
    b"hvt1": "tiles of HEVC",
    b"tili": "tiled images",
}


def heif_other_coding(data: bytes) -> str:
    """The coding of a HEIF file's pictures where it is none that every libheif reads, in words; or empty."""
    at = 0
    for _ in range(1000):
        at = data.find(b"infe", at, 2**20)
        if at < 0 or at + 16 > len(data):
            return ""
        # After version and flags, the item's number and its protection.
        start = at + 8 + (4 if data[at + 4] >= 3 else 2) + 2
        type_ = data[start : start + 4]
        if type_ in _OTHER_CODINGS:
            return f"{_OTHER_CODINGS[type_]} ({type_.decode()})"
        at += 4
    return ""


_JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jxl(data: bytes) -> bool:
    """Whether this is JPEG XL, bare or in boxes."""
    return data.startswith((b"\xff\x0a", _JXL_BOXES))


def jxl_size(data: bytes) -> tuple[int, int]:
    """Width and height in a JPEG XL file's head; zeros where it has none.

    Source: ISO/IEC 18181-1, SizeHeader.
    """
    if data.startswith(_JXL_BOXES):
        data = _jxl_codestream(data)
    if not data.startswith(b"\xff\x0a"):
        return 0, 0
    bits, at = int.from_bytes(data[2:18], "little"), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    def length(small: int) -> int:
        return 8 * (1 + read(5)) if small else 1 + read((9, 13, 18, 30)[read(2)])

    small = read(1)
    height = length(small)
    ratio = read(3)
    if ratio:
        across, down = _JXL_RATIOS[ratio - 1]
        return height * across // down, height
    return length(small), height


def _jxl_codestream(data: bytes) -> bytes:
    """The start of the coded picture in a JPEG XL file of boxes."""
    at = 0
    for _ in range(1000):
        if at + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if name == b"jxlc":
            return data[start : start + 32]
        if name == b"jxlp":  # in parts, each with a number
            return data[start + 4 : start + 36]
        if size == 0 or at + size < start:
            break
        at += size
    return b""
