"""Which frames of a clip are judged: evenly spaced ones, of each picture one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..images.animation import alike, small

DEFAULT_FPS, DEFAULT_FRAMES = 1.0, 64
# Two neighbours whose colour histograms share less than this belong to different shots.
_SHARED = 0.5
_BINS = 4  # for each of red, green and blue


@dataclass(frozen=True)
class Sampling:
    """How densely a clip is sampled.

    Attributes:
        fps: frames a second.
        frames: at most so many.
    """

    fps: float = DEFAULT_FPS
    frames: int = DEFAULT_FRAMES

    def slots(self, seconds: float) -> list[tuple[float, float]]:
        """Equal parts of a clip, of each of which one frame is judged.

        Args:
            seconds: the clip's length.

        Returns:
            The beginning and the middle of each part, in seconds; always at least one.
        """
        count = max(1, min(self.frames, math.floor(seconds * self.fps + 1e-6)))
        return [(i * seconds / count, (i + 0.5) * seconds / count) for i in range(count)]


DEFAULT = Sampling()


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
