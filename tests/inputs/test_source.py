"""Sources: walking folders, expanding inputs, lists and streams."""

from __future__ import annotations

import base64
import inspect
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import within

from aidetect.detector.errors import InputError
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.filters import IMAGE_SUFFIXES, WalkOptions
from aidetect.detector.inputs.source import Source, read_file, read_list, read_stream
from aidetect.detector.inputs.walk import walk
from aidetect.detector.record import Record


def fill(folder: Path, *names: str) -> Path:
    """Make files (and the folders they lie in) below a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


EVERY_IMAGE = WalkOptions()


def names(folder: Path, options: WalkOptions = EVERY_IMAGE) -> list[str]:
    """What a walk finds, relative to the folder."""
    return [os.path.relpath(path, folder) for path in walk(folder, options)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return fill(
        tmp_path / "tree",
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "no-suffix",
        ".hidden.png",
        "sub/c.webp",
        "sub/deep/d.heic",
        "sub/deep/raw.dng",
        ".cache/e.jpg",
        "z.tiff",
    )


# --- walking ----------------------------------------------------------------------------------------


def test_walk_takes_image_names_in_order(tree: Path) -> None:
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.heic", "z.tiff"]


def test_walk_of_this_folder_alone(tree: Path) -> None:
    assert names(tree, WalkOptions(recursive=False)) == ["a.PNG", "b.jpg", "z.tiff"]


def test_walk_with_hidden(tree: Path) -> None:
    found = names(tree, WalkOptions(hidden=True))
    assert [name for name in found if name.startswith(".")] == [".cache/e.jpg", ".hidden.png"]
    assert len(found) == 7


def test_walk_of_all_files(tree: Path) -> None:
    found = names(tree, WalkOptions(all_files=True))
    assert {"notes.txt", "no-suffix", "sub/deep/raw.dng"} < set(found)
    assert not any(name.startswith(".") for name in found)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.txt",), (), ["notes.txt"]),
        (("*.jpg", "*.webp"), (), ["b.jpg", "sub/c.webp"]),
        (("sub/*",), (), ["sub/c.webp", "sub/deep/d.heic", "sub/deep/raw.dng"]),
        (("*.JPG",), (), []),
        ((), ("sub",), ["a.PNG", "b.jpg", "z.tiff"]),
        ((), ("sub/deep",), ["a.PNG", "b.jpg", "sub/c.webp", "z.tiff"]),
        ((), ("*.png", "*.PNG", "[bz].*"), ["sub/c.webp", "sub/deep/d.heic"]),
        (("*.jpg", "*.txt"), ("b*",), ["notes.txt"]),
    ],
)
def test_include_and_exclude(
    tree: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert names(tree, WalkOptions(include=include, exclude=exclude)) == expected


def test_symlinked_folder_is_entered_once(tree: Path) -> None:
    (tree / "again").symlink_to(tree / "sub", target_is_directory=True)
    (tree / "sub" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "self").symlink_to("self")
    with within(5):
        found = names(tree)
    assert found == ["a.PNG", "again/c.webp", "again/deep/d.heic", "b.jpg", "z.tiff"]


def test_symlinked_file_is_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"x")
    (tree / "link.jpg").symlink_to(outside)
    assert "link.jpg" in names(tree)


def test_dangling_link_is_reported_not_lost(tree: Path) -> None:
    (tree / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    (tree / "gone.txt").symlink_to(tree / "nowhere.txt")
    assert "gone.jpg" in names(tree)
    assert "gone.txt" not in names(tree)
    with pytest.raises(InputError) as caught:
        read_file(tree / "gone.jpg")
    assert caught.value.kind == "not_found"


def test_special_files_are_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "pipe.png")
    with within(5):
        assert "pipe.png" not in names(tree, WalkOptions(all_files=True, include=("*",)))


def test_unreadable_folder_is_reported_and_the_rest_goes_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    failed: list[tuple[Path, OSError]] = []
    found = list(walk(tree, on_error=lambda path, error: failed.append((path, error))))
    assert [path.name for path in found] == ["a.PNG", "b.jpg", "c.webp", "z.tiff"]
    assert [path for path, _ in failed] == [tree / "sub" / "deep"]

    sources = list(expand([str(tree)]))
    errors = [source for source in sources if source.kind == "error"]
    assert [source.name for source in errors] == [str(tree / "sub" / "deep")]
    assert errors[0].error is not None
    assert errors[0].error.kind == "permission_denied"
    assert len(sources) == 5


def test_unreadable_last_folder_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    (source,) = expand([str(tmp_path)])
    assert source.kind == "error"


def test_strange_names(tmp_path: Path) -> None:
    strange = ["new\nline.jpg", "emoji-\N{GRINNING FACE}.png", "tab\t'\"$(x).gif", " .jpg", "-.jpg", "*.png"]
    fill(tmp_path, *strange)
    raw = os.fsencode(tmp_path) + b"/latin-\xe9\xff.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"raw")
    found = list(expand([str(tmp_path)]))
    assert {Path(source.name).name for source in found} == {*strange, os.fsdecode(b"latin-\xe9\xff.jpg")}
    (odd,) = [source for source in found if os.fsencode(source.name) == raw]
    assert read_file(Path(odd.name)) == b"raw"
    said = Record(odd.name).to_dict()
    assert said["input"].endswith("latin-\\xe9\\xff.jpg")
    assert base64.b64decode(said["input_base64"]) == raw
    assert Record("plain.jpg").to_dict()["input_base64"] is None


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a.jpg", "B.jpg", "\u00e9.jpg", "10.jpg", "9.jpg")
    assert names(tmp_path) == ["10.jpg", "9.jpg", "B.jpg", "a.jpg", "b.jpg", "\u00e9.jpg"]


def test_very_deep_folders(tmp_path: Path) -> None:
    # A hostile archive can nest folders deeper than Python's stack.
    depth = 300
    deepest = tmp_path.joinpath(*["d"] * depth)
    deepest.mkdir(parents=True)
    fill(deepest, "deep.jpg")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        found = list(walk(tmp_path))
    finally:
        sys.setrecursionlimit(before)
    assert found == [deepest / "deep.jpg"]


def test_walk_does_not_read_ahead(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    real = os.scandir

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        entered.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tree)
    assert next(found).name == "a.PNG"
    assert entered == ["tree"]


def test_suffixes_are_those_of_pillow() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".tif", ".gif", ".bmp"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert not {".txt", ".pdf", ".svg", ".eps", ".html", ""} & IMAGE_SUFFIXES


# --- expanding --------------------------------------------------------------------------------------


def test_expand_keeps_the_order_of_mixed_inputs(tree: Path) -> None:
    given = [
        "https://example.org/a.jpg",
        str(tree / "notes.txt"),
        "-",
        str(tree / "sub"),
        "gopher://example.org/b.jpg",
        "missing.jpg",
        "HTTP://EXAMPLE.ORG/C.JPG",
    ]
    found = list(expand(given))
    assert [(source.kind, source.name) for source in found] == [
        ("url", given[0]),
        ("file", given[1]),
        ("stdin", "-"),
        ("file", str(tree / "sub" / "c.webp")),
        ("file", str(tree / "sub" / "deep" / "d.heic")),
        ("error", given[4]),
        ("file", "missing.jpg"),
        ("url", given[6]),
    ]
    assert found[5].error is not None
    assert found[5].error.kind == "unsupported_scheme"


@pytest.mark.parametrize("scheme", ["gopher", "javascript", "mailto"])
def test_other_schemes_are_refused(scheme: str) -> None:
    (source,) = expand([f"{scheme}://etc/passwd"])
    assert source.kind == "error"
    assert source.error is not None
    assert scheme in str(source.error)


def test_explicit_file_is_taken_whatever_its_name(tree: Path) -> None:
    named = [str(tree / "notes.txt"), str(tree / ".hidden.png")]
    found = list(expand(named, WalkOptions(include=("*.jpg",), exclude=("*",))))
    assert [source.name for source in found] == named


def test_file_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fill(tmp_path, "http:/host/a.jpg"))
    (source,) = expand(["http://host/a.jpg"])
    assert source.kind == "file"


def test_unusable_paths_become_errors_not_exceptions() -> None:
    found = list(expand(["nul\0byte.jpg", "x" * 5000, "y" * 300 + ".jpg", ""]))
    kinds = []
    for source in found:
        if source.kind == "file":
            with pytest.raises(InputError) as caught:
                read_file(Path(source.name))
            kinds.append(caught.value.kind)
        else:
            assert source.error is not None
            kinds.append(source.error.kind)
    assert len(kinds) == 4
    assert set(kinds) <= {"not_found", "unreadable"}


def test_long_address_is_an_address() -> None:
    for address in (f"https://example.org/a.jpg?signature={'x' * 5000}", f"https://h/{'y' * 400}"):
        assert [source.kind for source in expand([address])] == ["url"]


def test_expand_is_lazy() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "https://example.org/a.jpg"

    assert next(expand(endless())).kind == "url"


def test_empty_folder_gives_nothing(tmp_path: Path) -> None:
    assert list(expand([str(tmp_path)])) == []


# --- lists and streams ------------------------------------------------------------------------------


def test_read_list_by_lines() -> None:
    stream = io.BytesIO(b"a.jpg\n\nb c.jpg\r\n\xff.png\nhttp://h/x\n  spaced.jpg \nlast")
    found = read_list(stream)
    assert found == ["a.jpg", "b c.jpg", os.fsdecode(b"\xff.png"), "http://h/x", "  spaced.jpg ", "last"]


def test_read_list_by_nul() -> None:
    found = read_list(io.BytesIO(b"a\nb.jpg\0\0c.jpg\0\xe9\0"), null_separated=True)
    assert found == ["a\nb.jpg", "c.jpg", os.fsdecode(b"\xe9")]
    assert read_list(io.BytesIO(b"")) == []


def test_read_stream_stops_at_the_limit() -> None:
    assert read_stream(io.BytesIO(b"12345"), limit=5) == b"12345"
    with pytest.raises(InputError) as caught:
        read_stream(io.BytesIO(b"123456"), limit=5)
    assert caught.value.kind == "too_large"


def test_read_stream_does_not_swallow_an_endless_one() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, count: int = -1) -> bytes:
            self.taken += count
            return bytes(count)

    endless = Endless()
    with pytest.raises(InputError):
        read_stream(endless, limit=3 * 2**20)
    assert endless.taken <= 4 * 2**20


def test_read_stream_joins_short_reads() -> None:
    reader, writer = os.pipe()

    def send() -> None:
        with os.fdopen(writer, "wb", buffering=0) as out:
            for _ in range(10):
                out.write(b"abc")

    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        assert read_stream(stream) == b"abc" * 10
    thread.join(5)


def test_read_file_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(path: Path, limit: int = 100) -> str:
        with pytest.raises(InputError) as caught:
            read_file(path, limit)
        return caught.value.kind

    assert kind(tmp_path / "missing") == "not_found"
    assert kind(tmp_path) == "not_a_file"
    assert kind(tmp_path / "nul\0") == "not_found"
    fill(tmp_path, "file/inner", "big")
    assert kind(tmp_path / "big" / "below") == "unreadable"
    (tmp_path / "big").write_bytes(bytes(101))
    assert kind(tmp_path / "big") == "too_large"
    assert len(read_file(tmp_path / "big", 101)) == 101

    def deny(self: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert kind(tmp_path / "big") == "permission_denied"


def test_given_pipe_is_read(tmp_path: Path) -> None:
    # A pipe named on the command line is read, as shells make for <(...).
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    thread = threading.Thread(target=lambda: pipe.write_bytes(b"through"))
    thread.start()
    (source,) = expand([str(pipe)])
    assert source == Source(str(pipe), "file")
    assert read_file(Path(source.name)) == b"through"
    thread.join(5)
