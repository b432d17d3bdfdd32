"""Margins: plain bars and caption strips that were put around a picture, and the part that they leave.

Video players, social sites and meme makers set pictures on black or white. Looked at together with its bars,
a picture is judged by them: a few plain squares in the place of what was made, or not made, by a model.
"""

from __future__ import annotations

import numpy as np

Box = tuple[int, int, int, int]

# A pixel is of a strip's colour up to the first difference, in grey levels of the channel that differs most,
# and not at all beyond the second.
_NEAR, _FAR = 12, 40
# Share of a line's pixels that are of the colour: in a blank line at least; in a line with writing on it;
# and share that are not in the line where the picture begins.
_BLANK, _WRITTEN, _BEGUN = 0.95, 0.5, 0.4
_GAP = 6  # lines at most between the last blank one and the picture: what encodings blur
_SAMPLES = 512  # pixels of a line that are looked at, at least, where it has so many
_LEAST, _SHARE = 64, 0.2  # sides of what is left, in pixels, and of the picture's
_WORTH = 0.95  # strips that leave more of the area are left alone
_GRID = 8  # of the blocks of JPEG
_ROUNDS = 4  # bars may stand within bars


def content_box(rgb: np.ndarray) -> Box:
    """What bars and caption strips leave of a picture: left, upper, right, lower; all of it without such.

    A strip begins at an edge with a blank line of one colour. More blank lines follow, and lines with writing
    on that colour. It ends a few lines after a blank one, where for some way most pixels are of quite another
    colour. Plain backgrounds do not end so: what stands before them begins at a few pixels, and a gradient
    goes on slowly.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.

    Returns:
        A box whose corner lies on a multiple of 8 pixels, so that what is cut along the blocks of JPEG within
        it is cut along those of the file. Where less would be left than 64 pixels or a fifth of a side, or
        the strips take less than a twentieth of the area, the whole picture.
    """
    height, width = rgb.shape[:2]
    left, upper, right, lower = 0, 0, width, height
    for _ in range(_ROUNDS):
        before = left, upper, right, lower
        upper += _strip(rgb[upper:lower, left:right])
        lower -= _strip(rgb[upper:lower, left:right][::-1])
        left += _strip(rgb[upper:lower, left:right].transpose(1, 0, 2))
        right -= _strip(rgb[upper:lower, left:right].transpose(1, 0, 2)[::-1])
        if before == (left, upper, right, lower):
            break
    sides = ((right - left, width), (lower - upper, height))
    too_small = any(side < max(_LEAST, _SHARE * of) for side, of in sides)
    if too_small or (right - left) * (lower - upper) > _WORTH * width * height:
        return 0, 0, width, height
    left, upper = (-(-place // _GRID) * _GRID for place in (left, upper))
    return left, upper, right, lower


def _strip(lines: np.ndarray, block: int = 64) -> int:
    """How many of the first of ``[n, m, 3]`` lines are a strip that may be taken away."""
    count, length = lines.shape[:2]
    lines = lines[:, :: max(1, length // _SAMPLES)]
    colour = np.median(lines[0], axis=0).astype(np.int16)

    def differences(some: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(some.astype(np.int16) - colour).max(axis=2))

    def alike(some: np.ndarray) -> np.ndarray:
        return np.asarray((differences(some) <= _NEAR).mean(axis=1))

    if alike(lines[:1])[0] < _BLANK:
        return 0
    blank = 0
    for start in range(0, count, block):
        shares = alike(lines[start : start + block])
        ended = np.flatnonzero(shares < _WRITTEN)
        within = shares[: ended[0]] if len(ended) else shares
        blanks = np.flatnonzero(within >= _BLANK)
        blank = start + int(blanks[-1]) if len(blanks) else blank
        if len(ended):
            first = start + int(ended[0])
            break
    else:
        return 0
    begun = (differences(lines[first : blank + 1 + _GAP]) > _FAR).mean(axis=1) >= _BEGUN
    if not begun.any():
        return 0
    thickness = first + int(begun.argmax())
    after = lines[thickness : thickness + max(8, count // 40)]
    goes_on = (alike(after) <= _WRITTEN).mean() >= 0.9 and (differences(after) > _FAR).mean() >= _BEGUN
    return thickness if goes_on else 0
