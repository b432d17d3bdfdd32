"""The entries of one folder of an object store or another file system, in pages."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .connect import Explained, tried
from .fetch import FetchOptions

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "timeModified", "created")


@dataclass(frozen=True)
class Item:
    """One entry of a folder: its path in the store, its name, and the attributes as above."""

    path: str
    is_folder: bool
    size: int | None
    modified: float | None
    etag: str | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def pages(store: AbstractFileSystem, folder: str, address: str, limits: FetchOptions) -> Iterator[list[Item]]:
    """The entries of a folder, each page sorted by name.

    S3 and Google Cloud Storage are asked for a thousand at a time; the ``ls`` of their file systems would
    list all before the first is there. Elsewhere there is one page.

    Raises:
        InputError: it cannot be listed, or there is no such folder.
    """
    page = _page_of(store)
    if page is None or not folder.strip("/"):
        yield _sorted(_whole(store, folder, address, limits))
        return
    bucket = store.split_path(folder)[0]
    prefix = folder.removeprefix(bucket).removeprefix("/")
    start = f"{prefix}/" if prefix else ""
    token: str | None = None
    while True:

        def once(token: str | None = token) -> tuple[list[str], list[dict[str, Any]], str | None]:
            with Explained(address):
                return page(store, bucket, start, token)

        folders, objects, following = tried(once, limits)
        if start and not folders and not objects and token is None:
            raise InputError("not_found", "no object has this address, and none lies under it")
        found = [Item(f"{bucket}/{name.removesuffix('/')}", True, None, None, None) for name in folders]
        # An object whose name ends with a slash stands for a folder.
        for said in objects:
            if not said["name"].endswith("/"):
                found.append(item_of({**said, "name": f"{bucket}/{said['name']}"}))
        yield _sorted(found)
        token = following
        if token is None:
            return


_Page = Callable[[Any, str, str, "str | None"], "tuple[list[str], list[dict[str, Any]], str | None]"]


def _page_of(store: AbstractFileSystem) -> _Page | None:
    """What asks a store for one page: names of folders, objects, and what asks for the next page."""
    if hasattr(store, "call_s3"):
        return _s3_page
    return _gcs_page if type(store).__module__.startswith("gcsfs.") else None


def _s3_page(
    store: Any, bucket: str, prefix: str, token: str | None
) -> tuple[list[str], list[dict[str, Any]], str | None]:
    more = {} if token is None else {"ContinuationToken": token}
    page = store.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", **more)
    folders = [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]
    objects = [{**entry, "name": entry["Key"]} for entry in page.get("Contents", [])]
    return folders, objects, page["NextContinuationToken"] if page.get("IsTruncated") else None


def _gcs_page(
    store: Any, bucket: str, prefix: str, token: str | None
) -> tuple[list[str], list[dict[str, Any]], str | None]:
    more = {} if token is None else {"pageToken": token}
    page = store.call("GET", "b/{}/o", bucket, prefix=prefix, delimiter="/", json_out=True, **more)
    return page.get("prefixes", []), page.get("items", []), page.get("nextPageToken")


def _whole(store: AbstractFileSystem, folder: str, address: str, limits: FetchOptions) -> list[Item]:
    def once() -> list[Item]:
        with Explained(address):
            return [item_of(info) for info in store.ls(folder, detail=True)]

    try:
        found = tried(once, limits)
    finally:
        with Explained(address):
            store.invalidate_cache(folder)  # a listing of everything would stay in memory
    # Object stores can show a folder in itself: as an empty object whose name ends with a slash.
    return [item for item in found if item.name and item.path.strip("/") != folder.strip("/")]


def _sorted(items: list[Item]) -> list[Item]:
    return sorted(items, key=lambda item: item.name.encode("utf-8", "surrogateescape"))


def item_of(info: Mapping[str, Any]) -> Item:
    """An entry from what fsspec says about it. The names of sizes and times differ from store to store."""
    size = info.get("size", info.get("Size"))
    if isinstance(size, str) and size.isdecimal():
        size = int(size)
    etag = info.get("ETag") or info.get("etag")
    return Item(
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
