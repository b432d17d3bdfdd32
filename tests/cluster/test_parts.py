"""The folder of parts, and what a command on a cluster refuses, without a cluster."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient
from hypothesis import given
from hypothesis import strategies as st

from aidetect.cli.main import main
from aidetect.detector.cluster.parts import Done, Parts, key, part_schema
from aidetect.detector.errors import AidetectError
from aidetect.detector.parquet import read_columns, read_rows, to_row
from aidetect.detector.record import Record

HEAD: dict[str, Any] = {
    "model": {"name": "tiny", "card_sha256": "ab" * 32},
    "decoding": {"frames": 8},
    "device": {"dtype": "float32"},
}
NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\n\0"))


@given(names=st.sets(NAMES), other=NAMES)
def test_done_knows_what_it_was_given(names: set[str], other: str) -> None:
    done = Done(key(name, 1, "x") for name in names)
    assert len(done) == len(names)
    assert all(key(name, 1, "x") in done for name in names)
    assert (key(other, 1, "x") in done) == (other in names)
    assert key(other, 2, "x") not in done
    assert key(other, 1, None) not in done


@pytest.mark.parametrize("byte", [b"\0", b"\n", b" ", b"\xff"])
def test_done_knows_keys_that_end_with_any_byte(byte: bytes) -> None:
    names = [str(number) for number in range(3000) if key(str(number), 1, None).endswith(byte)]
    done = Done(key(name, 1, None) for name in names)
    assert len(names) >= 3
    assert all(key(name, 1, None) in done for name in names)


def row(name: str, size: int, version: str | None, **fields: Any) -> dict[str, Any]:
    plain = {"status": "ok", "verdict": "ai", "probability": 0.95} | fields
    return to_row(Record(name, **plain)) | {"listed_bytes": size, "listed_version": version}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, part_schema()), path)


class Watched(io.BytesIO):
    """Bytes that note which threads read them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.readers: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.readers.add(threading.get_ident())
        return super().read(size)


def test_parts_are_read_by_the_calling_thread_alone(tmp_path: Path) -> None:
    # Other threads may still hold what they read when the interpreter ends; then the process aborts.
    write(tmp_path / "x.parquet", [row(str(number), 1, None) for number in range(50)])
    data = (tmp_path / "x.parquet").read_bytes()
    one, other = Watched(data), Watched(data)
    assert read_columns(one, ["input", "status"]).num_rows == 50
    assert len(list(read_rows(other))) == 50
    assert one.readers == other.readers == {threading.get_ident()}


def test_a_run_is_continued_with_what_whole_parts_hold(tmp_path: Path) -> None:
    parts = Parts(str(tmp_path / "out"))
    assert len(parts.begin(HEAD, {"evidence": False}, resume=True)) == 0
    write(tmp_path / "out" / "1.parquet", [row("a", 1, "v"), row("b\udcff", 2, None)])
    write(tmp_path / "out" / "2.parquet", [row("c", 3, "w")])
    whole = (tmp_path / "out" / "2.parquet").read_bytes()
    (tmp_path / "out" / "3.parquet").write_bytes(whole[:-9])
    (tmp_path / "out" / "4.parquet").write_bytes(b"")
    done = parts.begin(HEAD, {"evidence": False}, resume=True)
    assert len(done) == 3
    assert key("b\udcff", 2, None) in done
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == ["1.parquet", "2.parquet"]


@pytest.mark.parametrize(
    ("head", "options", "resume", "says"),
    [
        (HEAD, {"evidence": False}, False, "--resume"),
        (HEAD, {"evidence": True}, True, "other options"),
        (HEAD | {"model": {"name": "other"}}, {"evidence": False}, True, "another model"),
        (HEAD | {"device": {"dtype": "bfloat16"}}, {"evidence": False}, True, "number format"),
    ],
)
def test_another_run_is_not_touched(tmp_path: Path, head: Any, options: Any, resume: bool, says: str) -> None:
    Parts(str(tmp_path)).begin(HEAD, {"evidence": False}, resume=False)
    with pytest.raises(AidetectError, match=says):
        Parts(str(tmp_path)).begin(head, options, resume)


def test_other_parquet_files_are_not_mixed_with(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [row("a", 1, None)])
    with pytest.raises(AidetectError, match="other Parquet files"):
        Parts(str(tmp_path)).begin(HEAD, {}, resume=True)


@pytest.mark.parametrize(
    ("fail_on", "findings"), [(None, 0), ("ai", 1), ("uncertain", 2), (0.55, 2), (0.05, 3)]
)
def test_counts_are_those_of_all_parts(tmp_path: Path, fail_on: Any, findings: int) -> None:
    parts = Parts(str(tmp_path))
    parts.begin(HEAD, {}, resume=False)
    accepted = {"reason": "ours", "date": ""}
    error = {"type": "truncated", "message": "cut"}
    write(tmp_path / "1.parquet", [row("a", 1, None), row("b", 1, None, accepted=accepted)])
    write(
        tmp_path / "2.parquet",
        [
            row("c", 1, None, verdict="uncertain", probability=0.6),
            row("d", 1, None, verdict="real", probability=0.1),
            row("e", 1, None, status="error", error=error, verdict=None, probability=None),
        ],
    )
    counts, found = parts.finish(fail_on, HEAD)
    assert found == findings
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    expected = {"images": 5, "ai": 2, "uncertain": 1, "real": 1, "errors": 1, "accepted": 1, "cached": 0}
    assert manifest["counts"] == {name: counts[name] for name in expected} == expected
    assert manifest["parts"] == [{"name": "1.parquet", "images": 2}, {"name": "2.parquet", "images": 3}]
    assert (tmp_path / "_SUCCESS").exists()
    assert parts.written({}) == 5


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "a.png").write_bytes(encode(gradient()))
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Result:
        return CliRunner().invoke(main, ["scan", "a.png", "--engine", "ray", *words])

    return call


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give it with -o"),
        (["-o", "out", "--format", "csv"], "writes Parquet"),
        (["-o", "out", "--sort", "name"], "unsorted"),
        (["-o", "out", "--only", "ai"], "--only"),
        (["-o", "out", "--log", "log"], "--log"),
        (["-o", "out", "-"], "standard input"),
        (["-o", "out", "--actors", "3:2"], "the smaller first"),
        (["-o", "out", "--actors", "x"], "MIN:MAX"),
    ],
)
def test_what_has_no_meaning_on_a_cluster_is_refused(scan: Any, words: list[str], says: str) -> None:
    result = scan(*words)
    assert result.exit_code == 2
    assert says in result.stderr


def test_without_ray_one_line_says_what_to_install(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    result = scan("-o", "out")
    assert result.exit_code == 2
    assert "pip install 'aidetect[ray]'" in result.stderr
    assert not Path("out").exists()
