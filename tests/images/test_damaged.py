"""Damaged files are decoded as far as they go: what a browser shows is what is judged."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import browser
import damage
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import encode, noise, shapes
from PIL import Image

from aidetect.detector.errors import InputError
from aidetect.detector.images import salvage
from aidetect.detector.images.pixels import Pixels, decode

WHOLE = damage.whole_files()
DAMAGED = damage.damaged_files()
# Kinds of which Pillow's decoders give all or nothing.
ALL_OR_NOTHING = ("avif", "jpeg 2000", "heic", "tiff lzw", "jpeg xl")
# Chromium shows a part of these, which the decoder here cannot give: they are errors, and never called real.
SHOWN_BUT_REFUSED = ("jpeg xl",)


def tried(data: bytes, **options: Any) -> tuple[list[Pixels], list[str], InputError | None]:
    """What decoding gives: frames, notes, and the error if there is one."""
    found: list[Pixels] = []
    notes: list[str] = []
    try:
        found += decode(data, notes=notes, **options)
    except InputError as error:
        return found, notes, error
    return found, notes, None


def kind_of(name: str) -> str:
    return name.rpartition(",")[0]


@pytest.mark.parametrize("name", DAMAGED)
def test_strict_is_the_rule_of_whole_files(name: str) -> None:
    found, notes, error = tried(DAMAGED[name], strict=True)
    assert error is not None or not any(note.startswith(("truncated", "damaged")) for note in notes)
    if error is None:  # nothing is wrong as far as the decoder sees: both ways give the same
        assert [p.sha256 for p in decode(DAMAGED[name])] == [p.sha256 for p in found]


@pytest.mark.parametrize("name", [name for name in DAMAGED if kind_of(name) in WHOLE])
def test_rows_are_those_of_the_whole_file(name: str) -> None:
    (whole,) = decode(WHOLE[kind_of(name)])
    found, notes, error = tried(DAMAGED[name])
    if error is not None:
        assert error.kind in ("truncated", "damaged")
        assert not found
        return
    (part,) = found
    if not notes:
        assert part.rgb.shape == whole.rgb.shape
        return
    (note,) = (note for note in notes if note.startswith(("truncated: ", "damaged: ")))
    step = whole.width // part.width
    grid = whole.rgb[::step, ::step]
    assert f"{part.height} of {len(grid)}" in note
    assert f"{100 * part.height // len(grid)}%" in note
    assert ("only" in note) == (part.rgb.shape != whole.rgb.shape)
    if "within" in name or name.startswith("progressive"):
        return  # what the damage changed is judged as it is shown
    # A BMP begins at the bottom.
    expected = grid[-part.height :] if name.startswith("bmp") else grid[: part.height]
    # What is shown of a coded picture at the edge depends on rows that are not there.
    safe = slice(8, None) if name.startswith("bmp") else slice(0, max(1, part.height - 8))
    difference = np.abs(part.rgb[safe].astype(int) - expected[safe])
    assert difference.max(initial=0) == 0


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind not in ALL_OR_NOTHING])
@pytest.mark.parametrize("cut", damage.CUTS)
def test_a_few_bytes_off_lose_a_few_rows(kind: str, cut: int) -> None:
    found, _, error = tried(WHOLE[kind][:-cut])
    assert error is None
    assert found[0].height >= 0.9 * damage.HEIGHT


def test_the_end_of_a_jpeg_is_no_part_of_its_picture() -> None:
    data = WHOLE["jpeg"]
    (whole,) = decode(data)
    (part,), notes, _ = tried(data[:-2])
    assert part.sha256 == whole.sha256
    assert notes == ["truncated: 100% of the rows could be decoded (240 of 240)"]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_less_than_a_tenth_is_an_error(format: str, share: float) -> None:
    data = encode(noise(64, 200), format)
    found, notes, error = tried(data[: int(share * len(data))])
    if error is None:
        assert found[0].height >= salvage.LEAST * 200
        assert notes
    else:
        assert share < 0.3
        assert not found


def test_the_missing_part_does_not_matter() -> None:
    # Two pictures that differ below: cut above, their files give the same pixels.
    first = shapes(200, 200)
    second = first.copy()
    second[120:] = noise(200, 80)
    kept = 15 + 60 * 600
    for picture in (first, second):
        (part,), _, _ = tried(encode(picture, "PPM")[:kept])
        assert np.array_equal(part.rgb, first[:60])


def test_interlaced_pictures_are_judged_at_a_smaller_size() -> None:
    data = WHOLE["interlaced png"]
    for share, step in ((0.95, 2), (0.5, 2), (0.25, 4), (0.05, 8)):
        (part,), notes, _ = tried(data[: int(share * len(data))])
        assert np.array_equal(part.rgb, damage.PICTURE[::step, ::step])
        assert f"at 1/{step} of its size" in notes[0]


def test_whole_frames_of_a_cut_animation_are_judged_too() -> None:
    for format in ("PNG", "GIF", "WEBP"):
        data = damage.animation(format, **({"lossless": True} if format == "WEBP" else {}))
        whole = list(decode(data))
        found, notes, _ = tried(data[: int(0.9 * len(data))])
        assert [p.frame for p in found] == [0, 1, 2, 3]
        assert [p.sha256 for p in found[:3]] == [p.sha256 for p in whole[:3]]
        height = found[3].height - 8
        assert np.array_equal(found[3].rgb[:height], whole[3].rgb[:height])
        assert "of frame 3 could be decoded" in notes[0]


def test_an_animated_png_with_false_numbers_shows_all_its_frames() -> None:
    whole = list(decode(damage.animation("PNG")))
    found, notes, _ = tried(DAMAGED["apng, wrong sequence"])
    assert [p.sha256 for p in found] == [p.sha256 for p in whole]
    assert notes == ["damaged: 4 frames were judged of a file that is damaged"]


def test_libtiff_speaks_in_the_notes_and_not_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    found, notes, error = tried(DAMAGED["tiff lzw, 8 zero bytes within"])
    assert error is None
    assert found[0].height < damage.HEIGHT
    assert any(note.startswith("tiff: LZWDecode") for note in notes)
    for data in (WHOLE["tiff lzw"][:200], WHOLE["tiff lzw"][:8] + bytes(400)):
        tried(data)
    assert capfd.readouterr().err == ""


def test_pillow_logs_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    # A TIFF of more bands than there can be: Pillow logs that before it raises.
    data = WHOLE["tiff"]
    at = data.index(struct.pack("<HHIHH", 277, 3, 1, 3, 0))
    _, _, error = tried(data[: at + 8] + struct.pack("<H", 60000) + data[at + 10 :])
    assert error is not None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("format", "cut"), [("PNG", 100), ("WEBP", 2), ("TIFF", 2000)])
def test_alpha_of_a_cut_file_is_kept(format: str, cut: int) -> None:
    # Otherwise a picture that only alpha holds would pass once two bytes are off.
    grey = damage.PICTURE[:, :, 1]
    image = Image.fromarray(np.dstack([damage.PICTURE * 0, grey]))
    (part,), notes, _ = tried(encode(image, format)[:-cut])
    assert notes
    assert part.alpha is not None
    assert part.height > 0.8 * damage.HEIGHT
    assert np.array_equal(part.alpha, grey[: part.height])


def test_decoding_side_by_side_says_nothing_on_standard_error(tmp_path: Path) -> None:
    # Pillow warns of such a tag. Warnings silenced for one picture must not come back with another's end.
    page = Image.fromarray(damage.PICTURE)
    data = encode(page, "TIFF", save_all=True, append_images=[page])
    entry = struct.pack("<HHI", 278, 4, 1)
    at = data.rindex(entry) if entry in data else data.rindex(struct.pack("<HHI", 278, 3, 1))
    data = data[:at] + struct.pack("<HHII", 37663, 2, 2**20, 2**28) + data[at + 12 :]
    (tmp_path / "bad.tif").write_bytes(data)
    code = (
        "import sys, pathlib\n"
        "from aidetect.detector.images.pixels import decode\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "first, second = decode(data), decode(data)\n"
        "next(first), next(second), first.close()\n"
        "assert len(list(second)) == 1\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bad.tif")]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


# --- records ----------------------------------------------------------------------------------------


def test_a_cut_file_scores_as_its_rows(tiny_detector: Any) -> None:
    data = encode(shapes(200, 160), "PNG")
    data = data[: int(0.6 * len(data))]
    (part,) = decode(data)
    cut, rows = tiny_detector.score([data, part.rgb])
    assert cut.status == "ok"
    assert cut.logit == pytest.approx(rows.logit, abs=1e-6)
    assert (cut.width, cut.height) == (200, part.height)
    assert cut.warnings[-1].startswith("truncated: ")
    assert rows.warnings == cut.warnings[:-1]


def test_strict_makes_an_error(tiny_model_folder: Path) -> None:
    from aidetect.detector.detector import Detector

    detector = Detector.load(str(tiny_model_folder), "cpu", strict=True)
    data = encode(shapes(), "JPEG")[:-2]
    (record,) = detector.score([data])
    assert record.error is not None
    assert record.error["type"] == "truncated"


def test_strict_and_lenient_results_are_cached_apart(tiny_model_folder: Path, tmp_path: Path) -> None:
    from aidetect.cli.main import main

    (tmp_path / "cut.jpg").write_bytes(encode(shapes(), "JPEG")[:-2])
    command = ["scan", str(tmp_path / "cut.jpg"), "--model", str(tiny_model_folder), "--format", "csv", "-q"]
    codes = [CliRunner().invoke(main, [*command, *more]).exit_code for more in ([], ["--strict"], [])]
    assert codes == [0, 3, 0]


def test_the_proof_holds_for_a_cut_file(tiny_detector: Any) -> None:
    from aidetect.detector.audit.proof import prove

    for format in ("JPEG", "PNG", "WEBP"):
        data = encode(shapes(), format)[:-40]
        copies = list(prove(tiny_detector, data))
        assert len(copies) > 3
        assert all(copy.equal for copy in copies)


# --- a real browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_browser() -> dict[str, browser.Shown]:
    if browser.BROWSER is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    return browser.shown(DAMAGED, browser.BROWSER, damage.WIDTH, damage.HEIGHT)


def test_what_a_browser_shows_is_judged(in_browser: dict[str, browser.Shown]) -> None:
    missed = []
    for name, shown in in_browser.items():
        found, _, error = tried(DAMAGED[name])
        # Within a block row of the limit either may be right.
        if kind_of(name) in SHOWN_BUT_REFUSED:
            assert error is not None, name
        elif shown.rows >= salvage.LEAST * damage.HEIGHT + 16 and error is not None:
            missed.append((name, shown.rows, str(error)))
        if found and shown.rows and found[0].width == damage.WIDTH and len(found) == 1:
            # No more is judged than is seen, but for what the browser's decoder holds back at the end.
            assert found[0].height <= shown.rows + 32, name
    assert missed == []


def test_the_browser_saw_pictures(in_browser: dict[str, browser.Shown]) -> None:
    for kind in ("jpeg", "png", "gif", "bmp"):
        assert in_browser[f"{kind}, 95% kept"].rows > 0.8 * damage.HEIGHT


def test_whole_files_are_untouched() -> None:
    # A whole, opaque picture is decoded as plain Pillow does, without any note.
    for name, data in WHOLE.items():
        found, notes, error = tried(data)
        assert (error, notes) == (None, []), name
        with Image.open(io.BytesIO(data)) as image:
            plain = image.convert("RGBA") if image.mode == "RGBA" else image.convert("RGB")
            assert np.array_equal(found[0].rgb, np.asarray(plain)[:, :, :3]), name
