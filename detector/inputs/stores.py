"""Object stores and other file systems, by fsspec: what lies under an address, and its bytes.

`listing` gives the objects under an address one after another, while it lists: on S3 page by page, elsewhere
folder by folder. `read` gives the bytes of one, with a size limit and retries. Credentials are those that
fsspec finds. Errors never quote an address's secrets.
"""

from __future__ import annotations

import datetime
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from ..errors import InputError
from . import ignore
from .fetch import LIMITS, FetchOptions
from .filters import DEFAULT, Place, WalkOptions, is_archive_name
from .redact import redacted
from .source import file_error

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_DEEPEST = 100  # folders in one another
_HEAD = 2**16
_LONGEST = 200  # characters of a plug-in's message
_OBJECT_STORES = frozenset("s3 s3a gs gcs abfs abfss az".split())
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "timeModified", "created")
# Another try gives the same.
_FINAL = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ImportError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class StoredObject:
    """An object of a store, or a file of a file system.

    Attributes:
        address: what `read` takes. It may hold credentials: show ``redacted(address)``.
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


@dataclass(frozen=True)
class _Item:
    """One entry of a folder: its path in the store, its name, and the attributes as above."""

    path: str
    is_folder: bool
    size: int | None
    modified: float | None
    etag: str | None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def scheme_of(name: str) -> str | None:
    """The scheme of an address, in lower case; ``None`` for a name that is no address."""
    found = ADDRESS.match(name)
    return found[1].lower() if found else None


def open_store(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it. Each thread gets its own.

    Raises:
        InputError: ``unsupported_scheme``, ``missing_extra``, ``bad_url``, or the store cannot be reached.
    """
    import fsspec

    scheme = scheme_of(address) or "file"
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        hint = "pip install 'aidetect[cloud]'" if scheme in _OBJECT_STORES else str(error)
        raise InputError("missing_extra", f"{scheme}:// needs a further package: {hint}") from None
    except ValueError:
        text = f"{scheme}:// is not supported; use a path, an http(s) URL, or an address that fsspec knows"
        raise InputError("unsupported_scheme", text) from None
    with _Explained():
        # Not `url_to_fs`, which takes "::" in a name for a chain of file systems.
        store = fsspec.filesystem(scheme, **kind._get_kwargs_from_urls(address))
        return store, str(store._strip_protocol(address))


def listing(
    address: str,
    options: WalkOptions = DEFAULT,
    on_error: Callable[[str, InputError], None] = lambda address, error: None,
    on_archive: Callable[[str], None] = lambda address: None,
) -> Iterator[StoredObject]:
    """The objects under an address that the rules of folders take, or the one that has this address.

    They come while the store is being listed. Names in a folder come in the store's order, which is sorted on
    S3. An object that is named is taken whatever its name.

    Args:
        address: of a folder, a prefix, a bucket, or an object.
        options: which are taken. Ignore files count in the folder and its subfolders.
        on_error: told of folders that cannot be listed; the others are.
        on_archive: told of archives that are not entered because of `WalkOptions.archives`.

    Raises:
        InputError: nothing has this address, or the store cannot be used.
    """
    store, root = open_store(address)
    single = _single(store, root, address)
    if single is not None:
        yield single
        return
    base = address.rstrip("/")

    def entries(path: str, place: Place) -> Iterator[tuple[_Item, Place]]:
        try:
            for number, page in enumerate(_pages(store, path)):
                if options.ignore and number == 0:
                    place = _with_rules(store, page, place, lambda p: _address(base, root, p), on_error)
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
        with _Explained():
            return cast(BinaryIO, store.open(path, "rb"))

    return _tried(once, limits)


def write(address: str, path: Path) -> None:
    """Write a file to an address. It appears there whole, or not at all.

    Raises:
        InputError: it cannot be written.
    """
    store, target = open_store(address)
    with _Explained():
        if scheme_of(address) in _OBJECT_STORES:  # an object appears when its upload is complete
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
    if scheme_of(address) in _OBJECT_STORES:
        with _Explained():
            store.info(target.strip("/").partition("/")[0])


def check_allowed(address: str, limits: FetchOptions) -> None:
    """Refuse an address where no network is to be used.

    Raises:
        InputError: ``network_refused``.
    """
    if not limits.allowed and scheme_of(address) not in ("file", "local", "memory"):
        raise InputError("network_refused", "network use is switched off by --no-network")


def explained(error: Exception) -> InputError:
    """What a store's plug-in raised as an `InputError`, without the secrets of addresses."""
    if isinstance(error, InputError):
        return error
    text = redacted(" ".join(str(error).split())) or type(error).__name__
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if "credential" in type(error).__name__.lower():
        return InputError("permission_denied", f"no credentials for this store: {text}")
    if isinstance(error, OSError) and isinstance(
        error, FileNotFoundError | PermissionError | IsADirectoryError
    ):
        return file_error(error)
    if isinstance(error, _FINAL):
        return InputError("bad_url", f"this address cannot be used: {text}")
    return InputError("network_error", f"cannot read from the store: {text}")


class _Explained:
    """Turns what a plug-in raises into an `InputError`, with the original as its cause.

    Each plug-in has a client library with exceptions of its own, so any `Exception` is turned.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise explained(error) from error


def _cut(address: str, count: int, limits: FetchOptions) -> bytes:
    """The first bytes of an object."""
    check_allowed(address, limits)

    def once() -> bytes:
        store, path = open_store(address)
        with _Explained():
            return bytes(store.cat_file(path, start=0, end=count))

    return _tried(once, limits)


def _tried(once: Callable[[], T], limits: FetchOptions) -> T:
    wait = limits.backoff
    for left in range(limits.retries, -1, -1):
        try:
            return once()
        except InputError as error:
            if left == 0 or error.kind != "network_error":
                raise
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")


def _single(store: AbstractFileSystem, path: str, address: str) -> StoredObject | None:
    """The object at a path; ``None`` for a folder, and for what only a listing can tell."""
    if not path or address.endswith("/"):
        return None
    try:
        with _Explained():
            info = store.info(path)
    except InputError as error:
        if error.kind == "not_found":  # there may be a prefix of this name all the same
            return None
        raise
    item = _item(info)
    return None if item.is_folder else StoredObject(address, item.size, item.modified, item.etag)


def _address(base: str, root: str, path: str) -> str:
    """The address of a path below the root, which has the address ``base``."""
    below = path.removeprefix(root).removeprefix("/")
    return f"{base}/{below}" if below else base


def _pages(store: AbstractFileSystem, folder: str) -> Iterator[list[_Item]]:
    """The entries of a folder, in pages. One page is all there is, unless the store is S3.

    Raises:
        InputError: it cannot be listed.
    """
    if hasattr(store, "call_s3") and folder.strip("/"):
        yield from _s3_pages(store, folder)
        return
    with _Explained():
        try:
            found = [_item(info) for info in store.ls(folder, detail=True)]
        finally:
            store.invalidate_cache(folder)  # a listing of everything would stay in memory
    # Object stores can show a folder in itself: as an empty object whose name ends with a slash.
    found = [item for item in found if item.name and item.path.strip("/") != folder.strip("/")]
    found.sort(key=lambda item: item.name.encode("utf-8", "surrogateescape"))
    yield found


def _s3_pages(store: Any, folder: str) -> Iterator[list[_Item]]:
    """The entries of a prefix of S3, a thousand at a time. ``S3FileSystem.ls`` would give all at once."""
    bucket = store.split_path(folder)[0]
    prefix = folder.removeprefix(bucket).removeprefix("/")
    start = f"{prefix}/" if prefix else ""
    further: dict[str, str] = {}
    while True:
        with _Explained():
            page = store.call_s3("list_objects_v2", Bucket=bucket, Prefix=start, Delimiter="/", **further)
        if start and not page.get("CommonPrefixes") and not page.get("Contents") and not further:
            raise InputError("not_found", "no object has this address, and none lies under it")
        found = [
            _Item(f"{bucket}/{below['Prefix'].removesuffix('/')}", True, None, None, None)
            for below in page.get("CommonPrefixes", [])
        ]
        found += [
            _item({"name": f"{bucket}/{entry['Key']}", "type": "file", **entry})
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        ]
        found.sort(key=lambda item: item.name.encode("utf-8", "surrogateescape"))
        yield found
        if not page.get("IsTruncated"):
            return
        further = {"ContinuationToken": page["NextContinuationToken"]}


def _item(info: Mapping[str, Any]) -> _Item:
    """An entry from what fsspec says about it. The names of sizes and times differ from store to store."""
    size = info.get("size", info.get("Size"))
    etag = info.get("ETag") or info.get("etag")
    return _Item(
        str(info["name"]).rstrip("/"),
        info.get("type") == "directory",
        int(size) if isinstance(size, int | float) else None,
        next((_seconds(info[name]) for name in _TIMES if info.get(name) is not None), None),
        str(etag).strip('"') if etag else None,
    )


def _seconds(said: object) -> float | None:
    """A time as seconds since the epoch."""
    if isinstance(said, int | float):
        return float(said)
    if isinstance(said, str):
        try:
            said = datetime.datetime.fromisoformat(said)
        except ValueError:
            return None
    if not isinstance(said, datetime.datetime):
        return None
    return (said if said.tzinfo else said.replace(tzinfo=datetime.UTC)).timestamp()


def _with_rules(
    store: AbstractFileSystem,
    page: list[_Item],
    place: Place,
    address: Callable[[str], str],
    on_error: Callable[[str, InputError], None],
) -> Place:
    """A folder with the rules of its ignore file, if its first page has one."""
    item = next((item for item in page if item.name == ignore.NAME and not item.is_folder), None)
    if item is None:
        return place
    try:
        with _Explained():
            data = store.cat_file(item.path, start=0, end=ignore.MAX_BYTES + 1) if item.size else b""
        return replace(place, rules=place.rules.with_text(data))
    except (InputError, OSError) as error:
        on_error(address(item.path), error if isinstance(error, InputError) else file_error(error))
        return place
