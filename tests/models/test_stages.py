"""Stages: when a score is clear, and what it is then."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import gradient, noise, shapes
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.detector import Detector
from aidetect.detector.images.views import ViewPlan, make_views
from aidetect.detector.models.model import Model, load_model
from aidetect.detector.models.probe import Calibration
from aidetect.detector.models.stages import Stage, Stages, stages_from
from aidetect.detector.record import Record
from aidetect.detector.resultcache import ResultCache

FIRST = Stage(Calibration(0.5, 1.0, 0.0), (-1.0, 1.0))
SECOND = Stage(Calibration(0.5, 2.0, 0.0), (-1.0, 1.0))
LAST = Stage(Calibration(0.25, 1.0, 0.5), None)
STAGES = Stages((FIRST, SECOND, LAST))


@pytest.mark.parametrize(
    ("kinds", "logits", "expected"),
    [
        (["whole", "native", "native"], [1.0, 9.0, 9.0], 1.0),
        (["whole", "native", "native"], [-1.5, 9.0, 9.0], -1.5),
        (["whole", "native", "native"], [0.5, 0.5, 9.0], 1.0),
        (["whole", "native", "native"], [0.4, 0.4, 2.4], 0.25 * 0.4 + 0.75 * 1.4 + 0.5),
        (["centre", "native", "whole", "whole", "native"], [0.4, 0.4, 1.0, 3.0, 2.4], 0.5 + 1.05 + 0.5),
        (["centre", "native", "whole"], [2.0, 0.4, 9.0], 2.0),
        (["whole"], [0.5], 0.5),
        (["whole", "native"], [0.4, 0.2], 0.6),
        (["native", "native"], [0.2, 0.4], 0.8),
    ],
)
def test_a_score_is_that_of_the_first_clear_stage(
    kinds: list[str], logits: list[float], expected: float
) -> None:
    assert math.isclose(STAGES.replay(kinds, logits), expected)


def test_one_stage_is_the_join() -> None:
    one = stages_from({"calibration": {"share": 0.3, "slope": 5.0, "intercept": 2.0}})
    assert one.replay(["whole", "native"], [1.0, 2.0]) == Calibration(0.3, 1, 0).join(
        ["whole", "native"], [1.0, 2.0]
    )
    assert not one.goes_on(0, ["whole"], [0.0])


def test_stages_survive_a_card() -> None:
    assert stages_from(json.loads(json.dumps({"stages": STAGES.to_data()}))) == STAGES


@pytest.mark.parametrize("wrong", [[], STAGES.to_data()[:2], STAGES.to_data()[::-1], STAGES.to_data() * 2])
def test_other_stages_are_refused(wrong: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="one stage or three"):
        stages_from({"stages": wrong})


@given(width=st.integers(8, 300), height=st.integers(8, 300))
def test_a_staged_plan_has_the_views_of_the_plain_one(width: int, height: int) -> None:
    plan = ViewPlan(32, whole=True, native=3, whole_jpeg=90, spread=True, trim=True)
    rgb = shapes(width, height)
    plain, staged = make_views(rgb, plan), make_views(rgb, replace(plan, staged=True))
    assert [view.stage for view in staged] == sorted(view.stage for view in staged)
    assert [view.kind for view in staged if view.stage == 0] in (["whole"], ["centre"])
    assert [view.kind for view in staged if view.stage == 1] in ([], ["native"])
    counted = [view for view in staged if view.kind != "centre"]
    assert {(v.kind, v.box, v.rgb.tobytes()) for v in counted} == {
        (v.kind, v.box, v.rgb.tobytes()) for v in plain
    }
    assert len(counted) == len(plain)
    (fast,) = make_views(rgb, ViewPlan(32, whole_jpeg=90, trim=True))
    assert staged[0].box == fast.box
    assert np.array_equal(staged[0].rgb, fast.rgb)


# --- in the stream ----------------------------------------------------------------------------------

PICTURES = [shapes(90, 70, seed) for seed in range(5)] + [noise(64, 200), gradient(40, 24), noise(30, 30)]


def model_with(folder: Path, first: tuple[float, float], second: tuple[float, float]) -> Model:
    """The tiny model with a mode ``adaptive`` whose last stage is ``standard``."""
    model = load_model(str(folder))
    standard = model.card.data["modes"]["standard"]
    share = standard["calibration"]["share"]
    stage = Calibration(share, 1.0, 0.0)
    stages = Stages((Stage(stage, first), Stage(stage, second), Stage(stage)))
    modes = {**model.card.data["modes"], "adaptive": {**standard, "stages": stages.to_data()}}
    return replace(model, card=replace(model.card, data={**model.card.data, "modes": modes}))


def scores(model: Model, mode: str, **options: Any) -> list[Record]:
    from aidetect.detector.models.device import choose

    return Detector(model, choose("cpu", "float32"), mode, **options).score(PICTURES)


EVERYTHING = (-1e9, 1e9)
NOTHING = (0.0, 0.0)


def test_open_scores_are_those_of_standard(tiny_model_folder: Path) -> None:
    model = model_with(tiny_model_folder, EVERYTHING, EVERYTHING)
    for plain, staged in zip(scores(model, "standard"), scores(model, "adaptive"), strict=True):
        assert staged.logit == plain.logit
        kept = sorted((v.kind, v.box, v.logit) for v in staged.views if v.kind != "centre")
        assert kept == sorted((v.kind, v.box, v.logit) for v in plain.views)
        assert len(staged.views) <= len(plain.views) + 1


def test_a_clear_score_is_that_of_the_centred_square(tiny_model_folder: Path) -> None:
    model = model_with(tiny_model_folder, NOTHING, NOTHING)
    for fast, staged in zip(scores(model, "fast"), scores(model, "adaptive"), strict=True):
        assert len(staged.views) == 1
        assert staged.logit == staged.views[0].logit == fast.views[0].logit
        assert staged.views[0].box == fast.views[0].box


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_the_batch_does_not_matter(tiny_model_folder: Path, batch_size: int) -> None:
    logits = [record.logit for record in scores(load_model(str(tiny_model_folder)), "fast")]
    middle = float(np.median(np.array(logits, float)))
    model = model_with(tiny_model_folder, (-1e9, middle), (middle, 1e9))
    expected = scores(model, "adaptive")
    found = scores(model, "adaptive", batch_size=batch_size)
    assert {len(record.views) for record in expected} >= {1, 2}
    for a, b in zip(expected, found, strict=True):
        assert (a.logit, a.verdict, len(a.views)) == (b.logit, b.verdict, len(b.views))
        detector_logit = model.card.stages("adaptive").replay(
            [view.kind for view in a.views], [view.logit for view in a.views]
        )
        assert a.logit == detector_logit


def test_kept_results_know_their_stage(tiny_model_folder: Path, tmp_path: Path) -> None:
    from aidetect.detector.inputs.source import Source
    from aidetect.detector.models.device import choose

    model = model_with(tiny_model_folder, EVERYTHING, NOTHING)
    detector = Detector(model, choose("cpu", "float32"), "adaptive")
    runs = []
    for _ in range(2):
        cache = ResultCache(tmp_path / "cache.sqlite", "tiny", detector.identity, lambda text: None)
        sources = [Source("<array>", "memory", payload=rgb) for rgb in PICTURES]
        runs.append(list(detector.stream(sources, cache=cache)))
        cache.close()
    for first, second in zip(*runs, strict=True):
        assert second.cached and not first.cached
        assert (first.logit, first.views) == (second.logit, second.views)
