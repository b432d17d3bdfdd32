"""What a picture's container says in words: text fields and C2PA manifests, read without decoding a pixel.

Every length in these bytes may be a lie. Nothing is read outside the data, nothing is decompressed or
parsed beyond a fixed length, and loops end after a fixed number of turns. Markup entities are never
expanded. What cannot be understood is passed over.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from xml.parsers import expat

from .exif import LONGEST, LONGEST_MANIFEST, Block, decoded, read_directories

# Limits: bytes of all texts of a file, fields of a file, data sets of IPTC, segments or chunks walked.
_MOST_TEXT = 4 * 2**20
_MOST_FIELDS = 400
_MOST_DATA_SETS = 1000
_MOST_BLOCKS = 100_000

_PNG = b"\x89PNG\r\n\x1a\n"
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


@dataclass(frozen=True)
class Field:
    """One text: the place it was found in, its name there, and its value of at most a mebibyte."""

    where: str
    name: str
    text: str


@dataclass
class Metadata:
    """What a container says.

    Attributes:
        format: ``JPEG``, ``PNG``, ``WEBP``, ``TIFF``, ``BMFF`` (AVIF, HEIC, JPEG 2000, JPEG XL), a video's
            (see `aidetect.detector.clips.container`) or empty.
        fields: texts in the order of the file.
        manifest: bytes of the C2PA manifest store (the first 16 MiB), or none.
        manifest_where: the place it was found in.
    """

    format: str = ""
    fields: list[Field] = field(default_factory=list)
    manifest: bytes = b""
    manifest_where: str = ""

    @property
    def is_clip(self) -> bool:
        """Whether the file is a video."""
        return self.format in ("MP4", "MOV", "MKV", "WebM", "AVI")


def read_metadata(data: bytes) -> Metadata:
    """Read what a picture's container says.

    Args:
        data: the whole file, of any kind.

    Returns:
        The texts found; none for containers that are not known. Damaged bytes never raise.
    """
    return collected(*_container(data))


def collected(name: str, blocks: Iterator[Block]) -> Metadata:
    """Metadata of a container from its blocks, within the limits of this module."""
    found = Metadata(name)
    manifest: list[bytes] = []
    size, room = 0, _MOST_TEXT
    for kind, where, body in blocks:
        if kind == "c2pa":
            found.manifest_where = found.manifest_where or where
            if size < LONGEST_MANIFEST:
                manifest.append(body[: LONGEST_MANIFEST - size])
                size += len(manifest[-1])
        elif len(found.fields) < _MOST_FIELDS and room > 0:
            for item in islice(_fields(kind, where, body), _MOST_FIELDS - len(found.fields)):
                found.fields.append(item)
                room -= len(item.text)
    found.manifest = b"".join(manifest)
    return found


def _container(data: bytes) -> tuple[str, Iterator[Block]]:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", _jpeg(data)
    if data.startswith(_PNG):
        return "PNG", _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP", _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF", read_directories(data, "EXIF")
    if data[4:8] in (b"ftyp", b"jP  ", b"JXL "):
        return "BMFF", _bmff(data)
    return "", iter(())


def _fields(kind: str, where: str, body: bytes) -> Iterator[Field]:
    if kind == "exif":
        for inner, place, value in read_directories(body.removeprefix(b"Exif\0\0"), where):
            if inner.startswith("text:"):
                yield Field(place, inner.removeprefix("text:"), decoded(value))
    elif kind == "xmp":
        yield from _xmp(body, where)
    elif kind == "iptc":
        yield from _iptc(body, where)
    else:
        yield Field(where, kind.removeprefix("text:"), decoded(body))


# --- containers -------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Iterator[Block]:
    """The segments before the first scan."""
    at = 2
    for _ in range(_MOST_BLOCKS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # the scan, or nothing to skip by
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        if marker == 0xFE:
            yield "text:comment", "JPEG comment", body.rstrip(b"\0")
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            yield "exif", "EXIF", body
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/x"):
            # A packet too long for a segment goes on in others: a digest and two numbers precede them.
            name, _, packet = body.partition(b"\0")
            yield "xmp", "XMP", packet[40:] if name.endswith(b"extension/") else packet
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            yield "iptc", "IPTC", body
        elif marker == 0xEB and body.startswith(b"JP") and body[12:16] == b"jumb":
            yield "c2pa", "JPEG APP11 segment", body[16:]
        at = end


def _png(data: bytes) -> Iterator[Block]:
    at = len(_PNG)
    budget = _MOST_TEXT
    for _ in range(_MOST_BLOCKS):
        if at + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, at)
        start, at = at + 8, at + 12 + length
        if name in (b"tEXt", b"zTXt", b"iTXt") and budget > 0:
            for block in _png_text(name, data[start : min(start + length, start + LONGEST)]):
                # A short text takes its time too, and a packed one whatever comes of it.
                budget -= len(block[2]) + (1000 if name == b"tEXt" else 50_000)
                yield block
        elif name == b"eXIf":
            yield "exif", "EXIF", data[start : min(start + length, start + LONGEST)]
        elif name == b"caBX":
            yield "c2pa", "PNG caBX chunk", data[start : min(start + length, start + LONGEST_MANIFEST)]
        elif name == b"IEND":
            return


def _png_text(name: bytes, body: bytes) -> Iterator[Block]:
    keyword, _, text = body.partition(b"\0")
    if name == b"zTXt":
        text = _inflated(text[1:])
    elif name == b"iTXt":
        packed, rest = text[:1], text[2:]
        text = b"".join(rest.split(b"\0", 2)[2:])
        text = _inflated(text) if packed == b"\1" else text
    if keyword == b"XML:com.adobe.xmp":
        yield "xmp", "XMP", text
    else:
        yield f"text:{keyword.decode('latin-1')}", "PNG text chunk", text


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, LONGEST)
    except zlib.error:
        return b""


def _webp(data: bytes) -> Iterator[Block]:
    at = 12
    for _ in range(_MOST_BLOCKS):
        if at + 8 > len(data):
            return
        name, length = struct.unpack_from("<4sI", data, at)
        start, at = at + 8, at + 8 + length + length % 2
        kind = {b"EXIF": ("exif", "EXIF"), b"XMP ": ("xmp", "XMP"), b"C2PA": ("c2pa", "WebP C2PA chunk")}
        if name in kind:
            limit = LONGEST_MANIFEST if name == b"C2PA" else LONGEST
            yield (*kind[name], data[start : min(start + length, start + limit)])


def _bmff(data: bytes) -> Iterator[Block]:
    """Boxes at the top, and packets anywhere: an item's place is not worth the tables that give it."""
    at = 0
    for _ in range(_MOST_BLOCKS):
        if at + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + length if length else len(data)
        if end < start:
            break
        body = data[start : min(end, start + LONGEST_MANIFEST)] if name in (b"uuid", b"jumb") else b""
        if name == b"uuid" and body.startswith(C2PA_UUID):
            yield "c2pa", "C2PA uuid box", body[16:]
        elif name == b"jumb" and b"c2pa" in body[:64]:
            yield "c2pa", "JUMBF box", body
        elif name == b"uuid" and body.startswith(XMP_UUID) and b"<x:xmpmeta" not in body[:LONGEST]:
            yield "xmp", "XMP", body[16:LONGEST]
        at = end
    for header in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        place = data.find(header)
        if place >= 0:
            yield "exif", "EXIF", data[place : place + LONGEST]
    place = data.find(b"<x:xmpmeta")
    if place >= 0:
        end = data.find(b"</x:xmpmeta>", place, place + LONGEST)
        yield "xmp", "XMP", data[place : end + 12 if end > 0 else place + LONGEST]


# --- XMP and IPTC -----------------------------------------------------------------------------------

_XMP_NAMES = set(
    """
    AIGC AIPromptInformation AISystemUsed AISystemVersionUsed CreatorTool Credit DigitalSourceFileType
    DigitalSourceType ImageDescription LensModel Make Model ModelCardSHA256 Software UserComment description
    parameters prompt provenance softwareAgent workflow
    """.split()
)
# RDF's own elements between a property and its text.
_WRAPPERS = {"Alt", "Bag", "Seq", "li", "Description"}


def _xmp(packet: bytes, where: str) -> list[Field]:
    """Properties of an XMP packet that may name a generator, up to where it stops being well-formed."""
    found: list[Field] = []
    path: list[str] = []
    texts: list[str] = []

    def local(name: str) -> str:
        return name.rpartition(":")[2]

    def add(name: str, text: str) -> None:
        if name in _XMP_NAMES and text.strip():
            found.append(Field(where, name, text.strip()))
        if len(found) >= _MOST_FIELDS:
            refuse()

    def start(name: str, attributes: dict[str, str]) -> None:
        texts.clear()
        path.append(local(name))
        if len(path) > 100:
            refuse()
        for key, value in attributes.items():
            add(local(key), value)

    def end(name: str) -> None:
        property_ = next((part for part in reversed(path) if part not in _WRAPPERS), "")
        add(property_, "".join(texts))
        texts.clear()
        path.pop()

    def refuse(*_: object) -> None:
        raise ValueError("more than such a packet needs")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    parser.StartDoctypeDeclHandler = refuse  # without a document type there are no entities to expand
    with contextlib.suppress(expat.ExpatError, ValueError, LookupError):  # the last: unknown encodings
        parser.Parse(packet.strip(b"\0 \t\r\n")[:LONGEST], True)
    return found


_IPTC_NAMES = {40: "Instructions", 65: "OriginatingProgram", 80: "By-line", 110: "Credit", 120: "Caption"}


def _iptc(body: bytes, where: str) -> Iterator[Field]:
    """Data sets of record 2, wherever they lie in a Photoshop segment or a TIFF tag."""
    at = max(body.find(b"8BIM\x04\x04"), 0)
    at = body.find(b"\x1c\x02", at)
    for _ in range(_MOST_DATA_SETS):
        if at < 0 or at + 5 > len(body) or body[at] != 0x1C:
            return
        number, length = body[at + 2], int.from_bytes(body[at + 3 : at + 5], "big")
        if number in _IPTC_NAMES and length < 0x8000:
            yield Field(where, _IPTC_NAMES[number], decoded(body[at + 5 : at + 5 + length]))
        at += 5 + length
