"""The recipe: every choice of a fit, and the modes that a model is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .features import STANDARD, WHOLE_JPEG

DEFAULT_MODES: dict[str, dict[str, Any]] = {
    "fast": {"whole": True, "native": 0, "whole_jpeg": WHOLE_JPEG, "trim": True},
    "adaptive": STANDARD,  # in stages
    "standard": STANDARD,
    "thorough": {**STANDARD, "native": 9},
}


@dataclass(frozen=True)
class Recipe:
    """Choices of a fit.

    Attributes:
        l2_whole, l2_native: penalty of the logistic regression on each kind of view.
        class_blocks, mean_blocks: the blocks whose class tokens and patch means the probes use, from
            and up to, as shares of the tower's depth.
        emphasis_whole, emphasis_native: what three groups of standardised features are multiplied by: class
            tokens of the earlier blocks, of the last quarter of the tower, and patch means.
        components: principal components of the features that are kept.
        centres, width, ridge: of the kernel probe, a support vector machine (see `fit_pair`).
        share: of the kernel probe in the votes that are averaged, each scaled to the same spread.
        crops: native crops of a picture's copy that are fitted. Further ones, and the ends of a picture far
            from square, are measured and calibrated on; in the fit they gained nothing.
        folds: number of group-held-out folds.
        power: how strongly large sources are weighted down (0 not at all, 1 fully).
        family_power: the same of large families of generators.
        laundered_whole, laundered_native: weight of a laundered copy beside a clean one in the fit.
        false_positive_rate: of the ``ai`` threshold, on held-out reals, clean and laundered apart.
        smaller_rate, rougher_rate: the false positive rate that it keeps in each way of making a picture
            smaller (`degrade.SMALLER`) or rougher (`degrade.ROUGHER`).
        content_rate: the one that it keeps on each content, clean and laundered apart.
        enough: reals of such a part, from which on its rate is kept.
        sure: share of other sets of repositories in which the ``ai`` threshold keeps that rate (see
            `calibration.threshold_over_groups`).
        open_first, open_second: log-odds between which ``adaptive`` goes on after its first and second stage.
        miss_rate: share of held-out AI pictures that may fall below the ``real`` threshold.
        seed: of the partition of repositories into folds (see `group_folds`), recorded in the card; nothing
            else is random: extraction is seeded by the pixels, and fitting has no randomness.
    """

    l2_whole: float = 0.3
    l2_native: float = 0.3
    class_blocks: tuple[float, float] = (5 / 12, 1.0)
    mean_blocks: tuple[float, float] = (3 / 12, 8 / 12)
    emphasis_whole: tuple[float, float, float] = (1.0, 0.6, 1.4)
    emphasis_native: tuple[float, float, float] = (1.5, 0.4, 0.7)
    components: int = 1024
    centres: int = 4096
    width: float = 0.7
    ridge: float = 0.2
    share: float = 0.7
    crops: int = 2
    folds: int = 5
    power: float = 0.5
    family_power: float = 0.5
    laundered_whole: float = 0.5
    laundered_native: float = 0.45
    false_positive_rate: float = 0.01
    smaller_rate: float = 0.015
    rougher_rate: float = 0.02
    content_rate: float = 0.02
    enough: int = 150
    sure: float = 0.5
    open_first: tuple[float, float] = (-3.0, 4.0)
    open_second: tuple[float, float] = (-1.5, 3.0)
    miss_rate: float = 0.1
    seed: int = 0

    def tokens(self, blocks: int) -> np.ndarray:
        """Which tokens of a view the probes use: ``[2 * blocks]``, dtype ``bool``, class tokens first."""
        used = np.zeros(2 * blocks, bool)
        for start, (low, high) in ((0, self.class_blocks), (blocks, self.mean_blocks)):
            used[start + round(low * blocks) : start + round(high * blocks)] = True
        return used

    def emphasis(self, kind: str, blocks: int, width: int) -> np.ndarray:
        """What the used features of a kind of view are multiplied by, ``[used features]``."""
        early, late, mean = self.emphasis_whole if kind == "whole" else self.emphasis_native
        each = np.where(np.arange(2 * blocks) < round(0.75 * blocks), early, late)
        each[blocks:] = mean
        return np.repeat(each[self.tokens(blocks)], width)

    def features(self, blocks: int) -> str:
        """The card's text on the tokens that the probes use."""
        spans = [
            f"{round(low * blocks) + 1} to {round(high * blocks)}"
            for low, high in (self.class_blocks, self.mean_blocks)
        ]
        return (
            f"class tokens of blocks {spans[0]} and means of the patch tokens of blocks {spans[1]}, "
            f"of {blocks}, before projection"
        )
