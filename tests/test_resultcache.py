"""The result cache: bit-equal, shared by processes, safe to kill, passed over when it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, png_with, shapes

from aidetect.cli.main import main
from aidetect.detector.resultcache import ResultCache, clear, default_path, info

TIMES = {"milliseconds", "cached"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, an animation and a bad file."""
    from PIL import Image

    base = tmp_path / "pictures"
    base.mkdir()
    (base / "a.png").write_bytes(encode(gradient(64, 48)))
    (base / "b.jpg").write_bytes(encode(noise(48, 64), "JPEG"))
    (base / "c.webp").write_bytes(encode(shapes(90, 70), "WEBP"))
    frames = [Image.fromarray(noise(40, 40, seed=i)) for i in range(3)]
    frames[0].save(base / "d.gif", save_all=True, append_images=frames[1:])
    (base / "e.png").write_text("no picture")
    return base


@pytest.fixture
def run(tiny_model_folder: Path) -> Any:
    """Run ``aidetect scan`` with the tiny model."""

    def call(*arguments: object) -> Result:
        words = ["--model", str(tiny_model_folder), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, ["scan", *words])

    return call


def records(result: Result) -> list[dict[str, Any]]:
    return list(json.loads(result.stdout)["records"])


def scores(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name not in TIMES} for record in found]


def test_a_second_scan_says_the_same_from_the_cache(run: Any, folder: Path) -> None:
    first = records(run(folder, "--format", "json"))
    again = run(folder, "--format", "json")
    bare = records(run(folder, "--format", "json", "--no-cache"))
    second = records(again)
    assert [r["cached"] for r in first] == [False] * 5
    assert [r["cached"] for r in second] == [True, True, True, True, False]
    assert [r["cached"] for r in bare] == [False] * 5
    assert scores(first) == scores(second)
    assert [r["verdict"] for r in second] == [r["verdict"] for r in bare]
    assert "4 from the cache" in again.stderr


def test_the_second_scan_neither_decodes_nor_computes(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aidetect.detector import prepare as module
    from aidetect.detector.detector import Detector

    first = records(run(folder, "--format", "json"))
    tried = []
    decode = module.decode

    def spy(data: bytes, **options: Any) -> Any:
        tried.append(data)
        return decode(data, **options)

    monkeypatch.setattr(module, "decode", spy)
    monkeypatch.setattr(Detector, "run", lambda self, batch: pytest.fail("computed again"))
    assert scores(records(run(folder, "--format", "json"))) == scores(first)
    assert len(tried) == 1, "only the bad file may be tried again"


def test_equal_pixels_in_another_file_are_found(run: Any, folder: Path, tmp_path: Path) -> None:
    first = records(run(folder / "a.png", "--format", "json"))[0]
    other = tmp_path / "other name.png"
    other.write_bytes(png_with((folder / "a.png").read_bytes(), (b"tEXt", b"Comment\0hello")))
    second = records(run(other, "--format", "json"))[0]
    assert second["cached"]
    assert second["logit"] == first["logit"]
    assert second["file"]["sha256"] != first["file"]["sha256"]


@pytest.mark.parametrize("option", [("--views", "fast"), ("--stability",), ("--frames", "2")])
def test_options_that_move_a_record_are_part_of_the_key(
    run: Any, folder: Path, option: tuple[str, ...]
) -> None:
    run(folder, "--format", "json")
    fresh = records(run(folder, "--format", "json", "--no-cache", *option))
    mixed = records(run(folder, "--format", "json", *option))
    again = records(run(folder, "--format", "json", *option))
    assert scores(mixed) == scores(again)
    for one, other in zip(fresh, mixed, strict=True):  # batches of other sizes: not bit by bit
        assert one["logit"] == pytest.approx(other["logit"], abs=1e-4)
        assert [v["kind"] for v in one["views"]] == [v["kind"] for v in other["views"]]
        assert len((one.get("stability") or {}).get("copies", [])) == 5 * (option == ("--stability",)) * (
            one["status"] == "ok"
        )


def test_another_model_of_the_same_name_is_not_served(
    run: Any, folder: Path, model_copy: Path, tiny_model_folder: Path
) -> None:
    run(folder / "a.png")
    card = json.loads((model_copy / "model.json").read_text())
    card["date"] = "another"
    (model_copy / "model.json").write_text(json.dumps(card))
    words = ["scan", str(folder / "a.png"), "--model", str(model_copy), "--device", "cpu", "--format", "json"]
    assert not records(CliRunner().invoke(main, words))[0]["cached"]


def test_the_cache_holds_no_names(run: Any, folder: Path) -> None:
    secret = folder / "client-0815.png"
    shutil.move(folder / "a.png", secret)
    run(folder)
    data = b"".join(part.read_bytes() for part in default_path().parent.iterdir())
    assert b"0815" not in data
    assert b"pictures" not in data


@pytest.mark.parametrize("content", [b"this is no database" * 99, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_passed_over_and_can_be_cleared(run: Any, folder: Path, content: bytes) -> None:
    default_path().parent.mkdir(parents=True)
    default_path().write_bytes(content)
    result = run(folder / "a.png")
    assert result.exit_code == 0
    assert result.stderr.count("cannot be used") == 1
    assert "Traceback" not in result.stderr
    looked = CliRunner().invoke(main, ["cache", "info"])
    assert looked.exit_code == 2
    assert "aidetect cache clear" in looked.stderr
    assert CliRunner().invoke(main, ["cache", "clear"]).exit_code == 0
    run(folder / "a.png")
    assert info(default_path())["pictures"] == 1


def test_a_cache_that_cannot_be_written_stops_nothing(run: Any, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIDETECT_CACHE_DIR", str(folder / "a.png" / "below-a-file"))
    result = run(folder / "a.png")
    assert result.exit_code == 0
    assert "continuing without it" in result.stderr


def test_a_cache_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    said: list[str] = []
    cache = ResultCache(path, "m", "i", said.append)
    cache.put("f", [], {"k": {"x": 1}})
    assert cache.scores("k") is None
    assert "another version" in said[0]


def test_info_and_clear(run: Any, folder: Path) -> None:
    empty = CliRunner().invoke(main, ["cache", "info", "--format", "json"])
    assert json.loads(empty.stdout)["pictures"] == 0
    run(folder)
    found = json.loads(CliRunner().invoke(main, ["cache", "info", "--format", "json"]).stdout)
    assert found["pictures"] == 6
    assert found["files"] == 4
    assert found["models"] == {"tiny": 6}
    assert "tiny (6 pictures)" in CliRunner().invoke(main, ["cache", "info"]).stdout
    kept = CliRunner().invoke(main, ["cache", "clear", "--older-than", "1"])
    assert "of 0 pictures" in kept.stderr
    gone = CliRunner().invoke(main, ["cache", "clear"])
    assert "of 6 pictures" in gone.stderr
    assert info(default_path())["files"] == 0
    assert CliRunner().invoke(main, ["cache", "clear"]).exit_code == 0


def test_old_results_alone_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    cache = ResultCache(path, "m", "i")
    cache.put("old", [], {"old": {"x": 1}})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE scores SET made=?", (time.time() - 10 * 86400,))
    cache.put("new", [], {"new": {"x": 2}})
    assert clear(path, 5) == 1
    assert cache.scores("old") is None
    assert cache.scores("new") == {"x": 2}


# --- processes --------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty different pictures."""
    base = tmp_path / "many"
    base.mkdir()
    for i in range(60):
        (base / f"{i:03}.png").write_bytes(encode(noise(40, 40, seed=i)))
    return base


def start(model: Path, cache: Path, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "aidetect.cli", "scan", "--model", str(model), "--device", "cpu"]
    environment = {**os.environ, "AIDETECT_CACHE_DIR": str(cache), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*command, "--format", "jsonl", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_scans_racing_on_one_cache_lose_nothing(tiny_model_folder: Path, many: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    racing = [start(tiny_model_folder, cache, many, "--batch-size", 1 + i) for i in range(3)]
    done = [process.communicate(timeout=300) for process in racing]
    for process, (_, error) in zip(racing, done, strict=True):
        assert process.returncode == 0, error.decode()
        assert b"cannot be used" not in error
    logits = [[json.loads(line)["logit"] for line in out.splitlines()] for out, _ in done]
    assert len(logits[0]) == 60
    assert np.allclose(logits[0], logits[1], atol=1e-4)
    assert np.allclose(logits[0], logits[2], atol=1e-4)
    assert info(cache / "results.sqlite")["pictures"] == 60
    with sqlite3.connect(cache / "results.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("after", [1, 9, 30])
def test_a_killed_scan_loses_nothing_it_had_reported(
    tiny_model_folder: Path, many: Path, tmp_path: Path, after: int
) -> None:
    cache = tmp_path / "cache"
    process = start(tiny_model_folder, cache, many, "--batch-size", 1, "--workers", 1)
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=60)
    seen += [json.loads(line) for line in rest.splitlines() if line.endswith(b"}")]
    assert process.returncode == -signal.SIGKILL
    out, error = start(tiny_model_folder, cache, many).communicate(timeout=300)
    again = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert len(again) == 60, error.decode()
    for record in seen:
        assert again[record["input"]]["cached"], record["input"]
        assert again[record["input"]]["logit"] == record["logit"]
