"""The command ``aidetect evaluate``, run with the tiny model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import encode, shapes

from aidetect.cli.commands.evaluate import evaluate

Run = Callable[..., Result]


@pytest.fixture
def run(tiny_model_folder: Path) -> Run:
    def invoke(*arguments: object, model: Path | str = tiny_model_folder) -> Result:
        words = [str(a) for a in (*arguments, "--model", model, "--device", "cpu", "--workers", 2)]
        return CliRunner().invoke(evaluate, words)

    return invoke


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """AI pictures of two generators, real ones of two sources."""
    layout = {"ai": {"flux": 4, "sdxl": 3}, "real": {"cameras": 4, "polished-art": 2}}
    seed = 0
    for label, places in layout.items():
        for place, count in places.items():
            folder = tmp_path / label / place
            folder.mkdir(parents=True)
            for number in range(count):
                seed += 1
                data = encode(shapes(64, 48, seed=seed), "JPEG" if number % 2 else "PNG")
                (folder / f"{place}-{number}.png").write_bytes(data)
    return tmp_path / "ai", tmp_path / "real"


def report(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_holds_every_measure(run: Run, folders: tuple[Path, Path]) -> None:
    ai, real = folders
    result = run("--ai", ai, "--real", real, "--format", "json")
    assert result.exit_code == 0, result.output
    found = report(result)
    assert found["kind"] == "evaluation"
    assert found["model"]["name"] == "tiny"
    assert found["asked"] == {"conditions": ["clean", "mix"], "limit": None}
    assert found["errors"] == []
    conditions = found["evaluation"]["conditions"]
    assert list(conditions) == ["clean", "mix"]
    clean = conditions["clean"]
    assert clean["pictures"] == {"ai": 7, "real": 6}
    assert 0 <= clean["auc"] <= 1
    assert set(clean["generators"]) == {"flux", "sdxl"}
    assert set(clean["families"]) == {"flux", "stable_diffusion"}
    assert clean["generators"]["flux"]["n"] == 4
    assert clean["generators"]["flux"]["too_few"] is True
    assert {name.split("/")[-1] for name in clean["sources"]} == {"cameras", "polished-art"}
    assert clean["polished"]["fpr"]["n"] == 2
    assert "13 pictures in 2 conditions, 0 failures" in result.stderr


def test_table_is_plain_and_whole_in_a_pipe(run: Run, folders: tuple[Path, Path]) -> None:
    ai, real = folders
    result = run("--ai", ai, "--real", real, "-q")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert "\u2026" not in result.stdout
    for text in (
        "At the thresholds (7 AI and 6 real pictures each)",
        "AI pictures by generator family (clean)",
        "AI pictures by generator (clean)",
        "polished-*",
        "By content (mix)",
        "fewer than 30",
    ):
        assert text in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith("clean")]
    assert [row.count("%") for row in rows] == [4, 2]
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


def test_sweep_covers_every_condition(run: Run, folders: tuple[Path, Path]) -> None:
    from aidetect.detector.training.conditions import CONDITIONS

    ai, real = folders
    result = run("--ai", ai, "--real", real, "--sweep", "--limit", 1, "--format", "json", "-q")
    assert result.exit_code == 0, result.output
    conditions = report(result)["evaluation"]["conditions"]
    assert list(conditions) == list(CONDITIONS)
    assert all(c["pictures"] == {"ai": 2, "real": 2} for c in conditions.values())


def test_same_run_twice_gives_the_same_numbers(run: Run, folders: tuple[Path, Path]) -> None:
    ai, real = folders
    words = ("--ai", ai, "--real", real, "--limit", 2, "--format", "json", "-q")
    first, second = (report(run(*words))["evaluation"] for _ in range(2))
    assert first == second


def test_index_and_output_file(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    with index.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label", "generator", "source", "content"])
        for folder, label in zip(folders, ("ai", "real"), strict=True):
            for path in sorted(folder.rglob("*.png")):
                rows.writerow([path.relative_to(tmp_path), label, "", path.parent.name, "art"])
    output = tmp_path / "report.json"
    result = run("--index", index, "--condition", "jpeg-60", "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    found = json.loads(output.read_text())["evaluation"]["conditions"]["jpeg-60"]
    assert found["content"]["art"]["n"] == 13
    result = run("--index", index, "-o", tmp_path / "report.txt", "-q")
    assert result.exit_code == 0, result.output
    assert "AI pictures by generator (clean)" in (tmp_path / "report.txt").read_text()


def test_plots(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    ai, real = folders
    result = run("--ai", ai, "--real", real, "--condition", "clean", "--plots", tmp_path / "plots", "-q")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"roc.png", "calibration.png", "histograms.png", "laundering.png", "confusion.png"}


def test_plots_without_matplotlib_end_before_scoring(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--ai", folders[0], "--plots", tmp_path / "plots")
    assert result.exit_code == 2
    assert "aidetect[plots]" in result.stderr
    assert result.stdout == ""


def test_scores_of_another_tool(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    ai, real = folders
    other = tmp_path / "other.csv"
    rows = [f"{path},{int(path.is_relative_to(ai))}" for path in [*ai.rglob("*.png"), *real.rglob("*.png")]]
    other.write_text("\n".join(["file,score", *rows[1:]]) + "\n")
    words = ("--ai", ai, "--real", real, "--condition", "clean", "--scores", f"oracle={other}")
    result = run(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    (found,) = report(result)["comparisons"]
    assert found["tool"] == "oracle"
    assert found["theirs"]["auc"] == 1
    assert found["theirs"]["pictures"] == found["ours"]["pictures"] == {"ai": 6, "real": 6}
    table = run(*words).stdout
    assert "oracle, on 6 AI and 6 real pictures that both scored" in table


def test_bad_pictures_are_named_and_counted(run: Run, folders: tuple[Path, Path]) -> None:
    ai, real = folders
    (ai / "flux" / "broken.png").write_bytes(b"nothing")
    result = run("--ai", ai, "--real", real, "--format", "json")
    assert result.exit_code == 3
    assert "broken.png: no decoder recognises this" in result.stderr
    found = report(result)
    assert [error["type"] for error in found["errors"]] == ["not_an_image"]
    assert found["evaluation"]["conditions"]["clean"]["pictures"]["ai"] == 7


def test_nothing_readable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ai").mkdir()
    (tmp_path / "ai" / "a.png").write_bytes(b"nothing")
    result = run("--ai", tmp_path / "ai")
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "nothing to measure" in result.stderr


def test_one_class_alone(run: Run, folders: tuple[Path, Path]) -> None:
    result = run("--real", folders[1], "--condition", "clean")
    assert result.exit_code == 0, result.output
    assert "only real pictures were given" in result.stderr
    assert "Real pictures by source" in result.stdout
    assert "AI pictures by generator" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no pictures given"),
        (("--ai", "{none}"), "does not exist"),
        (("--ai", "{empty}"), "no pictures in"),
        (("--ai", "{ai}", "--condition", "wash"), "wash"),
        (("--ai", "{ai}", "--real", "{ai}"), "both as AI and as real"),
        (("--ai", "{ai}", "--scores", "nameless.csv"), "NAME=FILE.csv"),
        (("--ai", "{ai}", "--scores", "other={none}"), "cannot read the scores"),
        (("--ai", "{ai}", "--condition", "mix", "--scores", "other={none}"), "--condition clean"),
        (("--ai", "{ai}", "-o", "{none}/report.json"), "no such folder"),
        (("--ai", "{ai}", "--limit", "0"), "limit"),
    ],
)
def test_usage_errors(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"ai": folders[0], "empty": tmp_path / "empty", "none": tmp_path / "none"}
    result = run(*(word.format(**places) for word in words))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_missing_and_damaged_models(run: Run, folders: tuple[Path, Path], model_copy: Path) -> None:
    assert run("--ai", folders[0], model="no-such-model").exit_code == 5
    (model_copy / "probe.safetensors").write_bytes(b"damage")
    result = run("--ai", folders[0], model=model_copy)
    assert result.exit_code == 5
    assert "does not match its card" in result.stderr


def test_interruption_writes_nothing(
    run: Run, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aidetect.detector.training.scoring._scored", interrupt)
    output = tmp_path / "report.json"
    result = run("--ai", folders[0], "-o", output)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert not output.exists()


def test_help_has_examples() -> None:
    result = CliRunner().invoke(evaluate, ["--help"])
    assert result.exit_code == 0
    assert "aidetect evaluate --index index.csv --sweep" in result.stdout
