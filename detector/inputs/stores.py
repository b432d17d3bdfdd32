"""Object stores and other file systems, by fsspec: what lies under an address, and its bytes.

`listing` gives the objects under an address one after another, while it lists: on S3 and Google Cloud Storage
page by page, elsewhere folder by folder. `read` gives the bytes of one, with a size limit and retries.
Credentials are those that fsspec finds. Errors never quote an address's secrets.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ..errors import InputError
from . import ignore
from .connect import OBJECT_STORES, Explained, check_allowed, open_store, scheme_of, tried
from .fetch import LIMITS, FetchOptions
from .filters import DEFAULT, Place, WalkOptions, is_archive_name
from .pages import Item, item_of, pages
from .source import file_error

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["StoredObject", "check_writable", "listing", "open_store", "open_stream", "read"]
__all__ += ["read_head", "scheme_of", "write"]

_DEEPEST = 100  # folders in one another
_HEAD = 2**16


@dataclass(frozen=True)
class StoredObject:
    """An object of a store, or a file of a file system.

    Attributes:
        address: what `read` takes. It may hold credentials: show `redact.redacted` of it.
        size: in bytes, or ``None`` if the store does not say.
        modified: seconds since the epoch, or ``None``.
        etag: what changes with the content, if the store says, or ``None``.
        place: the folder that it lies in.
    """

    address: str
    size: int | None = None
    modified: float | None = None
    etag: str | None = None
    place: Place = field(default_factory=lambda: Place(DEFAULT))


def listing(
    address: str,
    options: WalkOptions = DEFAULT,
    on_error: Callable[[str, InputError], None] = lambda address, error: None,
    on_archive: Callable[[str], None] = lambda address: None,
    limits: FetchOptions = LIMITS,
) -> Iterator[StoredObject]:
    """The objects under an address that the rules of folders take, or the one that has this address.

    They come while the store is being listed, folder by folder, sorted by name. An object that is named is
    taken whatever its name.

    Args:
        address: of a folder, a prefix, a bucket, or an object.
        options: which are taken. Ignore files count in the folder and its subfolders.
        on_error: told of folders that cannot be listed; the others are.
        on_archive: told of archives that are not entered because of `WalkOptions.archives`.
        limits: of these count ``allowed``, ``retries`` and ``backoff``.

    Raises:
        InputError: nothing has this address, or the store cannot be used.
    """
    check_allowed(address, limits)
    store, root = open_store(address)
    single = _single(store, root, address)
    if single is not None:
        yield single
        return
    base = address.rstrip("/")

    def with_rules(page: list[Item], place: Place) -> Place:
        """A folder with the rules of its ignore file, if its first page has one."""
        for item in page:
            if item.name == ignore.NAME and not item.is_folder:
                where = _address(base, root, item.path)
                try:
                    data = b"" if item.size == 0 else _cut(where, ignore.MAX_BYTES + 1, limits)
                    return replace(place, rules=place.rules.with_text(data))
                except InputError as error:
                    on_error(where, error)
                except OSError as error:
                    on_error(where, file_error(error))
        return place

    def entries(path: str, place: Place) -> Iterator[tuple[Item, Place]]:
        try:
            for number, page in enumerate(pages(store, path, address, limits)):
                if options.ignore and number == 0:
                    place = with_rules(page, place)
                for item in page:
                    yield item, place
        except InputError as error:
            if path == root:
                raise
            on_error(_address(base, root, path), error)

    stack = [entries(root, Place(options))]
    while stack:
        for item, place in stack[-1]:
            if place.leaves_out(item.name, item.is_folder):
                continue
            if item.is_folder:
                if options.recursive and len(stack) < _DEEPEST:
                    stack.append(entries(item.path, place.inside(item.name)))
                    break
                if options.recursive:
                    text = f"more than {_DEEPEST} folders in one another"
                    on_error(_address(base, root, item.path), InputError("too_deep", text))
                continue
            archive = is_archive_name(item.name)
            where = _address(base, root, item.path)
            if (archive and options.archives) or place.wants(item.name):
                yield StoredObject(where, item.size, item.modified, item.etag, place)
            elif archive:
                on_archive(where)
        else:
            stack.pop()


def read(address: str, limits: FetchOptions = LIMITS, size: int | None = None) -> bytes:
    """The bytes of an object. What may be gone in a moment is tried again.

    Args:
        address: of the object.
        limits: of these count ``allowed``, ``max_bytes``, ``retries`` and ``backoff``.
        size: its size, if a listing said it.

    Raises:
        InputError: ``network_refused``, ``not_found``, ``permission_denied``, ``too_large``,
            ``network_error``, or as `open_store`.
    """
    check_allowed(address, limits)
    too_large = InputError("too_large", f"the object is larger than {limits.max_bytes / 2**20:.0f} MiB")
    if size is not None and size > limits.max_bytes:
        raise too_large
    if size == 0:  # stores refuse ranges of nothing
        return b""

    data = _cut(address, limits.max_bytes + 1, limits)
    if len(data) > limits.max_bytes:
        raise too_large
    return data


def read_head(address: str, limits: FetchOptions = LIMITS) -> bytes:
    """The first 64 KiB of an object.

    Raises:
        InputError: as `read`.
    """
    return _cut(address, _HEAD, limits)


def open_stream(address: str, limits: FetchOptions = LIMITS) -> BinaryIO:
    """An object as a stream that can seek. Its size is not limited.

    Raises:
        InputError: as `read`.
    """
    check_allowed(address, limits)

    def once() -> BinaryIO:
        store, path = open_store(address)
        with Explained(address):
            return cast(BinaryIO, _Stream(store.open(path, "rb"), address))

    return tried(once, limits)


class _Stream(io.RawIOBase):
    """An object that is read in parts. What a plug-in raises meanwhile becomes an `InputError`."""

    def __init__(self, stream: BinaryIO, address: str) -> None:
        self._stream = stream
        self._address = address

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        with Explained(self._address):
            return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere else."""
        with Explained(self._address):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._stream.tell()

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            self._stream.close()
        super().close()


def write(address: str, path: Path) -> None:
    """Write a file to an address. It appears there whole, or not at all.

    Raises:
        InputError: it cannot be written.
    """
    store, target = open_store(address)
    with Explained(address):
        if scheme_of(address) in OBJECT_STORES:  # an object appears when its upload is complete
            store.put_file(str(path), target)
            return
        folder, _, name = target.rpartition("/")
        part = f"{folder}/.aidetect-{secrets.token_hex(8)}.part" if folder else f".{name}.part"
        try:
            store.put_file(str(path), part)
            store.mv(part, target)
        finally:
            if store.exists(part):
                store.rm_file(part)


def check_writable(address: str) -> None:
    """Find out, without writing, what would make `write` fail.

    Raises:
        InputError: there is no such store or bucket, or it may not be used; or the address is a folder.
    """
    store, target = open_store(address)
    if not target.strip("/") or address.endswith("/"):
        raise InputError("not_a_file", "this is a folder; give the name of a file")
    if scheme_of(address) in OBJECT_STORES:
        with Explained(address):
            store.info(target.strip("/").partition("/")[0])


def _cut(address: str, count: int, limits: FetchOptions) -> bytes:
    """The first bytes of an object."""
    check_allowed(address, limits)

    def once() -> bytes:
        store, path = open_store(address)
        with Explained(address):
            return bytes(store.cat_file(path, start=0, end=count))

    return tried(once, limits)


def _single(store: AbstractFileSystem, path: str, address: str) -> StoredObject | None:
    """The object at a path; ``None`` for a folder, and for what only a listing can tell."""
    if not path or address.endswith("/"):
        return None
    try:
        with Explained(address):
            info = store.info(path)
    except InputError as error:
        if error.kind == "not_found":  # there may be a prefix of this name all the same
            return None
        raise
    item = item_of(info)
    return None if item.is_folder else StoredObject(address, item.size, item.modified, item.etag)


def _address(base: str, root: str, path: str) -> str:
    """The address of a path below the root, which has the address ``base``."""
    below = path.removeprefix(root).removeprefix("/")
    return f"{base}/{below}" if below else base
