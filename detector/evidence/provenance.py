"""Provenance tags: what was found, written as XMP into an image file without touching its image data.

The tag is the IPTC property ``DigitalSourceType`` with the value ``trainedAlgorithmicMedia`` (IPTC Photo
Metadata Standard; values: https://cv.iptc.org/newscodes/digitalsourcetype/), and, in a namespace of our own,
who says so on what grounds.

Where the packet goes, by "XMP Specification Part 3" (Adobe, 2020): an APP1 segment of a JPEG, an ``iTXt``
chunk of a PNG, an ``XMP `` chunk of a WebP. Other containers get a sidecar file. The image data, and every
other segment or chunk, is copied byte for byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import InputError
from ..images.pixels import DEFAULT_FRAMES, DEFAULT_MAX_PIXELS, decode
from ..record import Record
from ..versions import tool
from . import xmp

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
OURS = "https://aidetect.invalid/ns/1.0/"
SOURCE_TYPE = f"{{{IPTC}}}DigitalSourceType"
AI_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_PREFIXES = {IPTC: "Iptc4xmpExt", OURS: "aidetect"}


@dataclass(frozen=True)
class Tagged:
    """An image with its tag.

    Attributes:
        data: the image file; the very bytes given when the tag is in a sidecar, or was there already.
        sidecar: the XMP file that goes beside it as ``NAME.EXT.xmp``, or ``None``.
        changed: whether anything differs from what was given.
        note: what a person should know: why a sidecar, what was replaced; else empty.
        sealed: whether the image has a C2PA manifest.
    """

    data: bytes
    sidecar: bytes | None
    changed: bool
    note: str = ""
    sealed: bool = False


def statement(record: Record, model: str, card_sha256: str, views: str, when: datetime) -> dict[str, str]:
    """The properties of a tag, by name as in `xmp`.

    ``DigitalSourceType`` is claimed for the verdict ``ai`` alone; the other properties are in `OURS`.

    Args:
        record: a scored image (``status`` is ``ok``).
        model: the model's name.
        card_sha256: SHA-256 of its card.
        views: the mode it looked in.
        when: must be aware of its time zone.
    """
    maker = tool()
    ours = {
        "Tool": maker["name"],
        "ToolVersion": maker["version"],
        "DetectionModel": model,  # not "Model" or "Date": readers that drop namespaces would mix them up
        "ModelCardSHA256": card_sha256,
        "Views": views,
        "Verdict": str(record.verdict),
        "Probability": f"{record.probability:.6f}",
        "PixelsSHA256": str(record.pixels_sha256),
        "DetectionDate": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    claim = {SOURCE_TYPE: AI_SOURCE} if record.verdict == "ai" else {}
    return claim | {_our(name): value for name, value in ours.items()}


def tag(
    data: bytes,
    format: str,
    properties: Mapping[str, str],
    sidecar: bytes | None = None,
    *,
    force: bool = False,
) -> Tagged:
    """Put a tag into an image file, or into a sidecar where the file cannot or should not hold it.

    A tag that differs in its date alone is left as it is.

    Args:
        data: the image file.
        format: its container, as `aidetect.detector.images.pixels.Pixels.format` names it.
        properties: from `statement`.
        sidecar: the sidecar that is there already, to be merged with.
        force: write into a file with a C2PA manifest, whose signature then no longer holds.

    Raises:
        InputError: ``bad_xmp``: the XMP that is there cannot be merged with; ``damaged``: the container
            cannot be followed.
    """
    opened = _OPENERS[format](data) if format in _OPENERS else None
    sealed = opened is not None and opened.sealed
    if opened is None:
        why = f"{format} files get a sidecar"
    elif sealed and not force:
        why = "it has a C2PA manifest, whose signature a change would break (see --force)"
    else:
        why = opened.stays_out
    if opened is not None and not why:
        packet, note = _merged(opened.packet, properties)
        if packet == opened.packet:
            return Tagged(data, None, False, sealed=sealed)
        if len(packet) <= opened.room:
            broken = "its C2PA signature no longer holds" if sealed else ""
            return Tagged(opened.build(packet), None, True, _notes(note, broken), sealed)
        why = "its XMP leaves no room for the tag"
    packet, note = _merged(sidecar, properties)
    return Tagged(data, packet, packet != sidecar, _notes(why, note), sealed)


def read(data: bytes, format: str) -> dict[str, str]:
    """The tag in an image file or, with the format ``XMP``, in a sidecar; empty when there is none.

    Raises:
        InputError: as for `tag`.
    """
    packet = data if format == "XMP" else None
    if format in _OPENERS:
        packet = _OPENERS[format](data).packet
    return {} if packet is None else xmp.read(packet, _is_tag)


def same_pixels(
    before: bytes, after: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, frames: int = DEFAULT_FRAMES
) -> bool:
    """Whether two files decode to the same pixels, frame by frame (by `pixels.decode` and its options)."""

    def keys(data: bytes) -> list[tuple[str, bytes, str, int]]:
        decoded = decode(data, max_pixels=max_pixels, frames=frames)
        return [(f.key, b"" if f.alpha is None else f.alpha.tobytes(), f.format, f.frames) for f in decoded]

    try:
        return keys(before) == keys(after)
    except InputError:
        return False


def _our(name: str) -> str:
    return f"{{{OURS}}}{name}"


_DATE, _EARLIER = _our("DetectionDate"), _our("EarlierSourceType")


def _is_ours(name: str) -> bool:
    return name.startswith(f"{{{OURS}}}")


def _is_tag(name: str) -> bool:
    return name == SOURCE_TYPE or _is_ours(name)


def _merged(packet: bytes | None, properties: Mapping[str, str]) -> tuple[bytes, str]:
    """The packet with the tag, and what it replaced of other people's.

    A source type that was claimed earlier is kept under a name of ours. It is put back should the verdict
    no longer be ``ai``; without that verdict a claim of others is left alone.
    """
    there = {} if packet is None else xmp.read(packet, _is_tag)
    wanted = dict(properties)
    claimed, earlier = there.get(SOURCE_TYPE), there.get(_EARLIER)
    ours = there.get(_our("Verdict")) == "ai"  # then the claim that is there is one of this tool
    replaces, note = _is_tag, ""
    if SOURCE_TYPE in wanted:
        earlier = earlier if ours else claimed
        if earlier:
            wanted[_EARLIER] = earlier
        if claimed not in (None, AI_SOURCE):
            note = f"replaces the source type {claimed}"
    elif not ours:
        replaces = _is_ours
    elif earlier:
        wanted[SOURCE_TYPE] = earlier
    if packet is not None and _DATE in there:
        as_it_was = xmp.merge(packet, wanted | {_DATE: there[_DATE]}, _PREFIXES, replaces)
        if as_it_was == packet:
            return packet, ""
    return xmp.merge(packet, wanted, _PREFIXES, replaces), note


def _notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


@dataclass(frozen=True)
class _Opened:
    """A container taken apart.

    Attributes:
        packet: the XMP in it, or ``None``.
        build: the file with another packet.
        sealed: whether it has a C2PA manifest.
        stays_out: why nothing may be put into it; else empty.
        room: how many bytes a packet may have.
    """

    packet: bytes | None
    build: Callable[[bytes], bytes]
    sealed: bool = False
    stays_out: str = ""
    room: int = xmp.MAX_BYTES


_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_ROOM = 65502


def _open_jpeg(data: bytes) -> _Opened:
    """JPEG (ITU-T T.81, annex B): marker segments up to the first scan."""
    found: list[tuple[int, int]] = []
    packet: bytes | None = None
    sealed = indexed = False
    at = insert = 2
    leading = True
    while True:
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            raise _damaged("JPEG")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2 or end > len(data):
            raise _damaged("JPEG")
        body = data[at + 4 : end]
        leading = leading and (marker == 0xE0 or (marker == 0xE1 and body.startswith(b"Exif\0")))
        insert = end if leading else insert
        if marker == 0xE1 and body.startswith(_JPEG_XMP):
            packet = body[len(_JPEG_XMP) :]
            found.append((at, end))
        sealed = sealed or (marker == 0xEB and body.startswith(b"JP") and b"c2pa" in body)
        indexed = indexed or (marker == 0xE2 and body.startswith(b"MPF\0"))
        at = end
    start, end = found[0] if found else (insert, insert)
    _only_one(found)

    def build(packet: bytes) -> bytes:
        body = _JPEG_XMP + packet
        return data[:start] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[end:]

    # The index of a multi-picture file (CIPA DC-007) holds sizes and offsets, which would be wrong.
    why = "it holds several pictures and an index of where they lie" if indexed else ""
    return _Opened(packet, build, sealed, why, _JPEG_ROOM)


_PNG_XMP = b"XML:com.adobe.xmp"


def _open_png(data: bytes) -> _Opened:
    """PNG (W3C, third edition): chunks of length, name, body and CRC."""
    found: list[tuple[int, int]] = []
    packet: bytes | None = None
    sealed = False
    at, insert, image = 8, 0, False
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8]) if at + 12 <= len(data) else (0, b"")
        end = at + 12 + length
        if not name or end > len(data):
            raise _damaged("PNG")
        if name == b"IHDR":
            insert = end
        if name == b"iTXt" and data[at + 8 : end].startswith(_PNG_XMP + b"\0"):
            packet = _itxt(data[at + 8 : end - 4])
            found.append((at, end))
        sealed = sealed or name == b"caBX"
        image = image or name == b"IDAT"
        at = end
        if name == b"IEND":
            break
    if not insert or not image:
        raise _damaged("PNG")
    start, end = found[0] if found else (insert, insert)
    _only_one(found)

    def build(packet: bytes) -> bytes:
        body = b"iTXt" + _PNG_XMP + bytes(5) + packet  # not compressed, no language, no translated keyword
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return data[:start] + chunk + data[end:]

    return _Opened(packet, build, sealed)


def _itxt(body: bytes) -> bytes:
    compressed, method, rest = body[len(_PNG_XMP) + 1 :][:1], body[len(_PNG_XMP) + 2 :][:1], body[20:]
    parts = rest.split(b"\0", 2)
    if len(parts) < 3 or (compressed != b"\0" and method != b"\0"):
        raise _damaged("PNG")
    if compressed == b"\0":
        return parts[2]
    try:
        inflated: bytes = zlib.decompressobj().decompress(parts[2], xmp.MAX_BYTES + 1)
    except zlib.error:
        raise _damaged("PNG") from None
    return inflated


def _open_webp(data: bytes) -> _Opened:
    """WebP (RFC 9649): RIFF chunks; only the extended form, which begins with ``VP8X``, may hold XMP."""
    stop = 8 + int.from_bytes(data[4:8], "little")
    chunks: list[tuple[bytes, bytes]] = []
    at = 12
    while at + 8 <= min(stop, len(data)):
        name, length = struct.unpack("<4sI", data[at : at + 8])
        end = at + 8 + length
        if end > len(data):
            raise _damaged("WebP")
        chunks.append((name, data[at + 8 : end]))
        at = end + length % 2
    names = [name for name, _ in chunks]
    if at < stop or not chunks or names[0] not in (b"VP8X", b"VP8 ", b"VP8L"):
        raise _damaged("WebP")
    head = chunks.pop(0)[1] if names[0] == b"VP8X" else _webp_head(*chunks[0])
    if len(head) < 10:
        raise _damaged("WebP")
    packets = [body for name, body in chunks if name == b"XMP "]
    _only_one(packets)

    def build(packet: bytes) -> bytes:
        first = (b"VP8X", bytes([head[0] | _WEBP_HAS_XMP]) + head[1:])
        new = [(name, packet if name == b"XMP " else body) for name, body in chunks]
        new += [] if packets else [(b"XMP ", packet)]
        body = b"".join(_riff(*chunk) for chunk in [first, *new])
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body + data[max(at, stop) :]

    return _Opened(packets[0] if packets else None, build, b"C2PA" in names)


_WEBP_HAS_XMP, _WEBP_HAS_ALPHA = 0x04, 0x10


def _webp_head(name: bytes, body: bytes) -> bytes:
    """The body of the ``VP8X`` chunk for a simple WebP: flags, and the size from the image's own header."""
    if name == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":  # RFC 6386, section 9.1
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        flags = 0
    elif name == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:  # RFC 9649, section 3.4
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = _WEBP_HAS_ALPHA if bits >> 28 & 1 else 0
    else:
        raise _damaged("WebP")
    if not width or not height:
        raise _damaged("WebP")
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _only_one(found: list[bytes] | list[tuple[int, int]]) -> None:
    if len(found) > 1:
        raise InputError("bad_xmp", "it has more than one XMP packet; nothing was written")


def _damaged(name: str) -> InputError:
    return InputError("damaged", f"the {name} file's parts cannot be followed; nothing was written")


_OPENERS: dict[str, Callable[[bytes], _Opened]] = {"JPEG": _open_jpeg, "PNG": _open_png, "WEBP": _open_webp}
