"""Orientation: pictures that look turned are judged turned back, and the others as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_BLOCKS, TINY_WIDTH, encode, exif, noise, shapes
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.detector import Detector
from aidetect.detector.errors import ModelError
from aidetect.detector.explain.influence import score_frame, score_moment
from aidetect.detector.images.turns import turned
from aidetect.detector.images.views import View, ViewPlan, looked_at, make_views
from aidetect.detector.inputs.source import Source
from aidetect.detector.live import Live
from aidetect.detector.models.checksum import file_sha256
from aidetect.detector.models.device import choose
from aidetect.detector.models.model import Model, load_model
from aidetect.detector.models.orientation import NAMES, Orientation
from aidetect.detector.models.probe import ClassProbe, write_tensors
from aidetect.detector.record import Record
from aidetect.detector.resultcache import ResultCache
from aidetect.detector.training.familyfit import fit_classes

PLAN = ViewPlan(32, whole=True, native=3, whole_jpeg=90, spread=True, trim=True, turn=True)


def landscape(width: int = 120, height: int = 80, seed: int = 0) -> np.ndarray:
    """A bright sky above dark ground: a picture with a top."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 40, (height, width, 3))
    rgb[: int(height * rng.uniform(0.4, 0.6))] += 200
    return rgb.astype(np.uint8)


def four(rgb: np.ndarray) -> list[np.ndarray]:
    """A picture as it is stored turned anticlockwise by 0 to 3 quarters."""
    return [np.ascontiguousarray(np.rot90(rgb, quarters)) for quarters in range(4)]


# --- the views --------------------------------------------------------------------------------------


@given(
    width=st.integers(20, 100), height=st.integers(20, 100), quarters=st.integers(1, 3), staged=st.booleans()
)
def test_views_turned_back_are_those_of_the_upright_picture(
    width: int, height: int, quarters: int, staged: bool
) -> None:
    plan = replace(PLAN, staged=staged, trim=False)
    rgb = shapes(2 * width, 2 * height)  # even, so that there is a middle
    stored = four(rgb)[quarters]
    box = looked_at(stored, plan)
    views = make_views(stored, plan, box)
    found = turned(stored, plan, box, views[0], views).views(quarters)
    expected = make_views(rgb, plan)
    assert [(view.kind, view.stage) for view in found] == [(view.kind, view.stage) for view in expected]

    def crops(some: list[View]) -> list[bytes]:
        return [view.rgb.tobytes() for view in some if view.kind == "native"]

    assert crops(found) == crops(expected)
    # Squares are resized before they are turned, so rounding differs; of two at the ends, order may differ.
    near = [view.rgb.astype(int) for view in expected if view.kind != "native"]
    for view in found:
        left, upper, right, lower = view.box
        assert 0 <= left < right <= stored.shape[1]
        assert 0 <= upper < lower <= stored.shape[0]
        inside = np.rot90(stored[upper:lower, left:right], -quarters)
        if view.kind == "native":
            height_, width_ = inside.shape[:2]
            assert np.array_equal(view.rgb[:height_, :width_], inside)
        else:
            assert min(np.abs(view.rgb.astype(int) - other).mean() for other in near) < 4


def test_a_picture_within_bars_is_turned_back_within_them() -> None:
    rgb = np.zeros((100, 160, 3), np.uint8)
    rgb[:, 32:128] = shapes(96, 100)
    box = looked_at(rgb, PLAN)
    assert box == (32, 0, 128, 100)
    for quarters in (1, 2, 3):
        views = make_views(rgb, PLAN, box)
        for view in turned(rgb, PLAN, box, views[0], views).views(quarters):
            assert view.box[0] >= box[0]
            assert view.box[2] <= box[2]


# --- the judge --------------------------------------------------------------------------------------


def vote(*shares: float) -> np.ndarray:
    return np.log(np.array(shares))


JUDGE = Orientation(ClassProbe(NAMES, np.zeros((4, 1)), np.zeros(4)), 0.6, 0.9)


@pytest.mark.parametrize(
    ("votes", "quarters"),
    [
        ([vote(0.97, 0.01, 0.01, 0.01)], 0),
        ([vote(0.01, 0.97, 0.01, 0.01)], 1),
        ([vote(0.7, 0.1, 0.1, 0.1)], 0),
        ([vote(0.55, 0.15, 0.15, 0.15)], None),
        ([vote(0.1, 0.1, 0.1, 0.7)], None),
        ([vote(0.97, 0.01, 0.01, 0.01), vote(0.01, 0.01, 0.97, 0.01)], None),  # two squares disagree
    ],
)
def test_one_way_is_enough_when_it_is_sure(votes: list[np.ndarray], quarters: int | None) -> None:
    assert JUDGE.at_once(votes) == quarters


@given(st.lists(st.floats(0.01, 1), min_size=16, max_size=16, unique=True), st.integers(0, 3))
def test_which_side_is_up_does_not_depend_on_how_a_picture_is_stored(
    shares: list[float], quarters: int
) -> None:
    votes = [np.log(np.array(shares[start : start + 4])) for start in range(0, 16, 4)]
    up = JUDGE.quarters(votes)
    # Stored turned by some more quarters, the same four squares come in another order.
    moved = [votes[(back - quarters) % 4] for back in range(4)]
    assert JUDGE.quarters(moved) == (up + quarters) % 4


# --- scores -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(tiny_model_folder: Path) -> Orientation:
    """A judge fitted on landscapes with the tiny tower."""
    tower = load_model(str(tiny_model_folder)).tower
    plan = ViewPlan(32)
    views = [make_views(rgb, plan)[0].rgb for seed in range(60) for rgb in four(landscape(90, 70, seed=seed))]
    features = tower.features(np.stack(views)).reshape(len(views), -1)
    probe = fit_classes(features, list(NAMES) * 60, np.ones(len(views)), l2=1e-4)
    return Orientation(probe, 0.6, 0.9)


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path, judge: Orientation) -> Model:
    """The tiny model with that judge."""
    model = load_model(str(tiny_model_folder))
    card = replace(model.card, data={**model.card.data, "orientation": {"upright": judge.upright}})
    return replace(model, card=card, orientation=judge)


def detector(model: Model, mode: str = "standard", batch_size: int = 8) -> Detector:
    return Detector(model, choose("cpu", "float32"), mode, workers=2, batch_size=batch_size)


@pytest.mark.parametrize("mode", ["fast", "standard", "thorough"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_picture_scores_alike_however_it_is_stored(model: Model, mode: str, batch_size: int) -> None:
    stored = [rgb for seed in range(100, 104) for rgb in four(landscape(150, 90, seed))]
    plain = replace(model, orientation=None, card=load_model(str(model.card.folder)).card)
    records = detector(model, mode, batch_size).score(stored)
    before = detector(plain, mode, batch_size).score(stored)
    assert [record.turned for record in records] == [0, 90, 180, 270] * 4
    for start in range(0, 16, 4):
        logits = [record.logit for record in records[start : start + 4]]
        assert logits == pytest.approx([logits[0]] * 4, abs=0.05)
        others = [record.logit for record in before[start : start + 4]]
        assert max(others) - min(others) > 0.1  # it is the judge that makes them alike
        assert logits[0] == others[0]
        natives = [{v.logit for v in r.views if v.kind == "native"} for r in records[start : start + 4]]
        assert all(found == natives[0] for found in natives)


@pytest.mark.parametrize("size", [(90, 70), (90, 140), (64, 200), (300, 90)])
def test_upright_pictures_score_as_before(model: Model, size: tuple[int, int]) -> None:
    rgb = landscape(*size, seed=7)
    plain = replace(model, orientation=None, card=load_model(str(model.card.folder)).card)
    (new,), (old,) = detector(model).score([rgb]), detector(plain).score([rgb])
    assert new.turned == 0
    assert (new.logit, new.views, new.warnings) == (old.logit, old.views, old.warnings)


def test_pictures_without_a_top_score_alike_too(model: Model, judge: Orientation) -> None:
    never = replace(
        model, orientation=replace(judge, upright=1.1, turned=1.1)
    )  # so that all four ways are looked at
    for seed in range(4):
        records = detector(never).score(four(noise(120, 80, seed)))
        assert len({record.turned for record in records}) == 4
        assert [r.logit for r in records] == pytest.approx([records[0].logit] * 4, abs=0.05)
        assert {view.kind for record in records for view in record.views} == {"whole", "native"}
        quick = detector(never, "fast")
        quick.plan = replace(quick.plan, native=0)  # one view is all that it looks at
        assert {record.turned for record in quick.score(four(noise(120, 80, seed)))} == {0}


def test_the_tag_counts_for_nothing(model: Model) -> None:
    rgb = landscape(150, 90, 3)
    for quarters, stored in enumerate(four(rgb)):
        files = [encode(stored, "PNG", exif=exif(tag)) for tag in range(1, 9)]
        records = detector(model).score(files)
        assert {record.turned for record in records} == {90 * quarters}
        assert len({record.logit for record in records}) == 1


def test_the_record_says_so(model: Model) -> None:
    (record,) = detector(model).score([four(landscape(150, 90))[3]])
    data = json.loads(json.dumps(record.to_dict()))
    assert data["pixels"]["turned"] == 270
    assert Record.from_dict(data).turned == 270
    (upright,) = detector(model).score([landscape(150, 90)])
    assert "turned" not in upright.to_dict()["pixels"]
    for view in record.views:
        left, upper, right, lower = view.box
        assert 0 <= left < right <= 90
        assert 0 <= upper < lower <= 150


def test_from_the_cache_and_beside_others(model: Model, tmp_path: Path) -> None:
    stored = [encode(rgb) for rgb in four(landscape(150, 90, 5))]
    one = detector(model)
    first = one.score(stored)
    cache = ResultCache(tmp_path / "c.sqlite", "tiny", one.identity)
    for _ in range(2):
        sources = [Source("a", "memory", payload=data) for data in stored]
        found = list(one.stream(sources, cache=cache))
        assert [(r.logit, r.turned, r.views) for r in found] == [(r.logit, r.turned, r.views) for r in first]
    assert all(record.cached for record in found)
    live = Live({"standard": one})
    futures = [live.submit(Source("a", "memory", payload=data)) for data in stored]
    assert [future.result(60).logit for future in futures] == [record.logit for record in first]
    live.close()


def test_an_explanation_is_of_the_picture_turned_back(model: Model) -> None:
    rgb = landscape(150, 90, 9)
    for stored in four(rgb):
        _, frame = score_frame(detector(model), encode(stored), "a.png")
        assert np.array_equal(frame, rgb)


def test_an_explained_frame_of_a_clip_is_turned_back_too(model: Model) -> None:
    from drawnclips import clip

    rgb = landscape(160, 96, 11)
    data = clip("h264.mp4", [np.ascontiguousarray(np.rot90(rgb))] * 4)
    whole, shown = score_frame(detector(model), data, "a.mp4")
    assert whole.clip is not None
    assert whole.frame is not None
    time = whole.clip["frames"][whole.frame]["time"]
    record, frame, at = score_moment(detector(model), data, "a.mp4", time)
    assert (whole.turned, record.turned, at) == (90, 90, time)
    assert frame.shape == rgb.shape
    assert frame[:20].mean() > frame[-20:].mean()
    assert np.array_equal(shown, frame)


# --- the file ---------------------------------------------------------------------------------------


@pytest.fixture
def with_judge(model_copy: Path) -> Iterator[Callable[..., Path]]:
    """Writes a judge of a given shape into a copy of the tiny model."""

    def make(length: int = TINY_BLOCKS * TINY_WIDTH, listed: bool = True, **tensors: np.ndarray) -> Path:
        path = model_copy / "orientation.safetensors"
        write_tensors(path, tensors or {"weight": np.zeros((4, length), np.float32), "bias": np.zeros(4)})
        card = json.loads((model_copy / "model.json").read_text())
        card["orientation"] = {"file": path.name, "upright": 0.6, "turned": 0.9}
        if listed:
            card["files"][path.name] = file_sha256(path)
        (model_copy / "model.json").write_text(json.dumps(card))
        return model_copy

    yield make


def test_a_judge_is_loaded_with_its_model(with_judge: Callable[..., Path]) -> None:
    found = load_model(str(with_judge())).orientation
    assert found is not None
    assert (found.upright, found.turned) == (0.6, 0.9)
    assert Detector.load(str(with_judge()), "cpu").plan.turn


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 3}, "does not fit"),
        ({"listed": False}, "no hash"),
        ({"bias": np.zeros(4)}, "lacks the tensor"),
    ],
)
def test_a_judge_that_does_not_fit_is_refused(
    with_judge: Callable[..., Path], options: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(str(with_judge(**options)))
