"""Members of zip archives."""

from __future__ import annotations

import contextlib
import datetime
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from ..errors import InputError
from .members import BeyondLimitsError, Budget, Member, damaged

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(ValueError, IndexError, struct.error, OverflowError),
)
_ENCRYPTED = InputError("encrypted", "it is encrypted; unpack the archive with its password first")
_UNSUPPORTED = InputError(
    "unsupported", "it is compressed in a way that only an intact archive could be read in"
)
_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_CHUNK = 1 << 18


def members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The files in a zip archive, in the order of its directory.

    Without a readable directory (of a download that was cut off, for instance) the members are found one
    after another.

    Raises:
        InputError: ``damaged_archive`` at the end, if something was lost; or beyond the limits.
    """
    _check_directory(stream, budget)
    try:
        archive = zipfile.ZipFile(stream)
    except NotImplementedError as error:
        raise InputError("unsupported", f"this zip archive cannot be read: {error}") from None
    except _BROKEN:
        yield from _without_directory(stream, budget)
        raise damaged("its directory is missing or damaged; what could be found was read") from None
    with archive:
        for info in archive.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield Member(
                    info.filename, _loader(archive, info, budget), info.file_size, _seconds(info.date_time)
                )


def _check_directory(stream: BinaryIO, budget: Budget) -> None:
    """Refuse a directory that would take too much memory.

    Raises:
        BeyondLimitsError: it is too large.
    """
    length = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, length - _END.size - 2**16))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at >= 0 and len(tail) - at >= _END.size:
        count, size = _END.unpack_from(tail, at)[4:6]
        if size == 0xFFFFFFFF or count == 0xFFFF:  # the numbers are in the record of zip64
            at = tail.rfind(b"PK\6\6", 0, at)
            if at >= 0 and len(tail) - at >= 56:
                count, size = struct.unpack_from("<2Q", tail, at + 32)
        limits = budget.limits
        if count > limits.members or size > limits.directory_bytes:
            raise BeyondLimitsError(f"more than {limits.members} members, or very long names")
    stream.seek(0)


def _loader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Callable[[], bytes]:
    def load() -> bytes:
        if info.flag_bits & 1:
            raise _ENCRYPTED
        try:
            with archive.open(info) as stream:
                return budget.read(cast(BinaryIO, stream))
        except NotImplementedError as error:
            raise InputError("unsupported", f"it cannot be unpacked: {error}") from None
        except _BROKEN as error:
            raise damaged(f"this member is damaged: {error}") from None

    return load


def _seconds(date: tuple[int, int, int, int, int, int]) -> float | None:
    """A zip's time, which is local, as seconds since the epoch."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.datetime(*date).timestamp()
    return None


def _without_directory(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The members that can be found by their own headers, one after another from the start.

    It ends where a header is not where it should be, and before a member that says neither how long it is nor
    is compressed by deflate.
    """
    at = 0
    while True:
        stream.seek(at)
        head = stream.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            return
        magic, _, flags, method, clock, day, _, packed, size, name_length, extra = _LOCAL.unpack(head)
        if magic != b"PK\3\4":
            return
        name = stream.read(name_length)
        start = at + _LOCAL.size + name_length + extra
        path = name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
        encrypted, unknown = bool(flags & 1), bool(flags & 8)
        if unknown and (encrypted or method != zipfile.ZIP_DEFLATED):
            return
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            reading = None
        else:
            reading = _Found(stream, start, None if unknown else packed, method, budget)
        date = (1980 + (day >> 9), day >> 5 & 15, day & 31, clock >> 11, clock >> 5 & 63, clock % 32 * 2)
        if path and not path.endswith("/"):
            load = reading.load if reading is not None else _refuse(_UNSUPPORTED)
            load = _refuse(_ENCRYPTED) if encrypted else load
            yield Member(path, load, None if unknown else size, _seconds(date))
        if unknown:
            assert reading is not None
            end = reading.find_end()
            if end is None:
                return
            stream.seek(end)
            at = end + (16 if stream.read(4) == b"PK\7\10" else 12)
        else:
            at = start + packed


def _refuse(error: InputError) -> Callable[[], bytes]:
    def load() -> bytes:
        raise error

    return load


class _Found:
    """A member that was found without the directory.

    Args:
        stream: the archive.
        start: where its data begin.
        packed: how many bytes they have; ``None`` if only their end tells.
        method: stored or deflated.
        budget: of the archive.
    """

    def __init__(self, stream: BinaryIO, start: int, packed: int | None, method: int, budget: Budget) -> None:
        self._stream = stream
        self._start = start
        self._packed = packed
        self._deflated = method == zipfile.ZIP_DEFLATED
        self._budget = budget
        self._end: int | None = None

    def load(self) -> bytes:
        """Its bytes."""
        parts = b"".join(self._parts())
        if self._end is None:
            raise damaged("this member is cut off or damaged")
        return parts

    def find_end(self) -> int | None:
        """Where its data end, or ``None`` if they are cut off or damaged."""
        if self._end is None:
            with contextlib.suppress(InputError):
                for _ in self._parts():
                    pass
        return self._end

    def _parts(self) -> Iterator[bytes]:
        self._stream.seek(self._start)
        unpacker = zlib.decompressobj(-15)
        taken = unpacked = 0
        while self._packed is None or taken < self._packed:
            count = _CHUNK if self._packed is None else min(_CHUNK, self._packed - taken)
            data = self._stream.read(count)
            if not data:
                return
            taken += len(data)
            waiting = data
            while waiting:
                part, waiting = waiting, b""
                if self._deflated:
                    try:
                        part = unpacker.decompress(part, _CHUNK)
                    except zlib.error:
                        return
                    waiting = unpacker.unconsumed_tail
                self._budget.spend(len(part))
                unpacked += len(part)
                if unpacked > self._budget.limits.member_bytes:
                    raise InputError("too_large", "this member is too large")
                yield part
            if self._deflated and unpacker.eof:
                self._end = self._start + taken - len(unpacker.unused_data)
                return
        if not self._deflated:
            self._end = self._start + taken
