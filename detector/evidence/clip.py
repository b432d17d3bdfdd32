"""What a video file says in words: text fields and C2PA manifests, read without decoding a picture.

The containers are MP4 and QuickTime (`boxes`), Matroska and WebM (`ebml`), and AVI. Nothing is held in
memory but the parts that are wanted, so the file may be of any size. What cannot be understood is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from . import ebml, sei
from .boxes import read_boxes
from .bytereader import ByteReader
from .exif import LONGEST, LONGEST_MANIFEST, Block
from .metadata import Metadata, collected

_MOST_CHUNKS = 100_000
_SAMPLE = 2**20
# Boxes that old QuickTime files begin with, and brands of pictures that are kept in boxes too.
_FIRST_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PICTURE_BRANDS = tuple(
    b"avif avis crx  heic heim heis heix hevc hevm hevs hevx j2ki jp2  jpm  jpx  jxl  mif1 mif2 msf1".split(
        b" "
    )
)


def clip_format(head: bytes) -> str:
    """The container of a video: ``MP4``, ``MOV``, ``MKV``, ``WEBM`` or ``AVI``; else empty.

    Args:
        head: the first 64 bytes of a file, or more.
    """
    if head.startswith(ebml.MAGIC):
        return "WEBM" if b"webm" in head[:64] else "MKV"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "AVI"
    if head[4:8] == b"ftyp" and head[8:12].rstrip() not in _PICTURE_BRANDS:
        return "MOV" if head[8:12] == b"qt  " else "MP4"
    return "MOV" if head[4:8] in _FIRST_BOXES else ""


def read_clip(stream: BinaryIO) -> Metadata | None:
    """Read what a video's container says.

    Args:
        stream: the whole file, seekable.

    Returns:
        The texts found; ``None`` where the file is no video of these containers. Damaged bytes never raise.
    """
    reader = ByteReader(stream)
    name = clip_format(reader.read(0, 64))
    if name in ("MP4", "MOV"):
        return collected(name, read_boxes(reader, name))
    if name in ("MKV", "WEBM"):
        return collected(name, ebml.read_elements(reader, "Matroska" if name == "MKV" else "WebM"))
    return collected(name, _avi(reader)) if name else None


def _avi(reader: ByteReader) -> Iterator[Block]:
    """RIFF chunks (Microsoft, "AVI RIFF File Reference"; the XMP specification, part 3)."""
    left = _MOST_CHUNKS
    # Lists that are entered: where their chunks start and end. A long film has several RIFF chunks.
    lists = [(0, reader.size)]
    pictures = b""
    while lists and left > 0:
        at, stop = lists.pop()
        while at + 8 <= stop and left > 0:
            left -= 1
            head = reader.read(at, 12)
            name, length, kind = head[:4], int.from_bytes(head[4:8], "little"), head[8:12]
            start, end = at + 8, min(at + 8 + length, stop)
            if len(head) < 8:
                break
            at = end + length % 2
            if name in (b"RIFF", b"LIST") and kind in (b"AVI ", b"AVIX", b"INFO", b"hdrl", b"strl", b"movi"):
                if kind != b"movi" or not pictures:
                    lists += [(at, stop), (start + 4, end)]
                    break
            elif name == b"C2PA":
                yield "c2pa", "AVI C2PA chunk", reader.read(start, min(end - start, LONGEST_MANIFEST))
            elif name == b"_PMX":
                yield "xmp", "XMP", reader.read(start, min(end - start, LONGEST))
            elif name[2:] in (b"dc", b"db"):
                if not pictures:
                    pictures = reader.read(start, min(end - start, _SAMPLE))
                    for uuid, text in sei.user_data(pictures, sei.AVC):
                        yield f"text:{uuid}", "H.264 SEI", text.split(b"\0")[0]
                break  # the other pictures of the list say no more
            elif name[:1] in (b"I", b"A") and name.isalnum() and name.isupper():
                text = reader.read(start, min(end - start, LONGEST)).strip(b"\0 \r\n")
                if text:
                    yield f"text:{name.decode()}", "AVI INFO", text
