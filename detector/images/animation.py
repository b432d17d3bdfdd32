"""Which frames of an animation are judged: those shown longest, each picture once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Browsers show a frame of at most 10 ms for 100 ms.
_SHORTEST, _INSTEAD = 10.0, 100.0
# Side of the small pictures by which frames are compared, and by how much their samples may differ.
_SIDE, _NEAR = 64, 8


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame as it is compared with others: a small RGB picture, and how long it is shown, in ms."""

    small: np.ndarray
    milliseconds: float


def shot(rgb: np.ndarray, milliseconds: float) -> Shot:
    """A frame's `Shot`.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        milliseconds: how long it is shown, as the file says.
    """
    return Shot(small(rgb), milliseconds if milliseconds > _SHORTEST else _INSTEAD)


def small(rgb: np.ndarray) -> np.ndarray:
    """The small picture by which a frame is compared with others, ``[64, 64, 3]``, dtype ``int16``.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
    """
    picture = Image.fromarray(rgb).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture).astype(np.int16)


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two frames look alike: in their `small` pictures no sample differs by more than 8 of 255."""
    return bool(np.abs(one - other).max() <= _NEAR)


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``count`` frames, evenly spaced, the first among them."""
    wanted = max(1, min(count, wanted))
    return sorted({i * count // wanted for i in range(wanted)})


def scenes(shots: Sequence[Shot], endless: bool) -> list[tuple[int, float]]:
    """Different pictures of an animation.

    Args:
        shots: its frames in order.
        endless: whether it starts again for ever; else its last frame stays.

    Returns:
        Of each picture the index of a frame that shows it, and for how many milliseconds it is shown in all.
        Frames that look alike when small (no sample differs by more than 8 of 255) are one picture.
    """
    leaders = np.empty((len(shots), _SIDE, _SIDE, 3), np.int16)
    found: list[tuple[int, float]] = []
    for index, one in enumerate(shots):
        stays = index == len(shots) - 1 and not endless
        shown = float("inf") if stays else one.milliseconds
        # The latest pictures first: neighbours are the likeliest to look alike.
        same = next((i for i in reversed(range(len(found))) if alike(leaders[i], one.small)), None)
        if same is None:
            leaders[len(found)] = one.small
            found.append((index, shown))
        else:
            found[same] = (found[same][0], found[same][1] + shown)
    return found


def chosen(pictures: Sequence[tuple[int, float]], wanted: int) -> list[int]:
    """Indices of the frames to judge: the first, then those shown longest; evenly spaced among equals.

    Args:
        pictures: from `scenes`.
        wanted: at most so many.
    """
    wanted = max(1, min(len(pictures), wanted))
    if wanted == 1:
        return [pictures[0][0]]
    taken: list[int] = []
    for shown in sorted({shown for _, shown in pictures}, reverse=True):
        equals = [index for index, other in pictures if other == shown]
        room = wanted - len(taken)
        taken += [equals[i] for i in evenly_spaced(len(equals), room)] if room else []
    first = pictures[0][0]
    return sorted(taken if first in taken else [first, *taken[:-1]])
