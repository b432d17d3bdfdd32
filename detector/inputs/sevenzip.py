"""Members of 7z archives, by py7zr (the extra `archives`)."""

from __future__ import annotations

import contextlib
import io
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, BinaryIO

from ..errors import InputError
from .members import BeyondLimitsError, Budget, Member, damaged

_END = -1
Give = Callable[[int, "bytes | InputError"], None]


def members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The files in a 7z archive, in order.

    Files are packed together in blocks. What follows a broken file in its block is lost.

    Raises:
        InputError: ``missing_extra``, ``encrypted``, ``damaged_archive``, or beyond the limits.
    """
    try:
        import py7zr
    except ImportError:
        text = "7z archives need the extra: pip install 'aidetect[archives]'"
        raise InputError("missing_extra", text) from None
    broken = _broken()
    try:
        archive = py7zr.SevenZipFile(stream)
        files = [file for file in archive.files if not file.is_directory and not file.is_symlink]
        encrypted = archive.needs_password()
    except py7zr.exceptions.PasswordRequired:
        encrypted = True
    except broken as error:
        raise damaged(f"this 7z archive is damaged: {error or 'its directory cannot be read'}") from None
    if encrypted:
        raise InputError("encrypted", "it is encrypted; unpack the archive with its password first")
    if len(files) > budget.limits.members:
        raise BeyondLimitsError(f"more than {budget.limits.members} members")
    for _, block in groupby(files, lambda file: id(file.folder)):
        with _Block(archive, list(block), budget) as unpacked:
            for number, file in enumerate(unpacked.files):
                time = file.lastwritetime
                modified = None if time is None else float(time.totimestamp())
                yield Member(file.filename, unpacked.loader(number), file.uncompressed, modified)


class _Sink:
    """Takes what py7zr writes of one file: it writes, and cannot be read from."""

    def __init__(self, number: int, budget: Budget, finished: Callable[[], None]) -> None:
        finished()  # the file before is complete, and its checksum is right
        self.number = number
        self.data: io.BytesIO | None = io.BytesIO()
        self._budget = budget

    def write(self, data: bytes | bytearray) -> int:
        self._budget.spend(len(data))
        if self.data is not None:
            self.data.write(data)
            if self.data.tell() > self._budget.limits.member_bytes:
                self.data = None
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def read(self, size: int | None = None) -> bytes:
        return b""

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def size(self) -> int:
        return 0


class _Block:
    """The files of one block. They are unpacked in a thread, one ahead of the reader, once one is asked for.

    py7zr writes files where it is told to, one after another; the thread turns that into reading.
    """

    def __init__(self, archive: Any, files: list[Any], budget: Budget) -> None:
        self.files = files
        self._archive = archive
        self._budget = budget
        self._handed: queue.Queue[tuple[int, bytes | InputError]] = queue.Queue(1)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next: tuple[int, bytes | InputError] | None = None

    def __enter__(self) -> _Block:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def loader(self, number: int) -> Callable[[], bytes]:
        """What reads the file with this number."""

        def load() -> bytes:
            if self._thread is None:
                self._thread = threading.Thread(target=self._unpack, daemon=True)
                self._thread.start()
            while self._next is None or _END < self._next[0] < number:
                self._next = self._take()
            at, data = self._next
            if isinstance(data, InputError):
                raise data
            if at != number:
                raise damaged("this member is damaged, or comes after a damaged one")
            return data

        return load

    def _take(self) -> tuple[int, bytes | InputError]:
        while True:
            try:
                return self._handed.get(timeout=1.0)
            except queue.Empty:
                if self._thread is None or not self._thread.is_alive():
                    return _END, damaged("this member cannot be read")

    def _unpack(self) -> None:
        from py7zr.io import MemIO

        open_: list[_Sink] = []
        budget = self._budget

        def finished() -> None:
            if open_:
                sink = open_.pop()
                large = InputError("too_large", "this member is too large")
                self._hand(sink.number, large if sink.data is None else sink.data.getvalue())

        class Factory:
            def create(self, filename: str) -> _Sink:
                open_.append(sink := _Sink(int(filename), budget, finished))
                return sink

        factory: Any = Factory()
        worker = self._archive.worker
        worker.target_filepath.clear()
        for number, file in enumerate(self.files):
            worker.register_filelike(file.id, MemIO(str(number), factory))
        try:
            worker.extract(self._archive.fp, None, parallel=False)
            finished()
            self._hand(_END, damaged("this member is damaged"))
        except _StoppedError:
            pass
        except InputError as error:  # beyond the limits, or what reading a store raised
            self._last(error)
        except _broken():
            self._last(damaged("this member is damaged, or comes after a damaged one"))

    def _last(self, error: InputError) -> None:
        with contextlib.suppress(_StoppedError):
            self._hand(_END, error)

    def _hand(self, number: int, data: bytes | InputError) -> None:
        while not self._stop.is_set():
            try:
                self._handed.put((number, data), timeout=0.1)
                return
            except queue.Full:
                pass
        raise _StoppedError


class _StoppedError(Exception):
    """Nobody reads any more."""


def _broken() -> tuple[type[Exception], ...]:
    """What py7zr and its decompressors raise for broken data."""
    import lzma

    from py7zr.exceptions import ArchiveError

    return (
        *(ArchiveError, lzma.LZMAError, zlib.error, OSError, EOFError, ValueError, TypeError),
        *(LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError, NotImplementedError),
        MemoryError,
    )
