"""Baselines: accepted pixels fail no run; anything else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, png_with, shapes

from aidetect.cli.main import main


@pytest.fixture
def run(tiny_model_folder: Path) -> Any:
    """Run a command of ``aidetect`` with the tiny model."""

    def call(*words: object) -> Result:
        options = ["--model", str(tiny_model_folder), "--device", "cpu"]
        return CliRunner().invoke(main, [*map(str, words), *options])

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    base = tmp_path / "pictures"
    base.mkdir()
    (base / "a.png").write_bytes(encode(gradient(64, 48)))
    (base / "b.png").write_bytes(encode(noise(48, 64)))
    (base / "c.png").write_bytes(encode(shapes(90, 70)))
    return base


def create(run: Any, *words: object) -> Result:
    result = run("baseline", "create", *words, "--reason", "seen, by hand", "--accept", "any")
    assert result.exit_code == 0, result.output
    return result


def test_accepted_pictures_do_not_fail_a_run(run: Any, folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    gate = ("scan", folder, "--fail-on", "0", "--format", "json")
    assert run(*gate).exit_code == 1
    create(run, folder, "-o", base)
    result = run(*gate, "--baseline", base)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["counts"]["accepted"] == 3
    assert all(r["accepted"]["reason"] == "seen, by hand" for r in report["records"])
    table = run("scan", folder, "--baseline", base)
    assert table.stdout.count("(accepted: seen, by hand)") == 3
    assert "3 accepted" in table.stderr


def test_one_changed_pixel_is_a_new_finding_and_new_metadata_is_not(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.json"
    create(run, folder, "-o", base)
    pixels = gradient(64, 48).copy()
    pixels[5, 5, 0] ^= 1
    (folder / "a.png").write_bytes(encode(np.asarray(pixels)))
    changed = run("scan", folder, "--fail-on", "0", "--baseline", base, "--format", "json")
    assert changed.exit_code == 1
    assert [("accepted" in r) for r in json.loads(changed.stdout)["records"]] == [False, True, True]
    (folder / "a.png").write_bytes(png_with(encode(gradient(64, 48)), (b"tEXt", b"Title\0new")))
    (folder / "a.png").rename(folder / "renamed.png")
    assert run("scan", folder, "--fail-on", "0", "--baseline", base).exit_code == 0


def test_only_the_verdicts_asked_for_are_accepted(run: Any, folder: Path, tmp_path: Path) -> None:
    report = json.loads(run("scan", folder, "--format", "json").stdout)
    verdicts = ["ai", "uncertain", "real"]
    for record, verdict in zip(report["records"], verdicts, strict=True):
        record["verdict"] = verdict
    (tmp_path / "report.json").write_text(json.dumps(report))
    for accept, count in (("ai", 1), ("uncertain", 2), ("any", 3)):
        out = tmp_path / f"{accept}.json"
        words = ["--report", tmp_path / "report.json", "--accept", accept, "--reason", "r", "-o", out]
        assert run("baseline", "create", *words).exit_code == 0
        assert len(json.loads(out.read_text())["accepted"]) == count


def test_update_keeps_what_was_accepted(run: Any, folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    create(run, folder / "a.png", "-o", base)
    again = run("baseline", "create", folder, "--reason", "later", "--accept", "any", "-o", base)
    assert again.exit_code == 2
    assert "--update" in again.stderr
    run("baseline", "create", folder, "--reason", "later", "--accept", "any", "-o", base, "--update")
    reasons = sorted(e["reason"] for e in json.loads(base.read_text())["accepted"])
    assert reasons == ["later", "later", "seen, by hand"]
    shown = CliRunner().invoke(main, ["baseline", "show", str(base)])
    assert shown.stdout.count("(later)") == 2
    assert (
        len(json.loads(CliRunner().invoke(main, ["baseline", "show", str(base), "--format", "json"]).stdout))
        == 3
    )


def test_unreadable_pictures_are_told_and_left_out(run: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "d.png").write_text("no picture")
    base = tmp_path / "base.json"
    result = run("baseline", "create", folder, "--reason", "r", "--accept", "any", "-o", base)
    assert result.exit_code == 3
    assert len(json.loads(base.read_text())["accepted"]) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": "https://aidetect.invalid/schema/baseline-1.json"}',
        '{"schema": "https://aidetect.invalid/schema/baseline-1.json", "accepted": [1]}',
        '{"schema": "https://aidetect.invalid/schema/baseline-1.json", "accepted": '
        '[{"pixels_sha256": "zz", "reason": "r", "date": "2026-01-01"}]}',
        "\xff\xfe",
    ],
)
def test_a_bad_baseline_is_one_line(run: Any, folder: Path, tmp_path: Path, content: str) -> None:
    base = tmp_path / "base.json"
    base.write_bytes(content.encode("latin-1"))
    result = run("scan", folder, "--baseline", base)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "base" in result.stderr
    assert "Traceback" not in result.output


def test_create_asks_for_what_it_needs(run: Any, folder: Path, tmp_path: Path) -> None:
    assert run("baseline", "create", "--reason", "r").exit_code == 2
    assert run("baseline", "create", folder, "--reason", "  ", "-o", tmp_path / "b").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run("baseline", "create", tmp_path / "empty", "--reason", "r", "-o", tmp_path / "b").exit_code == 4
    assert not (tmp_path / "b").exists()
