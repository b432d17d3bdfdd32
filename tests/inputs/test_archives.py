"""Archives and PDF files: their members are inputs, in bounds, and what is broken costs only itself."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, gradient, noise
from hypothesis import given
from hypothesis import strategies as st
from packing import jpeg_object, pdf, sevenzipped, tarred, zipped
from PIL import Image

from aidetect.detector.inputs import archives
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.filters import WalkOptions
from aidetect.detector.inputs.members import Limits
from aidetect.detector.inputs.source import Source

FILES = [
    ("b.png", encode(noise(seed=1))),
    ("sub/a.jpg", encode(noise(seed=2), "JPEG")),
    ("notes.txt", b"no picture"),
    ("sub/deep/c.webp", encode(noise(seed=3), "WEBP")),
    ("sub/.hidden.png", encode(noise(seed=4))),
]
PICTURES = ["b.png", "sub/a.jpg", "sub/deep/c.webp"]
PACKINGS = {
    "a.zip": zipped,
    "a.cbz": lambda files: zipped(files, zipfile.ZIP_STORED),
    "a.tar": tarred,
    "a.tar.gz": lambda files: tarred(files, "gz"),
    "a.tar.bz2": lambda files: tarred(files, "bz2"),
    "a.tar.xz": lambda files: tarred(files, "xz"),
    "a.tar.zst": lambda files: tarred(files, "zst"),
    "a.7z": sevenzipped,
}


def read(*names: Path | str, limits: Limits | None = None, **options: Any) -> list[Source]:
    """What a scan gets of these inputs."""
    sources = expand(map(str, names), WalkOptions(**options))
    more = {} if limits is None else {"limits": limits}
    return list(archives.loaded(archives.entered(sources, **more)))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def inner(sources: list[Source], archive: Path) -> list[str]:
    """The names of members that could be read."""
    return [s.name.removeprefix(f"{archive}!/") for s in sources if s.error is None]


def errors(sources: list[Source]) -> list[tuple[str, str]]:
    return [(Path(s.name).name, s.error.kind) for s in sources if s.error is not None]


# --- what is found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKINGS)
def test_members_are_sources_with_their_bytes(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name](FILES))
    found = read(path)
    assert [(s.name, s.kind) for s in found] == [(f"{path}!/{picture}", "memory") for picture in PICTURES]
    assert [s.payload for s in found] == [dict(FILES)[picture] for picture in PICTURES]


@pytest.mark.parametrize("name", PACKINGS)
def test_a_named_archive_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "picture.png", PACKINGS[name](FILES))
    assert inner(read(path), path) == PICTURES


def test_in_a_folder_archives_are_entered_if_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "x.zip", zipped(FILES))
    put(tmp_path, "y.png", FILES[0][1])
    put(tmp_path, "z.zip.png", zipped(FILES))
    left_out: list[str] = []
    found = list(expand([str(tmp_path)], on_archive=left_out.append))
    assert [Path(s.name).name for s in found] == ["y.png", "z.zip.png"]
    assert left_out == [str(tmp_path / "x.zip")]
    entered = read(tmp_path, archives=True)
    assert [s.name.removeprefix(f"{tmp_path}/") for s in entered] == [
        *(f"x.zip!/{name}" for name in PICTURES),
        *("y.png", "z.zip.png"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hidden": True}, [*PICTURES, "sub/.hidden.png"]),
        ({"recursive": False}, ["b.png"]),
        ({"include": ("*.txt",)}, ["notes.txt"]),
        ({"include": ("sub/*.jpg",)}, ["sub/a.jpg"]),
        ({"exclude": ("deep",)}, ["b.png", "sub/a.jpg"]),
        ({"exclude": ("sub/deep", "b.*")}, ["sub/a.jpg"]),
        ({"all_files": True}, ["b.png", "sub/a.jpg", "notes.txt", "sub/deep/c.webp"]),
    ],
)
def test_the_rules_of_folders_apply(tmp_path: Path, options: dict[str, Any], expected: list[str]) -> None:
    path = put(tmp_path, "a.zip", zipped(FILES))
    assert sorted(inner(read(path, **options), path)) == sorted(expected)


def test_ignore_files_outside_apply_and_those_inside_do_not(tmp_path: Path) -> None:
    path = put(tmp_path, "a.zip", zipped([*FILES, (".aidetectignore", b"*")]))
    (tmp_path / ".aidetectignore").write_text("deep/\na.zip/b.*\n")
    found = read(tmp_path, archives=True)
    assert inner(found, path) == ["sub/a.jpg"]
    assert len(read(tmp_path, archives=True, ignore=False)) == 3


def test_names_are_only_names(tmp_path: Path) -> None:
    strange = ["../../up.png", "/root.png", "a/../b.png", "c:\\d.png", "new\nline.png", "./e.png"]
    for name in ("a.zip", "a.tar.gz"):
        path = put(tmp_path, name, PACKINGS[name]([(each, FILES[0][1]) for each in strange]))
        assert inner(read(path), path) == strange
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar.gz", "a.zip"]
    assert not list(tmp_path.parent.glob("*.png"))
    path = put(tmp_path, "a.tar", tarred([("caf\udce9.png", FILES[0][1])]))
    assert inner(read(path), path) == ["caf\udce9.png"]


def test_links_and_devices_are_no_members(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{ord(kind)}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert read(put(tmp_path, "a.tar", buffer.getvalue())) == []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        zip_.writestr(link, "/etc/passwd")
    assert read(put(tmp_path, "a.zip", buffer.getvalue())) == []


@pytest.mark.parametrize("name", PACKINGS)
def test_a_member_is_found_by_the_name_in_its_record(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name](FILES))
    (found,) = read(f"{path}!/sub/a.jpg")
    assert (found.name, found.payload) == (f"{path}!/sub/a.jpg", FILES[1][1])
    assert errors(read(f"{path}!/none.png")) == [("none.png", "not_found")]


@pytest.mark.parametrize("name", PACKINGS)
def test_names_in_order_take_one_pass(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, name, PACKINGS[name](FILES))
    passes: list[object] = []
    kind_of = archives.kind_of
    monkeypatch.setattr(archives, "kind_of", lambda stream: passes.append(stream) or kind_of(stream))
    asked = [f"{path}!/{picture}" for picture in PICTURES]
    assert [(s.name, s.payload) for s in read(*asked)] == [(n, dict(FILES)[n.split("!/")[1]]) for n in asked]
    assert len(passes) == 1
    mixed = [asked[2], f"{path}!/none.png", asked[0], asked[0], asked[1]]
    found = read(*mixed)
    assert [s.name for s in found] == mixed
    assert errors(found) == [("none.png", "not_found")]


def test_names_in_an_archive_in_an_archive(tmp_path: Path) -> None:
    path = put(
        tmp_path, "a.zip", zipped([("in/b.tar", tarred(FILES)), ("o.png", b"1"), ("c.zip", b"PK\3\4")])
    )
    asked = [f"{path}!/in/b.tar!/{picture}" for picture in PICTURES]
    asked += [f"{path}!/o.png", f"{path}!/in/b.tar!/none", f"{path}!/c.zip!/x.png", f"{path}!/o.png!/y.png"]
    found = read(*asked)
    assert [s.name for s in found] == asked
    assert [s.payload for s in found[:4]] == [dict(FILES)[picture] for picture in PICTURES] + [b"1"]
    assert [kind for _, kind in errors(found)] == ["not_found", "damaged_archive", "damaged_archive"]


def test_archives_in_an_archive_are_entered_and_no_deeper(tmp_path: Path) -> None:
    innermost = zipped(FILES)
    middle = tarred([("in/c.zip", innermost), ("m.png", FILES[0][1])], "gz")
    path = put(tmp_path, "a.zip", zipped([("b.tar.gz", middle), ("o.png", FILES[0][1])]))
    assert inner(read(path, archives=True), path) == ["b.tar.gz!/m.png", "o.png"]
    assert inner(read(path), path) == ["o.png"]
    assert [s.payload for s in read(f"{path}!/b.tar.gz!/m.png")] == [FILES[0][1]]


def test_times_of_members(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar.gz", "a.7z"):
        path = put(tmp_path, name, PACKINGS[name](FILES[:1]))
        (source,) = archives.entered(expand([str(path)]))
        assert source.modified is not None
        assert source.modified > 1_600_000_000


# --- damage -------------------------------------------------------------------------------------------


def test_a_zip_that_was_cut_off_loses_its_end(tmp_path: Path) -> None:
    data = zipped(FILES, zipfile.ZIP_STORED)
    cut = data.index(b"sub/deep/c.webp") + 100
    path = put(tmp_path, "a.zip", data[:cut])
    found = read(path)
    assert inner(found, path) == ["b.png", "sub/a.jpg"]
    assert [s.payload for s in found[:2]] == [FILES[0][1], FILES[1][1]]
    assert errors(found) == [("c.webp", "damaged_archive"), ("a.zip", "damaged_archive")]


def test_a_zip_that_was_streamed_and_cut_off(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES:
            archive.writestr(name, data)
    path = put(tmp_path, "a.zip", pipe.data[: pipe.data.index(b"PK\1\2")])
    found = read(path)
    assert inner(found, path) == PICTURES
    assert errors(found) == [("a.zip", "damaged_archive")]


def test_a_broken_member_of_a_zip_costs_itself(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES, zipfile.ZIP_STORED))
    data[data.index(FILES[1][1]) + 50] ^= 0xFF
    found = read(put(tmp_path, "a.zip", bytes(data)))
    assert errors(found) == [("a.jpg", "damaged_archive")]
    assert len(found) == 3


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst"])
def test_a_tar_that_was_cut_off_loses_its_end(tmp_path: Path, packing: str) -> None:
    many = [(f"{n}.png", np.random.default_rng(n).bytes(100_000)) for n in range(8)]
    data = tarred(many, packing)
    path = put(tmp_path, f"a.tar.{packing}", data[: len(data) * 3 // 4])
    found = read(path)
    assert len(inner(found, path)) in (3, 4, 5, 6)
    assert errors(found)[-1] == (path.name, "damaged_archive")


def test_a_broken_header_in_a_tar_costs_its_member(tmp_path: Path) -> None:
    data = bytearray(tarred(FILES))
    data[data.index(b"sub/a.jpg") + 110] ^= 0x0F
    path = put(tmp_path, "a.tar", bytes(data))
    found = read(path)
    assert inner(found, path) == ["b.png", "sub/deep/c.webp"]
    assert errors(found) == [("a.tar", "damaged_archive")]


def test_damage_in_a_7z_costs_the_rest_of_its_block(tmp_path: Path) -> None:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", filters=[{"id": py7zr.FILTER_COPY}]) as archive:
        for name, data in FILES:
            archive.writestr(data, name)
    data = bytearray(buffer.getvalue())
    data[data.index(FILES[1][1]) + 50] ^= 0xFF
    path = put(tmp_path, "a.7z", bytes(data))
    found = read(path)
    assert inner(found, path) == ["b.png"]
    assert errors(found) == [("a.jpg", "damaged_archive"), ("c.webp", "damaged_archive")]


def test_what_is_only_named_like_an_archive(tmp_path: Path) -> None:
    for name in ("a.zip", "b.7z", "c.tar", "d.pdf", "e.tgz"):
        put(tmp_path, name, b"nothing of the kind" * 50)
    put(tmp_path, "f.zip", b"")
    found = read(tmp_path, archives=True)
    assert {kind for _, kind in errors(found)} == {"damaged_archive"}
    assert len(errors(found)) == 6


@given(seed=st.integers(0, 10**6), name=st.sampled_from([*PACKINGS, "a.pdf"]))
def test_damage_never_raises(tmp_path: Path, seed: int, name: str) -> None:
    small = [("a.png", encode(gradient(9, 9))), ("b/c.png", encode(noise(9, 9)))]
    pages = [[jpeg_object(encode(gradient(9, 9), "JPEG"))]]
    data = bytearray(pdf(*pages) if name == "a.pdf" else PACKINGS[name](small))
    rng = np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    if rng.integers(2):
        data = data[: int(rng.integers(len(data)))]
    for source in read(put(tmp_path, name, bytes(data)), archives=True):
        assert source.error is not None or source.payload is not None or source.kind == "file"


# --- encryption ---------------------------------------------------------------------------------------


def test_encrypted_archives_say_so(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES[:2], zipfile.ZIP_STORED))
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag of the first member
        data[data.index(magic) + at] |= 1
    found = read(put(tmp_path, "a.zip", bytes(data)))
    assert errors(found) == [("b.png", "encrypted")]
    assert len(found) == 2
    for options in ({}, {"header_encryption": True}):
        path = put(tmp_path, "a.7z", sevenzipped(FILES[:1], password="secret", **options))
        assert errors(read(path)) == [("a.7z", "encrypted")]
    locked = put(tmp_path, "a.pdf", pdf([jpeg_object(FILES[1][1])], password="secret"))
    (source,) = read(locked)
    assert errors([source]) == [("a.pdf", "encrypted")]
    assert "password" in str(source.error)


# --- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKINGS)
def test_too_many_members(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name](FILES))
    found = read(path, limits=Limits(members=2))
    assert errors(found)[-1] == (name, "too_large")
    assert len(inner(found, path)) <= 2


@pytest.mark.parametrize("name", PACKINGS)
def test_a_member_that_is_too_large(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name]([("big.png", bytes(5000)), ("a.png", b"small")]))
    found = read(path, limits=Limits(member_bytes=4000))
    assert errors(found) == [("big.png", "too_large")]
    assert inner(found, path) == ["a.png"]


@pytest.mark.parametrize("name", PACKINGS)
def test_too_much_in_all(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name]([(f"{n}.png", bytes(300_000)) for n in range(9)]))
    found = read(path, limits=Limits(total_bytes=1_000_000))
    assert errors(found)[-1][0] == name
    assert {kind for _, kind in errors(found)} == {"too_large"}
    assert 1 <= len(inner(found, path)) <= 3


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar.zst", "a.7z"])
def test_bombs(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, PACKINGS[name]([(f"{n}.png", bytes(2_000_000)) for n in range(9)]))
    found = read(path, limits=Limits(ratio=50, ratio_from=1_000_000))
    assert errors(found)[-1] == (name, "too_large")
    assert len(inner(found, path)) <= 2


def test_bombs_in_an_archive(tmp_path: Path) -> None:
    inner = zipped([("0.png", bytes(900_000))])
    path = put(tmp_path, "a.zip", zipped((f"{n}.zip", inner + bytes([n])) for n in range(50)))
    found = read(path, archives=True, limits=Limits(ratio=50, ratio_from=2_000_000))
    assert errors(found)[-1] == ("a.zip", "too_large")
    assert len(inner_names := [s for s in found if s.error is None]) <= 3, inner_names


def test_a_long_directory_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.zip", zipped((f"{n}.png", b"") for n in range(500)))
    (source,) = read(path, limits=Limits(directory_bytes=1000))
    assert errors([source]) == [("a.zip", "too_large")]


def test_a_huge_header_of_a_tar_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    path = put(tmp_path, "a.tar", info.tobuf(tarfile.GNU_FORMAT) + tarred(FILES))
    found = read(path)
    assert inner(found, path) == PICTURES
    assert errors(found) == [("a.tar", "damaged_archive")]


def test_a_long_tar_does_not_stay_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = put(tmp_path, "a.tar", tarred((f"{n:06}.png", b"x") for n in range(3000)))
    found = archives.entered(expand([str(path)]))
    next(found)
    tracemalloc.start()
    count = sum(1 for _ in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2999
    assert peak < 2_000_000


def test_reading_stops_with_the_reader(tmp_path: Path) -> None:
    path = put(tmp_path, "a.7z", sevenzipped((f"{n}.png", bytes(1000)) for n in range(50)))
    found = archives.loaded(archives.entered(expand([str(path)])))
    assert next(found).payload == bytes(1000)
    found.close()  # type: ignore[attr-defined]


# --- PDF ----------------------------------------------------------------------------------------------


def test_pictures_of_a_pdf(tmp_path: Path) -> None:
    first, second = (encode(noise(seed=n), "JPEG") for n in (1, 2))
    pixels = gradient(30, 20)
    attributes = {"/Width": 30, "/Height": 20, "/BitsPerComponent": 8, "/ColorSpace": "/DeviceRGB"}
    flat = ({**attributes, "/Filter": "/FlateDecode"}, zlib.compress(pixels.tobytes()))
    mask = ({**attributes, "/ImageMask": 1}, b"")
    path = put(tmp_path, "a.pdf", pdf([jpeg_object(first)], [mask], [flat, jpeg_object(second)]))
    found = read(path)
    assert inner(found, path) == ["page-1/image-1", "page-3/image-1", "page-3/image-2"]
    assert found[0].payload == first
    assert found[2].payload == second
    assert isinstance(found[1].payload, bytes)
    drawn = Image.open(io.BytesIO(found[1].payload))
    assert (np.asarray(drawn) == pixels).all()
    (again,) = read(f"{path}!/page-3/image-2")
    assert again.payload == second


def test_jpeg_2000_in_a_pdf_keeps_its_bytes(tmp_path: Path) -> None:
    data = encode(gradient(), "JPEG2000")
    attributes, _ = jpeg_object(encode(gradient(), "JPEG"))
    (found,) = read(put(tmp_path, "a.pdf", pdf([({**attributes, "/Filter": "/JPXDecode"}, data)])))
    assert found.payload == data


def test_pillows_pdf(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(seed=n)) for n in range(3)]
    pages[0].save(tmp_path / "a.pdf", save_all=True, append_images=pages[1:])
    found = read(tmp_path / "a.pdf")
    assert inner(found, tmp_path / "a.pdf") == [f"page-{n}/image-1" for n in (1, 2, 3)]


def test_a_broken_picture_of_a_pdf_costs_itself(tmp_path: Path) -> None:
    good = encode(noise(), "JPEG")
    attributes = {"/Width": 30, "/Height": 20, "/BitsPerComponent": 8, "/ColorSpace": "/DeviceRGB"}
    huge = ({**attributes, "/Width": 10**6, "/Height": 10**6, "/Filter": "/FlateDecode"}, zlib.compress(b""))
    found = read(put(tmp_path, "a.pdf", pdf([huge, jpeg_object(good)])))
    assert errors(found) == [("image-1", "too_large")]
    assert found[1].payload == good


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("a.7z", "py7zr", "archives"), ("a.tar.zst", "backports", "archives"), ("a.pdf", "pypdf", "pdf")],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pdf([jpeg_object(FILES[1][1])]) if name == "a.pdf" else PACKINGS[name](FILES)
    path = put(tmp_path, name, data)
    for loaded in [each for each in sys.modules if each.partition(".")[0] in (module, "compression")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "compression", None)
    (source,) = read(path)
    assert errors([source]) == [(name, "missing_extra")]
    assert f"aidetect[{extra}]" in str(source.error)


def test_a_zip_that_overlaps_itself(tmp_path: Path) -> None:
    # Entries of the directory that all point at one member: little file, much data.
    data = zipped([("a.png", bytes(1_000_000))])
    start = data.index(b"PK\1\2")
    entry = data[start : data.index(b"PK\5\6")]
    count = 300
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entry) * count, start, 0)
    path = put(tmp_path, "a.zip", data[:start] + entry * count + end)
    found = read(path, limits=Limits(ratio=100, ratio_from=1_000_000))
    assert len(inner(found, path)) < 10
    assert errors(found)
