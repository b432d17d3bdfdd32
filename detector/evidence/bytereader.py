"""Reading parts of a file that may be larger than memory, with a limit on what is read in all."""

from __future__ import annotations

import os
from typing import BinaryIO

# Bytes that are read of one file in all. Manifests may have 16 MiB; what else is wanted is small.
_MOST = 64 * 2**20
_LEAST_PER_READ = 16  # a read of nothing takes its time too


class ByteReader:
    """Parts of a seekable stream.

    Attributes:
        size: bytes of the stream.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = _MOST
        self.size = stream.seek(0, os.SEEK_END)

    def read(self, at: int, length: int) -> bytes:
        """At most so many bytes from a place on; fewer at the end, none once too much has been read."""
        length = min(length, self.size - at, self._left)
        if at < 0 or length <= 0:
            return b""
        self._left -= max(length, _LEAST_PER_READ)
        self._stream.seek(at)
        return self._stream.read(length)
