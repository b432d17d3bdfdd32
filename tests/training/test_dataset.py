"""Indices of labelled pictures, and the copies that training makes of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import encode, shapes
from PIL import Image

from aidetect.detector.errors import AidetectError
from aidetect.detector.images.degrade import ROUGHER, SMALLER, WAYS
from aidetect.detector.images.pixels import decode
from aidetect.detector.training.crossfit import condition_of
from aidetect.detector.training.dataset import DEGRADED, Example, read_index
from aidetect.detector.training.features import copy_of, training_views


def index(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "index.csv"
    path.write_text("\n".join(["file,label,source,repo,copies,also", *lines]) + "\n")
    return path


def test_an_index_names_further_copies(tmp_path: Path) -> None:
    plain, more = read_index(index(tmp_path, "a.png,ai,s,o/r,,", "b.png,real,s,o/r,0,grey half-jpeg-80"))
    assert plain.wanted((0, 1)) == [0, 1]
    assert more.wanted((0, 1)) == [0, DEGRADED["grey"], DEGRADED["half-jpeg-80"]]
    assert [condition_of(more, copy) for copy in more.wanted((0, 1))] == ["clean", "grey", "half-jpeg-80"]


def test_an_unknown_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AidetectError, match="line 2: unknown way 'gray' in column also"):
        read_index(index(tmp_path, "a.png,ai,s,o/r,,gray"))


def test_one_owners_repositories_stay_on_one_side(tmp_path: Path) -> None:
    one, two, other = read_index(index(tmp_path, "a.png,ai,s,o/r,,", "b.png,ai,s,o/t,,", "c.png,ai,s,p/r,,"))
    assert (one.group, two.group) == ("o/r", "o/t")
    assert one.side == two.side == "o"
    assert other.side == "p"


def test_folders_are_no_owners() -> None:
    example = Example(Path("a.png"), 1, "g", source="generated/flux", group="generated/flux")
    assert example.side == "generated/flux"


@pytest.mark.parametrize("name", WAYS)
def test_a_degraded_copy_is_what_its_name_says(name: str) -> None:
    pixels = next(decode(encode(shapes(320, 240), "JPEG"), frames=1))
    copy, _ = copy_of(pixels, "full", DEGRADED[name])
    assert np.array_equal(copy, WAYS[name](pixels.rgb))


def test_copies_are_seen_in_the_centred_square_and_two_crops() -> None:
    pixels = next(decode(encode(shapes(640, 240), "JPEG"), frames=1))

    def kinds(copy: int) -> list[str]:
        return [kind for kind, _ in training_views(pixels, "full", copy, 64, "bicubic")]

    assert kinds(0) == ["whole", "end", "end", "end", "native", "native", "native"]
    assert kinds(1) == kinds(DEGRADED["grey"]) == ["whole", "native", "native"]


# --- the list of originals ---------------------------------------------------------------------------


def benchmark(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_series_counts_at_most_so_often() -> None:
    script = benchmark("list_originals")
    common = {"repo": "o/r", "source": "s", "format": "jpeg"}
    listed = [
        {**common, "label": label, "generator": generator, "sha256": f"{i:064x}"}
        for i, (label, generator) in enumerate(
            [("ai", "g")] * 20 + [("ai", "h")] * 20 + [("real", "camera")] * 20
        )
    ]
    found = script.rows(listed, {"real": 12, "ai": 16})
    counts = {name: [row for row in found if row["generator"] == name] for name in ("g", "h", "camera")}
    assert {name: len(rows) for name, rows in counts.items()} == {"g": 16, "h": 16, "camera": 12}
    assert [row["copies"] for row in counts["g"]] == ["1"] * 2 + ["0"] * 14

    def also(name: str, ways: Mapping[str, object]) -> int:
        return sum(len(set(row["also"].split()) & set(ways)) for row in counts[name])

    assert (also("camera", SMALLER), also("camera", ROUGHER)) == (6, 2)
    assert (also("g", SMALLER), also("g", ROUGHER)) == (4, 2)
    assert found == script.rows(listed[::-1], {"real": 12, "ai": 16})
    (*others,) = script.rows(listed, {"real": 12, "ai": 16}, laundered=0, rough=0.5)
    assert {row["copies"] for row in others} == {"0"}
    assert sum(row["generator"] == "g" and len(row["also"].split()) > 1 for row in others) == 4
    rougher = [row["label"] for row in others if set(row["also"].split()) & set(ROUGHER)]
    assert (rougher.count("ai"), rougher.count("real")) == (8 + 8, 9)


def test_the_same_picture_in_two_repositories_is_found(tmp_path: Path) -> None:
    script = benchmark("same_pictures")
    drawn = {name: shapes(300, 200, seed) for seed, name in enumerate(("one", "two", "three"))}
    looks = []
    for name, picture, kind in [("a", "one", "PNG"), ("b", "two", "PNG"), ("c", "one", "JPEG")]:
        (tmp_path / name).write_bytes(encode(drawn[picture], kind))
        looks.append(script.looks(tmp_path / name))
    half = Image.fromarray(drawn["one"]).resize((150, 100))
    (tmp_path / "d").write_bytes(encode(np.asarray(half), "PNG"))
    flat = np.full((200, 300, 3), 90, np.uint8)
    (tmp_path / "e").write_bytes(encode(flat, "PNG"))
    looks += [script.looks(tmp_path / name) for name in ("d", "e", "e")]
    hashes, colours = np.array([bits for bits, _ in looks]), np.array([rgb for _, rgb in looks])
    owners = ["x", "y", "z", "y", "x", "y"]
    assert list(script.same(owners, hashes, colours)) == [(2, 0), (3, 0)]
    assert list(script.same(["x"] * 6, hashes, colours)) == []
