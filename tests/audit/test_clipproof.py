"""``prove`` for clips: the same frames and logits whatever the file says, and a difference where one is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import encode, shapes
from drawnclips import clip, pictures, scene

from aidetect.cli.main import main
from aidetect.detector.audit import clipproof
from aidetect.detector.clips import reader
from aidetect.detector.evidence.evidence import find_evidence


@pytest.fixture
def prove(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    """Run the command on a clip's bytes, with the tiny model."""

    def call(data: bytes, *words: str, name: str = "a clip.mp4") -> Result:
        path = tmp_path / name
        path.write_bytes(data)
        options = ["--model", str(tiny_model_folder), "--device", "cpu", "--video-frames", "2"]
        return CliRunner().invoke(main, ["prove", *options, *words, str(path)])

    return call


def copies(data: bytes, folder: Path) -> Iterator[tuple[str, Path]]:
    """The copies that are compared."""
    path = folder / "clip.mp4"
    path.write_bytes(data)
    notes: list[str] = []
    yield from clipproof._copies(path, folder, True, notes)
    assert notes == []


COPIES = {
    "h264.mp4": ["turned by its matrix", "hostile boxes"],
    "h264.mov": ["turned by its matrix", "hostile boxes"],
    "av1.mp4": ["turned by its matrix", "hostile boxes"],
    "vp9.webm": [],
    "vp8.mkv": [],
    "mpeg4.avi": [],
}


@pytest.mark.parametrize("kind", COPIES)
def test_all_copies_are_equal(kind: str, prove: Callable[..., Result]) -> None:
    result = prove(clip(kind, pictures(3, 8)), "--format", "json")
    assert result.exit_code == 0, result.output
    ((found),) = json.loads(result.stdout)
    assert found["equal"] is True
    names = [copy["name"].rpartition(", ")[2] for copy in found["copies"]]
    wanted = ["original", "another name", "stripped", "hostile metadata", *COPIES[kind], "trailing bytes"]
    assert names == wanted
    frames = [[(f["pixels_sha256"], f["logit"]) for f in copy["frames"]] for copy in found["copies"]]
    assert len(frames[0]) == 2
    assert all(one == frames[0] for one in frames)
    assert len({copy["logit"] for copy in found["copies"]}) == 1


def test_the_table(prove: Callable[..., Result]) -> None:
    result = prove(clip("h264.mp4", pictures(3, 8)))
    assert result.stdout.count("\n  =  ") == 7, result.output
    assert "pixel hash and logit of each of 2 frames are equal in all 7 copies" in result.stdout


def test_a_clip_from_standard_input(tiny_model_folder: Path) -> None:
    words = ["prove", "--model", str(tiny_model_folder), "--device", "cpu", "--video-frames", "1", "-"]
    result = CliRunner().invoke(main, words, input=clip("h264.mp4", pictures(1, 6)))
    assert result.exit_code == 0, result.output
    assert "pixel hash and logit of the one frame are equal in all 7 copies" in result.stdout


def test_the_copies_are_hostile(tmp_path: Path) -> None:
    said = {}
    for name, path in copies(clip("h264.mp4", pictures(1, 6)), tmp_path):
        with path.open("rb") as file:
            said[name] = " ".join(entry["says"] for entry in find_evidence(file, None))
        if name.endswith("matrix") and shutil.which("exiftool"):
            words = ["exiftool", "-s3", "-Rotation", str(path)]
            assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == "90"
    assert said["MP4 remuxed, stripped"] == said["another name"] == ""
    assert "by Kling" in said["MP4 remuxed, hostile metadata"]
    assert "ComfyUI" in said["MP4 remuxed, hostile metadata"]
    assert "a C2PA manifest" in said["MP4 original, hostile boxes"]
    assert "trainedAlgorithmicMedia" in said["MP4 original, hostile boxes"]


def test_a_copy_that_differs_is_told(prove: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def other(path: Path, folder: Path, is_whole: bool, notes: list[str]) -> Iterator[tuple[str, Path]]:
        target = folder / "other.mp4"
        target.write_bytes(clip("h264.mp4", (scene(3, moved) for moved in (0.0, 0.1, 0.2))))
        yield "another film", target

    monkeypatch.setattr(clipproof, "_copies", other)
    result = prove(clip("h264.mp4", pictures(1, 6)))
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    assert "NOT equal in all copies" in result.stdout


def test_a_damaged_clip_is_not_added_to(prove: Callable[..., Result]) -> None:
    data = clip("h264.mp4", pictures(4, 8), container_options={"movflags": "faststart"})
    result = prove(data[: len(data) * 3 // 5], "--format", "json")
    ((found),) = json.loads(result.stdout)
    assert not any("boxes" in copy["name"] or "trailing" in copy["name"] for copy in found["copies"])
    assert found["copies"][1]["equal"] is True


def test_what_is_no_clip(prove: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    result = prove(clip("h264.mp4", pictures(1, 6))[:200])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    monkeypatch.setattr(reader, "has_video", lambda: False)
    result = prove(clip("h264.mp4", pictures(1, 6)))
    assert result.exit_code == 3
    assert "pip install 'aidetect[video]'" in result.stderr


def test_a_file_that_cannot_be_read_stops_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    files = {"a.png": b"<!doctype html>", "b.png": encode(shapes(64, 64)), "c.mp4": b"\0\0\0\x10ftypisom"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in (*files, "d.png")]
    result = CliRunner().invoke(main, ["prove", "--model", str(tiny_model_folder), "--device", "cpu", *paths])
    assert result.exit_code == 3
    assert "pixel hash and logit are equal in all" in result.stdout
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [paths[0], *paths[2:]]


def test_tag_leaves_clips_alone(tiny_model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("h264.mp4", pictures(1, 6)))
    before = path.read_bytes()
    options: list[Any] = ["--model", str(tiny_model_folder), "--device", "cpu", "--in-place", "-q"]
    result = CliRunner().invoke(main, ["tag", *options, str(path)])
    assert result.exit_code == 3
    assert result.stderr == f"aidetect: {path}: this is a clip; tag writes labels into pictures only\n"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a.mp4"]
