"""A clip's score and verdict from those of its frames.

The score is a high quantile over shots of each shot's mean logit. Unlike the maximum it does not grow with a
clip's length. A verdict stands only where enough frames get it too: no video generator was there to measure
on. `benchmarks/clips.py` compares the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Of a clip's shots in order of their logits: the place of the one that scores it, 0 to 1.
QUANTILE = 0.75
# Share of the frames that must have a verdict of their own for the clip to get it; else it is ``uncertain``.
AGREEMENT = 0.5
NOTE = "Not measured on videos of generators. A clip's verdict needs half of its frames."


def score(logits: Sequence[float], shots: Sequence[int]) -> float:
    """A clip's logit.

    Args:
        logits: one a frame.
        shots: the number of each frame's shot.
    """
    values, of = np.asarray(logits, np.float64), np.asarray(shots)
    return float(np.quantile([values[of == shot].mean() for shot in np.unique(of)], QUANTILE))


def settled(verdict: str, verdicts: Sequence[str]) -> tuple[str, float]:
    """A clip's verdict, and the share of the frames that agree with what its score alone would give.

    Args:
        verdict: what the score alone gives.
        verdicts: of the frames.
    """
    share = sum(one == verdict for one in verdicts) / len(verdicts)
    return (verdict if share >= AGREEMENT else "uncertain"), share


def mixed(clip: Mapping[str, Any], alone: str, verdict: str) -> list[str]:
    """The warning for a clip whose frames do not agree; empty if they do.

    Args:
        clip: the ``clip`` object of its record.
        alone: the verdict that its score alone would give.
        verdict: its verdict.
    """
    if alone != verdict:
        share = f"{clip['agreement']:.0%}"
        return [f"mixed: its score alone would give {alone}, but only {share} of its frames agree"]
    opposite = {"ai": "real", "real": "ai"}.get(verdict)
    others = sum(frame["verdict"] == opposite for frame in clip["frames"])
    return [f"mixed: {others} of {len(clip['frames'])} frames are called {opposite}"] if others else []


def nearest(logits: Sequence[float], logit: float) -> int:
    """Index of the frame whose logit is nearest to the clip's."""
    return int(np.argmin(np.abs(np.asarray(logits) - logit)))


def judged(
    frames: Sequence[tuple[Mapping[str, Any], str, float]], reading: Callable[[float], tuple[float, str]]
) -> tuple[dict[str, Any], float, str]:
    """A clip, judged by its frames.

    Args:
        frames: of each what is known of it (``time, shot``, and of the clip ``codec, seconds, fps``), the
            SHA-256 of its pixels, and its logit.
        reading: gives the probability and the verdict for a logit (`Detector.reading`).

    Returns:
        The ``clip`` object of a record, the clip's logit, and its verdict.
    """
    found = []
    for about, sha256, logit in frames:
        probability, verdict = reading(logit)
        scores = {"logit": logit, "probability": probability, "verdict": verdict}
        found.append({"time": about["time"], "shot": about["shot"], "pixels_sha256": sha256} | scores)
    shots = [one["shot"] for one in found]
    logit = score([one["logit"] for one in found], shots)
    verdict, agreement = settled(reading(logit)[1], [one["verdict"] for one in found])
    clip = {name: frames[0][0][name] for name in ("codec", "seconds", "fps")}
    clip |= {"shots": len(set(shots)), "agreement": agreement, "note": NOTE, "frames": found}
    return clip, logit, verdict
