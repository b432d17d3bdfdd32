"""Which files are clips: found by their first bytes, never by their names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# So many bytes tell a clip from other files.
HEAD = 4096

# Brands of the ISO base media format that are pictures, which `images` decodes.
_PICTURES = frozenset(
    (
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"mif1",
        b"mif2",
        b"msf1",
        b"avif",
        b"avis",
        b"crx ",
    )
)
_BOXES = frozenset((b"moov", b"mdat", b"wide", b"pnot", b"styp", b"moof", b"sidx"))
_EBML, _DOCTYPE = b"\x1a\x45\xdf\xa3", b"\x42\x82"


def container(head: bytes) -> str | None:
    """The container of a clip.

    Args:
        head: a file's first bytes; `HEAD` of them are enough.

    Returns:
        ``MP4``, ``MOV``, ``WebM``, ``MKV`` or ``AVI``; ``None`` for everything else.
    """
    box = head[4:8]
    if box == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURES:
            return None
        return "MOV" if brand == b"qt  " else "MP4"
    if box in _BOXES:
        return "MOV"
    if head.startswith(_EBML):
        at = head.find(_DOCTYPE)
        return "WebM" if at > 0 and head[at + 3 : at + 7] == b"webm" else "MKV"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "AVI"
    return None


def container_of(path: Path) -> str | None:
    """The container of a file that is a clip; ``None`` for other files and those that cannot be read."""
    try:
        if not path.is_file():  # reading a pipe would take away what is to be scored
            return None
        with path.open("rb") as stream:
            return container(stream.read(HEAD))
    except (OSError, ValueError):
        return None


def has_video() -> bool:
    """Whether clips can be decoded (extra ``aidetect[video]``)."""
    return importlib.util.find_spec("av") is not None
