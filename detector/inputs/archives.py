"""Archives and PDF files as inputs: their members become sources. Nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from . import stores
from .fetch import LIMITS, FetchOptions
from .filters import DEFAULT, Members, Place, is_archive_name
from .members import Budget, Limits, Member, damaged
from .source import Source, file_error

JOINT = "!/"
_READERS = {"zip": "zips", "7z": "sevenzip", "pdf": "pdf", "tar": "tars"}
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_MAGIC = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"%PDF-": "pdf",
}
_DEPTH = 1  # archives in an archive are entered, those in them are not
_BOUNDS = Limits()


def kind_of(stream: BinaryIO) -> str | None:
    """``zip``, ``7z``, ``pdf`` or ``tar``, by a stream's content; ``None`` for anything else.

    Args:
        stream: it must be able to seek.
    """
    stream.seek(0)
    head = stream.read(512)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    checksum = head[148:156].strip(b" \0")
    if not (head.startswith(_PACKED) or checksum.isdigit()):
        return None
    from . import tars

    try:
        return "tar" if tars.is_tar(stream) else None
    except InputError:  # packed in a way that needs an extra: reading it will say so
        return "tar"


def is_archive(path: Path) -> bool:
    """Whether a regular file is an archive by its content. What cannot be read is none."""
    try:
        with path.open("rb") as stream:
            return kind_of(stream) is not None
    except (OSError, ValueError):
        return False


def entered(
    sources: Iterable[Source],
    fetch: FetchOptions = LIMITS,
    on_archive: Callable[[str], None] = lambda name: None,
    limits: Limits = _BOUNDS,
) -> Iterator[Source]:
    """Sources, with the members of archives instead of the archives, in order.

    Members have the kind ``member``, and are read by `loaded`. What is wrong with an archive is a source of
    kind ``error``, after those of its members that were found.

    Args:
        sources: as `expand` gives them.
        fetch: for archives in object stores.
        on_archive: told of archives in archives that are not entered.
        limits: of each archive.
    """
    named: list[Source] = []  # members of one archive, which are found in one pass

    def found() -> Iterator[Source]:
        if named:
            paths = [str(source.member) for source in named]
            entry = _Entry(named[0], limits, on_archive)
            members = entry.named(lambda: _opened(named[0], fetch), named[0].name, paths, 0)
            with contextlib.closing(members):
                for source, member in zip(named, members, strict=True):
                    yield replace(member, archive=source)
            named.clear()

    for source in sources:
        if named and (source.member is None or source.location != named[0].location):
            yield from found()
        if source.kind != "archive":
            yield source
        elif source.member is not None:
            named.append(source)
        else:
            entry = _Entry(source, limits, on_archive)
            with contextlib.closing(entry.sources(fetch)) as members:
                for index, member in enumerate(members):
                    yield replace(member, archive=source, index=index)
    yield from found()


def loaded(sources: Iterable[Source]) -> Iterator[Source]:
    """Sources, with members read into memory as they are drawn."""
    for source in sources:
        if source.kind != "member" or source.load is None:
            yield source
            continue
        try:
            yield Source(source.name, "memory", payload=source.load(), modified=source.modified)
        except InputError as error:
            yield Source(source.name, "error", error)


@dataclass(frozen=True)
class _Entry:
    """The way into one archive."""

    archive: Source
    limits: Limits
    on_archive: Callable[[str], None]

    def sources(self, fetch: FetchOptions) -> Generator[Source, None, None]:
        """Its members, and what is wrong with it."""
        try:
            with _opened(self.archive, fetch) as stream:
                place = self.archive.place or Place(DEFAULT)
                yield from self._chosen(stream, self.archive.name, place, None)
        except InputError as error:
            yield Source(self.archive.name, "error", error)

    def named(
        self, opened: Callable[[], AbstractContextManager[BinaryIO]], name: str, paths: list[str], depth: int
    ) -> Generator[Source, None, None]:
        """The members with these paths, which may lie in archives in this one: one source for each, in order.

        Paths in the archive's order take one pass through it.
        """
        left = deque(paths)
        while left:
            before = len(left)
            seen: set[str] = set()
            lost = InputError("not_found", "there is no such member in this archive")
            try:
                with opened() as stream:
                    budget = Budget(self.limits, stream.seek(0, io.SEEK_END))
                    for member in self._read(stream, budget):
                        seen.add(member.path)
                        if member.path == left[0]:
                            yield self._source(f"{name}{JOINT}{left.popleft()}", member)
                        elif depth < _DEPTH and left[0].startswith(start := f"{member.path}{JOINT}"):
                            again = functools.partial(io.BytesIO, member.load())
                            inner = [path.removeprefix(start) for path in _leading(left, start)]
                            yield from self.named(again, f"{name}{JOINT}{member.path}", inner, depth + 1)
                        if not left:
                            return
            except InputError as error:
                lost = error
            while left and (before == len(left) or not _is_in(left[0], seen)):
                yield Source(f"{name}{JOINT}{left.popleft()}", "error", lost)
                before = 0

    def _chosen(self, stream: BinaryIO, name: str, place: Place, outer: Budget | None) -> Iterator[Source]:
        """The members that the rules of folders take.

        Raises:
            InputError: the archive is damaged, encrypted, or beyond its limits.
        """
        rules = Members(place)
        budget = Budget(self.limits, stream.seek(0, io.SEEK_END), outer)
        for member in self._read(stream, budget):
            within = rules.place_of(member.path)
            if within is None:
                continue
            folder, last = within
            full = f"{name}{JOINT}{member.path}"
            if not member.picture and is_archive_name(last):
                if place.options.archives and outer is None:  # one in another, and no deeper
                    yield from self._nested(member, full, folder.inside(last, JOINT), budget)
                else:
                    self.on_archive(full)
            elif folder.wants(last) or (member.picture and not place.options.include):
                yield self._source(full, member)

    def _nested(self, member: Member, name: str, place: Place, outer: Budget) -> Iterator[Source]:
        try:
            with io.BytesIO(member.load()) as stream:
                yield from self._chosen(stream, name, place, outer)
        except InputError as error:
            yield Source(name, "error", error)

    def _read(self, stream: BinaryIO, budget: Budget) -> Iterator[Member]:
        kind = kind_of(stream)
        if kind is None:
            raise damaged("it is named like an archive, but is none, or its beginning is damaged")
        stream.seek(0)
        reader = importlib.import_module(f".{_READERS[kind]}", __package__)
        members: Iterator[Member] = reader.members(stream, budget)
        for count, member in enumerate(members, 1):
            budget.check(count)
            yield member

    def _source(self, name: str, member: Member) -> Source:
        modified = self.archive.modified if member.modified is None else member.modified
        return Source(name, "member", size=member.size, modified=modified, load=member.load)


def _leading(paths: deque[str], start: str) -> Iterator[str]:
    """Take away the first paths that begin like this."""
    while paths and paths[0].startswith(start):
        yield paths.popleft()


def _is_in(path: str, seen: set[str]) -> bool:
    """Whether a member, or the archive in this one that it lies in, was seen."""
    return path in seen or any(path[: at.start()] in seen for at in re.finditer(re.escape(JOINT), path))


@contextlib.contextmanager
def _opened(source: Source, fetch: FetchOptions) -> Iterator[BinaryIO]:
    """An archive's stream, which can seek.

    Raises:
        InputError: it cannot be opened or read.
    """
    if source.address is None:
        try:
            with Path(source.name).open("rb") as file:
                yield file
        except OSError as error:
            raise file_error(error) from None
    else:
        with stores.open_stream(source.address, fetch) as file:
            yield file
