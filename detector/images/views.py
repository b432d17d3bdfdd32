"""Views: the small squares of a picture that the image tower looks at.

``whole`` shows the content: the largest square, or several of a picture that is far from square, resized,
and put through one JPEG encoding of fixed quality where the model was fitted on views encoded so (else its
missing would tell containers, not makers, apart). ``native`` crops keep the traces of the making: cut at
native resolution, never resampled, mirrored where the picture is smaller. A plan that trims looks at what
plain bars, caption strips and a plain page leave of a picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import as_strided
from PIL import Image

from .launder import jpeg
from .margins import Box, content_box

CENTRE = "centre"  # kind of a first look at a picture far from square
_INTERPOLATION = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# A picture whose longer side is at least so many times the shorter one is looked at as two squares, or three.
_TWO, _THREE = 1.25, 2.0

# Centres of native crops as fractions of the free range (width - size, height - size), by count.
_CENTRES: dict[int, list[tuple[float, float]]] = {
    0: [],
    1: [(0.5, 0.5)],
    2: [(0.25, 0.25), (0.75, 0.75)],
    3: [(0.5, 0.5), (0.15, 0.2), (0.85, 0.8)],
    4: [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)],
    5: [(0.5, 0.5), (0.15, 0.15), (0.85, 0.15), (0.15, 0.85), (0.85, 0.85)],
    9: [(x, y) for y in (0.1, 0.5, 0.9) for x in (0.1, 0.5, 0.9)],
}


@dataclass(frozen=True)
class ViewPlan:
    """Which views are taken of a picture.

    Attributes:
        size: side of the square the tower takes, in pixels.
        interpolation: ``bicubic`` or ``bilinear``, used for the whole-picture view.
        whole: whether the whole-picture view is taken.
        native: number of native-resolution crops (0, 1, 2, 3, 4, 5 or 9).
        whole_jpeg: quality of the JPEG encoding that ends the whole-picture view; 0 for none.
        spread: whether a picture that is far from square gets several whole-picture views (see
            `whole_views`).
        trim: whether bars, captions and a page around a picture are left out (see `margins.content_box`).
        staged: whether the views come in stages: the centred square, the first native crop, the others.
        turn: whether pictures that look turned by quarters are looked at turned back (see `turns`).
    """

    size: int
    interpolation: str = "bicubic"
    whole: bool = True
    native: int = 0
    whole_jpeg: int = 0
    spread: bool = False
    trim: bool = False
    staged: bool = False
    turn: bool = False

    def __post_init__(self) -> None:
        if self.native not in _CENTRES:
            raise ValueError(f"native must be one of {sorted(_CENTRES)}, not {self.native}")
        if self.interpolation not in _INTERPOLATION:
            raise ValueError(f"unknown interpolation {self.interpolation!r}")
        if not (self.whole or self.native):
            raise ValueError("a plan needs at least one view")


@dataclass(frozen=True, eq=False)
class View:
    """One view.

    Attributes:
        kind: ``whole``, ``native``, or ``centre`` for a centred square that is scored only because a staged
            plan begins with it.
        box: left, upper, right, lower in the picture's pixels.
        rgb: ``[size, size, 3]``, dtype ``uint8``.
        stage: in which it is scored, from 0 on.
        plain: of a whole view, ``rgb`` before the JPEG encoding that ends it; ``None`` for others.
    """

    kind: str
    box: Box
    rgb: np.ndarray
    stage: int = 0
    plain: np.ndarray | None = None


def make_views(
    rgb: np.ndarray, plan: ViewPlan, box: Box | None = None, squares: Squares | None = None
) -> list[View]:
    """Cut the plan's views out of a picture.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        box: what `looked_at` says of it, where that is known.
        squares: of what lies within the box, where they are known.

    Returns:
        The whole-picture views first, then the native crops; crops that would repeat a box already
        taken are left out, so a small picture gives fewer. Those of a staged plan are ordered by stage.
    """
    box = box or looked_at(rgb, plan)
    inside = cut(rgb, box)
    squares = squares or Squares(inside, plan.size, plan.interpolation, plan.spread)
    wholes = whole_views(rgb, plan, box, squares)
    natives = [moved(view, box) for view in native_views(inside, plan)]
    if not plan.staged:
        return [*wholes, *natives]
    # The centred square comes first, if it is one of the whole views or not.
    centre = moved(squares.view(plan.whole_jpeg), box)
    others = [replace(view, stage=2) for view in wholes if view.box != centre.box]
    first = centre if len(others) < len(wholes) else replace(centre, kind=CENTRE)
    return sorted([first, *others, *natives], key=lambda view: view.stage)


def native_views(inside: np.ndarray, plan: ViewPlan) -> list[View]:
    """The plan's native crops of a picture; fewer of a small one, where crops would be the same.

    Args:
        inside: the pixels that the plan looks at, ``[height, width, 3]``, dtype ``uint8``.
    """
    crops = (native_view(inside, plan.size, x, y) for x, y in _CENTRES[plan.native])
    views = list({view.box: view for view in crops}.values())
    if not plan.staged:
        return views
    return [replace(view, stage=min(1 + place, 2)) for place, view in enumerate(views)]


def looked_at(rgb: np.ndarray, plan: ViewPlan) -> Box:
    """The part of a picture that a plan looks at: left, upper, right, lower; all of it, unless it trims.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
    """
    return content_box(rgb) if plan.trim else (0, 0, rgb.shape[1], rgb.shape[0])


def cut(rgb: np.ndarray, box: Box) -> np.ndarray:
    """The pixels within a box, not copied."""
    left, upper, right, lower = box
    return rgb[upper:lower, left:right]


def moved(view: View, box: Box) -> View:
    """A view of what lies within a box of a picture, as a view of the picture."""
    left, upper, right, lower = view.box
    x, y = box[:2]
    return replace(view, box=(left + x, upper + y, right + x, lower + y))


def whole_views(
    rgb: np.ndarray, plan: ViewPlan, box: Box | None = None, squares: Squares | None = None
) -> list[View]:
    """The plan's whole-picture views (see `make_views`); none where it takes none.

    One, of the centred square. Where the plan spreads them and the longer side is at least 1.25 times the
    shorter one, two squares, at both ends; from twice on three, at both ends and in the middle.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
    """
    if not plan.whole:
        return []
    box = box or looked_at(rgb, plan)
    inside = cut(rgb, box)
    places = spread_places(*inside.shape[:2]) if plan.spread else (0.5,)
    squares = squares or Squares(inside, plan.size, plan.interpolation, plan.spread)
    return [moved(squares.view(plan.whole_jpeg, place=place), box) for place in places]


def spread_places(height: int, width: int) -> tuple[float, ...]:
    """Places along the longer side, from 0 to 1, of the squares that show a picture (see `whole_views`)."""
    ratio = max(height, width) / min(height, width)
    if ratio < _TWO:
        return (0.5,)
    return (0.0, 0.5, 1.0) if ratio >= _THREE else (0.0, 1.0)


def whole_view(
    rgb: np.ndarray,
    size: int,
    interpolation: str = "bicubic",
    quality: int = 0,
    grid: int = 1,
    place: float = 0.5,
) -> View:
    """The largest square of the picture, resized to ``size`` with antialiasing.

    Args:
        quality: of a JPEG encoding (4:2:0) of the resized square; 0 for none.
        grid: the square's corner lies on a multiple of so many pixels.
        place: of the square along the longer side, from 0 (left or top) to 1; it is centred at 0.5.
    """
    return Squares(rgb, size, interpolation).view(quality, grid, place)


@dataclass(frozen=True, eq=False)
class Squares:
    """The squares of one picture. What their resizing has in common is computed once.

    Attributes:
        rgb: the picture, ``[height, width, 3]``, dtype ``uint8``.
        size, interpolation: as for `whole_view`.
        spread: whether those of `spread_places` are wanted.
    """

    rgb: np.ndarray
    size: int
    interpolation: str = "bicubic"
    spread: bool = False

    def view(self, quality: int = 0, grid: int = 1, place: float = 0.5) -> View:
        """One square (see `whole_view`)."""
        height, width = self.rgb.shape[:2]
        side = min(height, width)
        left, upper = (int((length - side) * place) // grid * grid for length in (width, height))
        box = (left, upper, left + side, upper + side)
        square = cut(self.rgb, box)
        if side != self.size:
            # Pillow resizes rows first, and each by itself: where squares overlap, their rows are the same.
            overlap = self.spread and _TWO * width <= height < 3 * width
            image = self._rows.crop((0, upper, self.size, upper + side)) if overlap else _image(square)
            square = np.asarray(image.resize((self.size, self.size), _INTERPOLATION[self.interpolation]))
        plain = np.ascontiguousarray(square)
        return View("whole", box, jpeg(plain, quality) if quality else plain, plain=plain)

    @cached_property
    def _rows(self) -> Image.Image:
        """The picture with its rows resized, and all of them kept."""
        return _image(self.rgb).resize((self.size, len(self.rgb)), _INTERPOLATION[self.interpolation])


def _image(rgb: np.ndarray) -> Image.Image:
    """Pillow's copy of pixels ``[height, width, 3]``, whose rows may lie apart in memory."""
    height, width = rgb.shape[:2]
    apart, *within = rgb.strides
    if within != [3, 1] or apart < 3 * width:
        return Image.fromarray(np.ascontiguousarray(rgb))
    samples = as_strided(rgb, ((height - 1) * apart + 3 * width,), (1,), writeable=False)
    return Image.frombuffer("RGB", (width, height), samples, "raw", "RGB", apart, 1)


def thumbnail(rgb: np.ndarray, longest: int, quality: int = 70) -> bytes:
    """A small JPEG file of a picture, for people to look at.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        longest: longest side, in pixels.
    """
    image = Image.fromarray(np.ascontiguousarray(rgb))
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def native_view(rgb: np.ndarray, size: int, x: float = 0.5, y: float = 0.5) -> View:
    """A ``size`` square at native resolution, centred at fractions ``x``, ``y`` of the free range.

    Its corner lies on a multiple of 8 pixels, the block grid of JPEG.
    """
    height, width = rgb.shape[:2]
    left, upper = _corner(width - size, x), _corner(height - size, y)
    crop = mirror_to(rgb[upper : upper + size, left : left + size], size)
    box = (left, upper, min(width, left + size), min(height, upper + size))
    return View("native", box, crop)


def _corner(free: int, fraction: float) -> int:
    return int(max(0, free) * fraction) // 8 * 8


def mirror_to(rgb: np.ndarray, size: int) -> np.ndarray:
    """Extend a picture by mirroring to the right and downwards until both sides reach ``size``."""
    height, width = rgb.shape[:2]
    if height < size or width < size:
        pad = ((0, max(0, size - height)), (0, max(0, size - width)), (0, 0))
        rgb = np.pad(rgb, pad, mode="symmetric")
    return np.ascontiguousarray(rgb)
