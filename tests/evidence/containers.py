"""Writers of the parts of video files that evidence is read from, and clips made with PyAV."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

KLING_UUID = bytes.fromhex("91ca60614aee385486142d5f73f4ae2e")
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def clip(format: str = "mp4", codec: str = "libx264", tags: dict[str, str] | None = None) -> bytes:
    """A clip of a few small drawn pictures, with FFmpeg's tags."""
    import av

    file = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if format in ("mp4", "mov") else {}
    with av.open(file, "w", format=format, options=options) as output:
        output.metadata.update(tags or {})
        stream: Any = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            rows = np.linspace(0, 200, 48, dtype=np.uint8)[:, None, None] + np.uint8(10 * number)
            picture = av.VideoFrame.from_ndarray(np.broadcast_to(rows, (48, 64, 3)).copy(), format="rgb24")
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return file.getvalue()


# --- MP4 and QuickTime ------------------------------------------------------------------------------


def box(name: bytes, *parts: bytes) -> bytes:
    """A box."""
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + name + body


def mp4(*moov: bytes, brand: bytes = b"isom", media: bytes = b"", after: bytes = b"") -> bytes:
    """A file with nothing that can be decoded: a film of the given boxes, media data, and boxes behind."""
    head = box(b"ftyp", brand, bytes(4), brand)
    return head + box(b"mdat", media) + box(b"moov", box(b"mvhd", bytes(100)), *moov) + after


def udta(**texts: str) -> bytes:
    """User data, as QuickTime keeps it: length, language, text."""
    boxes = []
    for name, text in texts.items():
        body = text.encode()
        boxes.append(box(name.encode("latin-1"), len(body).to_bytes(2, "big"), b"\x55\xc4", body))
    return box(b"udta", *boxes)


def handler(name: bytes) -> bytes:
    """The box that says of what kind metadata is."""
    return box(b"hdlr", bytes(8), name, bytes(13))


def data(value: str, type_: int = 1) -> bytes:
    """A value of an item."""
    coded = value.encode("utf-16-be" if type_ == 2 else "utf-8")
    return box(b"data", type_.to_bytes(4, "big"), bytes(4), coded)


def items(values: dict[str, str], version: bytes = bytes(4)) -> bytes:
    """Metadata items named by four characters, as iTunes writes them."""
    parts = (box(name.encode("latin-1"), data(value)) for name, value in values.items())
    return box(b"meta", version, handler(b"mdir"), box(b"ilst", *parts))


def keys(values: dict[str, str], version: bytes = bytes(4), type_: int = 1) -> bytes:
    """Metadata items named by keys, as Apple's devices write them."""
    table = b"".join(box(b"mdta", name.encode()) for name in values)
    numbered = enumerate(values.values(), 1)
    parts = (box(number.to_bytes(4, "big"), data(value, type_)) for number, value in numbered)
    head = box(b"keys", bytes(4), len(values).to_bytes(4, "big"), table)
    return box(b"meta", version, handler(b"mdta"), head, box(b"ilst", *parts))


def track(handler_name: bytes = b"VideoHandler\0", compressor: bytes = b"", offset: int = 0) -> bytes:
    """A video track of H.264, whose only chunk begins at an offset."""
    name = bytes([len(compressor)]) + compressor.ljust(31, b"\0")
    entry = box(b"avc1", bytes(42), name, bytes(4), box(b"avcC", b"\1\x64\0\x0a\xff\xe1"))
    stbl = box(
        b"stbl",
        box(b"stsd", bytes(4), b"\0\0\0\1", entry),
        box(b"stco", bytes(4), b"\0\0\0\1", offset.to_bytes(4, "big")),
    )
    media = box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(12), handler_name), box(b"minf", stbl))
    return box(b"trak", media)


# --- coded streams ----------------------------------------------------------------------------------


def message(uuid: bytes, text: bytes, hevc: bool = False) -> bytes:
    """A unit with user data."""
    body = uuid + text
    length = b"\xff" * (len(body) // 255) + bytes([len(body) % 255])
    return (b"\x4e\x01" if hevc else b"\x06") + b"\x05" + length + body + b"\x80"


def units(*parts: bytes, codes: bool = False) -> bytes:
    """Units of a stream, with lengths or with start codes between them."""
    return b"".join((b"\0\0\0\1" if codes else len(part).to_bytes(4, "big")) + part for part in parts)


KLING = message(KLING_UUID, b"kling-ai\0")
SLICE = b"\x65" + bytes(range(1, 100))


# --- Matroska and AVI -------------------------------------------------------------------------------


def element(id_: int, *parts: bytes, unknown: bool = False) -> bytes:
    """An EBML element."""
    body = b"".join(parts)
    length = b"\x01" + b"\xff" * 7 if unknown else b"\x08" + len(body).to_bytes(4, "big")
    return id_.to_bytes((id_.bit_length() + 7) // 8, "big") + length + body


def tag(name: str, text: str, *inside: bytes) -> bytes:
    """A tag of Matroska."""
    return element(0x67C8, element(0x45A3, name.encode()), element(0x4487, text.encode()), *inside)


def matroska(*parts: bytes, kind: bytes = b"matroska", unknown: bool = False) -> bytes:
    """A Matroska file of the given elements."""
    head = element(0x1A45DFA3, b"\x42\x82" + bytes([0x80 | len(kind)]) + kind)
    return head + element(0x18538067, *parts, unknown=unknown)


def tags(*simple: bytes) -> bytes:
    """The element of all tags."""
    return element(0x1254C367, element(0x7373, element(0x63C0), *simple))


def chunk(name: bytes, *parts: bytes) -> bytes:
    """A RIFF chunk."""
    body = b"".join(parts)
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def avi(*parts: bytes, media: bytes = b"") -> bytes:
    """An AVI file of the given chunks."""
    frames = chunk(b"LIST", b"movi", chunk(b"01wb", bytes(10)), chunk(b"00dc", media))
    return chunk(b"RIFF", b"AVI ", chunk(b"LIST", b"hdrl", chunk(b"avih", bytes(56))), *parts, frames)


def info(**texts: str) -> bytes:
    """The list of texts in an AVI file."""
    parts = (chunk(name.encode(), text.encode() + b"\0") for name, text in texts.items())
    return chunk(b"LIST", b"INFO", *parts)
