"""Which sampled frames show something new, and where shots begin."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..images.animation import alike, small

# Two neighbours whose colour histograms share less than this belong to different shots.
_SHARED = 0.5
_BINS = 4  # for each of red, green and blue


@dataclass(eq=False)
class Sorter:
    """Goes through the sampled frames in order: which shows a picture for the first time, in which shot."""

    _leaders: list[np.ndarray] = field(default_factory=list)
    _before: np.ndarray | None = None
    shot: int = 0

    def is_new(self, rgb: np.ndarray) -> bool:
        """Whether no earlier frame looks like this one. Afterwards `shot` is the number of its shot, from 0.

        Args:
            rgb: ``[height, width, 3]``, dtype ``uint8``.
        """
        one = small(rgb)
        colours = histogram(one)
        if self._before is not None and np.minimum(colours, self._before).sum() < _SHARED:
            self.shot += 1
        self._before = colours
        if any(alike(leader, one) for leader in reversed(self._leaders)):
            return False
        self._leaders.append(one)
        return True


def histogram(rgb: np.ndarray) -> np.ndarray:
    """Shares of 64 colours in a picture, ``[64]``; their sum is 1."""
    level = rgb.astype(np.int64) * _BINS // 256
    names = (level[..., 0] * _BINS + level[..., 1]) * _BINS + level[..., 2]
    return np.bincount(names.ravel(), minlength=_BINS**3) / names.size
