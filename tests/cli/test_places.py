"""Commands on archives, PDF files, addresses and long listings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner, Result
from conftest import encode, noise, png_with, shapes
from packing import jpeg_object, pdf, tarred, zipped

from aidetect.cli.main import main

PARAMETERS = b"parameters\0a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: dreamy"
PICTURE = png_with(encode(shapes(90, 70)), (b"tEXt", PARAMETERS))
OTHER = encode(noise(48, 64), "JPEG")


@pytest.fixture
def run(tiny_model_folder: Path) -> Any:
    """Run a command with the tiny model."""

    def call(command: str, *arguments: object) -> Result:
        words = [command, "--model", str(tiny_model_folder), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, words)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "in"
    base.mkdir()
    (base / "a.png").write_bytes(PICTURE)
    (base / "b.zip").write_bytes(zipped([("x.png", PICTURE), ("y.jpg", OTHER)]))
    (base / "c.pdf").write_bytes(pdf([jpeg_object(OTHER)]))
    os.utime(base / "a.png", (1e9, 1e9))
    return base


def records(result: Result) -> dict[str, Any]:
    return {record["input"]: record for record in map(json.loads, result.stdout.splitlines())}


def test_a_member_has_the_record_of_the_file(run: Any, folder: Path) -> None:
    found = records(run("scan", folder, "--archives", "--evidence", "--format", "jsonl", "--no-cache"))
    assert [Path(name).name for name in found] == ["a.png", "x.png", "y.jpg", "image-1"]
    file, member, jpeg, embedded = found.values()
    for name in ("file", "pixels", "logit", "verdict", "evidence"):
        assert file[name] == member[name]
    assert member["evidence"][0]["kind"] == "generator-metadata"
    assert jpeg["file"] == embedded["file"]
    assert jpeg["logit"] == embedded["logit"]


def test_the_cache_knows_members(run: Any, folder: Path) -> None:
    run("scan", folder / "a.png")
    found = records(run("scan", folder / "b.zip", "--format", "jsonl"))
    assert [record["cached"] for record in found.values()] == [True, False]


def test_archives_that_are_not_entered_are_mentioned(run: Any, folder: Path) -> None:
    result = run("scan", folder)
    assert result.exit_code == 0
    assert "aidetect: 2 archives or PDFs were not entered (--archives enters them)\n" in result.stderr
    (folder / "a.png").unlink()
    nothing = run("scan", folder, "-q")
    assert nothing.exit_code == 4
    assert "--archives" in nothing.stderr


def test_choosing(run: Any, folder: Path) -> None:
    def names(*options: object) -> list[str]:
        found = records(run("scan", folder, "--archives", "--format", "jsonl", *options))
        return [Path(name).name for name in found]

    assert names("--limit", 2) == ["a.png", "x.png"]
    assert len(names("--sample", 2)) == 2
    assert names("--sample", 2, "--seed", 7) == names("--sample", 2, "--seed", 7)
    assert names("--since", "2020-01-01") == ["x.png", "y.jpg", "image-1"]
    assert names("--since", "1d") == ["image-1"]
    assert names("--newer-than", folder / "a.png") == ["x.png", "y.jpg", "image-1"]
    wrong = run("scan", folder, "--since", "soon")
    assert wrong.exit_code == 2
    assert "2026-11-30" in wrong.stderr


def test_a_verified_report_reads_members_again(
    run: Any, folder: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    out = tmp_path / "report.json"
    assert run("scan", folder, "--archives", "-o", out).exit_code == 0
    same = CliRunner().invoke(main, ["verify", str(out), "--model", str(tiny_model_folder)])
    assert same.exit_code == 0, same.output
    assert "4 same" in same.stderr


def test_a_verified_report_of_broken_archives(run: Any, tmp_path: Path, tiny_model_folder: Path) -> None:
    whole = tarred([("x.png", PICTURE), ("y.jpg", OTHER)])
    (tmp_path / "cut.tar").write_bytes(whole[: whole.index(OTHER) + 500])
    (tmp_path / "none.zip").write_bytes(b"nothing")
    out = tmp_path / "report.json"
    assert run("scan", tmp_path, "--archives", "-o", out).exit_code == 3
    before = json.loads(out.read_text())["records"]
    assert [(Path(r["input"]).name, r["status"]) for r in before] == [
        *(("x.png", "ok"), ("y.jpg", "error"), ("cut.tar", "error"), ("none.zip", "error")),
    ]
    words = ["verify", str(out), "--model", str(tiny_model_folder)]
    same = CliRunner().invoke(main, words)
    assert same.exit_code == 0, same.output
    assert "4 same" in same.stderr
    (tmp_path / "cut.tar").write_bytes(whole)
    assert "2 changed" in CliRunner().invoke(main, words).stderr


def test_other_commands(run: Any, folder: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    explained = run("explain", f"{folder / 'b.zip'}!/y.jpg")
    assert explained.exit_code == 0
    assert "b.zip!/y.jpg  (48x64 JPEG)" in explained.stdout
    whole = run("explain", folder / "b.zip")
    assert whole.exit_code == 3
    assert "ARCHIVE!/MEMBER" in whole.stderr
    assert run("explain", folder).exit_code == 3
    for words in (["sort", "--into", tmp_path / "out"], ["tag", "-o", tmp_path / "out"]):
        for name in (folder / "b.zip", f"{folder / 'b.zip'}!/y.jpg", "s3://bucket/x", "memory://x"):
            refused = run(words[0], *words[1:], name)
            assert refused.exit_code == 2
            assert refused.stderr.count("\n") == 1
            assert "only files and folders" in refused.stderr
    created = CliRunner().invoke(
        main,
        [
            *("baseline", "create", str(folder / "b.zip"), "--reason", "x", "--accept", "any"),
            *("--model", str(tiny_model_folder), "-o", str(tmp_path / "baseline.json")),
        ],
    )
    assert created.exit_code == 0, created.output
    assert "b.zip!/y.jpg" in (tmp_path / "baseline.json").read_text()


def test_a_store_without_a_bucket(run: Any, folder: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/in/a.png", PICTURE)
    result = run("scan", "memory://in", "--no-network", "-o", "memory://out/report.csv")
    assert result.exit_code == 0
    assert b"memory://in/a.png" in store.cat_file("/out/report.csv")
    assert store.ls("/out", detail=False) == ["/out/report.csv"]
    refused = run("scan", "memory://in", "-o", "memory://out/")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("aidetect: error: cannot write memory://out/: ")
    store.store.clear()


def test_a_report_that_cannot_be_published_is_kept(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def failing(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(MemoryFileSystem, "put_file", failing)
    result = run("scan", folder / "a.png", "-o", "memory://out/report.json", "-q")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    kept = Path(result.stderr.strip().rpartition(" as ")[2])
    assert json.loads(kept.read_text())["counts"]["images"] == 1
    kept.unlink()
    kept.parent.rmdir()


def test_secrets_of_addresses_are_told_nowhere(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-t0ken"
    urls = [f"http://me:{secret}@127.0.0.1:port/a.png?sig={secret}", f"ftp://me:{secret}@127.0.0.1:9/x"]
    log, out = tmp_path / "log.jsonl", tmp_path / "report.json"
    monkeypatch.setattr("sys.argv", ["aidetect", "scan", *urls])
    result = run("scan", *urls, "-o", out, "--log", log)
    assert result.exit_code == 3
    assert json.loads(out.read_text())["counts"]["errors"] == 2
    for text in (result.output, result.stderr, out.read_text(), log.read_text()):
        assert secret not in text


def test_a_long_tar_of_broken_pictures_loses_none(run: Any, tmp_path: Path) -> None:
    files = [(f"{n}.png", PICTURE if n % 10 else b"<html>") for n in range(60)]
    (tmp_path / "a.tar.gz").write_bytes(tarred(files, "gz"))
    found = records(run("scan", tmp_path / "a.tar.gz", "--format", "jsonl"))
    assert len(found) == 60
    assert sum(record["status"] == "error" for record in found.values()) == 6
