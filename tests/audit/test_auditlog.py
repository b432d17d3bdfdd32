"""The audit log: a chain in which no byte can be changed, no line removed or moved, unnoticed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise
from hypothesis import strategies as st

from aidetect.cli.main import main
from aidetect.detector.audit.auditlog import FIRST, AuditLog, verify_log
from aidetect.detector.errors import AidetectError


def write(path: Path, events: int = 6) -> list[bytes]:
    log = AuditLog(path)
    log.append("start", {"run": "a"})
    for i in range(events - 2):
        log.append("record", {"run": "a", "record": {"input": f"{i}\n\u202e\udcff.png"}})
    log.append("end", {"run": "a"})
    log.close()
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_log_holds(tmp_path: Path) -> None:
    lines = write(tmp_path / "log")
    report = verify_log(tmp_path / "log")
    assert (report.lines, report.runs, report.finished) == (6, 1, 1)
    assert report.problems == report.notes == []
    assert report.head == hashlib.sha256(lines[-1].rstrip(b"\n")).hexdigest()
    first, second = (json.loads(line) for line in lines[:2])
    assert first["previous"] == FIRST
    assert second["previous"] == hashlib.sha256(lines[0].rstrip(b"\n")).hexdigest()


def test_a_log_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    for _ in range(3):
        write(tmp_path / "log")
    report = verify_log(tmp_path / "log")
    assert (report.lines, report.runs, report.problems) == (18, 3, [])


@hypothesis.given(data=st.data())
def test_a_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    whole = b"".join(write(path))
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    assert verify_log(path).problems


@pytest.mark.parametrize("victim", range(6))
def test_a_removed_line_is_found(tmp_path: Path, victim: int) -> None:
    lines = write(tmp_path / "log")
    del lines[victim]
    (tmp_path / "log").write_bytes(b"".join(lines))
    report = verify_log(tmp_path / "log")
    if victim < 5:
        assert any(f"the line numbered {victim + 1} is missing" in problem for problem in report.problems)
    else:  # the tail: the chain cannot know, the missing end of the run tells
        assert report.problems == []
        assert "no end is recorded" in report.notes[0]


def test_swapped_lines_are_found(tmp_path: Path) -> None:
    lines = write(tmp_path / "log")
    lines[2], lines[3] = lines[3], lines[2]
    (tmp_path / "log").write_bytes(b"".join(lines))
    assert any("out of order" in problem for problem in verify_log(tmp_path / "log").problems)


@hypothesis.given(cut=st.integers(1, 200))
def test_a_cut_tail_is_told(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    lines = write(path)
    hypothesis.assume(cut < len(lines[-1]))
    path.write_bytes(b"".join(lines)[:-cut])
    assert any("end is cut off" in problem for problem in verify_log(path).problems)


def test_a_line_broken_off_by_a_crash_is_noted_and_chained(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = write(path)
    path.write_bytes(b"".join(lines)[:-40])
    write(path)
    report = verify_log(path)
    assert report.problems == []
    assert "line 6: incomplete" in report.notes[0]
    damaged = path.read_bytes().replace(b'"event": "end"', b'"event": "END"', 1)
    path.write_bytes(damaged)
    assert verify_log(path).problems


def test_a_rewritten_log_is_shown_by_a_head_noted_before(tmp_path: Path) -> None:
    write(tmp_path / "log")
    head = verify_log(tmp_path / "log").head
    write(tmp_path / "log")
    assert verify_log(tmp_path / "log", head).problems == []
    (tmp_path / "log").unlink()
    write(tmp_path / "log", 8)
    assert "was rewritten" in verify_log(tmp_path / "log", head).problems[0]


def _append(path: str, name: str) -> None:
    log = AuditLog(Path(path))
    for i in range(40):
        log.append("record", {"run": name, "record": i, "padding": "x" * (i * 50)})
    log.close()


def test_processes_may_share_a_log(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(str(tmp_path / "log"), str(i))) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    report = verify_log(tmp_path / "log")
    assert report.lines == 120
    assert report.problems == []


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AidetectError, match="cannot write the log"):
        AuditLog(tmp_path / "no" / "log")
    with pytest.raises(AidetectError, match="cannot read the log"):
        verify_log(tmp_path / "none")


# --- the commands -----------------------------------------------------------------------------------


@pytest.fixture
def run(tiny_model_folder: Path) -> Any:
    """Run ``aidetect scan`` with the tiny model."""

    def call(*arguments: object) -> Result:
        words = ["--model", str(tiny_model_folder), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, ["scan", *words])

    return call


def test_scan_logs_and_verify_checks(run: Any, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    (tmp_path / "a\n.png").write_bytes(encode(gradient(64, 48)))
    (tmp_path / "b.png").write_bytes(encode(noise(48, 64)))
    (tmp_path / "c.png").write_text("no picture")
    assert run(tmp_path, "--log", log).exit_code == 3
    assert run(tmp_path / "b.png", "--log", log, "-q").exit_code == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", *["record"] * 3, "end", "start", "record", "end"]
    assert events[0]["model"]["name"] == "tiny"
    assert events[0]["run"] == events[4]["run"] != events[5]["run"]
    assert events[3]["record"]["error"]["type"] == "not_an_image"
    assert events[4]["counts"]["images"] == 3
    assert events[4]["exit_code"] == 3
    result = CliRunner().invoke(main, ["verify", "--log", str(log)])
    assert result.exit_code == 0, result.output
    assert "the log is intact: 8 lines, 2 scans, 2 finished" in result.stdout
    head = result.stdout.split()[-1]
    assert CliRunner().invoke(main, ["verify", "--log", str(log), "--head", head]).exit_code == 0
    assert CliRunner().invoke(main, ["verify", "--log", str(log), "--head", "0" * 64]).exit_code == 1
    assert CliRunner().invoke(main, ["verify", "--log", str(log), "--head", "zz"]).exit_code == 2
    log.write_bytes(log.read_bytes().replace(b'"verdict": "', b'"verdict":  "', 1))
    broken = CliRunner().invoke(main, ["verify", "--log", str(log)])
    assert broken.exit_code == 1
    assert "BROKEN   line 2: its content was changed" in broken.stdout
    data = json.loads(CliRunner().invoke(main, ["verify", "--log", str(log), "--format", "json"]).stdout)
    assert data["problems"]


def test_an_unwritable_log_stops_the_scan_with_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(gradient(64, 48)))
    result = run(tmp_path, "--log", tmp_path / "no" / "log")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot write the log" in result.stderr
