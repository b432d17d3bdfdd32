"""A zoo of files goes through decoding and evidence: no crash, no hang, no word on standard error."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest
import zoo
from conftest import within

from aidetect.detector.errors import InputError
from aidetect.detector.evidence.evidence import find_evidence
from aidetect.detector.images.pixels import decode, size

ANIMALS = dict(zoo.animals())
KINDS = {"empty", "not_an_image", "unsupported", "too_large", "truncated", "damaged"}


def visit(data: bytes) -> int:
    """Decode a file and look for evidence in it, with what is promised of both; returns its frames."""
    frames = 0
    notes: list[str] = []
    with within(10):
        size(data)
        first = None
        try:
            for found in decode(data, max_pixels=2_000_000, frames=4, notes=notes):
                frames += 1
                first = found.rgb
                assert found.rgb.ndim == 3
                assert found.rgb.size > 0
                assert found.alpha is None or found.alpha.shape == found.rgb.shape[:2]
        except InputError as error:
            assert error.kind in KINDS
            assert "\n" not in str(error)
        for note in notes:
            assert note.split(": ")[0] in ("truncated", "damaged", "sampled", "tiff")
            assert "\n" not in note
        find_evidence(data, first)
    return frames


@pytest.mark.parametrize("format", [*zoo.FORMATS, "animated"])
def test_the_zoo(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    mine = {name: data for name, data in ANIMALS.items() if format in name.split()}
    assert mine
    for name, data in mine.items():
        assert visit(data), name
        rng = random.Random(zlib.crc32(name.encode()))
        for _, harmed in zoo.damaged(data, rng):
            visit(harmed)
    assert capfd.readouterr().err == ""


def test_every_mode_is_in_the_zoo() -> None:
    assert {name.split()[-1] for name in ANIMALS} >= set(zoo.MODES)
    assert len(ANIMALS) > 120


def test_a_valid_file_has_no_warning() -> None:
    for name, data in ANIMALS.items():
        notes: list[str] = []
        assert list(decode(data, notes=notes)), name
        assert notes == [], name


def test_no_record_is_lost(tiny_detector: Any) -> None:
    rng = random.Random(5)
    names = sorted(ANIMALS)
    files = [zoo.mutated(ANIMALS[rng.choice(names)], ANIMALS[rng.choice(names)], rng) for _ in range(300)]
    records = tiny_detector.score(files)
    assert len(records) == 300
    assert {record.status for record in records} == {"ok", "error"}
