"""Evaluation: which pictures are judged by what, and whether the errors are counted right."""

from __future__ import annotations

import csv
import io
import json
import math
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, shapes

from aidetect.detector.errors import AidetectError, InputError
from aidetect.detector.images.launder import SWEEP
from aidetect.detector.images.views import native_view, whole_view
from aidetect.detector.models.probe import sigmoid
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.training import comparison, conditions, evaluation, scoring
from aidetect.detector.training.dataset import Example, read_index
from aidetect.detector.training.scoring import Scored

THRESHOLDS = Thresholds(ai=0.8, real=0.3)


def scored(label: int, logit: float, **others: Any) -> Scored:
    probability = sigmoid(logit)
    given: dict[str, Any] = {
        "name": f"{label}/{logit}.png",
        "generator": "g" if label else "human",
        "source": "s",
        "group": "s",
        "content": "photo",
        **others,
    }
    return Scored(
        label=label,
        logit=logit,
        probability=probability,
        verdict=THRESHOLDS.verdict(probability),
        **given,
    )


def example(path: Path, label: int = 1, **others: Any) -> Example:
    given: dict[str, Any] = {"generator": "g", "source": "s", "group": "s", **others}
    return Example(path, label, **given)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, seed: int, size: tuple[int, int] = (90, 70), **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(shapes(*size, seed=seed), **options))
        return path

    return write


# --- counting ---------------------------------------------------------------------------------------


def test_rates_of_one_condition() -> None:
    # Verdicts: logit 2 -> .88 ai; 0 -> .5 uncertain; -2 -> .12 real.
    mine = [
        *(scored(1, z) for z in (2.0, 2.5, 0.0, -2.0)),
        *(scored(0, z) for z in (-2.0, -3.0, 0.1, 2.2)),
    ]
    found = evaluation.evaluate(mine, THRESHOLDS).conditions["clean"]
    assert (found.recall.value, found.recall.n) == (0.5, 4)
    assert (found.fpr.value, found.fpr.n) == (0.25, 4)
    assert found.missed.value == 0.25
    assert found.cleared.value == 0.5
    assert found.balanced_accuracy == 0.5
    # 2 beats 3 reals, 2.5 beats 4, 0 beats 2, -2 beats 1 and ties with 1.
    assert found.auc == pytest.approx((3 + 4 + 2 + 1.5) / 16)
    # No real may pass: only 2.5 lies above 2.2.
    assert found.tpr_at_1.value == found.tpr_at_5.value == 0.25
    assert found.confusion == {
        "ai": {"ai": 2, "uncertain": 1, "real": 1},
        "real": {"ai": 1, "uncertain": 1, "real": 2},
    }


def test_categories_are_counted_apart_worst_first() -> None:
    mine = [
        *(scored(1, 3.0, generator="easy") for _ in range(40)),
        *(scored(1, -1.0, generator="hard") for _ in range(30)),
        *(scored(1, 0.0, generator="rare", content="art") for _ in range(5)),
        *(scored(0, -3.0, source="cameras") for _ in range(60)),
        *(scored(0, -3.0, source="polished-a", content="art") for _ in range(30)),
        *(scored(0, 3.0, source="polished-b", content="art") for _ in range(10)),
    ]
    found = evaluation.evaluate(mine, THRESHOLDS).conditions["clean"]
    assert [c.name for c in found.generators] == ["hard", "rare", "easy"]
    assert [c.recall.value for c in found.generators] == [0, 0, 1]
    assert [c.too_few for c in found.generators] == [False, True, False]
    assert [(c.name, c.fpr.value) for c in found.sources] == [
        ("polished-b", 1),
        ("cameras", 0),
        ("polished-a", 0),
    ]
    assert found.polished is not None
    assert (found.polished.name, found.polished.fpr.value, found.polished.n) == ("polished-*", 0.25, 40)
    art, photo = found.content
    assert (art.recall.n, art.fpr.n, art.fpr.value, art.too_few) == (5, 40, 0.25, True)
    assert (photo.recall.n, photo.fpr.n, photo.too_few) == (70, 60, False)
    # 5 of 100 reals may pass; ten tie at 3.0, so none does: AI at 3.0 is not above them.
    assert {c.name: c.recall_at_5.value for c in found.generators} == {"easy": 0, "hard": 0, "rare": 0}


def test_families_gather_generators_and_leave_out_those_of_none() -> None:
    generators = ["sd15", "sdxl", "sdxl", "midjourney", "unknown-ai", "pixart-alpha"]
    mine = [scored(1, 3.0 if name == "sd15" else -3.0, generator=name) for name in generators]
    found = evaluation.evaluate([*mine, scored(0, 0.0)], THRESHOLDS).conditions["clean"]
    assert [(c.name, c.recall.n, c.recall.value) for c in found.families] == [
        ("midjourney", 1, 0),
        ("other", 1, 0),
        ("stable_diffusion", 3, pytest.approx(1 / 3)),
    ]
    assert found.to_dict()["families"]["stable_diffusion"]["recall"]["n"] == 3


def test_the_mean_over_families_counts_each_alike_and_leaves_small_ones_out() -> None:
    several = {"sdxl": (300, 1.0), "midjourney": (30, 0.5), "firefly": (29, 0.0), "unknown-ai": (50, 0.0)}
    mine = [
        scored(1, 3.0 if i < share * n else -3.0, generator=name)
        for name, (n, share) in several.items()
        for i in range(n)
    ]
    found = evaluation.evaluate([*mine, scored(0, 0.0)], THRESHOLDS).conditions["clean"]
    assert found.family_mean == (2, 0.75, 0.75)
    assert found.to_dict()["family_mean"] == {"families": 2, "recall": 0.75, "recall_at_5_fpr": 0.75}
    bare = evaluation.evaluate([scored(1, 3.0), scored(0, 0.0)], THRESHOLDS).conditions["clean"]
    assert bare.family_mean[0] == 0
    assert bare.to_dict()["family_mean"] == {"families": 0, "recall": None, "recall_at_5_fpr": None}


def test_many_groups_have_intervals_over_groups() -> None:
    mine = [scored(i % 2, i % 5 + i % 2, group=f"g{i % 40}") for i in range(200)]
    found = evaluation.evaluate(mine, THRESHOLDS).conditions["clean"]
    assert found.by_group is not None
    assert found.by_group.auc[0] < found.auc < found.by_group.auc[1]
    given = found.to_dict()["by_group"]
    assert given["groups"] == {"ai": 20, "real": 20}
    assert given["fpr"] == {"low": found.by_group.fpr[0], "high": found.by_group.fpr[1]}
    few = evaluation.evaluate(mine[:20], THRESHOLDS).conditions["clean"]
    assert few.by_group is not None
    assert evaluation.evaluate(mine[:10], THRESHOLDS).conditions["clean"].to_dict()["by_group"] is None


def test_conditions_do_not_mix() -> None:
    mine = [
        scored(1, 3.0),
        scored(0, -3.0),
        scored(1, -3.0, condition="jpeg-30"),
        scored(0, 3.0, condition="jpeg-30"),
    ]
    found = evaluation.evaluate(mine, THRESHOLDS).conditions
    assert {name: c.auc for name, c in found.items()} == {"clean": 1, "jpeg-30": 0}


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_valid_json(label: int) -> None:
    found = evaluation.evaluate([scored(label, 1.0)], THRESHOLDS).to_dict()
    clean = json.loads(json.dumps(found, allow_nan=False))["conditions"]["clean"]
    assert clean["auc"] is None
    assert clean["balanced_accuracy"] is None
    assert clean["tpr_at_1_fpr"]["value"] is None
    assert clean["polished"] is None
    assert clean["recall"]["n"] == label


# --- which pictures ---------------------------------------------------------------------------------


def test_cuts_of_one_original_are_one_picture() -> None:
    shard = Path("a.tar")
    tile = example(shard, member="1t", view="tile", group="r", original="x.jpg")
    whole = example(shard, member="1w", view="whole", group="r", original="x.jpg")
    elsewhere = example(shard, member="2t", view="tile", group="q", original="x.jpg")
    nameless = [example(shard, member=f"3{i}", view="tile", group="r") for i in "ab"]
    full = [example(Path(f"{i}.png"), original="same") for i in "ab"]
    found = scoring.pictures([tile, elsewhere, *nameless, whole, *full, full[0]])
    assert found == [(tile, whole), (elsewhere,), *((e,) for e in (*nameless, *full))]


def test_contradictions_are_refused() -> None:
    with pytest.raises(AidetectError, match="both as AI and as real"):
        scoring.pictures([example(Path("a.png"), 1), example(Path("a.png"), 0)])
    with pytest.raises(AidetectError, match="view 'half'"):
        scoring.pictures([example(Path("a.png"), view="half")])


def test_limit_takes_the_same_pictures_of_each_source() -> None:
    found = scoring.pictures(
        example(Path(f"{label}/{source}/{i}.png"), label, source=source)
        for label, source, count in ((1, "a", 20), (0, "b", 3), (0, "a", 20))
        for i in range(count)
    )
    chosen = scoring.choose(found, 5)
    taken = [(p[0].label, p[0].source) for p in chosen]
    assert [taken.count(place) for place in ((1, "a"), (0, "b"), (0, "a"))] == [5, 3, 5]
    assert chosen == scoring.choose(found, 5)
    assert chosen == [p for p in found if p in chosen]
    assert chosen != scoring.choose(found, 5, seed=1)


# --- laundering -------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["mix", "rework"])
def test_random_conditions_depend_on_the_picture_alone(condition: str) -> None:
    rgb = shapes(120, 90)
    once = conditions.laundered(rgb, condition, "key")
    assert np.array_equal(once, conditions.laundered(rgb, condition, "key"))
    others = [conditions.laundered(rgb, condition, f"key{i}") for i in range(4)]
    assert any(o.shape != once.shape or not np.array_equal(o, once) for o in others)


def test_sweep_conditions_are_applied() -> None:
    rgb = shapes(80, 60)
    assert np.array_equal(conditions.laundered(rgb, "clean", ""), rgb)
    assert conditions.laundered(rgb, "resize-0.5", "").shape == (30, 40, 3)
    with pytest.raises(AidetectError, match="no condition called 'wash'"):
        conditions.laundered(rgb, "wash", "")


def test_a_picture_no_encoder_takes_is_an_input_error() -> None:
    long = np.zeros((1, 17_000, 3), np.uint8)  # WebP ends at 16,383
    with pytest.raises(InputError) as caught:
        conditions.laundered(long, "webp-75", "")
    assert caught.value.kind == "not_launderable"


# --- scoring ----------------------------------------------------------------------------------------


def test_whole_files_get_the_detectors_own_scores(tiny_detector: Any, picture: Callable[..., Path]) -> None:
    paths = [picture(f"{i}.png", i) for i in range(5)]
    examples = [example(path, i % 2) for i, path in enumerate(paths)]
    progress: list[int] = []
    found = list(scoring.score_examples(tiny_detector, examples, ["clean", "jpeg-60"], progress.append))
    assert [(s.name, s.condition) for s in found] == [
        (str(path), condition) for path in paths for condition in ("clean", "jpeg-60")
    ]
    records = tiny_detector.score(paths)
    assert [s.logit for s in found[::2]] == pytest.approx([r.logit for r in records], abs=1e-5)
    assert [s.verdict for s in found[::2]] == [r.verdict for r in records]
    jpegs = tiny_detector.score([SWEEP["jpeg-60"](shapes(90, 70, seed=i)) for i in range(5)])
    assert [s.logit for s in found[1::2]] == pytest.approx([r.logit for r in jpegs], abs=1e-5)
    assert progress == list(range(1, 11))


def test_scoring_does_not_depend_on_the_neighbours(tiny_detector: Any, picture: Callable[..., Path]) -> None:
    examples = [example(picture(f"{i}.png", i)) for i in range(4)]
    together = {s.name: s.logit for s in scoring.score_examples(tiny_detector, examples, ["mix"])}
    for one in examples:
        (alone,) = scoring.score_examples(tiny_detector, [one], ["mix"])
        assert alone.logit == pytest.approx(together[one.name], abs=1e-5)


def test_bad_pictures_are_reported_and_passed_over(tiny_detector: Any, picture: Callable[..., Path]) -> None:
    good = [example(picture(f"{i}.png", i)) for i in range(2)]
    broken = picture("broken.png", 3)
    broken.write_bytes(b"no picture")
    long = picture("long.png", 4, (17_000, 2))
    examples = [good[0], example(broken), example(long), good[1], example(broken.parent / "gone.png")]
    errors: list[tuple[str, str]] = []
    progress: list[int] = []
    found = list(
        scoring.score_examples(
            tiny_detector,
            examples,
            ["clean", "webp-50"],
            progress.append,
            lambda e, error: errors.append((e.path.name, error.kind)),
        )
    )
    assert [(Path(s.name).name, s.condition) for s in found] == [
        ("0.png", "clean"),
        ("0.png", "webp-50"),
        ("long.png", "clean"),
        ("1.png", "clean"),
        ("1.png", "webp-50"),
    ]
    assert sorted(errors) == [
        ("broken.png", "not_an_image"),
        ("gone.png", "unreadable"),
        ("long.png", "not_launderable"),
    ]
    assert progress[-1] == 10


def test_stopping_early_leaves_nothing_running(tiny_detector: Any, picture: Callable[..., Path]) -> None:
    examples = [example(picture(f"{i}.png", i)) for i in range(20)]
    stream = scoring.score_examples(tiny_detector, examples, ["clean", "chain"])
    assert next(stream).condition == "clean"
    stream.close()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """An index of cuts in a tar: picture 0 has both views, 1 a tile only, 2 a whole only."""
    cuts = [(0, "tile"), (1, "tile"), (2, "whole"), (0, "whole")]
    with tarfile.open(tmp_path / "cuts.tar", "w") as archive:
        for number, view in cuts:
            data = encode(shapes(50, 40, seed=10 * number + (view == "whole")))
            member = tarfile.TarInfo(f"{number}{view}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    path = tmp_path / "index.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["shard", "member", "label", "view", "source", "repo", "path"])
        for number, view in cuts:
            rows.writerow(["cuts.tar", f"{number}{view}.png", "ai", view, "s", "r", f"{number}.jpg"])
    return path


@pytest.mark.parametrize("batch_size", [1, 8])
def test_cuts_are_judged_by_the_view_they_stand_for(tiny_detector: Any, shard: Path, batch_size: int) -> None:
    tiny_detector.batch_size = batch_size
    model, size = tiny_detector.model, tiny_detector.model.tower.preprocess.size

    def by_native(seed: int) -> float:
        view = native_view(shapes(50, 40, seed=seed), size).rgb
        return float(model.probes["native"].logits(model.tower.features(np.stack([view])))[0])

    def by_whole(seed: int) -> float:
        view = whole_view(shapes(50, 40, seed=seed), size).rgb
        return float(model.probes["whole"].logits(model.tower.features(np.stack([view])))[0])

    examples = read_index(shard)
    assert {e.original for e in examples} == {"0.jpg", "1.jpg", "2.jpg"}
    found = list(scoring.score_examples(tiny_detector, examples, ["clean"]))
    share = tiny_detector.calibration.share
    expected = [share * by_whole(1) + (1 - share) * by_native(0), by_native(10), by_whole(21)]
    assert [s.logit for s in found] == pytest.approx(expected, abs=1e-5)
    assert [Path(s.name).name for s in found] == ["0tile.png", "1tile.png", "2whole.png"]


@pytest.mark.parametrize("spread", [False, True])
def test_ends_stand_for_the_centred_square_where_a_mode_looks_at_them(
    tiny_detector: Any, tmp_path: Path, spread: bool
) -> None:
    tiny_detector.plan = replace(tiny_detector.plan, spread=spread)
    seeds = {"whole": 1, "end": 2, "end-2": 3}
    with (tmp_path / "index.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label", "view", "repo", "path"])
        for name, seed in seeds.items():
            (tmp_path / f"{name}.png").write_bytes(encode(shapes(50, 50, seed=seed)))
            rows.writerow([f"{name}.png", "ai", name.split("-")[0], "r", "x.jpg"])
    (scored,) = scoring.score_examples(tiny_detector, read_index(tmp_path / "index.csv"), ["clean"])
    looked_at = ["end", "end-2"] if spread else ["whole"]
    cuts = [("whole", shapes(50, 50, seed=seeds[name])) for name in looked_at]
    assert scored.logit == pytest.approx(np.mean(scoring.cut_logits(tiny_detector, cuts)), abs=1e-5)


def test_cuts_are_laundered_too(tiny_detector: Any, shard: Path) -> None:
    conditions = ["clean", "jpeg-30", "mix"]
    found = list(scoring.score_examples(tiny_detector, read_index(shard), conditions))
    assert [s.condition for s in found] == conditions * 3
    assert len({s.logit for s in found}) == 9


def test_unknown_cuts_are_refused(tiny_detector: Any) -> None:
    with pytest.raises(ValueError, match="full"):
        scoring.cut_logits(tiny_detector, [("full", shapes())])
    assert scoring.cut_logits(tiny_detector, []) == []


# --- other tools ------------------------------------------------------------------------------------


def test_scores_are_matched_by_path_then_by_unique_base_name() -> None:
    names = ["a/1.png", "b/1.png", "a/2.png", "a/3.png", "a/4.png"]
    scores = {"./a/1.png": 0.1, "2.png": 0.2, "x/3.png": 0.3, "y/3.png": 0.4, "1.png": 0.5}
    assert comparison.match_scores(names, scores) == {"a/1.png": 0.1, "a/2.png": 0.2}


def test_reading_scores(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("\ufefffile,score,more\na.png,0.25,x\nb.png,,failed\na.png,0.25,again\nc.png,1,\n")
    assert comparison.read_scores(path) == {"a.png": 0.25, "c.png": 1}
    path.write_text("name,score\nd.png,0\n")
    assert comparison.read_scores(path) == {"d.png": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,score\na,1\n", "needs the columns"),
        ("", "needs the columns"),
        ("file,score\n", "holds no scores"),
        ("file,score\na,1.5\n", "line 2: '1.5' is not a number in 0..1"),
        ("file,score\na,0.5\nb,nan\n", "line 3"),
        ("file,score\na,high\n", "'high'"),
        ("file,score\na,0.5\na,0.6\n", "line 3: a different score for a"),
    ],
)
def test_bad_scores_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(AidetectError, match=message):
        comparison.read_scores(path)
    with pytest.raises(AidetectError, match="cannot read the scores"):
        comparison.read_scores(tmp_path / "gone.csv")


def test_comparison_is_on_the_common_clean_pictures() -> None:
    mine = [
        scored(1, 2.0, name="a/1.png"),
        scored(1, -2.0, name="a/2.png"),
        scored(0, -1.0, name="r/3.png"),
        scored(0, 5.0, name="r/4.png"),
        scored(1, -9.0, name="a/1.png", condition="mix"),
    ]
    other = {"1.png": 0.4, "2.png": 0.9, "3.png": 0.5, "else.png": 0.7}
    theirs, ours = comparison.compare(mine, other, "other", THRESHOLDS)
    assert (theirs.tool, theirs.n_ai, theirs.n_real) == ("other", 2, 1)
    assert (theirs.auc, theirs.recall.value, theirs.fpr.value) == (0.5, 0.5, 1)
    assert (ours.auc, ours.recall.value, ours.fpr.value) == (0.5, 0.5, 0)
    assert not math.isnan(ours.ece)
    json.dumps([theirs.to_dict(), ours.to_dict()], allow_nan=False)
    with pytest.raises(AidetectError, match="match none of the pictures"):
        comparison.compare(mine, {"x.png": 0.5}, "other", THRESHOLDS)
    with pytest.raises(AidetectError, match="clean"):
        comparison.compare(mine[-1:], other, "other", THRESHOLDS)
