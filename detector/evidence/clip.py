"""What a video file says in words: text fields and C2PA manifests, read without decoding a picture.

The containers are MP4 and QuickTime (`boxes`), Matroska and WebM (`ebml`), and AVI. Nothing is held in
memory but the parts that are wanted, so the file may be of any size. What cannot be understood is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ..clips.container import HEAD, container
from . import sei
from .boxes import read_boxes
from .bytereader import ByteReader
from .ebml import read_elements
from .exif import LONGEST, LONGEST_MANIFEST, Block
from .metadata import Metadata, collected

_MOST_CHUNKS = 100_000
_SAMPLE = 2**20


def read_clip(stream: BinaryIO) -> Metadata | None:
    """Read what a video's container says.

    Args:
        stream: the whole file, seekable.

    Returns:
        The texts found; ``None`` where the file is no video of these containers. Damaged bytes never raise.
    """
    reader = ByteReader(stream)
    name = container(reader.read(0, HEAD))
    if name is None:
        return None
    if name in ("MP4", "MOV"):
        return collected(name, read_boxes(reader, name))
    return collected(name, _avi(reader) if name == "AVI" else read_elements(reader, name))


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
