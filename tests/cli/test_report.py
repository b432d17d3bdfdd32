"""Parquet, stored reports in other formats, sums, and reports of several pages. Run in-process."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import fsspec
import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import encode, noise, png_with, shapes
from hypothesis import given
from hypothesis import strategies as st

from aidetect.cli.formats import html
from aidetect.cli.formats.parquet import Writer
from aidetect.cli.formats.writers import CSV_COLUMNS, schema_text
from aidetect.cli.main import main
from aidetect.detector import parquet
from aidetect.detector.audit.stored import open_report
from aidetect.detector.errors import AidetectError
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.record import Record, ViewScore

STABILITY = {
    "kept": False,
    "verdict": "ai",
    "copies": [{"name": "JPEG 90", "logit": 2.5, "probability": 0.95, "verdict": "ai"}],
}
EVIDENCE = [{"kind": "c2pa", "where": "JUMBF", "says": "It says so.", "detail": {"uses": ["b", 2]}}]
FRAME = {"shot": 0, "pixels_sha256": "f" * 64, "logit": 0.25, "probability": 0.97, "verdict": "ai"}
CLIP = {
    "codec": "h264",
    "seconds": 2.5,
    "fps": 25.0,
    "shots": 1,
    "agreement": 1.0,
    "note": "Not measured.",
    "frames": [FRAME | {"time": 0.5}, FRAME | {"time": 1.5}],
}
HEAD: dict[str, Any] = {
    "schema": "https://aidetect.invalid/schema/report-1.json",
    "tool": {"name": "aidetect", "version": "1"},
    "model": {
        "name": "tiny",
        "date": None,
        "card_sha256": "ab" * 32,
        "tower_sha256": "cd" * 32,
        "views": "standard",
        "prior": 0.5,
        "thresholds": {"ai": 0.9, "real": 0.3},
        "error_rates": {},
    },
    "libraries": {"torch": "2"},
    "device": {"name": "cpu", "dtype": "float32", "why": "no GPU"},
    "command": "aidetect scan x",
    "started": "2026-11-22T14:58:00.123Z",
    "note": "",
}


def scored(name: str = "a/b.png", probability: float = 0.97, **more: Any) -> Record:
    limits = Thresholds(0.9, 0.3)
    fields: dict[str, Any] = {
        "file_sha256": "a" * 64,
        "file_bytes": 2**40,
        "pixels_sha256": "b" * 64,
        "width": 40,
        "height": 24,
        "format": "PNG",
        "frame": 1,
        "frames": 3,
        "logit": 0.1 + 0.2,
        "probability": probability,
        "verdict": limits.verdict(probability),
        "thresholds": limits,
        "views": [ViewScore("whole", (0, 0, 40, 24), 1 / 3)],
        "finding": limits.verdict(probability) == "ai",
        "milliseconds": 12.3,
    }
    return Record(name, **fields | more)


def unreadable(name: str = "bad\udcff.png") -> Record:
    return Record(name, "error", {"type": "not_an_image", "message": "this is no image"})


def of_a_clip() -> Record:
    return scored("g.mp4", clip=CLIP, format="MP4")


def of_all_kinds() -> list[Record]:
    return [
        scored(generators={"flux": 0.5, "dalle": 0.25}, warnings=["small: 9x9", "tiny: 9x9"]),
        scored("c.png", 0.5, stability=STABILITY, evidence=EVIDENCE, cached=True),
        scored("d.png", background="white", alpha_sha256="e" * 64),
        scored("d.png", background=None, alpha_sha256="e" * 64, evidence=[]),
        scored("e.png", turned=90),
        scored("f.png", accepted={"reason": "ours", "date": "2026-01-02"}),
        unreadable(),
    ]


def write_parquet(path: Path, records: list[Record], interrupted: bool = False, **head: Any) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        writer = Writer(stream, False)
        writer.begin(HEAD | head)
        for record in records:
            writer.add(record)
        writer.end({"images": len(records)}, interrupted)
    return path


def write_lines(path: Path, records: list[Record]) -> Path:
    model = {key: HEAD["model"][key] for key in ("name", "card_sha256", "views")}
    path.write_text("".join(json.dumps({**record.to_dict(), "model": model}) + "\n" for record in records))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def as_json(*words: object) -> dict[str, Any]:
    result = run(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
    return report


# --- Parquet ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [*of_all_kinds(), of_a_clip()], ids=range(8))
def test_a_record_comes_back_from_its_row(record: Record) -> None:
    table = parquet.table_of([parquet.to_row(record)])
    (row,) = table.to_pylist()
    assert parquet.from_row(row) == record.to_dict()


def test_fields_without_a_column_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scored().to_dict()
    data["pixels"]["depth"], data["clip"] = 12, {"seconds": [1, 2]}
    monkeypatch.setattr(Record, "to_dict", lambda self: data)
    assert parquet.from_row(parquet.to_row(scored())) == data


@given(
    name=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\n\r,\x00")),
    number=st.floats(0, 1),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_any_text_comes_back(name: str, number: float, texts: list[str]) -> None:
    claims = [{"kind": t, "where": t, "says": t, "detail": {t: texts}} for t in texts]
    record = scored(name, number, warnings=texts, evidence=claims, generators=dict.fromkeys(texts, number))
    (row,) = parquet.table_of([parquet.to_row(record)]).to_pylist()
    assert parquet.from_row(row) == record.to_dict()


def test_duckdb_and_pandas_read_typed_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", of_all_kinds())
    found = duckdb.sql(f"select input, probability, views[1].logit, generators['flux'] from '{path}'")
    assert found.fetchall()[0] == ("a/b.png", 0.97, 1 / 3, 0.5)
    flat = f"select unnest(evidence).says from '{path}'"
    assert duckdb.sql(flat).fetchall() == [("It says so.",)]
    frame = pd.read_parquet(path)
    assert set(CSV_COLUMNS) <= set(frame.columns)
    assert frame["probability"].dtype == "float64"
    assert frame["model"].unique().tolist() == ["tiny@abababababab"]
    assert frame["verdict"].value_counts().to_dict() == {"ai": 5, "uncertain": 1}
    assert frame["input"][6] == "bad\\xff.png"


def test_row_groups_are_written_as_they_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    path = tmp_path / "x.parquet"
    with path.open("w") as stream:
        writer = Writer(stream, False)
        writer.begin(HEAD)
        for number in range(10):
            writer.add(scored(f"{number}.png"))
        stream.flush()
        assert path.stat().st_size > 2000  # eight of them, before the end
        writer.end({"images": 10}, False)
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]
    assert json.loads(metadata.metadata[parquet.HEAD]) == HEAD
    assert json.loads(metadata.metadata[parquet.COUNTS]) == {"images": 10}


@pytest.fixture
def scan(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Scan two pictures and a broken one, in the current folder, with the tiny model."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    parameters = b"parameters\0a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: dreamy"
    (tmp_path / "in" / "a.png").write_bytes(png_with(encode(shapes(90, 70)), (b"tEXt", parameters)))
    (tmp_path / "in" / "deep" / "b.jpg").write_bytes(encode(noise(48, 64), "JPEG"))
    (tmp_path / "in" / "broken.png").write_text("<html><body>no picture</body></html>")
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        fixed = ["--model", str(tiny_model_folder), "--device", "cpu", "--evidence", "--stability"]
        return CliRunner().invoke(main, ["scan", "in", *fixed, *map(str, words)])

    return call


def test_a_scan_tells_the_same_in_parquet_json_and_lines(scan: Any) -> None:
    for name in ("x.json", "x.parquet", "x.jsonl"):
        assert scan("-o", name).exit_code == 3
    first, second, third = (as_json(name) for name in ("x.json", "x.parquet", "x.jsonl"))

    def without_times(report: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**record, "milliseconds": 0, "cached": False} for record in report["records"]]

    assert without_times(first) == without_times(second) == without_times(third)
    assert first["records"][0]["evidence"]
    assert second["model"] == first["model"]
    assert third["model"]["card_sha256"] == first["model"]["card_sha256"]
    assert first["counts"]["images"] == second["counts"]["images"] == third["counts"]["images"] == 3
    for format_ in ("table", "csv", "html", "sarif", "junit", "github", "jsonl", "sightengine", "parquet"):
        for name in ("x.json", "x.parquet", "x.jsonl"):
            result = run(name, "--format", format_)
            assert (result.exit_code, result.exception) == (0, None)
            assert b"b.jpg" in result.stdout_bytes or format_ in ("sarif", "github")


def test_parquet_goes_into_a_pipe_but_not_to_a_terminal(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = scan("--format", "parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(data)).num_rows == 3
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    result = scan("--format", "parquet", "-q")
    assert result.exit_code == 2
    assert "Parquet is binary" in result.stderr


def test_a_failing_scan_leaves_no_parquet_file(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AidetectError("the disk is full")

    monkeypatch.setattr("aidetect.detector.parquet.RecordFile.flush", fail)
    assert scan("-o", "x.parquet").exit_code == 2
    assert [path.name for path in Path().iterdir()] == ["in"] or not list(Path().glob("*.parquet"))


def test_without_pyarrow_one_line_says_what_to_install(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    result = scan("-o", "x.parquet", "-q")
    assert result.exit_code == 2
    assert "pip install 'aidetect[parquet]'" in result.stderr


# --- stored reports ---------------------------------------------------------------------------------


def test_a_folder_of_parts_is_one_report(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    write_parquet(parts / "1.parquet", [scored("1.png"), unreadable()])
    write_parquet(parts / "2.parquet", [scored("2.png")])
    report = as_json(parts)
    assert [record["input"] for record in report["records"]] == ["1.png", "bad\\xff.png", "2.png"]
    assert (report["counts"]["images"], report["counts"]["errors"], report["interrupted"]) == (3, 1, False)
    write_parquet(parts / "3.parquet", [scored("3.png")], interrupted=True)
    assert as_json(parts)["interrupted"] is True


def test_filters_select_but_totals_cover_all(tmp_path: Path) -> None:
    records = [scored("1.png", 0.999), scored("2.png", 0.95), scored("3.png", 0.5), scored("4.png", 0.1)]
    path = write_lines(tmp_path / "x.jsonl", [*records, unreadable()])

    def names(*words: object) -> list[str]:
        report = as_json(path, *words)
        assert report["counts"] == {
            "images": 5,
            "ai": 2,
            "uncertain": 1,
            "real": 1,
            "errors": 1,
            "accepted": 0,
            "cached": 0,
        }
        return [record["input"] for record in report["records"]]

    assert names("--only", "ai") == ["1.png", "2.png"]
    assert names("--min-probability", "0.5") == ["1.png", "2.png", "3.png"]
    assert names("--only", "ai", "--min-probability", "0.99") == ["1.png"]
    assert names("--only", "error") == ["bad\\xff.png"]
    assert names("--sort", "probability", "--only", "real", "--only", "uncertain") == ["3.png", "4.png"]


def test_findings_are_those_of_fail_on(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [scored("1.png", 0.5), scored("2.png", 0.95)])
    assert run(path).exit_code == 0
    assert run(path, "--fail-on", "0.99").exit_code == 0
    result = run(path, "--fail-on", "uncertain", "--format", "junit")
    assert (result.exit_code, result.stdout.count("<failure")) == (1, 2)
    accepted = write_lines(tmp_path / "y.jsonl", [of_all_kinds()[5]])
    assert run(accepted, "--fail-on", "ai").exit_code == 0


def test_reports_of_two_models_are_only_summed_up(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "1.parquet", [scored()])
    other = HEAD["model"] | {"card_sha256": "00" * 32}
    second = write_parquet(
        tmp_path / "2.parquet", [scored()], model=other, started="2026-11-23T00:00:00.000Z"
    )
    result = run(first, second)
    assert result.exit_code == 2
    assert "different models" in result.stderr
    assert "11-22" in run(first, second, "--by", "day").stdout


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("folder", [(".", 4, 2, 1, 0, 1), ("a", 1, 1, 0, 0, 0), ("a/b", 1, 0, 0, 1, 0)]),
        ("verdict", [("ai", 3, 3, 0, 0, 0), ("error", 1, 0, 0, 0, 1)]),
        ("generator", [("none", 4, 1, 1, 1, 1), ("flux", 2, 2, 0, 0, 0)]),
        ("day", [("2026-11-22", 6, 3, 1, 1, 1)]),
    ],
)
def test_sums(tmp_path: Path, by: str, expected: list[tuple[Any, ...]]) -> None:
    records = [
        scored("a/1.png"),
        scored("a/b/2.png", 0.1),
        scored("3.png", 0.5),
        unreadable(),
        scored("4.png", generators={"flux": 0.5, "dalle": 0.6}),
        scored("5.png", generators={"flux": 0.5}),
    ]
    path = write_parquet(tmp_path / "x.parquet", records)
    rows = list(csv.reader(io.StringIO(run(path, "--by", by, "--format", "csv").stdout, newline="")))
    assert rows[0] == [by, "images", "ai", "uncertain", "real", "errors"]
    found = [(row[0], *map(int, row[1:])) for row in rows[1:]]
    assert set(expected) <= set(found)
    assert sum(row[1] for row in found) == 6
    assert found == sorted(found) or by == "generator"
    table = run(path, "--by", by).stdout.splitlines()
    assert [line.split()[-1] for line in table[1:]] == [row[0] for row in found]
    groups = json.loads(run(path, "--by", by, "--format", "json").stdout)["groups"]
    assert [tuple(group.values()) for group in groups] == found
    result = run(path, "--by", by, "-o", tmp_path / "x.html")
    assert result.exit_code == 2
    assert "--by writes table, csv, json, not html" in result.stderr


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b"PAR1 and nothing more", b'{"input": "a"}', b"\xff\xfe", b"[" * 9000, b"null\n{}"],
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    result = run(tmp_path / "x")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "is not a JSON, JSON Lines or Parquet report of this version, or is damaged" in result.stderr


@given(data=st.data())
def test_a_changed_report_is_written_or_refused(tmp_path_factory: Any, data: Any) -> None:
    """Any value of a record may have been replaced by any other."""
    record = json.loads(json.dumps(data.draw(st.sampled_from([*of_all_kinds(), of_a_clip()])).to_dict()))
    place: Any = record
    while True:
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.just(0))
        deeper = place[key]
        if isinstance(deeper, dict | list) and deeper and data.draw(st.booleans()):
            place = deeper
        else:
            place[key] = data.draw(st.sampled_from([None, "x", 1, -1, 0.5, [], ["x"], {}, {"x": 1}, True]))
            break
    path = tmp_path_factory.mktemp("changed") / "x.jsonl"
    model = {key: HEAD["model"][key] for key in ("name", "card_sha256", "views")}
    path.write_text(json.dumps(record | {"model": model}))
    for format_ in ("table", "csv", "html", "junit", "parquet"):
        result = run(path, "--format", format_)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@pytest.mark.parametrize(
    "changed",
    [
        {"clip": 5},
        {"clip": {**CLIP, "frames": []}},
        {"clip": {**CLIP, "frames": [FRAME]}},
        {"clip": {**CLIP, "frames": [FRAME | {"time": "x"}]}},
        {"clip": {**CLIP, "seconds": None}},
        {"turned": 45},
    ],
)
def test_a_changed_clip_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    record = of_a_clip()
    for name, value in changed.items():
        setattr(record, name, value)
    result = run(write_lines(tmp_path / "x.jsonl", [record]), "--format", "html")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "damaged at record 1" in result.stderr


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [scored(), scored()])
    path.write_text(path.read_text() + '{"input": 1}\n')
    result = run(path, "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "at record 3" in result.stderr
    assert not (tmp_path / "x.csv").exists()


def test_an_empty_report_says_so(tmp_path: Path) -> None:
    result = run(write_parquet(tmp_path / "x.parquet", []))
    assert (result.exit_code, "hold no images" in result.stderr) == (4, True)


def test_lines_are_not_kept_in_memory(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [scored(f"{i}.png") for i in range(5)])
    path.write_text(path.read_text() + "damaged")
    records = open_report(str(path)).records
    assert [next(records).input for _ in range(5)][-1] == "4.png"
    with pytest.raises(AidetectError, match="at record 6"):
        next(records)


# --- pages ------------------------------------------------------------------------------------------


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "PAGE_IMAGES", 4)


def links(text: str) -> list[str]:
    return [unquote(found) for found in re.findall(r'<a [^>]*href="\./([^"]*)"', text)]


def test_a_long_report_has_pages_with_links(tmp_path: Path, short_pages: None) -> None:
    path = write_parquet(tmp_path / "x.parquet", [scored(f"{i}é.png") for i in range(10)])
    assert run(path, "-o", tmp_path / "a b%20#ü.html").exit_code == 0
    names = ["a b%20#ü.html", "a b%20#ü.page-2.html", "a b%20#ü.page-3.html"]
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert [re.findall(r'id="n(\d+)"', text) for text in texts] == [
        ["1", "2", "3", "4"],
        ["5", "6", "7", "8"],
        ["9", "10"],
    ]
    for at, text in enumerate(texts):
        assert f"Page {at + 1} of 3, images {4 * at + 1} to" in text
        assert set(links(text)) == set(names) - {names[at]}
        assert "Report on 10 images" in text
        assert text.endswith("</html>\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["x.parquet", *names])


def test_a_short_report_and_one_for_a_pipe_are_one_page(tmp_path: Path, short_pages: None) -> None:
    path = write_parquet(tmp_path / "x.parquet", [scored(f"{i}.png") for i in range(6)])
    text = run(path, "--format", "html").stdout
    assert text.count("<article") == 6
    assert not links(text)
    assert run(path, "--only", "ai", "-o", tmp_path / "y.html", "--min-probability", "1").exit_code == 0
    assert not links((tmp_path / "y.html").read_text())


def test_pages_appear_all_or_none(tmp_path: Path, short_pages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "x.parquet", [scored(f"{i}.png") for i in range(10)])
    real = html.Writer._write

    def fail(self: Any, stream: Any, page: Any, context: Any) -> None:
        if page.first > 8:
            raise AidetectError("the disk is full")
        real(self, stream, page, context)

    monkeypatch.setattr(html.Writer, "_write", fail)
    assert run(path, "-o", tmp_path / "y.html").exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_reports_are_read_from_and_written_to_stores(tmp_path: Path, short_pages: None) -> None:
    store = fsspec.filesystem("memory")
    for name in ("1.parquet", "2.parquet"):
        store.pipe(
            f"/parts/{name}",
            write_parquet(tmp_path / name, [scored(f"{i}.png") for i in range(3)]).read_bytes(),
        )
    try:
        assert run("memory://parts", "-o", "memory://out/r.html").exit_code == 0
        assert sorted(store.ls("/out", detail=False)) == ["/out/r.html", "/out/r.page-2.html"]
        assert as_json("memory://parts/1.parquet")["counts"]["images"] == 3
        missing = run("memory://parts/none.json")
        assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    finally:
        store.store.clear()
