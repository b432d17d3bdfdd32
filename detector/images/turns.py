"""Turned pictures: the views of a picture as they would be, had it been turned by quarters before.

Phones store a picture as the sensor lay, and note in EXIF how to turn it. That tag may not move a score, so
the pixels themselves must tell which side is up. They do so after the first look at a picture. What other
looks need is kept here, and not the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .launder import jpeg
from .margins import Box
from .views import View, ViewPlan, cut, native_views

LOOK = "look"  # kind of a view that only tells which side of a picture is up


@dataclass(frozen=True, eq=False)
class Turned:
    """What the views of a picture turned back by one, two or three quarters are made of.

    Attributes:
        centre: the centred square of the picture as stored, before its JPEG encoding.
        squares: its whole views, before their JPEG encoding.
        natives: the native crops of the picture turned back by one, two and three quarters.
        quality: of the JPEG encoding that ends a whole view; 0 for none.
    """

    centre: View
    squares: list[View]
    natives: tuple[list[View], list[View], list[View]]
    quality: int

    def looks(self) -> list[View]:
        """The centred square as stored, and turned back by one, two and three quarters."""
        return [
            replace(self.centre, kind=LOOK, stage=0, rgb=self._square(self.centre.rgb, quarters))
            for quarters in range(4)
        ]

    def views(self, quarters: int) -> list[View]:
        """The views of the picture turned back: clockwise by 1, 2 or 3 quarters. Boxes are those of the
        picture as stored.
        """
        squares = [replace(view, rgb=self._square(view.rgb, quarters)) for view in self.squares]
        return sorted([*squares, *self.natives[quarters - 1]], key=lambda view: view.stage)

    def _square(self, rgb: np.ndarray, quarters: int) -> np.ndarray:
        rgb = np.ascontiguousarray(np.rot90(rgb, -quarters))
        return jpeg(rgb, self.quality) if self.quality else rgb


def turned(rgb: np.ndarray, plan: ViewPlan, box: Box, centre: View, views: Sequence[View]) -> Turned:
    """Take from a picture what the views of it turned back are made of.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        box: what `views.looked_at` says of it.
        centre: its centred square.
        views: its views.
    """
    inside = cut(rgb, box)
    one, two, three = (_natives(inside, plan, box, quarters) for quarters in (1, 2, 3))
    squares = [_plain(view) for view in views if view.kind != "native"]
    return Turned(_plain(centre), squares, (one, two, three), plan.whole_jpeg)


def _plain(view: View) -> View:
    assert view.plain is not None
    return replace(view, rgb=view.plain)


def _natives(inside: np.ndarray, plan: ViewPlan, box: Box, quarters: int) -> list[View]:
    height, width = inside.shape[:2]
    views = native_views(np.rot90(inside, -quarters), plan)
    return [replace(view, box=_stored(view.box, width, height, quarters, box)) for view in views]


def _stored(box: Box, width: int, height: int, quarters: int, within: Box) -> Box:
    """Where a box of a turned picture lies in the stored one, of which ``within`` was turned."""
    left, upper, right, lower = box
    places = {
        1: (upper, height - right, lower, height - left),
        2: (width - right, height - lower, width - left, height - upper),
        3: (width - lower, left, width - upper, right),
    }
    a, b, c, d = places[quarters]
    x, y = within[:2]
    return a + x, b + y, c + x, d + y
