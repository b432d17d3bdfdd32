"""Stability: re-encodings are scored too, and a verdict that flips under them is not given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import encode, noise, shapes

from aidetect.cli.main import main
from aidetect.detector.detector import Detector
from aidetect.detector.images.stability import REENCODINGS, judge, reencoded
from aidetect.detector.inputs.source import Source
from aidetect.detector.models.probe import Calibration
from aidetect.detector.pending import Extras


@pytest.mark.parametrize(
    ("verdict", "others", "stands"),
    [
        ("ai", ["ai"] * 5, "ai"),
        ("ai", ["ai"] * 3 + ["uncertain"] * 2, "ai"),
        ("ai", ["ai"] * 2 + ["uncertain"] * 3, "uncertain"),
        ("ai", ["ai"] * 4 + ["real"], "uncertain"),
        ("real", ["real"] * 3 + ["uncertain"] * 2, "real"),
        ("real", ["real"] * 4 + ["ai"], "uncertain"),
        ("uncertain", ["ai"] * 5, "uncertain"),
    ],
)
def test_a_verdict_stands_when_most_share_it_and_none_contradicts(
    verdict: str, others: list[str], stands: str
) -> None:
    copies = [{"name": str(i), "verdict": other} for i, other in enumerate(others)]
    found, stability = judge(verdict, copies)
    assert found == stands
    assert stability["kept"] == (found == verdict)
    assert stability["verdict"] == verdict


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (160, 121)])
def test_reencodings_are_pictures_of_the_stated_sizes(size: tuple[int, int]) -> None:
    picture = noise(*size)
    copies = dict(reencoded(picture))
    assert list(copies) == list(REENCODINGS)
    assert all(copy.dtype == np.uint8 and copy.ndim == 3 for copy in copies.values())
    width, height = size
    assert copies["JPEG 50"].shape == (height, width, 3)
    assert copies["half size"].shape == (max(1, height // 2), max(1, width // 2), 3)
    assert copies["80 % crop"].shape == (max(1, round(height * 0.8)), max(1, round(width * 0.8)), 3)
    if width > 10:
        assert np.array_equal(copies["80 % crop"], picture[12:109, 16:144])


def test_the_score_is_the_same_with_and_without(tiny_detector: Detector) -> None:
    sources = [Source("a", "memory", payload=encode(shapes(90, 70)))]
    (bare,) = tiny_detector.stream(sources)
    (asked,) = tiny_detector.stream(sources, extras=Extras(stability=True, thumbnail=32))
    assert asked.logit == pytest.approx(bare.logit, abs=1e-4)
    assert asked.pixels_sha256 == bare.pixels_sha256
    assert asked.stability is not None
    assert [copy["name"] for copy in asked.stability["copies"]] == list(REENCODINGS)
    assert bare.stability is None
    assert bare.thumbnail is None
    assert asked.thumbnail is not None
    assert asked.thumbnail.startswith(b"\xff\xd8")


def test_copies_score_as_pictures_of_their_own(tiny_detector: Detector) -> None:
    picture = shapes(90, 70)
    (record,) = tiny_detector.stream(
        [Source("a", "memory", payload=encode(picture))], extras=Extras(stability=True)
    )
    alone = tiny_detector.score([copy for _, copy in reencoded(picture)])
    assert record.stability is not None
    for copy, other in zip(record.stability["copies"], alone, strict=True):
        assert copy["logit"] == pytest.approx(other.logit, abs=1e-4)


def test_a_flipped_verdict_is_uncertain_and_says_why(tiny_model_folder: Path, tmp_path: Path) -> None:
    detector = Detector.load(str(tiny_model_folder), "cpu")
    # So steep that nothing is in between, with the threshold among the copies' logits.
    source = Source("a", "memory", payload=encode(noise(90, 70)))
    (record,) = detector.stream([source], extras=Extras(stability=True))
    assert record.stability is not None
    assert record.logit is not None
    logits = [copy["logit"] for copy in record.stability["copies"]]
    middle = (record.logit + (max(logits) if record.logit < max(logits) else min(logits))) / 2
    detector.calibration = Calibration(detector.calibration.share, 1e6, -1e6 * middle)
    (flipped,) = detector.stream([source], extras=Extras(stability=True))
    assert flipped.stability is not None
    assert not flipped.stability["kept"]
    assert flipped.stability["verdict"] in ("ai", "real")
    assert flipped.verdict == "uncertain"
    assert flipped.warnings[-1].startswith(f"unstable: {flipped.stability['verdict']} as given, but ")


def test_each_frame_is_judged_with_its_own_copies(tiny_detector: Detector) -> None:
    from PIL import Image

    frames = [Image.fromarray(noise(40, 40, seed=i)) for i in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    (record,) = tiny_detector.stream([Source("a", "memory", payload=data)], extras=Extras(stability=True))
    assert record.stability is not None
    assert len(record.stability["copies"]) == len(REENCODINGS)


def test_the_option(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(shapes(90, 70)))
    words: list[Any] = ["scan", tmp_path, "--model", tiny_model_folder, "--device", "cpu", "--stability"]
    json_ = json.loads(CliRunner().invoke(main, [*map(str, words), "--format", "json"]).stdout)
    (record,) = json_["records"]
    assert len(record["stability"]["copies"]) == 5
    rows = CliRunner().invoke(main, [*map(str, words), "--format", "csv"]).stdout.splitlines()
    at = rows[0].split(",").index("stable")
    assert rows[1].split(",")[at] == str(record["stability"]["kept"])
