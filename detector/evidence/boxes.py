"""What an MP4 or QuickTime file says in its boxes, read without decoding anything.

Source: ISO/IEC 14496-12 (boxes), Apple's QuickTime File Format (user data, metadata keys and items), the
C2PA specification (the ``uuid`` box), and the names of boxes that exiftool's ``QuickTime.pm`` lists.

Every length in these bytes may be a lie. A box never reaches beyond the one it lies in, the number of
boxes is bounded, and boxes are followed only along the few paths written down here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from . import sei
from .bytereader import ByteReader
from .exif import LONGEST, LONGEST_MANIFEST, Block, decoded
from .metadata import C2PA_UUID, XMP_UUID

_MOST_BOXES = 100_000
_MOST_KEYS = 1000
_SAMPLE = 2**20  # bytes of coded pictures that are looked through for user data
_CODECS = {b"avc1": sei.AVC, b"avc3": sei.AVC, b"hvc1": sei.HEVC, b"hev1": sei.HEVC}
# User data of cameras that is text without a heading, or that says something by being there.
_PLAIN_TEXTS = (b"CNMN", b"FIRM", b"manu", b"modl", b"@mak", b"@mod", b"name")
_ONLY_THERE = (b"smta", b"GPMF")

# A box: its name, and where its contents start and end.
_Box = tuple[bytes, int, int]


class _Boxes:
    def __init__(self, reader: ByteReader, label: str) -> None:
        self.reader = reader
        self.label = label
        self.left = _MOST_BOXES
        self.media_data = 0

    def inside(self, start: int, stop: int) -> Iterator[_Box]:
        while start + 8 <= stop and self.left > 0:
            self.left -= 1
            head = self.reader.read(start, 16)
            length, body = int.from_bytes(head[:4], "big"), start + 8
            if length == 1:
                length, body = int.from_bytes(head[8:16], "big"), start + 16
            end = min(start + length if length else stop, stop)
            if len(head) < 8 or end < body:
                return
            yield head[4:8], body, end
            start = end

    def first(self, start: int, stop: int, *path: bytes) -> tuple[int, int]:
        """Where the contents of the box at the end of a path lie; nowhere if there is none."""
        for name in path:
            found = ((body, end) for kind, body, end in self.inside(start, stop) if kind == name)
            start, stop = next(found, (0, 0))
        return start, stop

    def body(self, start: int, stop: int, longest: int = LONGEST) -> bytes:
        return self.reader.read(start, min(stop - start, longest))


def read_boxes(reader: ByteReader, label: str) -> Iterator[Block]:
    """Texts, XMP packets and C2PA manifests.

    Args:
        reader: of the whole file.
        label: the container's name for people, ``MP4`` or ``MOV``.
    """
    boxes = _Boxes(reader, label)
    movies = []
    for name, start, stop in boxes.inside(0, reader.size):
        if name == b"uuid":
            yield from _uuid(boxes, start, stop)
        elif name == b"moov":
            movies.append((start, stop))
        elif name == b"meta":
            yield from _meta(boxes, start, stop)
        elif name == b"udta":
            yield from _user_data(boxes, start, stop)
        elif name == b"mdat" and not boxes.media_data:
            boxes.media_data = start
    for start, stop in movies[:1]:
        yield from _movie(boxes, start, stop)


def track_headers(stream: BinaryIO) -> list[tuple[int, int]]:
    """Where the contents of the track headers of an MP4 or QuickTime file start and end."""
    reader = ByteReader(stream)
    boxes = _Boxes(reader, "")
    tracks = boxes.inside(*boxes.first(0, reader.size, b"moov"))
    found = [boxes.first(start, stop, b"tkhd") for name, start, stop in tracks if name == b"trak"]
    return [place for place in found if place != (0, 0)]


def _uuid(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    kind = boxes.reader.read(start, 16)
    if kind == C2PA_UUID:
        body = boxes.body(start + 16, stop, LONGEST_MANIFEST)
        if not body[4:].startswith(b"merkle\0"):  # hashes of parts of the file
            yield "c2pa", "C2PA uuid box", body
    elif kind == XMP_UUID:
        yield "xmp", "XMP", boxes.body(start + 16, stop)


def _movie(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    for name, body, end in boxes.inside(start, stop):
        if name == b"udta":
            yield from _user_data(boxes, body, end)
        elif name == b"meta":
            yield from _meta(boxes, body, end)
        elif name == b"uuid":
            yield from _uuid(boxes, body, end)
        elif name == b"trak":
            yield from _track(boxes, body, end)


def _track(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    for name, body, end in boxes.inside(start, stop):
        if name == b"udta":
            yield from _user_data(boxes, body, end)
        elif name == b"meta":
            yield from _meta(boxes, body, end)
        elif name == b"mdia":
            handler = boxes.body(*boxes.first(body, end, b"hdlr"), 512)
            yield from _text("handler", f"{boxes.label} track", _c_or_pascal(handler[24:]))
            if handler[8:12] == b"vide":
                yield from _video(boxes, *boxes.first(body, end, b"minf", b"stbl"))


def _video(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    """The encoder's name in the sample description, and user data before the first pictures."""
    entry = boxes.body(*boxes.first(start, stop, b"stsd"), 4096)[8:]
    name = entry[50:82]  # a Pascal string in a VisualSampleEntry
    yield from _text("compressor", f"{boxes.label} track", name[1 : 1 + name[0]] if name else b"")
    codec = _CODECS.get(entry[4:8])
    if codec is None:
        return
    wanted, at = (b"avcC", 4) if codec == sei.AVC else (b"hvcC", 21)
    place = entry.find(wanted)
    configuration = entry[place + 4 :] if place >= 0 else b""
    length_size = (configuration[at] & 3) + 1 if len(configuration) > at else 4
    chunks = boxes.body(*boxes.first(start, stop, b"stco"), 12)
    chunk = int.from_bytes(chunks[8:12], "big")
    if not chunk:
        chunk = int.from_bytes(boxes.body(*boxes.first(start, stop, b"co64"), 16)[8:16], "big")
    data = boxes.reader.read(chunk or boxes.media_data, _SAMPLE)  # a film in fragments has no table
    for uuid, text in sei.user_data(data, codec, length_size):
        yield f"text:{uuid}", f"{codec} SEI", text.split(b"\0")[0]


def _c_or_pascal(text: bytes) -> bytes:
    """A handler's name: it ends with a zero in MP4, and begins with its length in QuickTime."""
    if text and (text[0] == len(text) - 1 or text[0] < 0x20):
        text = text[1:]
    return text.split(b"\0")[0]


def _text(name: str, where: str, text: bytes) -> Iterator[Block]:
    text = text.strip(b"\0 \t\r\n")
    if text:
        yield f"text:{name}", where, text


# --- user data and metadata items -------------------------------------------------------------------


def _user_data(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    where = f"{boxes.label} udta"
    for name, body, end in boxes.inside(start, stop):
        if name == b"meta":
            yield from _meta(boxes, body, end)
        elif name == b"XMP_":
            yield "xmp", "XMP", boxes.body(body, end)
        elif name[:1] == b"\xa9":
            text = boxes.body(body, end)
            length = int.from_bytes(text[:2], "big")
            # Two bytes of length and two of language; DJI leaves them out.
            text = text[4 : 4 + length] if 4 + length <= len(text) else text
            yield from _text(name.decode("latin-1"), where, text)
        elif name in _ONLY_THERE:
            yield f"text:{name.decode()}", where, b"present"
        elif name in _PLAIN_TEXTS:
            text = boxes.body(body, end, 256)
            text = text[6:] if text.startswith(bytes(4)) else text  # a version, flags and a language
            yield from _text(name.decode(), where, text.split(b"\0")[0])
        elif end > body and boxes.reader.read(body, 1) == b"{":
            yield from _text(name.decode("latin-1"), where, boxes.body(body, end))


def _meta(boxes: _Boxes, start: int, stop: int) -> Iterator[Block]:
    """Metadata: with a version before its boxes in MP4, without one in QuickTime."""
    if boxes.reader.read(start + 4, 4) != b"hdlr":
        start += 4
    keys: list[str] = []
    for name, body, end in boxes.inside(start, stop):
        if name == b"keys":
            keys = _keys(boxes.body(body, end))
        elif name == b"ilst":
            yield from _items(boxes, body, end, keys)
        elif name == b"xml ":
            yield from _text("xml", f"{boxes.label} meta", boxes.body(body + 4, end))


def _keys(table: bytes) -> list[str]:
    found: list[str] = []
    at = 8
    while at + 8 <= len(table) and len(found) < _MOST_KEYS:
        end = at + int.from_bytes(table[at : at + 4], "big")
        if end < at + 8:
            break
        found.append(decoded(table[at + 8 : end][:200]))
        at = end
    return found


def _items(boxes: _Boxes, start: int, stop: int, keys: list[str]) -> Iterator[Block]:
    for name, body, end in boxes.inside(start, stop):
        number = int.from_bytes(name, "big")
        if 1 <= number <= len(keys):
            key, where = keys[number - 1], f"{boxes.label} keys"
        else:
            key, where = name.decode("latin-1") if number > 0xFFFF else "", f"{boxes.label} ilst"
        for part, value, stops in boxes.inside(body, end):
            if part == b"name" and name == b"----":
                key = decoded(boxes.body(value + 4, stops, 200))
            elif part == b"data":
                text = boxes.body(value, stops)
                type_, text = int.from_bytes(text[:4], "big"), text[8:]
                if type_ == 2:
                    text = text.decode("utf-16-be", "replace").encode()
                if type_ in (0, 1, 2):
                    yield from _text(key, where, text)
