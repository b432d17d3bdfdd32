"""Buckets: the real s3fs against moto's server on loopback, from the library and from the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket import SECRET, s3_server
from conftest import encode, gradient, noise
from packing import zipped

from aidetect.detector.errors import InputError
from aidetect.detector.inputs import stores
from aidetect.detector.inputs.filters import WalkOptions

PICTURES = {f"in/{n}.png": encode(noise(seed=n)) for n in range(3)} | {
    "in/deep/odd name?#%&+=::é.png": encode(gradient()),
    "in/a//b.png": encode(gradient(9, 9)),
    "in/pack.zip": zipped([("z.png", encode(gradient()))]),
    "in/notes.txt": b"no picture",
    "in/empty.png": b"",
}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with s3_server() as store:
        store.mkdir("bucket")
        for name, data in PICTURES.items():
            store.pipe(f"bucket/{name}", data)
        yield store


def listed(address: str, **options: Any) -> list[str]:
    return [found.address for found in stores.listing(address, WalkOptions(**options))]


def test_listing_and_reading(s3: Any) -> None:
    names = [
        "in/0.png",
        "in/1.png",
        "in/2.png",
        "in/a//b.png",
        "in/deep/odd name?#%&+=::é.png",
        "in/empty.png",
    ]
    assert listed("s3://bucket/in") == [f"s3://bucket/{name}" for name in names]
    for found in stores.listing("s3://bucket"):
        name = found.address.removeprefix("s3://bucket/")
        assert stores.read(found.address, size=found.size) == PICTURES[name]
        assert found.size == len(PICTURES[name])
        assert found.etag is not None
        assert found.modified is not None
    (one,) = stores.listing("s3://bucket/in/notes.txt")
    assert stores.read(one.address) == b"no picture"


def test_pages(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []
    call = type(s3).call_s3

    def small(self: Any, method: str, **options: Any) -> Any:
        page = call(self, method, **options, MaxKeys=2)
        pages.append(page["KeyCount"])
        return page

    monkeypatch.setattr(type(s3), "call_s3", small)
    found = stores.listing("s3://bucket/in")
    assert next(found).address == "s3://bucket/in/0.png"
    assert pages == [2]
    assert len(list(found)) == 5
    assert max(pages) == 2


def test_errors(s3: Any) -> None:
    for address in ("s3://bucket/none", "s3://bucket/none/", "s3://nobucket/x", "s3://nobucket"):
        with pytest.raises(InputError) as caught:
            list(stores.listing(address))
        assert caught.value.kind == "not_found"
    with pytest.raises(InputError) as caught:
        stores.check_writable("s3://nobucket/report.csv")
    assert caught.value.kind == "not_found"


def test_the_command_reads_and_writes_buckets(s3: Any, tiny_model_folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "aidetect.cli", "scan", "s3://bucket/in", "--archives", "--evidence"]
    words += ["--model", str(tiny_model_folder), "--device", "cpu", "-o", "s3://bucket/out/report.json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "s3://bucket/in/empty.png" in done.stderr
    assert done.stderr.count("\n") == 2
    text = s3.cat_file("bucket/out/report.json").decode()
    report = json.loads(text)
    assert report["counts"]["images"] == 7
    names = [record["input"] for record in report["records"]]
    assert names[-1] == "s3://bucket/in/pack.zip!/z.png"
    assert [record["status"] for record in report["records"]].count("ok") == 6
    for said in (text, done.stdout, done.stderr):
        assert SECRET not in said
        assert "AKIATEST" not in said
    assert s3.ls("bucket/out", detail=False) == ["bucket/out/report.json"]
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("aidetect-*/report.json"))


def test_where_it_cannot_be_written_nothing_is_scored(s3: Any, tiny_model_folder: Path) -> None:
    words = [sys.executable, "-m", "aidetect.cli", "scan", "s3://bucket/in/0.png"]
    words += ["--model", str(tiny_model_folder), "-o", "s3://nobucket/report.json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == "aidetect: error: cannot write s3://nobucket/report.json: no such file or folder\n"
