"""Sources: what can be scored, and the bytes of files and streams."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import InputError
from .filters import Place

if TYPE_CHECKING:
    import numpy as np

MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Source:
    """One input to score.

    Attributes:
        name: the input as given or found: a path, a URL, an address, ``-``, or ``ARCHIVE!/MEMBER``. It holds
            no secrets (see `redact`). A path whose bytes are not UTF-8 has surrogate escapes, as in Python's
            file functions.
        kind: ``file``, ``url``, ``remote`` (an address for `stores`), ``stdin``, ``memory`` (see
            ``payload``), or ``error`` for an input that cannot be used. Before its bytes are read, also
            ``archive`` and ``member`` (see `archives.entered`).
        error: the reason, if ``kind`` is ``error``.
        payload: encoded bytes or an RGB array, if ``kind`` is ``memory``.
        address: what is read, where the name is not it.
        size: in bytes, if a listing said it.
        modified: seconds since the epoch, if a listing said it.
        etag: what changes with the content, if a store says it.
        place: the folder that it lies in, where its archive's members are to be chosen by the same rules.
        member: of an archive: the path of the only member that is meant.
        load: of a member: its bytes. It works until the next member is drawn, and raises `InputError`.
        archive, index: of a member: its archive, and its number there.
    """

    name: str
    kind: str
    error: InputError | None = None
    payload: bytes | np.ndarray | None = None
    address: str | None = field(default=None, compare=False, repr=False)
    size: int | None = field(default=None, compare=False)
    modified: float | None = field(default=None, compare=False)
    etag: str | None = field(default=None, compare=False)
    place: Place | None = field(default=None, compare=False, repr=False)
    member: str | None = None
    load: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    archive: Source | None = field(default=None, compare=False, repr=False)
    index: int = field(default=0, compare=False)

    @property
    def location(self) -> str:
        """What is read: its address, or its name."""
        return self.name if self.address is None else self.address


def read_list(stream: BinaryIO, null_separated: bool = False) -> list[str]:
    """Names from a list, one per line (or separated by NUL). Empty ones are skipped."""
    data = stream.read()
    names = data.split(b"\0") if null_separated else data.splitlines()
    return [os.fsdecode(name) for name in names if name]


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A file's bytes.

    Raises:
        InputError: ``not_found``, ``permission_denied``, ``too_large``, ``unreadable``.
    """
    try:
        with path.open("rb") as stream:
            return read_stream(stream, limit)
    except ValueError as error:  # a NUL in the name
        raise InputError("not_found", f"not a valid path: {error}") from None
    except OSError as error:
        raise file_error(error) from None


def file_digest(path: Path, limit: int) -> tuple[str, int]:
    """A file's SHA-256 (hex) and its size in bytes, without holding it in memory.

    Raises:
        InputError: as for `read_file`.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise InputError("too_large", f"more than {limit / 2**20:.0f} MiB of data")
            return hashlib.file_digest(stream, "sha256").hexdigest(), size
    except OSError as error:
        raise file_error(error) from None


def read_stream(stream: BinaryIO, limit: int = MAX_FILE_BYTES) -> bytes:
    """A stream's bytes.

    Args:
        stream: where to read from, to its end.
        limit: largest number of bytes.

    Raises:
        InputError: ``too_large`` when the stream has more than ``limit`` bytes.
    """
    chunks: list[bytes] = []
    total = 0
    while chunk := stream.read(1 << 20):
        total += len(chunk)
        if total > limit:
            raise InputError("too_large", f"more than {limit / 2**20:.0f} MiB of data")
        chunks.append(chunk)
    return b"".join(chunks)


def file_error(error: OSError) -> InputError:
    """An error of the operating system as an `InputError`."""
    kinds: Sequence[tuple[type[OSError], str, str]] = (
        (FileNotFoundError, "not_found", "no such file or folder"),
        (PermissionError, "permission_denied", "permission denied"),
        (IsADirectoryError, "not_a_file", "this is a folder"),
    )
    for kind, slug, text in kinds:
        if isinstance(error, kind):
            return InputError(slug, text)
    return InputError("unreadable", error.strerror or str(error))
