"""Heat maps: a picture with the influence of its parts drawn over it, as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images.margins import Box
from .influence import Influence, Patches, Tile

# Blue, white, orange: distinguishable with every kind of colour vision (after Okabe and Ito, 2008).
_STOPS = np.linspace(-1, 1, 5)
_SCALE = np.array([(0, 68, 136), (86, 166, 214), (250, 250, 250), (245, 158, 66), (178, 68, 0)], float)
_OPACITY = 0.6
_INK, _SOFT, _PAPER = (25, 25, 25), (95, 95, 95), (255, 255, 255)

_LONGEST, _SHORTEST = 1000, 640  # of a panel's longer side, in pixels
_NARROWEST = 480  # of a column: titles and colour bars need room
_MARGIN, _GAP, _BAR = 28, 36, 18
# A colour scale ends at these values or above, so that tiny values do not look large. It covers 95 % of the
# values and not all, because a single crop or patch often outweighs the rest.
_LEAST_TILES, _LEAST_PATCHES, _NEARLY_ALL = 2.0, 0.02, 0.95
_SMALLEST_TILE = 14  # side as drawn, in pixels

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]


def heat_map(rgb: np.ndarray, influence: Influence, heading: str, details: str, scored: int) -> Image.Image:
    """Draw which parts of a picture moved its score.

    The left panel shows the logits of native crops. The right panel, if there are patches, shows what each
    patch adds, relative to the mean patch. Each panel has a colour bar.

    Args:
        rgb: the picture, ``[height, width, 3]``, dtype ``uint8``.
        influence: the tiles and patches to draw.
        heading: what the score says, one line.
        details: file and model, one line.
        scored: number of native crops in the score.
    """
    picture, scale = _underlay(rgb)
    panels = [_tile_panel(picture, scale, influence.tiles, scored)]
    if influence.patches:
        panels.append(_patch_panel(picture, scale, influence.patches))
    body = _beside(panels)
    width = body.width + 2 * _MARGIN
    head = _text_block(width - 2 * _MARGIN, [(heading, 28, _INK), (details, 16, _SOFT)])
    foot = _text_block(width - 2 * _MARGIN, [(line, 16, _INK) for line in _closing(influence)])
    canvas = Image.new("RGB", (width, head.height + body.height + foot.height + 4 * _MARGIN), _PAPER)
    canvas.paste(head, (_MARGIN, _MARGIN))
    canvas.paste(body, (_MARGIN, head.height + 2 * _MARGIN))
    canvas.paste(foot, (_MARGIN, head.height + body.height + 3 * _MARGIN))
    return canvas


def png(image: Image.Image) -> bytes:
    """An image encoded as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def colours(values: np.ndarray, limit: float) -> np.ndarray:
    """Values as colours of the diverging scale.

    Args:
        values: any shape; values beyond ``limit`` or below ``-limit`` get the colour of that end.
        limit: value at the end of the scale, above zero.

    Returns:
        ``[*values.shape, 3]``, dtype ``float64``, 0..255.
    """
    at = np.clip(values / limit, -1, 1)
    return np.stack([np.interp(at, _STOPS, _SCALE[:, channel]) for channel in range(3)], axis=-1)


def _closing(influence: Influence) -> list[str]:
    lines = ["Influence on the score, not proof. Crops: orange points to AI-generated, blue to real."]
    if not influence.patches:
        lines.append("No map of the whole view: this model's score cannot be split over patches.")
    else:
        lines.append("Patches: orange adds more to the score than the average patch, blue less.")
    return lines


def _tile_panel(picture: Image.Image, scale: float, tiles: Sequence[Tile], scored: int) -> Image.Image:
    width, height = picture.size
    boxes = [_drawn(tile.box, scale, picture.size) for tile in tiles]
    logits = np.array([tile.logit for tile in tiles])
    limit = _limit(logits, _LEAST_TILES)
    picture = _overlay(picture, *_mean(picture.size, boxes, logits), limit)
    draw = ImageDraw.Draw(picture)
    font = _font(17)
    for left, upper, right, lower in boxes:
        draw.rectangle((left, upper, right - 1, lower - 1), outline=_PAPER)
    for (left, upper, right, lower), tile in zip(boxes, tiles, strict=True):
        text = f"{tile.logit:+.1f}"
        middle = (upper + lower) / 2
        if right - left < font.getlength(text) + 20:  # below a small tile, or above it at the bottom edge
            middle = lower + 12 if lower + 22 <= height else upper - 12
        place = ((left + right) / 2, middle)
        draw.text(place, text, _INK, font, anchor="mm", stroke_width=3, stroke_fill=_PAPER)
    return _panel(
        picture,
        "Crops at native resolution",
        _colour_bar(max(_NARROWEST, width), limit, logits),
        f"Logits of native crops: {len(tiles)} here, while the score itself uses {scored}. White is zero. "
        "Where crops overlap, the colour shows their mean.",
    )


def _patch_panel(picture: Image.Image, scale: float, patches: Sequence[Patches]) -> Image.Image:
    boxes = [_drawn(each.box, scale, picture.size) for each in patches]
    painted = []
    for (left, upper, right, lower), each in zip(boxes, patches, strict=True):
        rows = np.arange(lower - upper) * each.grid.shape[0] // (lower - upper)
        columns = np.arange(right - left) * each.grid.shape[1] // (right - left)
        painted.append(each.relative[np.ix_(rows, columns)])
    relative = np.concatenate([each.relative for each in patches])
    limit = _limit(relative, _LEAST_PATCHES)
    values, inside = _mean(picture.size, boxes, painted)
    picture = _overlay(picture, values, inside, limit)
    if len(boxes) > 1 or not inside.all():
        for left, upper, right, lower in boxes:
            ImageDraw.Draw(picture).rectangle((left, upper, right - 1, lower - 1), outline=_INK)
    mean = [float(np.mean(part)) for part in zip(*(each.parts for each in patches), strict=True)]
    of = "the whole view's logit" if len(patches) == 1 else f"the mean logit of {len(patches)} whole views"
    return _panel(
        picture,
        "Whole view, patch by patch",
        _colour_bar(max(_NARROWEST, picture.width), limit, relative),
        f"What each patch adds to {of} ({sum(mean):+.2f}), compared with the mean patch. "
        f"All patches together add {mean[0]:+.2f}. The class token adds {mean[1]:+.2f} and the bias "
        f"{mean[2]:+.2f}; neither has a place in the picture. Places are approximate, because patches also "
        "hold information about their surroundings. Even an empty picture shows a pattern.",
    )


def _underlay(rgb: np.ndarray) -> tuple[Image.Image, float]:
    """The picture in grey at the size it is drawn, and the scale factor to that size."""
    height, width = rgb.shape[:2]
    longest = max(height, width)
    scale = min(_LONGEST, max(_SHORTEST, longest)) / longest
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kernel = Image.Resampling.BICUBIC
    small = Image.fromarray(rgb).resize(size, kernel, reducing_gap=3.0)
    return small.convert("L").convert("RGB"), scale


def _drawn(box: Box, scale: float, size: tuple[int, int]) -> Box:
    """A box of the picture in the panel's pixels, large enough to be seen and inside the panel."""
    spans = []
    for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        extent = min(length, max(_SMALLEST_TILE, round((high - low) * scale)))
        start = min(max(0, round((low + high) / 2 * scale - extent / 2)), length - extent)
        spans.append((start, start + extent))
    (left, right), (upper, lower) = spans
    return left, upper, right, lower


def _mean(
    size: tuple[int, int], boxes: Sequence[Box], values: Sequence[np.ndarray] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the boxes' values (a number or an array each), and where any box lies.

    Both are ``[height, width]``.
    """
    total, count = np.zeros(size[::-1]), np.zeros(size[::-1])
    for (left, upper, right, lower), value in zip(boxes, values, strict=True):
        total[upper:lower, left:right] += value
        count[upper:lower, left:right] += 1
    return total / np.maximum(count, 1), count > 0


def _overlay(picture: Image.Image, values: np.ndarray, where: np.ndarray, limit: float) -> Image.Image:
    """Draw colours over a picture. Parts outside all boxes are lightened."""
    grey = 80 + np.asarray(picture, dtype=np.float64) * (175 / 255)  # dark greys would hide the colours
    shown = _OPACITY * colours(values, limit) + (1 - _OPACITY) * grey
    pale = 0.5 * grey + 0.5 * 255
    return Image.fromarray(np.where(where[:, :, None], shown, pale).round().astype(np.uint8))


def _panel(picture: Image.Image, title: str, bar: Image.Image, note: str) -> Image.Image:
    width = bar.width
    parts = [
        _text_block(width, [(title, 21, _INK)]),
        picture,
        bar,
        _text_block(width, [(note, 15, _SOFT)]),
    ]
    panel = Image.new("RGB", (width, sum(part.height + 10 for part in parts)), _PAPER)
    y = 0
    for part in parts:
        panel.paste(part, ((width - part.width) // 2 if part is picture else 0, y))
        y += part.height + 10
    return panel


def _colour_bar(width: int, limit: float, values: np.ndarray) -> Image.Image:
    """A colour scale with numbers. ``<`` or ``>`` at an end means that values lie beyond it."""
    bar = Image.new("RGB", (width, _BAR + 28), _PAPER)
    scale = colours(np.linspace(-1, 1, width), 1.0)
    bar.paste(Image.fromarray(np.repeat(scale[None], _BAR, axis=0).round().astype(np.uint8)), (0, 0))
    draw = ImageDraw.Draw(bar)
    font = _font(15)
    below, above = ("< " if values.min() < -limit else ""), ("> " if values.max() > limit else "")
    for at, sign, anchor in (
        (-1, below, "la"),
        (-0.5, "", "ma"),
        (0, "", "ma"),
        (0.5, "", "ma"),
        (1, above, "ra"),
    ):
        x = round((at + 1) / 2 * (width - 1))
        draw.line((x, _BAR - 5, x, _BAR + 3), _INK)
        draw.text((x, _BAR + 6), f"{sign}{at * limit:+.3g}" if at else "0", _INK, font, anchor=anchor)
    return bar


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    row = Image.new("RGB", (width, max(panel.height for panel in panels)), _PAPER)
    x = 0
    for panel in panels:
        row.paste(panel, (x, 0))
        x += panel.width + _GAP
    return row


def _text_block(width: int, lines: Sequence[tuple[str, int, Colour]]) -> Image.Image:
    """Lines of text on white, each with its size and colour, wrapped to the width."""
    broken = [(part, size, ink) for text, size, ink in lines for part in _wrapped(text, _font(size), width)]
    block = Image.new("RGB", (width, sum(round(size * 1.35) for _, size, _ in broken)), _PAPER)
    draw = ImageDraw.Draw(block)
    y = 0
    for text, size, ink in broken:
        draw.text((0, y), text, ink, _font(size))
        y += round(size * 1.35)
    return block


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _limit(values: np.ndarray, least: float) -> float:
    return _nice(max(least, float(np.quantile(np.abs(values), _NEARLY_ALL))))


def _nice(value: float) -> float:
    """The next larger round number: 1, 2, 3, 4, 5, 6 or 8 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.999))
