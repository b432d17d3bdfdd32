"""The sort command: files end up by verdict, none is overwritten, none is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, shapes, wait_until

from aidetect.cli.commands import sort as sort_module
from aidetect.cli.main import main

# From one picture to the next the tiny model's probabilities differ; the thresholds go between them.
PICTURES = {"a.png": gradient(64, 48), "deep/b.png": noise(48, 64), "deep/er/c.png": shapes(90, 70)}


def set_thresholds(model: Path, ai: float, real: float) -> None:
    card = json.loads((model / "model.json").read_text())
    for mode in card["modes"].values():
        mode["thresholds"] = {"ai": ai, "real": real}
    (model / "model.json").write_text(json.dumps(card))


@pytest.fixture
def model(model_copy: Path) -> Path:
    """The tiny model, with thresholds that give each of the pictures another verdict."""
    from aidetect.detector.detector import Detector

    detector = Detector.load(str(model_copy), "cpu", "fast")
    low, middle, high = sorted(record.probability or 0 for record in detector.score(PICTURES.values()))
    set_thresholds(model_copy, (middle + high) / 2, (low + middle) / 2)
    return model_copy


@pytest.fixture
def verdicts(model: Path) -> dict[str, str]:
    """The verdict of each picture."""
    from aidetect.detector.detector import Detector

    records = Detector.load(str(model), "cpu", "fast").score(PICTURES.values())
    found = {name: str(record.verdict) for name, record in zip(PICTURES, records, strict=True)}
    assert sorted(found.values()) == ["ai", "real", "uncertain"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The pictures, a file that is no picture but named like one, and one that is not."""
    base = tmp_path / "in"
    for name, picture in PICTURES.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(encode(picture))
        os.utime(base / name, (1_000_000, 1_000_000))
    (base / "broken.png").write_text("<html>")
    (base / "note.txt").write_text("hello")
    return base


@pytest.fixture
def run(model: Path) -> Callable[..., Result]:
    """Run ``aidetect sort``."""

    def call(*arguments: object) -> Result:
        words = ["--model", str(model), "--device", "cpu", "--views", "fast", *map(str, arguments)]
        return CliRunner().invoke(main, ["sort", *words])

    return call


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_copies_lie_by_verdict_and_keep_their_place_and_time(
    run: Any, folder: Path, tmp_path: Path, verdicts: dict[str, str]
) -> None:
    before, into = tree(folder), tmp_path / "out"
    (folder / "a.png").chmod(0o640)
    result = run(folder, "--into", into)
    assert result.exit_code == 3
    assert tree(folder) == before
    assert tree(into) == {f"{verdicts[name]}/{name}": before[name] for name in PICTURES}
    for name in PICTURES:
        assert (into / verdicts[name] / name).stat().st_mtime == 1_000_000
    assert (into / verdicts["a.png"] / "a.png").stat().st_mode & 0o777 == 0o640
    rows = result.stdout.splitlines()
    assert rows[0].split() == ["AI", "verdict", "action", "image"]
    assert f"copied   {folder / 'a.png'} -> {into / verdicts['a.png'] / 'a.png'}" in result.stdout
    assert "HTML page" in result.stdout
    assert result.stderr.count("broken.png") == 1
    assert "4 images: 1 ai, 1 uncertain, 1 real; 3 copied, 1 could not be read or written" in result.stderr


def test_move_leaves_only_what_could_not_be_read(
    run: Any, folder: Path, tmp_path: Path, verdicts: dict[str, str]
) -> None:
    before, into = tree(folder), tmp_path / "out"
    result = run(folder, "--into", into, "--move")
    assert result.exit_code == 3
    assert sorted(tree(folder)) == ["broken.png", "note.txt"]
    assert tree(into) == {f"{verdicts[name]}/{name}": before[name] for name in PICTURES}
    assert "3 moved" in result.stderr


@pytest.mark.parametrize("options", [[], ["--flat"], ["--move"], ["--move", "--flat"]])
def test_a_dry_run_does_nothing_and_tells_what_would_be_done(
    run: Any, folder: Path, tmp_path: Path, options: list[str]
) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "a.png").write_bytes(encode(PICTURES["a.png"], compress_level=1))
    (folder / "other" / "b.png").write_bytes((folder / "deep" / "b.png").read_bytes())
    before, into = tree(folder), tmp_path / "out"
    dry = run(folder, "--into", into, "--dry-run", *options)
    assert tree(folder) == before
    assert not into.exists()
    done = run(folder, "--into", into, *options)
    assert dry.exit_code == done.exit_code == 3
    translated = dry.stdout.replace("to copy", "copied ").replace("to move", "moved  ")
    assert translated == done.stdout
    assert ("a-2.png" in done.stdout) == ("--flat" in options)
    assert (" there " in done.stdout) == ("--flat" in options)


def test_a_name_that_is_taken_gets_a_number_and_the_same_bytes_are_left(
    run: Any, folder: Path, tmp_path: Path, verdicts: dict[str, str]
) -> None:
    into = tmp_path / "out"
    place = into / verdicts["a.png"]
    place.mkdir(parents=True)
    (place / "a.png").write_text("somebody's")
    (place / "a-2.png").symlink_to("nowhere")
    assert "a-3.png" in run(folder / "a.png", "--into", into).stdout
    again = run(folder / "a.png", "--into", into)
    assert again.exit_code == 0
    assert "1 there already" in again.stderr
    assert (place / "a.png").read_text() == "somebody's"
    assert (place / "a-3.png").read_bytes() == (folder / "a.png").read_bytes()
    assert sorted(p.name for p in place.iterdir()) == ["a-2.png", "a-3.png", "a.png"]
    moved = run(folder / "a.png", "--into", into, "--move")
    assert "there" in moved.stdout
    assert (folder / "a.png").exists()


@pytest.mark.parametrize("inside", [".", "sorted"])
def test_the_result_is_not_sorted_again(run: Any, folder: Path, inside: str) -> None:
    into = folder / inside
    assert "3 copied" in run(folder, "--into", into).stderr
    after = tree(folder)
    again = run(folder, "--into", into)
    assert "4 images" in again.stderr
    assert "3 there already" in again.stderr
    assert tree(folder) == after
    moved = run(folder, "--into", folder / inside, "--move", "--exclude", "deep")
    assert "1 there already" in moved.stderr
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert "4 images" in run(link, "--into", into).stderr  # by another name it is the same folder
    assert run(into / "ai", "--into", into).exit_code == 4


def test_each_file_is_taken_once(run: Any, folder: Path, tmp_path: Path) -> None:
    result = run(
        folder, folder / "a.png", folder / "deep" / ".." / "a.png", "--into", tmp_path / "o", "--move"
    )
    assert "3 moved, 1 could not" in result.stderr


def test_ignore_files_and_the_cache_are_those_of_scan(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".aidetectignore").write_text("deep/\n")
    (folder / "broken.png").unlink()
    assert "1 image:" in run(folder, "--into", tmp_path / "out", "--dry-run").stderr
    from aidetect.detector.detector import Detector

    def never(self: Any, batch: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Detector, "_begin", never)
    assert run(folder, "--into", tmp_path / "out").exit_code == 0
    for options in (["--no-cache"], ["--no-ignore"]):
        assert isinstance(run(folder, "--into", tmp_path / "out", *options).exception, AssertionError)


@pytest.mark.parametrize("words", [["http://example.com/a.png"], ["-"], ["a.png", "https://x.y/z"]])
def test_addresses_and_standard_input_are_refused(run: Any, tmp_path: Path, words: list[str]) -> None:
    result = run(*words, "--into", tmp_path / "out")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "only files and folders" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["sort", "tag"])
def test_help_is_quick_to_come_and_has_examples(name: str) -> None:
    code = f"import sys; from aidetect.cli.main import main; main(['{name}', '-h'], standalone_mode=False); "
    code += "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def test_exit_codes(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert run(folder / "a.png", "--into", out).exit_code == 0
    assert run(tmp_path / "empty", "--into", out).exit_code == 4
    assert run(tmp_path / "absent.png", "--into", out).exit_code == 3
    assert run(folder).exit_code == 2
    assert run(folder, "--into", folder / "note.txt").exit_code == 2
    assert run(folder, "--into", folder / "note.txt" / "deeper").exit_code == 2
    words = ["sort", str(folder), "--into", str(out), "--model", str(tmp_path / "none")]
    assert CliRunner().invoke(main, words).exit_code == 5
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for verdict in ("ai", "uncertain", "real"):
        (blocked / verdict).write_text("a file")
    result = run(folder, "--into", blocked, "--move")
    assert result.exit_code == 3
    assert result.stderr.count("cannot create the folder") == 3
    assert sorted(tree(folder)) == sorted([*PICTURES, "broken.png", "note.txt"])


def test_links_are_copied_as_files_and_not_moved(run: Any, folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(folder / "a.png")
    moved = run(link, "--into", tmp_path / "out", "--move")
    assert moved.exit_code == 3
    assert "symbolic link" in moved.stderr
    assert link.is_symlink()
    assert run(link, "--into", tmp_path / "out").exit_code == 0
    (copy,) = (tmp_path / "out").rglob("link.png")
    assert not copy.is_symlink()
    assert copy.read_bytes() == (folder / "a.png").read_bytes()


def test_odd_names_are_harmless(run: Any, tmp_path: Path) -> None:
    base = tmp_path / "in"
    base.mkdir()
    names = [b"new\nline.png", b"\x1b[31m.png", b"<script>.png", b"=cmd.png", b"bad\xff.png", b"-x.png"]
    names.append(b"n" * 251 + b".png")
    for name in names:
        (base / os.fsdecode(name)).write_bytes(encode(gradient()))
    result = run(base, "--into", tmp_path / "out")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + len(names)
    assert "\x1b" not in result.stdout
    found = {os.fsencode(p.name) for p in (tmp_path / "out").rglob("*.png")}
    assert found == set(names)
    # The longest name has no room for a number.
    (base / os.fsdecode(names[-1])).write_bytes(encode(gradient(), compress_level=1))
    clash = run(base, "--into", tmp_path / "out")
    assert clash.exit_code == 3
    assert "File name too long" in clash.stderr


# --- one file, when something goes wrong -------------------------------------------------------------

A, B = b"the file's bytes", b"others"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    path = tmp_path / "from" / "a.png"
    path.write_bytes(A)
    return path


def place(path: Path, move: bool) -> tuple[str, Path]:
    from hashlib import sha256

    wanted = path.parent.parent / "to" / path.name
    return sort_module._place(path, wanted, sha256(A).hexdigest(), move, None)


def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("move", [True, False])
def test_with_and_without_hard_links(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: bool, links: bool
) -> None:
    os.utime(path, (5, 5))
    if not links:
        no_hard_links(monkeypatch)
    assert place(path, move) == ("moved" if move else "copied", tmp_path / "to" / "a.png")
    assert tree(tmp_path / "to") == {"a.png": A}
    assert (tmp_path / "to" / "a.png").stat().st_mtime == 5
    assert path.exists() is not move
    path.write_bytes(A)
    (tmp_path / "to" / "a.png").write_bytes(B)
    assert place(path, move)[1].name == "a-2.png"
    assert tree(tmp_path / "to") == {"a.png": B, "a-2.png": A}


@pytest.mark.parametrize("links", [True, False])
def test_a_name_taken_in_the_last_moment_is_not_overwritten(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        no_hard_links(monkeypatch)
    seen = os.path.lexists
    first = iter([False])
    (tmp_path / "to" / "a.png").write_bytes(B)
    monkeypatch.setattr(sort_module.os.path, "lexists", lambda p: next(first, None) is None and seen(p))
    assert place(path, False)[1].name == "a-2.png"
    assert tree(tmp_path / "to") == {"a.png": B, "a-2.png": A}


@pytest.mark.parametrize("move", [True, False])
def test_a_file_that_changed_after_scoring_is_left_alone(path: Path, tmp_path: Path, move: bool) -> None:
    path.write_bytes(B)
    with pytest.raises(sort_module.InputError, match="changed after it was scored"):
        place(path, move)
    assert (path.read_bytes(), tree(tmp_path / "to")) == (B, {})


def test_a_copy_that_went_wrong_is_thrown_away_and_the_original_stays(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hard_links(monkeypatch)
    monkeypatch.setattr(shutil, "copystat", lambda source, part: part.write_bytes(B))  # a bad disk
    with pytest.raises(sort_module.InputError, match="the copy differs"):
        place(path, True)
    assert (path.read_bytes(), tree(tmp_path / "to")) == (A, {})


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failure", [PermissionError(errno.EACCES, "no"), KeyboardInterrupt()])
def test_when_the_old_name_cannot_go_the_new_one_does(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, links: bool
) -> None:
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            raise failure
        unlink(self, missing_ok)

    if not links:
        no_hard_links(monkeypatch)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(type(failure)):
        place(path, True)
    assert (path.read_bytes(), tree(tmp_path / "to")) == (A, {})


def test_an_interrupt_after_the_old_name_is_gone_keeps_the_new_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def late(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", late)
    with pytest.raises(KeyboardInterrupt):
        place(path, True)
    assert tree(tmp_path) == {"to/a.png": A}


@pytest.mark.parametrize("options", [[], ["--move"]])
def test_an_interrupted_run_leaves_each_file_at_one_place(
    model: Path, tmp_path: Path, options: list[str]
) -> None:
    base, into = tmp_path / "in", tmp_path / "out"
    base.mkdir()
    files = {f"{number}.png": encode(noise(40, 40, number)) for number in range(400)}
    for name, data in files.items():
        (base / name).write_bytes(data)
    words = [sys.executable, "-m", "aidetect.cli", "sort", str(base), "--into", str(into), *options]
    words += ["--model", str(model), "--device", "cpu", "--views", "fast"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert wait_until(lambda: len(list(into.rglob("*.png"))) > 5, 60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"interrupted after" in errors
    there = {p.name: p.read_bytes() for p in into.rglob("*") if p.is_file()}
    left = {p.name: p.read_bytes() for p in base.iterdir()}
    assert 5 < len(there) < len(files)
    assert there.items() <= files.items()  # whole, and nothing half-written beside them
    assert left == {n: d for n, d in files.items() if not (options and n in there)}
