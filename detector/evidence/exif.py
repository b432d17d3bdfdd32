"""EXIF, and the TIFF structure that it is: directories of numbered fields.

Source: TIFF 6.0 (Adobe, 1992) and Exif 2.32 (CIPA DC-008). Every length and place in these bytes may be a
lie: nothing is read outside the data, and each field is read once, up to a fixed length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

# A block of metadata: what it is (exif, xmp, iptc, c2pa, or a text's name after "text:"), place, bytes.
Block = tuple[str, str, bytes]

# Limits: bytes of one value, bytes of a manifest, entries of a directory, directories of a file.
LONGEST = 2**20
LONGEST_MANIFEST = 16 * 2**20
_MOST_ENTRIES = 1000
_MOST_DIRECTORIES = 20

_TEXT_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x9003: "DateTimeOriginal",
    0x9286: "UserComment",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
    0x9C9D: "XPAuthor",
    0xA433: "LensMake",
    0xA434: "LensModel",
}
_NUMBER_TAGS = {
    0x829A: "ExposureTime",
    0x829D: "FNumber",
    0x8827: "ISO",
    0x920A: "FocalLength",
}
_MANIFEST_TAG = 52545
_BLOCK_TAGS = {700: ("xmp", "XMP"), 33723: ("iptc", "IPTC"), _MANIFEST_TAG: ("c2pa", "TIFF tag 52545")}
_EXIF_DIRECTORY = 0x8769
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 129: 1}


def read_directories(data: bytes, where: str) -> Iterator[Block]:
    """What the first directory of a TIFF structure says, and the EXIF directory in it.

    Args:
        data: from the TIFF header on.
        where: the place to name for its texts.

    Yields:
        Texts, and the packets that TIFF files keep in fields; a C2PA manifest from any directory.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    first = struct.unpack_from(order + "I", data, 4)[0]
    pointers: list[int] = []
    for tag, type_, value in _entries(data, first, order):
        if tag == _EXIF_DIRECTORY and len(value) >= 4:
            pointers.append(struct.unpack(order + "I", value[:4])[0])
        elif tag in _BLOCK_TAGS:
            yield (*_BLOCK_TAGS[tag], value)
        else:
            yield from _tag(tag, type_, value, order, where)
    for pointer in pointers[:1]:
        for tag, type_, value in _entries(data, pointer, order):
            yield from _tag(tag, type_, value, order, where)
    for _ in range(_MOST_DIRECTORIES):  # a manifest may have a directory of its own
        if first + 2 > len(data):
            return
        end = first + 2 + 12 * struct.unpack_from(order + "H", data, first)[0]
        if end + 4 > len(data):
            return
        first = struct.unpack_from(order + "I", data, end)[0]
        if first == 0:
            return
        blocks = (value for tag, _, value in _entries(data, first, order) if tag == _MANIFEST_TAG)
        yield from ((*_BLOCK_TAGS[_MANIFEST_TAG], value) for value in blocks)


def _entries(data: bytes, at: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """Tag, type and value of a directory's entries."""
    wanted = {*_TEXT_TAGS, *_NUMBER_TAGS, *_BLOCK_TAGS, _EXIF_DIRECTORY}
    seen: set[int] = set()
    if at + 2 > len(data):
        return
    count = min(struct.unpack_from(order + "H", data, at)[0], _MOST_ENTRIES, (len(data) - at - 2) // 12)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, type_, length = struct.unpack_from(order + "HHI", data, entry)
        if tag not in wanted or tag in seen or type_ not in _SIZES:
            continue
        seen.add(tag)  # once only, so that many entries cannot name the same long value
        size = length * _SIZES[type_]
        place = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        limit = LONGEST_MANIFEST if tag == _MANIFEST_TAG else LONGEST
        yield tag, type_, data[place : place + min(size, limit)]


def _tag(tag: int, type_: int, value: bytes, order: str, where: str) -> Iterator[Block]:
    if tag in _TEXT_TAGS:
        if tag == 0x9286:
            text = _comment(value, order)
        elif 0x9C9B <= tag <= 0x9C9F:
            text = value.decode("utf-16-le", "replace")
        else:
            text = decoded(value)
        text = text.replace("\0", " ").strip()
        if text:
            yield f"text:{_TEXT_TAGS[tag]}", where, text.encode("utf-8", "replace")
    elif tag in _NUMBER_TAGS:
        number = _number(type_, value, order)
        if number is not None and number > 0:
            yield f"text:{_NUMBER_TAGS[tag]}", where, str(number).encode()


def _comment(value: bytes, order: str) -> str:
    """A user comment, whose first eight bytes name its character code."""
    code, text = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        # The standard leaves the order of bytes open, and writers differ: text in Latin letters tells.
        big = text[0::2].count(0) >= text[1::2].count(0)
        if text.count(0) == 0:
            big = order == ">"
        return text.decode("utf-16-be" if big else "utf-16-le", "replace")
    known = code.startswith(b"ASCII\0") or code == bytes(8) or code.startswith(b"JIS\0")
    return decoded(text if known else value)


def _number(type_: int, value: bytes, order: str) -> Fraction | None:
    try:
        if type_ in (5, 10):
            above, below = struct.unpack(order + ("II" if type_ == 5 else "ii"), value[:8])
            return Fraction(above, below) if below else None
        if type_ in (3, 4):
            return Fraction(struct.unpack_from(order + ("H" if type_ == 3 else "I"), value)[0])
    except struct.error:  # a value cut off by the end of the data
        pass
    return None


def decoded(text: bytes) -> str:
    """Text in UTF-8, or else in Latin-1, which can be read from any bytes."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
