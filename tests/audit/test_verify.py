"""verify: a report's inputs, found again and scored again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, png_with, shapes

from aidetect.cli.main import main


@pytest.fixture
def run(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command of ``aidetect`` with the tiny model found by its name."""
    monkeypatch.setenv("AIDETECT_MODELS", str(tiny_model_folder.parent))

    def call(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, a bad file, and a name that is not UTF-8."""
    base = tmp_path / "pictures"
    base.mkdir()
    (base / "a.png").write_bytes(encode(gradient(64, 48)))
    (base / "b.png").write_bytes(encode(noise(48, 64)))
    (base / "c.png").write_bytes(encode(shapes(90, 70)))
    (base / "d.png").write_text("no picture")
    (base / os.fsdecode(b"e\xff.png")).write_bytes(encode(gradient(40, 40)))
    return base


@pytest.fixture
def report(run: Any, folder: Path, tmp_path: Path) -> Path:
    """A report of the folder."""
    path = tmp_path / "report.json"
    run("scan", folder, "--model", "tiny", "--device", "cpu", "-o", path)
    return path


def statuses(result: Result) -> dict[str, tuple[str, str]]:
    records = json.loads(result.stdout)["records"]
    return {Path(r["input"]).name[:1]: (r["status"], "; ".join(r["why"])) for r in records}


def test_nothing_changed(run: Any, report: Path) -> None:
    result = run("verify", report, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("same") == 5
    assert "unreadable then and now" in result.stdout
    assert "5 records: 5 same, 0 changed, 0 missing" in result.stderr
    assert "within 0.02, float32 on cpu" in result.stderr


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that is fast in bfloat16, for this process."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize(
    ("then", "words", "now", "tolerance"),
    [
        ("float32", [], "float32", "0.02"),
        ("bfloat16", [], "bfloat16", "0.4"),
        ("bfloat16", ["--precision", "float32"], "float32", "0.4"),
        ("float32", ["--precision", "bfloat16"], "bfloat16", "0.4"),
        ("float32", ["--precision", "auto"], "bfloat16", "0.4"),
    ],
)
def test_the_number_format_is_the_reports(
    run: Any, folder: Path, tmp_path: Path, then: str, words: list[str], now: str, tolerance: str
) -> None:
    path = tmp_path / "report.json"
    run("scan", folder, "--model", "tiny", "--device", "cpu", "--precision", then, "-o", path)
    assert json.loads(path.read_text())["device"]["dtype"] == then
    result = run("verify", path, "--device", "cpu", *words)
    assert result.exit_code == 0, result.output
    assert f"within {tolerance}, {now} on cpu" in result.stderr


def test_a_report_in_bfloat16_is_checked_where_there_is_none(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    with monkeypatch.context() as patch:
        patch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
        run("scan", folder, "--model", "tiny", "--device", "cpu", "-o", path)
    result = run("verify", path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "within 0.4, float32 on cpu" in result.stderr


def test_changes_are_told_apart(run: Any, report: Path, folder: Path) -> None:
    (folder / "a.png").write_bytes(png_with((folder / "a.png").read_bytes(), (b"tEXt", b"k\0v")))
    (folder / "b.png").write_bytes(encode(noise(48, 64, seed=9)))
    (folder / "c.png").unlink()
    (folder / "d.png").write_bytes(encode(gradient(40, 40)))
    result = run("verify", report, "--format", "json", "-q")
    found = statuses(result)
    assert result.exit_code == 1
    assert found["a"] == ("same", "the file's bytes differ, its pixels do not")
    assert found["b"] == ("changed", "the pixels differ")
    assert found["c"][0] == "missing"
    assert found["d"] == ("changed", "it could not be read then, but can be read now")
    assert found["e"][0] == "same"


def test_missing_alone_is_exit_3(run: Any, report: Path, folder: Path) -> None:
    (folder / "c.png").unlink()
    result = run("verify", report, "-q")
    assert result.exit_code == 3
    assert result.stdout.count("\n") == 1
    assert result.stdout.startswith("missing")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"logit": 9.0}, "changed"),
        ({"logit": None}, "changed"),
        ({"logit": "x"}, "changed"),
        ({"verdict": "altered"}, "changed"),
        ({"type": {"ai_generated": 0.99}}, "changed"),
    ],
)
def test_a_doctored_report_is_found(run: Any, report: Path, change: dict[str, Any], expected: str) -> None:
    data = json.loads(report.read_text())
    data["records"][0] |= change
    report.write_text(json.dumps(data))
    result = run("verify", report, "--format", "json")
    assert statuses(result)["a"][0] == expected
    assert result.exit_code == 1


def test_a_logit_within_the_tolerance_is_the_same(run: Any, report: Path) -> None:
    data = json.loads(report.read_text())
    record = data["records"][0]
    record["logit"] += 0.015
    record["type"]["ai_generated"] = 1 / (1 + math.exp(-(1.5 * record["logit"] + 0.1)))  # the card's Platt
    report.write_text(json.dumps(data))
    assert run("verify", report).exit_code == 0
    data["tolerance"]["float32"] = 0.001
    report.write_text(json.dumps(data))
    assert run("verify", report).exit_code == 1


def test_relative_inputs_are_found_from_base(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "r.json"
    run("scan", "a.png", "--model", "tiny", "--device", "cpu", "-o", out)
    monkeypatch.chdir(tmp_path)
    assert run("verify", out).exit_code == 3
    assert run("verify", out, "--base", folder).exit_code == 0


def test_stability_is_scored_again(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    run("scan", folder / "a.png", "--model", "tiny", "--device", "cpu", "--stability", "-o", out)
    assert run("verify", out).exit_code == 0


def test_another_model_is_refused(run: Any, report: Path, model_copy: Path) -> None:
    card = json.loads((model_copy / "model.json").read_text())
    card["date"] = "another"
    (model_copy / "model.json").write_text(json.dumps(card))
    result = run("verify", report, "--model", model_copy)
    assert result.exit_code == 5
    assert "--model" in result.stderr
    data = json.loads(report.read_text())
    data["model"]["name"] = "gone"
    report.write_text(json.dumps(data))
    assert run("verify", report).exit_code == 5


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"schema": 1}'])
def test_a_bad_report_is_one_line(run: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    result = run("verify", tmp_path / "r.json")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_broken_record_is_one_line(run: Any, report: Path) -> None:
    data = json.loads(report.read_text())
    del data["records"][1]["pixels"]
    report.write_text(json.dumps(data))
    result = run("verify", report)
    assert result.exit_code == 2
    assert "incomplete or damaged report" in result.stderr


def test_usage(run: Any, report: Path) -> None:
    assert run("verify").exit_code == 2
    assert run("verify", report, "--log", report).exit_code == 2
    assert run("verify", report, "--head", "0" * 64).exit_code == 2
