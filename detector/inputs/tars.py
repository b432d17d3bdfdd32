"""Members of tar archives, compressed or not, in one pass."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from ..errors import InputError
from .members import Budget, Member, damaged

_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_XZ_MEMORY = 2**28  # xz -9 takes a quarter of it
_CHUNK = 1 << 18
_LONGEST_HEADER = 2**20
_LONG_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_BLOCK = 512
_InvalidHeaderError: type[tarfile.TarError] = tarfile.InvalidHeaderError  # type: ignore[attr-defined]


def is_tar(stream: BinaryIO) -> bool:
    """Whether a stream begins like a tar archive, compressed or not. The stream must be able to seek.

    Raises:
        InputError: ``missing_extra``.
    """
    try:
        stream.seek(0)
        first = _unpacked(stream).read(_BLOCK)
        tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")
    except _broken():
        return False
    return True


def members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The files in a tar archive, in order.

    A broken header costs its member; reading goes on with the next good header.

    Raises:
        InputError: ``damaged_archive`` at the end, if something was lost; ``missing_extra``; or beyond the
            limits.
    """
    lost = False

    class Header(tarfile.TarInfo):
        """A header that notes broken ones, and takes very long names and comments for broken."""

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
            nonlocal lost
            try:
                found = super().frombuf(buf, encoding, errors)
                if found.type in _LONG_HEADERS and found.size > _LONGEST_HEADER:
                    raise _InvalidHeaderError("too long")
            except tarfile.HeaderError:
                lost = lost or bool(buf.strip(b"\0"))  # zeros are the end
                raise
            return found

    stream.seek(0)
    try:
        # Broken headers are passed over with `ignore_zeros`, as are the zeros between joined archives.
        with tarfile.open(
            fileobj=_Counted(_unpacked(stream), budget),
            mode="r|",
            bufsize=_CHUNK,
            ignore_zeros=True,
            tarinfo=Header,
            errors="surrogateescape",
        ) as archive:
            while (info := archive.next()) is not None:
                cast(Any, archive).members.clear()  # else it would keep every header
                if info.isreg():
                    yield Member(info.name, _loader(archive, info, budget), info.size, float(info.mtime))
    except _broken() as error:
        raise damaged(f"this archive is cut off or damaged ({error}); the rest is lost") from None
    if lost:
        raise damaged("parts of this archive are damaged and lost; the others were read")


def _loader(archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget) -> Callable[[], bytes]:
    def load() -> bytes:
        try:
            stream = archive.extractfile(info)
            return b"" if stream is None else budget.read(cast(BinaryIO, stream), counted=False)
        except _broken():
            raise damaged("this member is cut off or damaged") from None

    return load


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted against the limits."""

    def __init__(self, stream: BinaryIO, budget: Budget) -> None:
        # One piece at a time, so that what comes before damage is not lost with it.
        self._read = getattr(stream, "read1", stream.read)
        self._budget = budget

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._read(count)
        self._budget.spend(len(data))
        return data


class _Unpacker(io.RawIOBase):
    """Unpacks a stream with a decompressor of the standard library's kind: bz2, lzma, zstd."""

    def __init__(self, stream: BinaryIO, new: Callable[[], Any]) -> None:
        self._stream = stream
        self._new = new
        self._unpacker = new()

    def read(self, count: int = -1) -> bytes:
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data or self._stream.read(_CHUNK)
                if not packed.strip(b"\0"):  # padding
                    return b""
                self._unpacker = self._new()
            elif self._unpacker.needs_input:
                packed = self._stream.read(_CHUNK)
                if not packed:
                    raise EOFError("the data end too early")
            if data := self._unpacker.decompress(packed, count):
                return bytes(data)


def _unpacked(stream: BinaryIO) -> BinaryIO:
    """A stream of the tar archive itself.

    Raises:
        InputError: ``missing_extra``.
    """
    head = stream.read(6)
    stream.seek(0)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind == "gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    if kind == "bz2":
        import bz2

        return cast(BinaryIO, _Unpacker(stream, bz2.BZ2Decompressor))
    if kind == "xz":
        import lzma

        return cast(BinaryIO, _Unpacker(stream, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)))
    if kind == "zst":
        return cast(BinaryIO, _Unpacker(stream, _zstd().ZstdDecompressor))
    return stream


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef,unused-ignore]
        except ImportError:
            text = "tar.zst archives need the extra: pip install 'aidetect[archives]'"
            raise InputError("missing_extra", text) from None
    return zstd


def _broken() -> tuple[type[Exception], ...]:
    """What tarfile and the decompressors in use raise for broken data."""
    import lzma
    import sys

    found: list[type[Exception]] = [tarfile.TarError, OSError, EOFError, ValueError]
    found += [zlib.error, lzma.LZMAError]
    for name in ("compression.zstd", "backports.zstd"):
        if name in sys.modules:
            found.append(sys.modules[name].ZstdError)
    return tuple(found)
