"""The scan command: inputs, outputs, exit codes. Run in-process, with the tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, shapes

from aidetect.cli.formats.writers import CSV_COLUMNS, no_formula, percent, schema_text
from aidetect.cli.main import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one text file named like a picture, one note."""
    base = tmp_path / "pictures"
    (base / "deep").mkdir(parents=True)
    (base / "a.png").write_bytes(encode(gradient(64, 48)))
    (base / "b.jpg").write_bytes(encode(noise(48, 64), "JPEG"))
    (base / "deep" / "c.webp").write_bytes(encode(shapes(90, 70), "WEBP"))
    (base / "broken.png").write_text("<html><body>no picture</body></html>")
    (base / "note.txt").write_text("hello")
    return base


@pytest.fixture
def run(tiny_model_folder: Path) -> Any:
    """Run ``aidetect scan`` with the tiny model."""

    def call(*arguments: object, input: bytes | str | None = None) -> Result:
        words = ["--model", str(tiny_model_folder), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, ["scan", *words], input=input)

    return call


def test_a_folder_gives_a_row_an_image_and_an_error_row(run: Any, folder: Path) -> None:
    result = run(folder)
    rows = result.stdout.splitlines()
    assert result.exit_code == 3
    assert rows[0].split() == ["AI", "verdict", "size", "format", "image"]
    assert [row.split()[4] for row in rows[1:3]] == [str(folder / "a.png"), str(folder / "b.jpg")]
    assert "error" in rows[3]
    assert "HTML page" in rows[3]
    assert "90x70" in rows[4]
    assert result.stderr.count("broken.png") == 1
    assert "4 images" in result.stderr
    assert "1 unreadable" in result.stderr


def test_json_follows_the_shipped_schema(run: Any, folder: Path) -> None:
    report = json.loads(run(folder, "--format", "json").stdout)
    jsonschema.validate(report, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
    assert report["counts"]["images"] == 4
    assert report["counts"]["errors"] == 1
    assert [r["status"] for r in report["records"]] == ["ok", "ok", "error", "ok"]
    assert report["device"]["name"] == "cpu"
    assert report["records"][0]["pixels"]["format"] == "PNG"
    assert report["started"].endswith("Z")


def test_an_empty_selection_is_still_valid_json(run: Any, folder: Path) -> None:
    report = json.loads(run(folder / "a.png", "--format", "json", "--only", "error").stdout)
    jsonschema.validate(report, json.loads(schema_text()))
    assert report["records"] == []
    assert report["counts"]["images"] == 1


def test_every_field_of_the_schema_is_described_in_the_docs() -> None:
    readme = (Path(__file__).parents[2] / "docs" / "output.md").read_text(encoding="utf-8")
    record = json.loads(schema_text())["$defs"]["record"]["properties"]
    for name, part in record.items():
        assert f"`{name}" in readme or f".{name}`" in readme, name
        for inner in part.get("properties", {}):
            assert f"`{name}.{inner}`" in readme, f"{name}.{inner}"


def test_csv_has_stable_columns_and_crlf(run: Any, folder: Path) -> None:
    out = run(folder, "--format", "csv", "-q").stdout_bytes.decode()
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert out.count("\r\n") == 5
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert rows[2]["error_type"] == "not_an_image"
    assert rows[2]["probability"] == ""
    assert 0 <= float(rows[0]["probability"]) <= 1


@pytest.mark.parametrize("name", ["=1+1.png", "+a.png", "-b.png", "@c.png", "\t=d.png", " =e.png"])
def test_csv_defuses_formulas_in_names(run: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encode(gradient()))
    cwd = Path.cwd()
    os.chdir(tmp_path)
    try:
        out = run("--from", "-", "--format", "csv", input=f"{name}\n").stdout
    finally:
        os.chdir(cwd)
    (row,) = csv.DictReader(io.StringIO(out))
    cell = row["input"]
    assert cell == f"'{name}"
    assert no_formula("plain.png") == "plain.png"


def test_jsonl_is_one_record_a_line(run: Any, folder: Path) -> None:
    lines = [json.loads(line) for line in run(folder, "--format", "jsonl").stdout.splitlines()]
    assert len(lines) == 4
    assert all(line["model"]["name"] == "tiny" for line in lines)


def test_sightengine_replies(run: Any, folder: Path) -> None:
    replies = [json.loads(line) for line in run(folder, "--format", "sightengine").stdout.splitlines()]
    good, bad = replies[0], replies[2]
    assert good["status"] == "success"
    assert good["request"]["operations"] == 1
    assert len(good["request"]["id"]) == 25
    assert good["media"]["uri"] == str(folder / "a.png")
    assert 0 <= good["type"]["ai_generated"] <= 1
    assert good["aidetect"]["verdict"] in ("ai", "uncertain", "real")
    assert bad["status"] == "failure"
    assert bad["request"]["operations"] == 0
    assert bad["error"]["type"] == "media_error"
    assert isinstance(bad["error"]["code"], int)


def test_all_formats_tell_the_same_probability(run: Any, folder: Path) -> None:
    name = folder / "a.png"
    full = json.loads(run(name, "--format", "json").stdout)["records"][0]
    line = json.loads(run(name, "--format", "jsonl").stdout)
    (row,) = csv.DictReader(io.StringIO(run(name, "--format", "csv").stdout))
    reply = json.loads(run(name, "--format", "sightengine").stdout)
    p = full["type"]["ai_generated"]
    assert line["type"]["ai_generated"] == pytest.approx(p)
    assert reply["type"]["ai_generated"] == pytest.approx(p)
    assert float(row["probability"]) == pytest.approx(p, abs=1e-6)
    assert percent(p) in run(name).stdout


def test_stdin_and_lists(run: Any, folder: Path, tmp_path: Path) -> None:
    data = (folder / "a.png").read_bytes()
    assert json.loads(run("-", "--format", "jsonl", input=data).stdout)["input"] == "-"
    names = tmp_path / "names"
    names.write_bytes(b"\0".join(os.fsencode(p) for p in (folder / "a.png", folder / "b.jpg")))
    assert len(run("-0", "--from", names, "--format", "jsonl").stdout.splitlines()) == 2
    listed = run("--from", "-", "--format", "jsonl", input=f"{folder / 'a.png'}\n\n{folder / 'b.jpg'}\n")
    assert len(listed.stdout.splitlines()) == 2
    assert run("-", "--from", "-").exit_code == 2
    assert run("--from", tmp_path / "absent").exit_code == 2


def test_odd_names_do_not_reach_the_terminal_raw(run: Any, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/bad\xff\xfe.png"
    Path(os.fsdecode(raw)).write_bytes(encode(gradient()))
    (tmp_path / "new\nline\x1b[31m\u202e.png").write_bytes(encode(noise()))
    (tmp_path / "\U0001f600 é.png").write_bytes(encode(shapes()))
    result = run(tmp_path)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "bad\\xff\\xfe.png" in result.stdout
    assert "\U0001f600 é.png" in result.stdout
    records = [json.loads(line) for line in run(tmp_path, "--format", "jsonl").stdout.splitlines()]
    assert sum(r["input_base64"] is not None for r in records) == 1


def test_exit_codes(run: Any, folder: Path, tmp_path: Path) -> None:
    good = folder / "a.png"
    assert run(good).exit_code == 0
    assert run(good, "--fail-on", "0").exit_code == 1
    assert run(good, "--fail-on", "0", "--exit-zero").exit_code == 0
    assert run(folder, "--fail-on", "0").exit_code == 1
    assert run(folder).exit_code == 3
    assert run(good, "--fail-on", "2").exit_code == 2
    assert run(good, "--fail-on", "maybe").exit_code == 2
    assert run().exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty").exit_code == 4
    assert run(tmp_path / "absent.png").exit_code == 3
    missing = CliRunner().invoke(main, ["scan", str(good), "--model", str(tmp_path / "no-model")])
    assert missing.exit_code == 5
    assert missing.stderr.count("\n") == 1
    assert missing.stderr.startswith("aidetect: error: ")


def test_a_damaged_model_scores_nothing(model_copy: Path, folder: Path) -> None:
    probe = model_copy / "probe.safetensors"
    data = bytearray(probe.read_bytes())
    data[-1] ^= 1
    probe.write_bytes(data)
    result = CliRunner().invoke(main, ["scan", str(folder), "--model", str(model_copy)])
    assert result.exit_code == 5
    assert result.stdout == ""
    assert "does not match its card" in result.stderr


def test_fail_on_verdicts(run: Any, folder: Path) -> None:
    record = json.loads(run(folder / "a.png", "--format", "jsonl").stdout)
    verdict = record["verdict"]
    assert run(folder / "a.png", "--fail-on", "ai").exit_code == int(verdict == "ai")
    assert run(folder / "a.png", "--fail-on", "uncertain").exit_code == int(verdict != "real")


def test_output_file_by_suffix_and_whole(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = run(folder, "-o", out)
    assert result.stdout == ""
    assert json.loads(out.read_text())["counts"]["images"] == 4
    run(folder, "-o", tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().startswith("input,status")
    assert [p for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    assert run(folder, "-o", tmp_path / "no" / "where.json").exit_code == 2


def test_sort_and_only(run: Any, folder: Path) -> None:
    out = run(folder, "--format", "jsonl", "--sort", "probability").stdout
    scores = [json.loads(line)["type"]["ai_generated"] for line in out.splitlines()]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert scores[3] is None
    only = run(folder, "--format", "jsonl", "--only", "error").stdout.splitlines()
    assert [json.loads(line)["status"] for line in only] == ["error"]


def test_walk_options(run: Any, folder: Path) -> None:
    def count(*options: str) -> int:
        return len(run(folder, "--format", "jsonl", *options).stdout.splitlines())

    assert count("--no-recursive") == 3
    assert count("--include", "*.png") == 2
    assert count("--exclude", "deep") == 3
    assert count("--all-files") == 5
    (folder / ".hidden.png").write_bytes(encode(gradient()))
    assert count() == 4
    assert count("--hidden") == 5


def test_no_network_refuses_addresses(run: Any) -> None:
    result = run("http://127.0.0.1:9/a.png", "--no-network", "--format", "jsonl")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["type"] == "network_refused"


def test_percent_never_claims_certainty() -> None:
    assert percent(1.0) == ">99.9%"
    assert percent(0.0) == "<0.1%"
    assert percent(0.5) == "50.0%"


def test_colour_only_on_terminals(
    tiny_model_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pty = pytest.importorskip("pty")
    words = [sys.executable, "-m", "aidetect.cli", "scan", str(folder / "a.png"), "-q"]
    words += ["--model", str(tiny_model_folder), "--device", "cpu"]

    def on_terminal() -> bytes:
        leader, follower = pty.openpty()
        subprocess.run(words, stdout=follower, stderr=subprocess.DEVNULL, check=True)
        os.close(follower)
        return os.read(leader, 65536)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[" in on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[" not in on_terminal()


def test_interrupt_keeps_results_and_exits_130(tiny_model_folder: Path, folder: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    words = [sys.executable, "-m", "aidetect.cli", "scan", str(folder / "a.png"), str(fifo), "-q"]
    words += ["--model", str(tiny_model_folder), "--device", "cpu", "--format", "json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    seen = b""
    while b'"milliseconds"' not in seen:
        seen += os.read(process.stdout.fileno(), 65536)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    report = json.loads(seen + rest)
    assert process.returncode == 130
    assert report["interrupted"] is True
    assert report["counts"]["images"] == len(report["records"]) == 1
    assert b"Traceback" not in errors


def test_a_closed_pipe_ends_quietly(tiny_model_folder: Path, folder: Path) -> None:
    python = shlex.quote(sys.executable)
    names = " ".join(shlex.quote(str(folder / "a.png")) for _ in range(300))
    model = shlex.quote(str(tiny_model_folder))
    command = f"{python} -m aidetect.cli scan {names} -q --model {model} | head -1"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, timeout=100)
    assert done.stdout.startswith(b"    AI")
    assert done.stderr == b""


@pytest.mark.parametrize("words", [[], ["scan"], ["prove"], ["models"], ["models", "list"], ["doctor"]])
def test_help_is_everywhere(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "-h"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage:")


def test_version() -> None:
    from aidetect.detector import version

    assert version() in CliRunner().invoke(main, ["--version"]).stdout


def test_every_option_in_the_readme_and_the_docs_exists() -> None:
    import re

    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    readme = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    known = set()
    from aidetect.cli.main import _COMMANDS

    subcommands = [["baseline", "create"], ["baseline", "show"], ["cache", "clear"]]
    for words in [[], *([name] for name in _COMMANDS), *subcommands]:
        text = CliRunner().invoke(main, [*words, "-h"]).stdout
        known |= set(re.findall(r"--[a-z][a-z0-9-]*", text))
    known |= {"--help", "--version"}
    used = set()
    for line in readme.splitlines():
        if "aidetect " in line:
            used |= set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line.split("aidetect ", 1)[1]))
    assert used <= known, used - known
    assert len(used) > 5
