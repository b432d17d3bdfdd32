"""How densely a clip is sampled. The child process loads this, so it imports nothing large."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_FPS, DEFAULT_FRAMES = 1.0, 64


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
