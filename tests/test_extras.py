"""What is told besides a score never moves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import encode, jpeg_with, png_with, shapes

from aidetect.cli.main import main
from aidetect.detector.detector import Detector
from aidetect.detector.inputs.source import Source
from aidetect.detector.pending import Extras

PARAMETERS = b"parameters\0a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Model: dreamy"


@pytest.fixture
def claiming() -> list[Source]:
    """Pictures whose metadata claim a generator."""
    plain = encode(shapes(90, 70))
    with_comment = jpeg_with(encode(shapes(90, 70, seed=1), "JPEG"), (0xFE, b"Made with Midjourney"))
    files = [plain, png_with(plain, (b"tEXt", PARAMETERS)), with_comment]
    return [Source(str(i), "memory", payload=data) for i, data in enumerate(files)]


def test_the_score_is_bit_equal_with_and_without_evidence(
    tiny_detector: Detector, claiming: list[Source]
) -> None:
    bare = list(tiny_detector.stream(claiming))
    asked = list(tiny_detector.stream(claiming, extras=Extras(evidence=True, thumbnail=64)))
    assert [r.logit for r in bare] == [r.logit for r in asked]
    assert [r.probability for r in bare] == [r.probability for r in asked]
    assert [r.pixels_sha256 for r in bare] == [r.pixels_sha256 for r in asked]
    assert [r.evidence for r in bare] == [None, None, None]
    assert asked[0].evidence == []
    assert asked[1].evidence
    assert asked[0].logit == asked[1].logit, "the same pixels, whatever the metadata claim"


def test_evidence_is_told_in_every_format_and_never_from_the_cache(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png_with(encode(shapes(90, 70)), (b"tEXt", PARAMETERS)))
    words = ["scan", str(tmp_path / "a.png"), "--model", str(tiny_model_folder), "--device", "cpu"]
    plain = json.loads(CliRunner().invoke(main, [*words, "--format", "json"]).stdout)["records"][0]
    for _ in range(2):
        result = CliRunner().invoke(main, [*words, "--evidence", "--format", "json"])
        (record,) = json.loads(result.stdout)["records"]
        assert record["cached"]
        assert record["logit"] == plain["logit"]
        assert record["evidence"][0]["kind"] == "generator-metadata"
    assert "evidence" not in plain
    table = CliRunner().invoke(main, [*words, "--evidence"]).stdout
    assert "evidence: " in table
    assert "generation settings" in CliRunner().invoke(main, [*words, "--evidence", "--format", "csv"]).stdout
