"""Explanations: the split of a logit, the tiles, the heat map, and the command. With the tiny model."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import TINY_BLOCKS, TINY_SIZE, TINY_WIDTH, encode, gradient, noise, sha256, shapes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aidetect.cli.main import main
from aidetect.detector.detector import Detector
from aidetect.detector.errors import InputError
from aidetect.detector.explain.heatmap import colours, heat_map
from aidetect.detector.explain.influence import (
    Influence,
    Patches,
    Tile,
    find_influence,
    find_patches,
    find_stability,
    find_tiles,
    score_frame,
    tile_counts,
)
from aidetect.detector.images.stability import REENCODINGS
from aidetect.detector.images.views import mirror_to
from aidetect.detector.models.checksum import file_sha256

FAMILIES = ["alpha", "beta", "gamma"]


def rate(value: float, n: int = 200) -> dict[str, Any]:
    return {"value": value, "n": n, "low": value / 2, "high": value * 2}


def with_patch_means(folder: Path) -> Path:
    """Turn a model into one whose features have patch means, with families and rates by content."""
    from safetensors.numpy import load_file, save_file

    length = 2 * TINY_BLOCKS * TINY_WIDTH
    rng = np.random.default_rng(5)
    probe = load_file(folder / "probe.safetensors")
    for kind in ("whole", "native"):
        probe[f"{kind}.weight"] = rng.normal(0, 0.25, length).astype(np.float32)
        probe[f"families.{kind}.weight"] = rng.normal(0, 0.01, (len(FAMILIES), length)).astype(np.float32)
        probe[f"families.{kind}.bias"] = np.zeros(len(FAMILIES), np.float32)
    save_file(probe, folder / "probe.safetensors")

    def change(card: dict[str, Any]) -> None:
        card["probe"] |= {"length": length, "patch_mean": True}
        card["files"]["probe.safetensors"] = file_sha256(folder / "probe.safetensors")
        card["attribution"] = {"names": FAMILIES, "top_1": {"value": 0.42}}
        for mode in card["modes"].values():
            mode["views"] |= {"whole_jpeg": 60, "spread": True}
            mode["error_rates"]["recall"] = rate(0.4)
            mode["error_rates"]["by_content"] = {
                "art": {"fpr": rate(0.031, 77), "recall": rate(0.37, 55)},
                "meme": {"fpr": rate(0.02, 66)},
            }

    return edit(folder, change)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def patch_model(model_copy: Path) -> Path:
    return with_patch_means(model_copy)


@pytest.fixture
def patch_detector(patch_model: Path) -> Detector:
    return Detector.load(str(patch_model), "cpu", batch_size=5, workers=2)


# --- the split ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture", [shapes(90, 70), noise(50, 100), noise(9, 7), np.zeros((40, 40, 3), "u1")]
)
def test_the_parts_add_up_to_the_logit_of_the_whole_view(
    patch_detector: Detector, picture: np.ndarray
) -> None:
    (record,) = patch_detector.score([picture])
    wholes = [view for view in record.views if view.kind == "whole"]
    ratio = max(picture.shape[:2]) / min(picture.shape[:2])
    assert len(wholes) == (1 if ratio < 1.25 else 2 if ratio < 2 else 3)
    for whole, patches in zip(wholes, find_patches(patch_detector, picture), strict=True):
        assert patches.box == whole.box
        assert patches.grid.shape == (TINY_SIZE // 8, TINY_SIZE // 8)
        assert patches.bias + patches.class_part + patches.grid.sum() == pytest.approx(whole.logit, abs=1e-3)
        assert patches.logit == pytest.approx(whole.logit, abs=1e-3)
        assert patches.relative.sum() == pytest.approx(0, abs=1e-9)


def test_the_class_part_is_that_of_the_class_tokens(patch_detector: Detector) -> None:
    """With no weight on the patch means, nothing is left for the patches, and the other way round."""
    picture = shapes(64, 64)
    weight = patch_detector.model.probes["whole"].weight
    half = len(weight) // 2
    weight[half:] = 0
    (patches,) = find_patches(patch_detector, picture)
    assert not patches.grid.any()
    assert patches.class_part != 0
    weight[:half], weight[half:] = 0, 0.1
    (patches,) = find_patches(patch_detector, picture)
    assert patches.class_part == 0
    assert patches.grid.std() > 0


def test_patch_tokens_lie_in_rows_as_the_picture_does(patch_detector: Detector) -> None:
    """A change in the upper right corner moves the first block's token there most."""
    tower = patch_detector.model.tower
    plain = np.full((TINY_SIZE, TINY_SIZE, 3), 90, np.uint8)
    changed = plain.copy()
    changed[:8, 24:] = 250
    classes, tokens = tower.patch_tokens(np.stack([plain, changed]))
    assert classes.shape == (2, TINY_BLOCKS, TINY_WIDTH)
    assert tokens.shape == (2, TINY_BLOCKS, 4, 4, TINY_WIDTH)
    moved = np.abs(tokens[1, 0] - tokens[0, 0]).sum(axis=-1)
    assert np.unravel_index(moved.argmax(), moved.shape) == (0, 3)
    features = tower.features(np.stack([plain, changed]), patch_mean=True)
    np.testing.assert_allclose(features[:, :TINY_BLOCKS], classes, atol=1e-5)
    np.testing.assert_allclose(features[:, TINY_BLOCKS:], tokens.mean(axis=(2, 3)), atol=1e-5)


def test_nothing_is_split_where_there_are_no_patch_means(tiny_detector: Detector) -> None:
    assert find_patches(tiny_detector, shapes()) == []
    assert find_influence(tiny_detector, shapes()).to_dict()["patches"] == []


# --- tiles -------------------------------------------------------------------------------------------


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(8, 400), st.integers(1, 60))
def test_tile_counts_cover_or_use_what_they_may(width: int, height: int, size: int, at_most: int) -> None:
    columns, rows = tile_counts(width, height, size, at_most)
    across, down = -(-width // size), -(-height // size)
    assert 1 <= columns <= across
    assert 1 <= rows <= down
    assert columns * rows <= at_most
    if across * down <= at_most:
        assert (columns, rows) == (across, down)


@pytest.mark.parametrize(
    ("counts", "shape"), [((6, 6), (9000, 9000)), ((9, 4), (9000, 4000)), ((36, 1), (9000, 99))]
)
def test_tiles_of_a_large_picture_are_spread_over_it(counts: tuple[int, int], shape: tuple[int, int]) -> None:
    assert tile_counts(*shape, 224, 36) == counts


@pytest.mark.parametrize("shape", [(150, 100), (32, 32), (33, 64), (20, 130), (7, 5), (192, 192)])
def test_tiles_cover_a_picture_and_tell_the_native_probe(
    tiny_detector: Detector, shape: tuple[int, int]
) -> None:
    picture = noise(*shape)
    tiles = find_tiles(tiny_detector, picture)
    seen = np.zeros(picture.shape[:2], bool)
    probe = tiny_detector.model.probes["native"]
    for tile in tiles:
        left, upper, right, lower = tile.box
        seen[upper:lower, left:right] = True
        crop = mirror_to(picture[upper:lower, left:right], TINY_SIZE)
        (logit,) = probe.logits(tiny_detector.model.tower.features(crop[None].copy()))
        assert tile.logit == pytest.approx(logit, abs=1e-4)
    # Corners lie on the grid of JPEG's blocks, so that a rim of less than one block may be left.
    assert seen[: max(1, shape[1] - 7), : max(1, shape[0] - 7)].all()
    assert len({tile.box for tile in tiles}) == len(tiles)


def test_a_bounded_number_of_tiles_lies_in_the_middle_of_equal_shares(tiny_detector: Detector) -> None:
    tiles = find_tiles(tiny_detector, noise(600, 400), at_most=6)
    centres = [((t.box[0] + t.box[2]) / 2, (t.box[1] + t.box[3]) / 2) for t in tiles]
    expected = [(x, y) for y in (100, 300) for x in (100, 300, 500)]
    np.testing.assert_allclose(centres, expected, atol=8)


# --- stability and frames ----------------------------------------------------------------------------


def test_stability_scores_every_reencoding(tiny_detector: Detector) -> None:
    picture = shapes(120, 90)
    stability = find_stability(tiny_detector, picture, "ai")
    assert [copy["name"] for copy in stability["copies"]] == list(REENCODINGS)
    for copy in stability["copies"]:
        (record,) = tiny_detector.score([REENCODINGS[copy["name"]](picture)])
        assert copy["logit"] == pytest.approx(record.logit, abs=1e-4)
        assert copy["verdict"] == record.verdict
    assert stability["verdict"] == "ai"
    assert stability["kept"] == all(copy["verdict"] == "ai" for copy in stability["copies"])


def test_a_picture_too_long_for_jpeg_is_scored_in_the_other_ways(tiny_detector: Detector) -> None:
    stability = find_stability(tiny_detector, np.zeros((2, 70_000, 3), np.uint8), "real")
    assert [copy["name"] for copy in stability["copies"]] == ["half size", "80 % crop"]


def test_the_frame_that_is_scored_is_the_frame_that_is_explained(tiny_detector: Detector) -> None:
    frames = [shapes(60, 50, seed) for seed in range(4)]
    images = [Image.fromarray(frame) for frame in frames]
    data = encode(images[0], "PNG", save_all=True, append_images=images[1:])
    record, rgb = score_frame(tiny_detector, data, "a.png")
    logits = [r.logit for r in tiny_detector.score(frames)]
    assert record.frame == int(np.argmax(np.array(logits)))
    assert record.frame != 0, "take other seeds: the first frame proves nothing"
    assert (rgb == frames[record.frame]).all()
    assert record.pixels_sha256 == sha256(rgb)
    assert record.file_bytes == len(data)


def test_score_frame_refuses_what_is_no_image(tiny_detector: Detector) -> None:
    with pytest.raises(InputError, match="no decoder"):
        score_frame(tiny_detector, b"no picture at all", "x")


# --- the drawing -------------------------------------------------------------------------------------


def test_the_scale_diverges_from_white() -> None:
    red, green, blue = colours(np.array([0.0]), 3.0)[0]
    assert min(red, green, blue) >= 245
    low, high = colours(np.array([-3.0, 3.0]), 3.0)
    assert low[2] > low[0] + 80  # blue
    assert high[0] > high[2] + 80  # orange
    assert (colours(np.array([-99.0, 99.0]), 3.0) == [low, high]).all()
    steps = colours(np.linspace(0, 3, 20), 3.0)
    assert (np.diff(steps.sum(axis=1)) < 0).all(), "stronger is darker"
    luma = [np.dot(c, [0.299, 0.587, 0.114]) for c in (low, high)]
    assert max(luma) < 120


GREY = np.full((400, 600, 3), 128, np.uint8)


def tint(image: Image.Image, x: float, y: float) -> float:
    """Red minus blue, the mean of a few pixels: above zero for orange, below for blue."""
    part = np.asarray(image, dtype=float)[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4]
    return float((part[:, :, 0] - part[:, :, 2]).mean())


def panel_corner(image: Image.Image, after: int = 0) -> tuple[int, int]:
    """Left upper corner of the first big coloured or grey block right of a column."""
    filled = (np.asarray(image, dtype=int).min(axis=2) < 235)[:, after:]
    row = int(np.argmax(filled.sum(axis=1) > 200))
    return after + int(np.argmax(filled[row])), row


def test_tiles_and_patches_are_painted_where_they_are() -> None:
    tiles = [Tile((0, 0, 200, 200), 5.0), Tile((400, 200, 600, 400), -5.0)]
    grid = np.zeros((4, 4))
    grid[0, 3], grid[3, 0] = 2.0, -2.0
    influence = Influence(tiles, [Patches((100, 0, 500, 400), 0.1, 0.2, grid)])
    image = heat_map(GREY, influence, "Heading", "details", 2)
    left, top = panel_corner(image)
    scale = 640 / 600
    assert tint(image, left + 30 * scale, top + 30 * scale) > 60
    assert tint(image, left + 570 * scale, top + 370 * scale) < -60
    assert abs(tint(image, left + 300 * scale, top + 200 * scale)) < 3, "nothing was looked at there"
    middle = image.width // 2
    right, top = panel_corner(image, middle)
    assert tint(image, right + 450 * scale, top + 50 * scale) > 60
    assert tint(image, right + 150 * scale, top + 350 * scale) < -60
    assert abs(tint(image, right + 30 * scale, top + 370 * scale)) < 3, "outside the square"


def test_overlapping_tiles_show_their_mean() -> None:
    tiles = [Tile((0, 0, 400, 400), 4.0), Tile((200, 0, 600, 400), -4.0)]
    image = heat_map(GREY, Influence(tiles, []), "Heading", "details", 0)
    left, top = panel_corner(image)
    tints = [tint(image, left + x * 640 / 600, top + 30) for x in (60, 300, 560)]
    assert tints[0] > 60
    assert abs(tints[1]) < 3
    assert tints[2] < -60


def test_without_patches_there_is_one_panel() -> None:
    tiles = [Tile((0, 0, 224, 224), 1.0)]
    patches = Patches((100, 0, 500, 400), 0.0, 0.0, np.zeros((2, 2)))
    alone = heat_map(GREY, Influence(tiles, []), "Heading", "details", 1)
    both = heat_map(GREY, Influence(tiles, [patches]), "Heading", "details", 1)
    assert both.width > alone.width + 600


def test_patches_of_two_views_show_their_mean_where_both_looked() -> None:
    left_half = np.array([[2.0, 0.0], [2.0, 0.0]])
    views = [Patches((0, 0, 400, 400), 0, 0, left_half), Patches((200, 0, 600, 400), 0, 0, -left_half)]
    image = heat_map(GREY, Influence([Tile((0, 0, 224, 224), 1.0)], views), "Heading", "details", 1)
    right, top = panel_corner(image, image.width // 2)
    tints = [tint(image, right + x * 640 / 600, top + 50) for x in (100, 300, 500)]
    assert tints[0] > 60
    assert tints[1] < -60
    assert tints[2] > 60


@given(st.integers(1, 2500), st.integers(1, 2500), st.floats(-1e4, 1e4), st.text(max_size=60))
def test_any_shape_and_any_value_can_be_drawn(width: int, height: int, value: float, text: str) -> None:
    if width * height > 400_000:
        height = max(1, 400_000 // width)
    side = min(width, height)
    grid = np.array([[value, 0.0], [-value, 1e-9]])
    tiles = [Tile((0, 0, side, side), value), Tile((width - side, height - side, width, height), 0.0)]
    ends = (0, 0, side, side), (width - side, height - side, width, height)
    influence = Influence(tiles, [Patches(box, 0.0, value, grid) for box in ends])
    image = heat_map(np.zeros((height, width, 3), np.uint8), influence, "Heading", text, 2)
    assert 500 < image.width < 2200
    assert 200 < image.height < 3000


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def run(patch_model: Path) -> Callable[..., Result]:
    """Run ``aidetect explain`` with the tiny model that has patch means."""

    def call(*arguments: object, model: Path = patch_model, input: bytes | None = None) -> Result:
        words = ["--model", str(model), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, ["explain", *words], input=input)

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(shapes(150, 110)))
    return path


def test_the_text_fits_one_screen_and_tells_what_the_json_tells(
    run: Callable[..., Result], picture: Path, tmp_path: Path
) -> None:
    result = run(picture, "--views", "thorough", "-o", tmp_path / "heat.png")
    data = json.loads(run(picture, "--views", "thorough", "--format", "json").stdout)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) <= 40
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    record = data["record"]
    assert data["summary"] in lines
    assert len(record["views"]) > 3
    for view in record["views"]:
        assert f"{view['logit']:+.2f}" in result.stdout
        assert "{},{} - {},{}".format(*view["box"]) in result.stdout
    assert [copy["name"] for copy in record["stability"]["copies"]] == list(REENCODINGS)
    for copy in record["stability"]["copies"]:
        (line,) = [line for line in lines if line.startswith(f"  {copy['name']} ")]
        assert f"{copy['logit']:+.2f}" in line
        assert line.endswith(copy["verdict"])
    assert "1.0%  (0.2-5.0%, n=100)" in result.stdout
    assert "40.0%  (20.0-80.0%, n=200)" in result.stdout
    assert "art 3.1%/37.0%" in result.stdout
    assert "meme 2.0%/-" in result.stdout
    assert "half of all images are AI-generated" in result.stdout
    assert "not proof" in result.stdout
    assert data["model"]["prior"] == 0.5
    assert data["model"]["error_rates"]["recall"]["n"] == 200


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"ai": 0.0, "real": 0.0}, "Likely AI-generated: "),
        ({"ai": 1.1, "real": 0.0}, "Unclear: "),
        ({"ai": 1.2, "real": 1.1}, "No trace of a generator found: "),
    ],
)
def test_the_verdict_in_words(
    run: Callable[..., Result], picture: Path, patch_model: Path, thresholds: dict[str, float], words: str
) -> None:
    edit(patch_model, lambda card: card["modes"]["standard"].update(thresholds=thresholds))
    result = run(picture)
    assert any(line.startswith(words) for line in result.stdout.splitlines())
    end = "" if words.startswith("Unclear") else ": it is stable"
    assert f"5 of 5 copies get the same verdict{end}." in result.stdout


@pytest.mark.parametrize(("intercept", "shown"), [(60.0, ">99.9%"), (-60.0, "<0.1%")])
def test_nothing_is_ever_certain(
    run: Callable[..., Result], picture: Path, patch_model: Path, intercept: float, shown: str
) -> None:
    edit(patch_model, lambda card: card["modes"]["standard"]["calibration"].update(intercept=intercept))
    out = run(picture).stdout
    assert shown in out.split("This assumes")[0]
    assert " 100" not in out
    assert " 0.0%  ai" not in out


def test_a_verdict_that_does_not_hold_is_said_not_to(
    run: Callable[..., Result], picture: Path, patch_model: Path
) -> None:
    record = json.loads(run(picture, "--format", "json").stdout)["record"]
    others = [copy["probability"] for copy in record["stability"]["copies"]]
    own = record["type"]["ai_generated"]
    highest = max(others)
    assert highest > own, "take another picture: this one is highest"
    limits = {"ai": (own + highest) / 2, "real": (own + highest) / 2}  # so that the highest copy is ai
    below = sum(other < limits["ai"] for other in others)
    edit(patch_model, lambda card: card["modes"]["standard"].update(thresholds=limits))
    data = json.loads(run(picture, "--format", "json").stdout)
    assert data["record"]["verdict"] == "real"
    assert data["record"]["stability"]["kept"] is False
    out = run(picture).stdout
    assert f"{below} of 5 copies get the same verdict: it is not stable, treat it as uncertain." in out
    assert "No trace of a generator found" in out


def test_generators_are_named_as_a_hint(run: Callable[..., Result], picture: Path, patch_model: Path) -> None:
    edit(patch_model, lambda card: card["modes"]["standard"]["calibration"].update(intercept=60.0))
    out = " ".join(run(picture).stdout.split())
    found = json.loads(run(picture, "--format", "json").stdout)["record"]["type"]["ai_generators"]
    assert set(found) <= set(FAMILIES)
    assert found
    assert "(only a hint, right for 42% of AI images): " in out
    for name, value in found.items():
        assert f"{name} {value:.1%}" in out


def test_content_prints_the_rates_of_that_content(run: Callable[..., Result], picture: Path) -> None:
    out = run(picture, "--content", "art").stdout
    assert "real art called ai             3.1%  (1.6-6.2%, n=77)" in out
    assert "AI art called ai              37.0%  (18.5-74.0%, n=55)" in out
    assert "choose it with --content" not in out
    assert "AI meme called ai            not measured" in run(picture, "--content", "meme").stdout
    data = json.loads(run(picture, "--content", "meme", "--format", "json").stdout)
    assert data["content"]["name"] == "meme"
    assert data["content"]["fpr"]["n"] == 66


def test_content_without_rates_is_refused(
    run: Callable[..., Result], picture: Path, tiny_model_folder: Path
) -> None:
    result = run(picture, "--content", "cheese")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "art, meme" in result.stderr
    assert run(picture, "--content", "art", model=tiny_model_folder).exit_code == 2


def test_the_heat_map_is_a_png_of_what_the_json_says(
    run: Callable[..., Result], picture: Path, tmp_path: Path
) -> None:
    path = tmp_path / "heat.PNG"
    data = json.loads(run(picture, "-o", path, "--format", "json").stdout)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert data["heat_map"] == str(path)
    wholes = [view for view in data["record"]["views"] if view["kind"] == "whole"]
    for whole, patches in zip(wholes, data["influence"]["patches"], strict=True):
        total = patches["bias"] + patches["class_part"] + np.sum(patches["grid"])
        assert total == pytest.approx(whole["logit"], abs=1e-3)
        assert patches["box"] == whole["box"]
    assert 1 < len(data["influence"]["tiles"]) <= 36
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".part") == []
    mode = path.stat().st_mode & 0o777
    assert mode == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_model_without_patch_means_gets_the_tile_map_alone(
    run: Callable[..., Result], picture: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    result = run(picture, "-o", tmp_path / "heat.png", model=tiny_model_folder)
    assert result.exit_code == 0
    assert "No map of the whole view" in result.stdout
    assert "native crops, logits" in result.stdout
    assert (tmp_path / "heat.png").is_file()


def test_without_output_nothing_is_drawn(run: Callable[..., Result], picture: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run(picture)
    assert "Heat map" not in result.stdout
    assert sorted(tmp_path.iterdir()) == before
    assert json.loads(run(picture, "--format", "json").stdout)["influence"] is None


@pytest.mark.parametrize("name", ["heat.jpg", "heat", "no/such/folder/heat.png", "-"])
def test_outputs_that_cannot_be_are_refused_in_one_line(
    run: Callable[..., Result], picture: Path, tmp_path: Path, name: str
) -> None:
    result = run(picture, "-o", name if name == "-" else tmp_path / name)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_failed_drawing_leaves_the_old_heat_map(
    run: Callable[..., Result], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "heat.png"
    path.write_bytes(b"the old one")

    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run(picture, "-o", path)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_what_cannot_be_read_ends_with_3(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("<html></html>")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").write_bytes(encode(gradient()))
    names = ["broken.png", "missing.png", "full", "x" * 5000]
    for name in [*(tmp_path / name for name in names), "http://127.0.0.1:9/a.png", "ftp://host/a.png", ""]:
        extra = ["--no-network"] if str(name).startswith("http") else []
        result = run(*extra, name)
        assert result.exit_code == 3, name
        assert result.stdout == ""
        assert len(result.stderr.strip().splitlines()) == 1
        assert result.stderr.startswith("aidetect: ")
    assert "folder" in run(tmp_path / "full").stderr
    assert "--max-pixels" in run(tmp_path / "full" / "a.png", "--max-pixels", "0.0001").stderr


def test_a_missing_model_ends_with_5(run: Callable[..., Result], picture: Path, tmp_path: Path) -> None:
    result = run(picture, model=tmp_path / "nowhere")
    assert result.exit_code == 5
    assert result.stdout == ""


def test_an_interruption_ends_with_130(
    run: Callable[..., Result], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aidetect.detector.explain.influence.find_stability", interrupt)
    result = run(picture)
    assert result.exit_code == 130
    assert result.stdout == ""


def test_standard_input_and_addresses(run: Callable[..., Result], picture: Path) -> None:
    data = picture.read_bytes()
    given = run(picture, "--format", "json")
    expected = json.loads(given.stdout)["record"]["logit"]
    piped = json.loads(run("-", "--format", "json", input=data).stdout)["record"]
    assert piped["input"] == "-"
    assert piped["logit"] == expected
    with served(data) as address:
        fetched = json.loads(run(address, "--format", "json").stdout)["record"]
    assert fetched["input"] == address
    assert fetched["logit"] == expected


@contextlib.contextmanager
def served(data: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/a.png"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "name",
    ["=cmd.png", "<script>.png", "a\nb.png", "\x1b[31mred.png", os.fsdecode(b"caf\xe9.png"), "\u202egnp.png"],
)
def test_odd_names_are_harmless(run: Callable[..., Result], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode(gradient(60, 40)))
    result = run(path, "-o", tmp_path / f"{name}.heat.png")
    assert result.exit_code == 0, result.stderr
    assert not set(result.stdout) & {"\x1b", "\u202e", "\r"}
    assert result.stdout.isascii()
    first = result.stdout.splitlines()
    assert first[0].endswith("  (60x40 PNG)")
    data = json.loads(run(path, "--format", "json").stdout_bytes.decode("utf-8"))
    assert data["record"]["input"].startswith(str(tmp_path))
    assert len([p for p in tmp_path.iterdir() if p.name.endswith(".heat.png")]) == 1


def test_an_animation_says_which_frame(run: Callable[..., Result], tmp_path: Path) -> None:
    images = [Image.fromarray(shapes(60, 50, seed)) for seed in range(4)]
    path = tmp_path / "a.png"
    path.write_bytes(encode(images[0], "PNG", save_all=True, append_images=images[1:]))
    result = run(path)
    data = json.loads(run(path, "--format", "json").stdout)
    assert data["record"]["pixels"]["frames"] == 4
    assert f"60x50 PNG, frame {data['record']['pixels']['frame']} of 4" in result.stdout
    copies = json.loads(run(path, "--frames", "1", "--format", "json").stdout)["record"]
    assert copies["pixels"]["frame"] == 0


def test_the_picture_drawn_is_written_to_the_byte(tmp_path: Path) -> None:
    from aidetect.detector.explain.heatmap import png

    image = heat_map(GREY, Influence([Tile((0, 0, 224, 224), 1.0)], None), "Heading", "details", 1)
    with Image.open(BytesIO(png(image))) as back:
        assert (np.asarray(back) == np.asarray(image)).all()


def test_the_help_has_examples() -> None:
    result = CliRunner().invoke(main, ["explain", "-h"])
    assert result.exit_code == 0
    assert "aidetect explain photo.jpg -o heat.png" in result.stdout
