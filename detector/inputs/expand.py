"""Inputs as given become sources."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from . import archives, ignore, stores
from .fetch import LIMITS, FetchOptions
from .filters import DEFAULT, Place, WalkOptions, is_archive_name
from .redact import redacted
from .source import Source, file_error
from .walk import search


def expand(
    inputs: Iterable[str],
    options: WalkOptions = DEFAULT,
    fetch: FetchOptions = LIMITS,
    on_archive: Callable[[str], None] = lambda name: None,
) -> Iterator[Source]:
    """Turn inputs as given into sources, in order.

    Args:
        inputs: paths of files or folders, http(s) URLs, addresses that fsspec knows, ``-`` for standard
            input, or the names that members of archives have in records.
        options: which files of folders are included.
        fetch: how object stores are read.
        on_archive: told of archives in folders that are left out because of `WalkOptions.archives`.

    Yields:
        Sources. An input that cannot be used gives a source of kind ``error``, never an exception. An archive
        gives one of kind ``archive`` (see `archives.entered`).
    """
    expander = _Expander(options, fetch, on_archive)
    for name in inputs:
        yield from expander.expand(name)


@dataclass(frozen=True)
class _Expander:
    options: WalkOptions
    fetch: FetchOptions
    on_archive: Callable[[str], None]

    def expand(self, name: str) -> Iterator[Source]:
        """The sources of one input."""
        if name == "-":
            yield Source(name, "stdin")
        elif not name:
            yield Source(name, "error", InputError("not_found", "the name is empty"))
        elif (scheme := stores.scheme_of(name)) and not _exists(name):
            if scheme in ("http", "https"):
                shown = redacted(name)
                yield Source(shown, "url", address=None if shown == name else name)
            elif scheme in ("file", "local"):
                yield from self._path(name.partition("://")[2])
            else:
                yield from self._address(name)
        else:
            yield from self._path(name)

    def _path(self, name: str) -> Iterator[Source]:
        path = Path(name)
        try:
            status = path.stat()
        except (OSError, ValueError):
            status = None  # reading it will say what is wrong
        if status is not None and stat.S_ISDIR(status.st_mode):
            yield from self._folder(path)
        elif status is None:
            yield self._member(name) or Source(name, "file")
        elif stat.S_ISREG(status.st_mode) and archives.is_archive(path):
            yield Source(
                name, "archive", size=status.st_size, modified=status.st_mtime, place=self._top(path)
            )
        else:
            yield Source(name, "file", size=status.st_size, modified=status.st_mtime)

    def _top(self, path: Path) -> Place:
        """An archive that is given, as a folder that is given."""
        rules = ignore.above(path, lambda path, error: None) if self.options.ignore else ignore.Rules()
        return Place(self.options, rules)

    def _folder(self, folder: Path) -> Iterator[Source]:
        failed: list[Source] = []

        def note(path: Path, error: OSError) -> None:
            failed.append(Source(str(path), "error", file_error(error)))

        for found in search(folder, self.options, note, self.on_archive):
            yield from failed
            failed.clear()
            size = None if found.status is None else found.status.st_size
            modified = None if found.status is None else found.status.st_mtime
            inner = found.place.inside(found.path.name, archives.JOINT) if found.archive else None
            kind = "archive" if found.archive else "file"
            yield Source(str(found.path), kind, size=size, modified=modified, place=inner)
        yield from failed

    def _address(self, address: str) -> Iterator[Source]:
        failed: list[Source] = []

        def note(address: str, error: InputError) -> None:
            failed.append(Source(redacted(address), "error", error))

        try:
            for found in stores.listing(address, self.options, note, self.on_archive, self.fetch):
                yield from failed
                failed.clear()
                yield self._object(found, given=found.address == address)
        except InputError as error:
            if error.kind == "not_found" and (member := self._member(address)):
                yield member
            else:
                yield Source(redacted(address), "error", error)
        yield from failed

    def _object(self, found: stores.StoredObject, given: bool) -> Source:
        name = found.address.rpartition("/")[2]
        inner: Place | None = None
        if given:
            head = stores.read_head(found.address, self.fetch) if found.size != 0 else b""
            if archives.kind_of(io.BytesIO(head)):
                inner = Place(self.options)
        elif is_archive_name(name) and self.options.archives:
            inner = found.place.inside(name, archives.JOINT)
        kind = "remote" if inner is None else "archive"
        shown = redacted(found.address)
        return Source(
            shown,
            kind,
            address=found.address,
            size=found.size,
            modified=found.modified,
            etag=found.etag,
            place=inner,
        )

    def _member(self, name: str) -> Source | None:
        """The source for ``ARCHIVE!/MEMBER``, or ``None`` if there is no such archive."""
        at = name.find(archives.JOINT)
        while at > 0:
            outer, member = name[:at], name[at + len(archives.JOINT) :]
            if stores.scheme_of(outer):
                return Source(redacted(outer), "archive", address=outer, member=member)
            if _exists(outer) and not Path(outer).is_dir():
                return Source(outer, "archive", member=member)
            at = name.find(archives.JOINT, at + 1)
        return None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # e.g. a URL longer than a path may be
        return False
