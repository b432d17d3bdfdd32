"""A clip's score and verdict from those of its frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.clips.verdict import AGREEMENT, judged, mixed, nearest, score, settled

LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=40)
ABOUT = {"codec": "h264", "seconds": 4.0, "fps": 8.0}


def reading(logit: float) -> tuple[float, str]:
    return 0.5 + logit / 100, "ai" if logit > 2 else "real" if logit < -2 else "uncertain"


def test_one_shot_counts_by_its_mean_and_shots_by_their_upper_quartile() -> None:
    assert score([1, 2, 6], [0, 0, 0]) == 3
    assert score([0, 1, 2, 3, 4], range(5)) == 3
    assert score([9, 9, 9, 9, 0, 1], [0, 0, 0, 0, 1, 2]) == 5, "a long shot counts once"


@given(LOGITS, st.integers(2, 5))
def test_the_score_does_not_grow_with_the_length(logits: list[float], times: int) -> None:
    once = score(logits, range(len(logits)))
    assert min(logits) <= once <= max(logits)
    again = score(logits * times, [i % len(logits) for i in range(len(logits) * times)])
    assert again == pytest.approx(once)


@pytest.mark.parametrize(
    ("frames", "expected", "share"),
    [
        (["ai"] * 4, "ai", 1.0),
        (["ai", "ai", "real", "real"], "ai", AGREEMENT),
        (["ai", "uncertain", "uncertain", "real"], "uncertain", 0.25),
    ],
)
def test_a_verdict_needs_half_of_the_frames(frames: list[str], expected: str, share: float) -> None:
    assert settled("ai", frames) == (expected, share)


def test_a_clip_tells_its_frames() -> None:
    frames = [
        (ABOUT | {"time": i / 2, "shot": i}, f"{i:064}", z) for i, z in enumerate([-9.0, -8.0, -7.0, 8.0])
    ]
    clip, logit, verdict = judged(frames, reading)
    assert logit == pytest.approx(-7 + 0.25 * 15)
    assert verdict == "real"
    assert (clip["shots"], clip["agreement"], clip["codec"]) == (4, 0.75, "h264")
    assert [frame["verdict"] for frame in clip["frames"]] == ["real", "real", "real", "ai"]
    assert "Not measured" in clip["note"]
    assert nearest([frame["logit"] for frame in clip["frames"]], logit) == 2


def test_a_clip_whose_frames_do_not_agree_is_uncertain_and_says_so() -> None:
    frames = [
        (ABOUT | {"time": i / 2, "shot": i}, f"{i:064}", z) for i, z in enumerate([9.0, 9.0, -9.0, -9.0, 0.0])
    ]
    clip, _, verdict = judged(frames, reading)
    assert verdict == "uncertain"
    assert clip["agreement"] == 0.4
    (warning,) = mixed(clip, "ai", verdict)
    assert warning == "mixed: its score alone would give ai, but only 40% of its frames agree"
    assert mixed(clip, "uncertain", "uncertain") == []
    assert mixed(clip, "real", "real") == ["mixed: 2 of 5 frames are called ai"]
