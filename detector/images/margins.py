"""Margins: bars, caption strips and plain pages that were put around a picture, and the part that they leave.

Video players, social sites, meme makers and screenshots set pictures on black or white. Looked at together
with what is around it, a picture is judged by that: plain squares and letters in the place of what was made,
or not made, by a model.
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
_BLOCK = 64  # lines looked at in one go
_SAMPLES = 512  # pixels of a line that are looked at, about
# A page: share of its pixels that are of its colour; of a row or column that has more than that on it; of the
# one picture on it that is not of its colour, of the page that it takes, and of all that is on the page.
_PLAIN, _DOTTED = 0.2, 0.02
_FILLED, _SPACE, _MAIN = 0.85, 0.08, 0.6
_LEAST, _SHARE = 64, 0.2  # sides of what is left, in pixels, and of the picture's
_WORTH = 0.95  # strips that leave more of the area are left alone
_GRID = 8  # of the blocks of JPEG
_ROUNDS = 4  # bars may stand within bars


def content_box(rgb: np.ndarray) -> Box:
    """What bars, captions and a plain page leave of a picture: left, upper, right, lower; all, without such.

    A strip begins at an edge with a blank line of one colour. More blank lines follow, and lines with writing
    on that colour. It ends a few lines after a blank one, where for some way most pixels are of quite another
    colour. Plain backgrounds do not end so: what stands before them begins at a few pixels, and a gradient
    goes on slowly.

    A page is of one colour in good part, and what is on it falls apart at its blank rows and columns: into
    one rectangle that is filled, and holds most of it, and smaller things beside. Drawings on paper do not
    fill a rectangle, nor do most things before a wall; of several pictures of like size none is taken out.

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
        a, b, c, d = _on_page(rgb[upper:lower, left:right])
        left, upper, right, lower = left + a, upper + b, left + c, upper + d
        if before == (left, upper, right, lower):
            break
    sides = ((right - left, width), (lower - upper, height))
    too_small = any(side < max(_LEAST, _SHARE * of) for side, of in sides)
    if too_small or (right - left) * (lower - upper) > _WORTH * width * height:
        return 0, 0, width, height
    left, upper = (-(-place // _GRID) * _GRID for place in (left, upper))
    return left, upper, right, lower


def _strip(lines: np.ndarray) -> int:
    """How many of the first of ``[n, m, 3]`` lines are a strip that may be taken away."""
    count, length = lines.shape[:2]
    lines = lines[:, :: max(1, length // _SAMPLES)]
    colour = _median(lines[0])

    def alike(some: np.ndarray) -> np.ndarray:
        return _shares(_within(some, colour, _NEAR))

    def other(some: np.ndarray) -> np.ndarray:
        return _shares(~_within(some, colour, _FAR))

    if alike(lines[:1])[0] < _BLANK:
        return 0
    blank = 0
    for start in range(0, count, _BLOCK):
        shares = alike(lines[start : start + _BLOCK])
        ended = np.flatnonzero(shares < _WRITTEN)
        within = shares[: ended[0]] if len(ended) else shares
        blanks = np.flatnonzero(within >= _BLANK)
        blank = start + int(blanks[-1]) if len(blanks) else blank
        if len(ended):
            first = start + int(ended[0])
            break
    else:
        return 0
    begun = other(lines[first : blank + 1 + _GAP]) >= _BEGUN
    if not begun.any():
        return 0
    thickness = first + int(begun.argmax())
    after = lines[thickness : thickness + max(8, count // 40)]
    goes_on = (alike(after) <= _WRITTEN).mean() >= 0.9 and other(after).mean() >= _BEGUN
    return thickness if goes_on else 0


def _median(some: np.ndarray) -> list[int]:
    """The median of each channel of ``[n, 3]`` pixels, dtype ``uint8``, rounded down."""
    found = []
    for channel in range(3):
        upto = np.bincount(some[:, channel], minlength=256).cumsum()
        low, high = np.searchsorted(upto, [(len(some) + 1) // 2, len(some) // 2 + 1])
        found.append(int(low + high) // 2)
    return found


def _within(some: np.ndarray, colour: list[int], distance: int) -> np.ndarray:
    """Which of ``[n, m, 3]`` pixels differ from a colour by at most so much in every channel."""
    found = None
    for channel, value in enumerate(colour):
        low, high = max(0, value - distance), min(255, value + distance)
        # In uint8 what is below `low` becomes large.
        near = np.subtract(some[..., channel], np.uint8(low)) <= np.uint8(high - low)
        found = near if found is None else np.logical_and(found, near, out=found)
    return np.asarray(found)


def _shares(marked: np.ndarray) -> np.ndarray:
    """The share of each of ``[n, m]`` lines, dtype ``bool``, that is marked."""
    return np.asarray(marked.sum(axis=1) / marked.shape[1])


def _on_page(rgb: np.ndarray) -> Box:
    """The one picture on a plain page; all of ``[height, width, 3]`` where it is no such page."""
    height, width = rgb.shape[:2]
    step = -(-max(height, width) // _SAMPLES)
    some = rgb[::step, ::step]
    red, green, blue = (np.uint16(some[..., channel] >> 3) for channel in range(3))
    codes = red << 10 | green << 5 | blue
    counts = np.bincount(codes.ravel())
    if counts.max() < _PLAIN * codes.size:
        return 0, 0, width, height
    filled = ~_within(some, _median(some[codes == counts.argmax()]), _NEAR)
    upper, lower, left, right = 0, filled.shape[0], 0, filled.shape[1]
    for _ in range(_ROUNDS):
        before = upper, lower, left, right
        start, end = _largest_run(filled[upper:lower, left:right])
        upper, lower = upper + start, upper + end
        start, end = _largest_run(filled[upper:lower, left:right].T)
        left, right = left + start, left + end
        if before == (upper, lower, left, right):
            break
    inside = filled[upper:lower, left:right]
    main = inside.sum() >= _MAIN * filled.sum() and inside.size >= _SPACE * filled.size
    if not (main and inside.sum() >= _FILLED * inside.size > 0):
        return 0, 0, width, height
    # Up to the last pixels that were looked at: what lies between them and the next may be of the page.
    return left * step, upper * step, (right - 1) * step + 1, (lower - 1) * step + 1


def _largest_run(filled: np.ndarray) -> tuple[int, int]:
    """Start and end of those rows of ``[n, m]``, dtype ``bool``, between blank ones, that hold most."""
    rows = np.concatenate([[False], _shares(filled) > _DOTTED, [False]])
    runs = np.flatnonzero(rows[1:] != rows[:-1]).reshape(-1, 2)
    if not len(runs):
        return 0, len(filled)
    held = [filled[start:end].sum() for start, end in runs]
    start, end = runs[int(np.argmax(held))]
    return int(start), int(end)
