"""What a Matroska or WebM file says in its elements, read without decoding anything.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska). Every length in these bytes may be a lie: an element never
reaches beyond the one it lies in, and the number of elements is bounded. An element of unknown length is
entered, and what it holds is taken for what follows it.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import sei
from .bytereader import ByteReader
from .exif import LONGEST, Block, decoded

_MOST_ELEMENTS = 100_000
_DEEPEST_TAG = 4
_SAMPLE = 2**20

_SEGMENT, _INFO, _TRACKS, _CLUSTER, _TAGS = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1254C367
_APPS = {0x4D80: "MuxingApp", 0x5741: "WritingApp", 0x7BA9: "Title"}
_TRACK, _NUMBER, _CODEC, _PRIVATE, _NAME = 0xAE, 0xD7, 0x86, 0x63A2, 0x536E
_GROUP, _BLOCKS = 0xA0, (0xA1, 0xA3)
_TAG, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x7373, 0x67C8, 0x45A3, 0x4487
_CODECS = {b"V_MPEG4/ISO/AVC": (sei.AVC, 4), b"V_MPEGH/ISO/HEVC": (sei.HEVC, 21)}

# An element: its ID, and where its contents start and end.
_Element = tuple[int, int, int]


class _Elements:
    def __init__(self, reader: ByteReader) -> None:
        self.reader = reader
        self.left = _MOST_ELEMENTS

    def inside(self, start: int, stop: int) -> Iterator[_Element]:
        while start < stop and self.left > 0:
            self.left -= 1
            head = self.reader.read(start, 12)
            id_length = 9 - head[0].bit_length() if head and head[0] else 9
            if id_length > 4 or len(head) < id_length + 1:
                return
            length_length = 9 - head[id_length].bit_length() if head[id_length] else 9
            body = start + id_length + length_length
            if length_length > 8 or body > stop:
                return
            length = int.from_bytes(head[id_length : id_length + length_length], "big")
            length &= (1 << 7 * length_length) - 1
            unknown = length == (1 << 7 * length_length) - 1
            end = stop if unknown else min(body + length, stop)
            yield int.from_bytes(head[:id_length], "big"), body, end
            start = body if unknown else end

    def body(self, start: int, stop: int, longest: int = LONGEST) -> bytes:
        return self.reader.read(start, min(stop - start, longest))


def read_elements(reader: ByteReader, label: str) -> Iterator[Block]:
    """Programs' names and tags, and user data before the first pictures.

    Args:
        reader: of the whole file.
        label: the container's name for people.
    """
    elements = _Elements(reader)
    videos: dict[int, tuple[str, int]] = {}
    looked = False
    for segment, start, stop in elements.inside(0, reader.size):
        if segment != _SEGMENT:
            continue
        for kind, body, end in elements.inside(start, stop):
            if kind == _INFO:
                for part, at, stops in elements.inside(body, end):
                    if part in _APPS:
                        yield f"text:{_APPS[part]}", f"{label} info", elements.body(at, stops)
            elif kind == _TRACKS:
                yield from _tracks(elements, body, end, videos, label)
            elif kind == _TAGS:
                for part, at, stops in elements.inside(body, end):
                    if part == _TAG:
                        yield from _tag(elements, at, stops, label, _DEEPEST_TAG)
            elif kind == _CLUSTER and videos and not looked:
                looked = True
                yield from _pictures(elements, body, end, videos)
        return


def _tracks(
    elements: _Elements, start: int, stop: int, videos: dict[int, tuple[str, int]], label: str
) -> Iterator[Block]:
    for kind, body, end in elements.inside(start, stop):
        if kind != _TRACK:
            continue
        parts = {part: elements.body(at, stops, 4096) for part, at, stops in elements.inside(body, end)}
        if _NAME in parts:
            yield "text:handler", f"{label} track", parts[_NAME]
        codec = _CODECS.get(parts.get(_CODEC, b"").rstrip(b"\0"))
        if codec:
            name, at = codec
            private = parts.get(_PRIVATE, b"")
            length_size = (private[at] & 3) + 1 if len(private) > at else 4
            videos[int.from_bytes(parts.get(_NUMBER, b"\1")[:8], "big")] = name, length_size


def _pictures(
    elements: _Elements, start: int, stop: int, videos: dict[int, tuple[str, int]]
) -> Iterator[Block]:
    for kind, body, end in elements.inside(start, stop):
        inside = elements.inside(body, end) if kind == _GROUP else iter([(kind, body, end)])
        blocks = (elements.body(at, stops, _SAMPLE) for part, at, stops in inside if part in _BLOCKS)
        data = next(blocks, b"")
        if not data or not data[0] & 0x80 or data[0] & 0x7F not in videos:  # one byte: tracks 1 to 127
            continue
        codec, length_size = videos[data[0] & 0x7F]
        for uuid, text in sei.user_data(data[4:], codec, length_size):
            yield f"text:{uuid}", f"{codec} SEI", text.split(b"\0")[0]
        return


def _tag(elements: _Elements, start: int, stop: int, label: str, deeper: int) -> Iterator[Block]:
    for kind, body, end in elements.inside(start, stop):
        if kind != _SIMPLE_TAG:
            continue
        parts: dict[int, bytes] = {}
        nested = False
        for part, at, stops in elements.inside(body, end):
            nested = nested or part == _SIMPLE_TAG
            if part in (_TAG_NAME, _TAG_STRING):
                parts[part] = elements.body(at, stops)
        if parts.get(_TAG_STRING):
            yield f"text:{decoded(parts.get(_TAG_NAME, b'')[:200])}", f"{label} tag", parts[_TAG_STRING]
        if nested and deeper:
            yield from _tag(elements, body, end, label, deeper - 1)
