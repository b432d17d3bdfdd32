"""Pictures that are not opaque: judged as stored, and as they are seen on white and on black."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import encode, gradient, noise, png_with, sha256, shapes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from test_pixels import raw_tiff

from aidetect.cli.main import main
from aidetect.detector.audit.proof import prove
from aidetect.detector.images.backdrop import looks, seen_on
from aidetect.detector.images.pixels import Pixels, decode

PICTURE = shapes(160, 120, seed=6)
GREY = PICTURE[:, :, 1]


def only(data: bytes) -> Pixels:
    (found,) = decode(data)
    return found


def hidden() -> np.ndarray:
    """A picture that only its alpha channel holds: the colours are black throughout."""
    return np.dstack([np.zeros_like(PICTURE), 255 - GREY])


CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
    "tiff": ("TIFF", {}),
    "tga": ("TGA", {}),
    "jpeg 2000": ("JPEG2000", {"num_resolutions": 1}),
    "qoi": ("QOI", {}),
    "dds": ("DDS", {}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_alpha_is_kept_beside_the_pixels(name: str) -> None:
    format, options = CONTAINERS[name]
    found = only(encode(Image.fromarray(hidden()), format, **options))
    assert found.sha256 == sha256(np.zeros_like(PICTURE))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, 255 - GREY)


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_alpha_of_lossy_containers(format: str) -> None:
    found = only(encode(Image.fromarray(hidden()), format, quality=95))
    assert found.alpha is not None
    assert np.abs(found.alpha.astype(int) - (255 - GREY)).mean() < 5


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "TGA", "AVIF", "HEIF"])
def test_an_opaque_alpha_channel_is_none(format: str) -> None:
    image = Image.fromarray(np.dstack([PICTURE, np.full_like(GREY, 255)]))
    assert only(encode(image, format)).alpha is None


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_with_alpha(format: str) -> None:
    image = Image.merge("LA", [Image.fromarray(np.zeros_like(GREY)), Image.fromarray(GREY)])
    found = only(encode(image, format))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, GREY)


def test_premultiplied_alpha() -> None:
    stored = np.dstack([PICTURE // 255 * GREY[:, :, None], GREY])
    found = only(raw_tiff(stored, 8, photometric=2, extra=1))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, GREY)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_index_of_a_palette(format: str) -> None:
    image = Image.fromarray(PICTURE).quantize(32)
    indices = np.asarray(image)
    found = only(encode(image, format, transparency=int(indices[5, 5])))
    assert found.alpha is not None
    same = only(encode(image, format)).rgb
    assert np.array_equal(found.rgb, same)
    clear = (same == same[5, 5]).all(axis=2)
    assert np.array_equal(found.alpha == 0, clear)


def test_a_palette_with_an_alpha_for_each_index() -> None:
    # One colour, and the picture in the palette's alphas.
    image = Image.fromarray(GREY).convert("P")
    image.putpalette(bytes(768))
    found = only(encode(image, "PNG", transparency=bytes(range(256))))
    assert found.sha256 == sha256(np.zeros_like(PICTURE))
    assert found.alpha is not None
    assert np.array_equal(found.alpha, np.asarray(image))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_colour_key(mode: str) -> None:
    image = Image.fromarray(PICTURE).convert(mode)
    key = image.getpixel((3, 3))
    values = key if isinstance(key, tuple) else (key,)
    chunk = b"".join(int(value).to_bytes(2, "big") for value in values)
    found = only(png_with(encode(image), (b"tRNS", chunk)))
    assert found.alpha is not None
    assert found.alpha[3, 3] == 0
    expected = (np.asarray(image).reshape(120, 160, -1) == np.array(values)).all(axis=2)
    assert np.array_equal(found.alpha == 0, expected)
    # A key of the wrong length says nothing.
    assert only(png_with(encode(image), (b"tRNS", chunk + b"x"))).alpha is None


# --- how it is seen ---------------------------------------------------------------------------------


@given(
    rgb=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), seed=st.integers(0)
)
def test_seen_on_is_the_exact_mixture(rgb: np.ndarray, seed: int) -> None:
    alpha = np.random.default_rng(seed).integers(0, 256, rgb.shape[:2], dtype=np.uint8)
    for value in (0, 255):
        share = alpha[:, :, None] / 255.0
        exact = rgb * share + value * (1 - share)
        assert np.abs(seen_on(rgb, alpha, value) - exact).max() <= 0.5 + 1e-9
        assert np.array_equal(seen_on(rgb, np.full_like(alpha, 255), value), rgb)
        assert (seen_on(rgb, np.zeros_like(alpha), value) == value).all()


def test_seen_on_as_pillow_does_it() -> None:
    image = Image.fromarray(np.dstack([PICTURE, GREY]))
    for value in (0, 255):
        under = Image.new("RGBA", image.size, (value, value, value, 255))
        expected = np.asarray(Image.alpha_composite(under, image))[:, :, :3]
        assert np.abs(seen_on(PICTURE, GREY, value).astype(int) - expected).max() <= 1


def test_looks() -> None:
    assert [name for name, _ in looks(PICTURE, None)] == [""]
    assert [name for name, _ in looks(PICTURE, GREY)] == ["", "white", "black"]


# --- records ----------------------------------------------------------------------------------------


def test_a_picture_in_the_alpha_channel_is_judged_as_it_is_seen(tiny_detector: Any) -> None:
    data = encode(Image.fromarray(hidden()), "PNG")
    on_white, flat, record = tiny_detector.score([GREY[:, :, None].repeat(3, axis=2), PICTURE * 0, data])
    assert record.pixels_sha256 == sha256(np.zeros_like(PICTURE))
    assert record.background == "white"
    assert record.logit == pytest.approx(on_white.logit, abs=1e-6)
    assert record.logit != pytest.approx(flat.logit, abs=1e-3)
    assert not any(warning.startswith("flat") for warning in record.warnings)
    assert record.warnings[-1] == "transparent: not opaque; the score is of the picture as seen on white"
    said = record.to_dict()["pixels"]
    assert said["background"] == "white"
    assert len(said["alpha_sha256"]) == 64


def test_the_highest_look_counts(tiny_detector: Any) -> None:
    found = set()
    for seed in range(12):
        rgb, alpha = shapes(96, 96, seed), shapes(96, 96, seed + 50)[:, :, 0] // 8 + 32 * (seed % 8)
        rgb = 255 - rgb if seed % 2 else rgb // 4
        data = encode(Image.fromarray(np.dstack([rgb, alpha])), "PNG")
        each = tiny_detector.score([picture for _, picture in looks(rgb, alpha)])
        best = int(np.argmax([record.logit for record in each]))
        (record,) = tiny_detector.score([data])
        assert record.logit == pytest.approx(each[best].logit, abs=1e-6)
        assert record.background == [None, "white", "black"][best]
        assert record.pixels_sha256 == sha256(rgb)
        assert [view.logit for view in record.views] == pytest.approx([v.logit for v in each[best].views])
        found.add(record.background)
    assert len(found) > 1


def test_opaque_pictures_say_nothing_of_it(tiny_detector: Any) -> None:
    (record,) = tiny_detector.score([encode(PICTURE)])
    assert set(record.to_dict()["pixels"]) == {"sha256", "width", "height", "format", "frame", "frames"}
    assert record.fingerprint == record.pixels_sha256
    assert not any("transparent" in warning for warning in record.warnings)


def test_alpha_alone_makes_another_fingerprint(tiny_detector: Any) -> None:
    one, other = (encode(Image.fromarray(np.dstack([PICTURE, alpha]))) for alpha in (GREY, 255 - GREY))
    first, second = tiny_detector.score([one, other])
    assert first.pixels_sha256 == second.pixels_sha256
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_the_proof_holds(format: str, tiny_detector: Any) -> None:
    if format == "GIF":
        image = Image.fromarray(PICTURE).quantize(32)
        data = encode(image, "GIF", transparency=int(np.asarray(image)[5, 5]))
    else:
        data = encode(Image.fromarray(hidden()), format)
    copies = list(prove(tiny_detector, data))
    assert len(copies) >= 8
    assert all(copy.equal for copy in copies), [copy.name for copy in copies if not copy.equal]


def test_explanations_are_of_the_picture_that_was_scored(tiny_detector: Any) -> None:
    from aidetect.detector.explain.influence import score_frame

    record, rgb = score_frame(tiny_detector, encode(Image.fromarray(hidden())), "a.png")
    assert record.background == "white"
    assert np.array_equal(rgb, GREY[:, :, None].repeat(3, axis=2))


def scan(folder: Path, model: Path, *more: str) -> list[dict[str, Any]]:
    command = ["scan", str(folder), "--model", str(model), "--format", "json", "-q", *more]
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (0, 1)
    records: list[dict[str, Any]] = json.loads(done.stdout)["records"]
    return records


def without_time(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("milliseconds", "cached")}


def test_the_cache_keeps_all_of_it(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(Image.fromarray(hidden())))
    (folder / "b.png").write_bytes(encode(Image.fromarray(np.dstack([PICTURE, GREY]))))
    (folder / "c.png").write_bytes(encode(PICTURE))
    for more in ([], ["--stability"]):
        first = scan(folder, tiny_model_folder, *more)
        second = scan(folder, tiny_model_folder, *more)
        assert all(record["cached"] for record in second)
        assert [without_time(record) for record in first] == [without_time(record) for record in second]
        assert len(first[0].get("stability", {"copies": [0] * 5})["copies"]) == 5


def test_a_baseline_covers_one_alpha_channel_only(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    accepted = folder / "a.png"
    accepted.write_bytes(encode(Image.fromarray(hidden())))
    baseline = tmp_path / "baseline.json"
    command = ["baseline", "create", str(accepted), "--reason", "ours", "--accept", "any"]
    made = CliRunner().invoke(main, [*command, "-o", str(baseline), "--model", str(tiny_model_folder)])
    assert made.exit_code == 0, made.output
    other = np.dstack([np.zeros_like(PICTURE), noise(160, 120)[:, :, 0]])
    (folder / "b.png").write_bytes(encode(Image.fromarray(other)))
    (folder / "c.png").write_bytes(encode(np.zeros_like(PICTURE)))
    records = scan(folder, tiny_model_folder, "--baseline", str(baseline))
    assert [("accepted" in record) for record in records] == [True, False, False]
    assert len({record["pixels"]["sha256"] for record in records}) == 1


def test_a_look_of_one_colour_is_left_out(tiny_detector: Any) -> None:
    # White on clear ground: on white there is nothing to see.
    data = encode(Image.fromarray(np.dstack([np.full_like(PICTURE, 255), GREY])))
    (record,) = tiny_detector.score([data])
    assert record.background == "black"
    # With nothing to see anywhere it is judged as stored, as any flat picture.
    clear = np.dstack([np.zeros_like(gradient()), np.zeros(gradient().shape[:2], np.uint8)])
    (empty,) = tiny_detector.score([encode(Image.fromarray(clear))])
    assert empty.status == "ok"
    assert any(warning.startswith("flat") for warning in empty.warnings)
