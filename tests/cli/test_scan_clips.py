"""Clips on the command line, beside pictures. Run in-process, with the tiny model."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from conftest import encode, shapes
from drawnclips import clip, pictures, scene, sound_only

from aidetect.cli.formats.writers import schema_text
from aidetect.cli.main import main
from aidetect.detector.clips import reader
from aidetect.detector.detector import Detector
from aidetect.detector.inputs.source import Source
from aidetect.detector.pending import Extras
from aidetect.detector.record import Record

CLIP = clip("h264.mp4", pictures(4, 8, shots=2), rate=8, container_options={"movflags": "faststart"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a clip, a clip that is named like a picture, a truncated clip, and one without pictures."""
    base = tmp_path / "mixed"
    base.mkdir()
    (base / "a.png").write_bytes(encode(shapes(90, 70)))
    (base / "b.mp4").write_bytes(CLIP)
    (base / "c.jpg").write_bytes(clip("vp9.webm", pictures(2, 8, shots=1), rate=8))
    (base / "d.MKV").write_bytes(CLIP[: len(CLIP) * 2 // 3])
    (base / "e.mov").write_bytes(sound_only())
    return base


@pytest.fixture
def run(tiny_model_folder: Path) -> Callable[..., Result]:
    """Run a command with the tiny model."""

    def call(command: str, *arguments: object, input: bytes | None = None) -> Result:
        words = ["--model", str(tiny_model_folder), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, [command, *words], input=input)

    return call


def report(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(found, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
    return found


def test_a_folder_of_pictures_and_clips(run: Any, folder: Path) -> None:
    result = run("scan", folder, "--format", "json")
    found = report(result)
    assert result.exit_code == 3
    picture, whole, disguised, cut, silent = found["records"]
    assert "clip" not in picture
    assert (whole["pixels"]["format"], whole["pixels"]["frames"], whole["clip"]["shots"]) == ("MP4", 4, 2)
    assert (disguised["pixels"]["format"], len(disguised["clip"]["frames"])) == ("WebM", 2)
    assert any(warning.startswith("truncated: ") for warning in cut["warnings"])
    assert len(cut["clip"]["frames"]) == 2
    assert silent["error"] == {"type": "no_video", "message": "this MP4 file has sound only"}
    assert [frame["time"] for frame in whole["clip"]["frames"]] == [0.5, 1.5, 2.5, 3.5]
    assert found["decoding"]["video_fps"] == 1
    assert "videos of generators" in result.stderr
    for record in found["records"]:
        assert Record.from_dict(record).to_dict() == record
    rows = list(csv.DictReader(io.StringIO(run("scan", folder, "--format", "csv").stdout)))
    assert [row["format"] for row in rows] == ["PNG", "MP4", "WebM", "MP4", ""]
    table = run("scan", folder).stdout.splitlines()
    assert "b.mp4  (4 frames of 0:04.0)" in table[2]
    lines = run("scan", folder, "--format", "jsonl").stdout.splitlines()
    assert [len(json.loads(line).get("clip", {}).get("frames", [])) for line in lines] == [0, 4, 2, 2, 0]


def test_each_frame_is_scored_like_a_picture(tiny_detector: Detector) -> None:
    (record,) = tiny_detector.score([CLIP])
    assert record.clip is not None
    frames = [still.rgb for still in reader.stills(CLIP)]
    alone = tiny_detector.score(frames)
    assert [one["logit"] for one in record.clip["frames"]] == [each.logit for each in alone]
    assert [one["verdict"] for one in record.clip["frames"]] == [each.verdict for each in alone]
    assert [one["pixels_sha256"] for one in record.clip["frames"]] == [each.pixels_sha256 for each in alone]
    assert record.pixels_sha256 in [each.pixels_sha256 for each in alone]
    assert record.fingerprint not in [each.pixels_sha256 for each in alone]


def test_bytes_a_file_and_standard_input_give_the_same(
    run: Any, tiny_detector: Detector, folder: Path
) -> None:
    (of_bytes,), (of_file,) = tiny_detector.score([CLIP]), tiny_detector.score([folder / "b.mp4"])
    (piped,) = report(run("scan", "-", "--format", "json", input=CLIP))["records"]
    assert of_bytes.clip == of_file.clip == piped["clip"]
    assert of_bytes.file_sha256 == of_file.file_sha256 == piped["file"]["sha256"]


def test_options_say_how_densely(run: Any, folder: Path) -> None:
    words = [folder / "b.mp4", "--format", "json"]
    assert report(run("scan", *words, "--video-fps", 2))["records"][0]["pixels"]["frames"] == 8
    assert report(run("scan", *words, "--video-frames", 3))["records"][0]["pixels"]["frames"] == 3
    for wrong in ("0", "-1", "nan", "inf"):
        assert run("scan", *words, "--video-fps", wrong).exit_code == 2


def test_a_second_scan_takes_all_frames_from_the_cache(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [folder / "b.mp4", "--format", "json"]
    first = report(run("scan", *words))["records"][0]

    def never(*arguments: Any) -> Any:
        raise AssertionError("nothing is decoded")

    with monkeypatch.context() as patch:
        patch.setattr(reader, "_decoded", never)
        second = report(run("scan", *words))["records"][0]
    assert (first["cached"], second["cached"]) == (False, True)
    assert {**first, "cached": 0, "milliseconds": 0} == {**second, "cached": 0, "milliseconds": 0}
    other = report(run("scan", *words, "--video-frames", 2))["records"][0]
    assert other["pixels"]["frames"] == 2


def test_strict_refuses_what_is_truncated(run: Any, folder: Path) -> None:
    assert run("scan", folder / "d.MKV").exit_code == 0
    result = run("scan", folder / "d.MKV", "--strict")
    assert result.exit_code == 3
    assert "s are there" in result.stderr


def test_a_clip_can_fail_a_run(run: Any, folder: Path) -> None:
    (record,) = report(run("scan", folder / "b.mp4", "--format", "json"))["records"]
    probability = record["type"]["ai_generated"]
    assert run("scan", folder / "b.mp4", "--fail-on", probability - 0.01).exit_code == 1
    assert run("scan", folder / "b.mp4", "--fail-on", probability + 0.01).exit_code == 0


def test_without_the_extra_folders_leave_clips_out_and_say_how_to_scan_them(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (folder / "c.jpg").unlink()
    result = run("scan", folder, "--format", "json")
    assert result.exit_code == 0
    assert [Path(record["input"]).name for record in report(result)["records"]] == ["a.png"]
    assert result.stderr.count("pip install 'aidetect[video]'") == 1
    named = run("scan", folder / "a.png", folder / "b.mp4", "--format", "json")
    assert named.exit_code == 3
    assert [record["status"] for record in report(named)["records"]] == ["ok", "error"]
    assert named.stderr.count("pip install 'aidetect[video]'") == 1


def test_the_page_shows_frames_and_a_curve(run: Any, folder: Path) -> None:
    page = run("scan", folder, "--format", "html").stdout
    assert page.count('<figure class="clip">') == 3
    assert page.count("<li class=") == 4 + 2 + 2
    assert "Not measured on videos of generators" in page
    (points,) = re.findall(r'points="([^"]+)"', page)[:1]
    assert [float(point.split(",")[0]) for point in points.split()] == [12.5, 37.5, 62.5, 87.5]
    assert "http" not in page.replace("http-equiv", "").replace("https://aidetect.invalid", "")


def test_the_cloud_apis_format(run: Any, folder: Path) -> None:
    (line,) = run("scan", folder / "b.mp4", "--format", "sightengine").stdout.splitlines()
    reply = json.loads(line)
    assert [frame["info"]["position"] for frame in reply["data"]["frames"]] == [500, 1500, 2500, 3500]
    clip_ = reply["aidetect"]["clip"]
    assert [frame["type"]["ai_generated"] for frame in reply["data"]["frames"]] == [
        frame["probability"] for frame in clip_["frames"]
    ]
    assert reply["aidetect"]["type"]["ai_generated"] <= 1


def test_thumbnails_are_of_each_frame(tiny_detector: Detector) -> None:
    source = Source("clip", "memory", payload=CLIP)
    (record,) = tiny_detector.stream([source], extras=Extras(thumbnail=32))
    assert len(record.strip) == 4
    assert record.thumbnail in record.strip
    assert len(set(record.strip)) > 1


# --- other commands -------------------------------------------------------------------------------------


def test_explain_a_moment(run: Any, folder: Path, tiny_detector: Detector) -> None:
    result = run("explain", folder / "b.mp4", "--at", 2.4, "--format", "json")
    found = json.loads(result.stdout)
    assert found["at"] == 2.5
    assert found["clip"] is None
    (still,) = reader.stills(CLIP, at=(2.4,))
    (expected,) = tiny_detector.score([still.rgb])
    assert found["record"]["logit"] == expected.logit
    assert found["record"]["pixels"]["format"] == "MP4"
    text = run("explain", folder / "b.mp4", "--at", 2.4).stdout
    assert "frame at 0:02.5" in text.splitlines()[0]


def test_explain_a_clip(run: Any, folder: Path, tmp_path: Path) -> None:
    heat = tmp_path / "heat.png"
    text = run("explain", folder / "b.mp4", "-o", heat).stdout
    assert "The clip: " in text
    assert text.count("0:0") == 5
    assert heat.exists()


def test_at_is_for_clips_and_for_times_in_them(run: Any, folder: Path) -> None:
    for name, words in (("a.png", "--at is for clips"), ("b.mp4", "4.0 s long"), ("e.mov", "sound only")):
        result = run("explain", folder / name, "--at", 99)
        assert result.exit_code == 3
        assert words in result.stderr


def test_sort_takes_clips_and_tag_leaves_them(run: Any, folder: Path, tmp_path: Path) -> None:
    run("sort", folder, "--into", tmp_path / "sorted")
    assert [path.name for path in (tmp_path / "sorted").glob("*/b.mp4")] == ["b.mp4"]


def test_a_still_clip_is_one_frame(tiny_detector: Detector) -> None:
    still = clip("h264.mp4", [scene(0, 0)] * 24, rate=8, options={"qp": "4"})
    (record,) = tiny_detector.score([still])
    assert record.clip is not None
    assert len(record.clip["frames"]) == 1


def test_verify_finds_a_clip_the_same_and_a_changed_one_changed(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    run("scan", folder / "b.mp4", "--video-frames", 3, "-o", path)
    same = run("verify", path, "--format", "json")
    assert json.loads(same.stdout)["counts"] == {"same": 1}
    (folder / "b.mp4").write_bytes(clip("h264.mp4", pictures(4, 8, shots=3), rate=8))
    assert json.loads(run("verify", path, "--format", "json").stdout)["counts"] == {"changed": 1}


def test_a_baseline_accepts_a_clip_and_not_its_frames(run: Any, folder: Path, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.json"
    path = tmp_path / "report.json"
    run("scan", folder / "b.mp4", "-o", path)
    create = ["baseline", "create", "--report", str(path), "--accept", "any", "--reason", "seen"]
    assert CliRunner().invoke(main, [*create, "-o", str(accepted)]).exit_code == 0
    (record,) = report(run("scan", folder / "b.mp4", "--baseline", accepted, "--format", "json"))["records"]
    assert record["accepted"]["reason"] == "seen"
    (still,) = reader.stills(CLIP, at=(record["clip"]["frames"][0]["time"],))
    (folder / "frame.png").write_bytes(encode(still.rgb))
    (record,) = report(run("scan", folder / "frame.png", "--baseline", accepted, "--format", "json"))[
        "records"
    ]
    assert "accepted" not in record


def test_many_clips_do_not_pile_up(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(str(tiny_model_folder), "cpu", "fast", batch_size=2, workers=3)
    held: list[int] = []
    enqueue = detector.enqueue
    sources = [
        Source(str(n), "memory", payload=clip("mjpeg.avi", pictures(3, 4, shots=n))) for n in range(1, 8)
    ]

    def watched(prepared: Any, batch: list[Any], *rest: Any) -> None:
        held.append(len(batch))
        enqueue(prepared, batch, *rest)

    monkeypatch.setattr(detector, "enqueue", watched)
    records = list(detector.stream([sources[0], Source("x", "memory", payload=b"no picture"), *sources[1:]]))
    assert [record.status for record in records] == ["ok", "error", *["ok"] * 6]
    assert max(held) < 2, "the next is taken up when a batch has room"
    stream = detector.stream(sources)
    next(stream)
    stream.close()  # threads that wait for a place end, too
