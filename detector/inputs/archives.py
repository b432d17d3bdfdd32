"""Archives and PDF files as inputs: their members become sources. Nothing is unpacked to disk."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterable, Iterator
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
    for source in sources:
        if source.kind == "archive":
            entry = _Entry(source, limits, on_archive)
            with contextlib.closing(entry.sources(fetch)) as found:
                for index, member in enumerate(found):
                    yield replace(member, archive=source, index=index)
        else:
            yield source


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

    def sources(self, fetch: FetchOptions) -> Iterator[Source]:
        """Its members, and what is wrong with it."""
        name, member = self.archive.name, self.archive.member
        try:
            with _opened(self.archive, fetch) as stream:
                if member is None:
                    yield from self._chosen(stream, name, self.archive.place or Place(DEFAULT), 0)
                else:
                    yield self._named(stream, member)
        except InputError as error:
            yield Source(name if member is None else f"{name}{JOINT}{member}", "error", error)

    def _chosen(self, stream: BinaryIO, name: str, place: Place, depth: int) -> Iterator[Source]:
        """The members that the rules of folders take.

        Raises:
            InputError: the archive is damaged, encrypted, or beyond its limits.
        """
        rules = Members(place)
        for member in self._read(stream):
            within = rules.place_of(member.path)
            if within is None:
                continue
            folder, last = within
            full = f"{name}{JOINT}{member.path}"
            if not member.picture and is_archive_name(last):
                if place.options.archives and depth < _DEPTH:
                    yield from self._nested(member, full, folder.inside(last, JOINT), depth + 1)
                else:
                    self.on_archive(full)
            elif folder.wants(last) or (member.picture and not place.options.include):
                yield self._source(full, member)

    def _nested(self, member: Member, name: str, place: Place, depth: int) -> Iterator[Source]:
        try:
            with io.BytesIO(member.load()) as stream:
                yield from self._chosen(stream, name, place, depth)
        except InputError as error:
            yield Source(name, "error", error)

    def _named(self, stream: BinaryIO, path: str) -> Source:
        """The member with this path, which may lie in an archive in this one.

        Raises:
            InputError: ``not_found``, or as `_chosen`.
        """
        outer, _, rest = path.partition(JOINT)
        for member in self._read(stream):
            if member.path == path:
                data = member.load()
                return Source(f"{self.archive.name}{JOINT}{path}", "memory", payload=data)
            if rest and member.path == outer:
                with io.BytesIO(member.load()) as inner:
                    found = self._named(inner, rest)
                    return replace(found, name=f"{self.archive.name}{JOINT}{path}")
        raise InputError("not_found", "there is no such member in this archive")

    def _read(self, stream: BinaryIO) -> Iterator[Member]:
        kind = kind_of(stream)
        if kind is None:
            raise damaged("it is named like an archive, but is none, or its beginning is damaged")
        budget = Budget(self.limits, stream.seek(0, io.SEEK_END))
        stream.seek(0)
        reader = importlib.import_module(f".{_READERS[kind]}", __package__)
        members: Iterator[Member] = reader.members(stream, budget)
        for count, member in enumerate(members, 1):
            budget.check(count)
            yield member

    def _source(self, name: str, member: Member) -> Source:
        modified = self.archive.modified if member.modified is None else member.modified
        return Source(name, "member", size=member.size, modified=modified, load=member.load)


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
