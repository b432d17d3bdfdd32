"""Object stores and other file systems by fsspec: listing, reading, writing, and what is never told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from conftest import encode, gradient, within
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from packing import sevenzipped, tarred, zipped

from aidetect.detector.errors import InputError
from aidetect.detector.inputs import archives, stores
from aidetect.detector.inputs.ahead import Ahead
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.fetch import LIMITS, FetchOptions
from aidetect.detector.inputs.filters import WalkOptions
from aidetect.detector.inputs.pages import item_of, pages
from aidetect.detector.inputs.source import Source

PICTURE = encode(gradient())
QUICK = FetchOptions(backoff=0.0)
TREE = ["a.png", "b.txt", "sub/c.jpg", "sub/deep/d.webp", "sub/.hidden.png", "z.zip"]


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, with a tree of files under ``memory://bucket``."""
    store = fsspec.filesystem("memory")
    for name in TREE:
        store.pipe(f"/bucket/{name}", zipped([("in.png", PICTURE)]) if name == "z.zip" else PICTURE)
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def names(address: str, **options: Any) -> list[str]:
    return [found.address for found in stores.listing(address, WalkOptions(**options))]


def kind(call: Any) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return caught.value.kind


# --- listing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["a.png", "sub/c.jpg", "sub/deep/d.webp"]),
        ({"recursive": False}, ["a.png"]),
        ({"hidden": True}, ["a.png", "sub/.hidden.png", "sub/c.jpg", "sub/deep/d.webp"]),
        ({"include": ("*.txt",)}, ["b.txt"]),
        ({"exclude": ("deep", "a.*")}, ["sub/c.jpg"]),
        ({"archives": True}, ["a.png", "sub/c.jpg", "sub/deep/d.webp", "z.zip"]),
        ({"all_files": True}, ["a.png", "b.txt", "sub/c.jpg", "sub/deep/d.webp", "z.zip"]),
    ],
)
def test_the_rules_of_folders_apply(memory: Any, options: dict[str, Any], expected: list[str]) -> None:
    assert names("memory://bucket", **options) == [f"memory://bucket/{name}" for name in expected]
    assert names("memory://bucket/", **options) == [f"memory://bucket/{name}" for name in expected]


def test_ignore_files_count(memory: Any) -> None:
    memory.pipe("/bucket/.aidetectignore", b"/a.png\n*.webp\n")
    memory.pipe("/bucket/sub/.aidetectignore", b"!*.webp\n")
    assert names("memory://bucket") == ["memory://bucket/sub/c.jpg", "memory://bucket/sub/deep/d.webp"]
    assert len(names("memory://bucket", ignore=False)) == 3
    memory.pipe("/bucket/sub/.aidetectignore", b"\0")
    told: list[str] = []
    found = stores.listing("memory://bucket", on_error=lambda address, error: told.append(address))
    assert len(list(found)) == 1
    assert told == ["memory://bucket/sub/.aidetectignore"]


def test_one_object_is_taken_whatever_its_name(memory: Any) -> None:
    (found,) = stores.listing("memory://bucket/b.txt", WalkOptions(exclude=("*",)))
    assert (found.address, found.size) == ("memory://bucket/b.txt", len(PICTURE))
    assert found.modified is not None
    assert kind(lambda: list(stores.listing("memory://bucket/none.png"))) == "not_found"


def test_listing_goes_on_while_the_first_are_scored(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    ls = MemoryFileSystem.ls

    def noting(self: Any, path: str, **options: Any) -> Any:
        listed.append(path)
        return ls(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", noting)
    found = stores.listing("memory://bucket")
    assert next(found).address == "memory://bucket/a.png"
    assert listed == ["/bucket"]


def test_pages_of_google_cloud_storage() -> None:
    class Store:
        asked: list[dict[str, str]] = []  # noqa: RUF012

        def call(self, method: str, path: str, bucket: str, **options: Any) -> dict[str, Any]:
            assert (method, path, bucket) == ("GET", "b/{}/o", "b")
            self.asked.append(options)
            if "pageToken" in options:
                return {"items": [{"name": "in/b.png", "size": "2", "updated": "2026-11-30T00:00:00.5Z"}]}
            return {"prefixes": ["in/deep/"], "items": [{"name": "in/"}], "nextPageToken": "t"}

        def split_path(self, path: str) -> tuple[str, str, None]:
            return "b", path.partition("/")[2], None

    Store.__module__ = "gcsfs.core"
    store: Any = Store()
    first, second = pages(store, "b/in", "gs://b/in", LIMITS)
    assert [(item.path, item.is_folder) for item in first] == [("b/in/deep", True)]
    assert [(item.path, item.size, item.modified) for item in second] == [("b/in/b.png", 2, 1795996800.5)]
    assert [options.get("pageToken") for options in store.asked] == [None, "t"]
    assert {options["prefix"] for options in store.asked} == {"in/"}


def test_a_folder_that_cannot_be_listed_costs_itself(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ls = MemoryFileSystem.ls

    def failing(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("deep"):
            raise PermissionError(13, "no")
        return ls(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", failing)
    found = list(expand(["memory://bucket"]))
    assert [(s.name, s.kind) for s in found] == [
        ("memory://bucket/a.png", "remote"),
        ("memory://bucket/sub/c.jpg", "remote"),
        ("memory://bucket/sub/deep", "error"),
    ]


class _Loop(fsspec.AbstractFileSystem):
    """A file system in which every folder has a folder."""

    protocol = "loop"
    cachable = False

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return [{"name": f"{path}/again", "type": "directory", "size": 0}]

    def info(self, path: str, **_: Any) -> Any:
        return {"name": path, "type": "directory", "size": 0}


def test_a_loop_of_folders_ends() -> None:
    fsspec.register_implementation("loop", _Loop, clobber=True)
    told: list[str] = []
    with within(5):
        found = stores.listing("loop://x", on_error=lambda address, error: told.append(error.kind))
        assert list(found) == []
    assert told == ["too_deep"]


class _Million(fsspec.AbstractFileSystem):
    """A file system of a million names in a thousand folders."""

    protocol = "million"
    cachable = False
    folders = 1000

    def info(self, path: str, **_: Any) -> Any:
        return {"name": path, "type": "directory", "size": 0}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        if path.count("/") == 0:
            numbers = range(self.folders)
            return [{"name": f"{path}/{n:04}", "type": "directory", "size": 0} for n in numbers]
        return [{"name": f"{path}/{n:04}.png", "type": "file", "size": 1} for n in range(1000)]


def test_a_long_listing_starts_at_once_and_takes_little_memory() -> None:
    import tracemalloc

    fsspec.register_implementation("million", _Million, clobber=True)
    tracemalloc.start()
    ahead = Ahead(expand(["million://all"]), most=1000)
    with within(2):
        first = next(iter(ahead))
    assert first.name == "million://all/0000/0000.png"
    count = sum(1 for _ in itertools.islice(ahead, 10_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    ahead.close()
    assert count == 10_000
    assert peak < 16 * 2**20
    assert ahead.listed <= 10_001 + 1001


# --- reading ------------------------------------------------------------------------------------------


def test_reading_has_a_limit(memory: Any) -> None:
    address = "memory://bucket/a.png"
    assert stores.read(address) == PICTURE
    assert stores.read(address, FetchOptions(max_bytes=len(PICTURE))) == PICTURE
    small = FetchOptions(max_bytes=len(PICTURE) - 1)
    assert kind(lambda: stores.read(address, small)) == "too_large"
    assert kind(lambda: stores.read(address, small, len(PICTURE))) == "too_large"
    memory.pipe("/bucket/empty.png", b"")
    assert stores.read("memory://bucket/empty.png", size=0) == b""
    assert kind(lambda: stores.read("memory://bucket/none.png")) == "not_found"


def test_what_may_be_gone_in_a_moment_is_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [OSError("reset"), TimeoutError("late"), RuntimeError("broken pipe")]
    cat = MemoryFileSystem.cat_file

    def failing(self: Any, path: str, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return cat(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    assert stores.read("memory://bucket/a.png", QUICK) == PICTURE
    errors += [OSError("reset")] * 9
    assert kind(lambda: stores.read("memory://bucket/a.png", QUICK)) == "network_error"
    assert len(errors) == 9 - 1 - QUICK.retries
    errors[:] = [PermissionError(13, "no")] * 2
    assert kind(lambda: stores.read("memory://bucket/a.png", QUICK)) == "permission_denied"
    assert len(errors) == 1


def test_without_network_only_local_stores_are_read(memory: Any) -> None:
    off = FetchOptions(allowed=False)
    assert stores.read("memory://bucket/a.png", off) == PICTURE
    (source,) = expand(["s3://bucket/prefix"], fetch=off)
    assert source.error is not None
    assert source.error.kind == "network_refused"


def test_the_detector_reads_objects(memory: Any, tiny_detector: Any) -> None:
    records = list(tiny_detector.stream(expand(["memory://bucket"])))
    assert [record.input for record in records] == [
        *("memory://bucket/a.png", "memory://bucket/sub/c.jpg", "memory://bucket/sub/deep/d.webp"),
    ]
    assert {record.file_bytes for record in records} == {len(PICTURE)}
    (local,) = tiny_detector.score([PICTURE])
    assert {record.logit for record in records} == {local.logit}


def test_archives_in_stores(memory: Any) -> None:
    memory.pipe("/bucket/t.dat", tarred([("x.png", PICTURE)], "gz"))

    def read(*inputs: str, **options: Any) -> list[Source]:
        return list(archives.loaded(archives.entered(expand(inputs, WalkOptions(**options)))))

    for name, member in (("z.zip", "in.png"), ("t.dat", "x.png")):
        (found,) = read(f"memory://bucket/{name}")
        assert (found.name, found.payload) == (f"memory://bucket/{name}!/{member}", PICTURE)
        assert read(found.name)[0].payload == PICTURE
    assert [s.name for s in read("memory://bucket", archives=True)][-1] == "memory://bucket/z.zip!/in.png"


@pytest.mark.parametrize("pack", [zipped, tarred, sevenzipped])
def test_a_store_that_fails_in_the_middle_of_an_archive(
    memory: Any, monkeypatch: pytest.MonkeyPatch, pack: Any
) -> None:
    class ClientError(Exception):
        """As client libraries raise: no `OSError`."""

    many = [(f"{n}.png", np.random.default_rng(n).bytes(100_000)) for n in range(30)]
    memory.pipe("/bucket/m.bin", pack(many))
    read = MemoryFile.read
    left = 900_000

    def failing(self: Any, size: int = -1) -> bytes:
        nonlocal left
        data: bytes = read(self, size)
        left -= len(data)
        if left < 0:
            raise ClientError("reset by peer")
        return data

    monkeypatch.setattr(MemoryFile, "read", failing)
    found = list(archives.loaded(archives.entered(expand(["memory://bucket/m.bin"]))))
    wrong = [source.error for source in found if source.error is not None]
    assert wrong
    assert {error.kind for error in wrong} == {"network_error"}
    assert "reset by peer" in str(wrong[0])


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    assert list(expand([f"file://{tmp_path}"])) == [Source(str(tmp_path / "a.png"), "file")]


# --- writing ------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.csv").write_bytes(b"new")
    memory.pipe("/out/r.csv", b"old")
    stores.check_writable("memory://out/r.csv")
    stores.write("memory://out/r.csv", tmp_path / "r.csv")
    assert memory.cat_file("/out/r.csv") == b"new"
    assert memory.ls("/out", detail=False) == ["/out/r.csv"]

    def failing(self: Any, *_: Any, **__: Any) -> None:
        memory.pipe("/out/half", b"ha")
        raise OSError("disk full")

    monkeypatch.setattr(MemoryFileSystem, "put_file", failing)
    assert kind(lambda: stores.write("memory://out/r.csv", tmp_path / "r.csv")) == "network_error"
    assert memory.cat_file("/out/r.csv") == b"new"
    assert kind(lambda: stores.check_writable("memory://out/")) == "not_a_file"


# --- errors -------------------------------------------------------------------------------------------


def test_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("javascript", "nothing"):
        (source,) = expand([f"{scheme}://etc/passwd"])
        assert source.error is not None
        assert source.error.kind == "unsupported_scheme"
        assert scheme in str(source.error)

    def missing(scheme: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    (source,) = expand(["s3://bucket/x"])
    assert source.error is not None
    assert source.error.kind == "missing_extra"
    assert "aidetect[cloud]" in str(source.error)


def test_a_plug_ins_error_is_one_line_without_secrets(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class WeirdError(Exception):
        pass

    def failing(self: Any, path: str, **_: Any) -> Any:
        raise WeirdError("cannot open\n https://user:secret@host/x?sig=abc " + "x" * 1000)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    with pytest.raises(InputError) as caught:
        stores.read("memory://bucket/a.png", QUICK)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    assert "abc" not in text
    assert len(text) < 300


def test_what_is_said_of_an_object() -> None:
    said = item_of({"name": "b/k/", "type": "file", "Size": 3, "LastModified": "2026-11-30", "ETag": '"e"'})
    assert (said.path, said.name, said.size, said.etag) == ("b/k", "k", 3, "e")
    assert said.modified is not None
    assert item_of({"name": "x", "mtime": "yesterday"}).modified is None
    assert item_of({"name": "x", "created": 7.5, "type": "directory"}).is_folder
