"""Influence: how stable a picture's score is, and which parts of the picture moved it.

Only the probes that made the score are used. One map shows the logit of the native probe for crops all over
the picture. The other shows how much each patch of the whole view adds to that view's logit. Both show what
moved the score. Neither shows whether the score is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..clips.reader import Bounds, stills
from ..detector import Detector
from ..errors import InputError
from ..images.backdrop import looks
from ..images.margins import Box
from ..images.pixels import decode
from ..images.stability import judge, reencoded
from ..images.views import cut, looked_at, moved, native_view, whole_views
from ..inputs.source import Source
from ..record import Record

TILES_AT_MOST = 36


@dataclass(frozen=True)
class Tile:
    """A native crop of the map: its box (left, upper, right, lower) in pixels, and its probe logit."""

    box: Box
    logit: float


@dataclass(frozen=True, eq=False)
class Patches:
    """A whole view's logit, split into parts: ``logit = bias + class_part + grid.sum()``.

    Attributes:
        box: the square of the picture that the view shows, in pixels.
        bias: bias of the probe.
        class_part: what the class tokens add; they have no place in the picture.
        grid: what each patch adds, ``[rows, columns]``, dtype ``float64``, in logits.
    """

    box: Box
    bias: float
    class_part: float
    grid: np.ndarray

    @property
    def parts(self) -> tuple[float, float, float]:
        """What patches, class tokens and bias add."""
        return float(self.grid.sum()), self.class_part, self.bias

    @property
    def logit(self) -> float:
        """The view's logit."""
        return math.fsum(self.parts)

    @property
    def relative(self) -> np.ndarray:
        """What each patch adds minus the mean of all patches, ``[rows, columns]``, in logits."""
        return np.asarray(self.grid - self.grid.mean())


@dataclass(frozen=True, eq=False)
class Influence:
    """Which parts of a picture moved its score.

    Attributes:
        tiles: native crops spread over the picture.
        patches: one per whole view; empty if the model's features have no patch means, or if it scores no
            whole view.
    """

    tiles: list[Tile]
    patches: list[Patches]

    def to_dict(self) -> dict[str, Any]:
        """The influence as JSON data."""
        return {
            "tiles": [{"box": list(tile.box), "logit": tile.logit} for tile in self.tiles],
            "patches": [
                {
                    "box": list(each.box),
                    "logit": each.logit,
                    "bias": each.bias,
                    "class_part": each.class_part,
                    "grid": each.grid.tolist(),
                }
                for each in self.patches
            ],
        }


def score_frame(detector: Detector, data: bytes, name: str) -> tuple[Record, np.ndarray]:
    """Score an image as a scan does, and return the frame that was scored.

    Args:
        detector: what to score with.
        data: the bytes of the image's file.
        name: the record's name for it.

    Returns:
        The record and its frame: ``[height, width, 3]``, dtype ``uint8``.

    Raises:
        InputError: the image cannot be decoded.
    """
    (record,) = detector.stream([Source(name, "memory", payload=data)])
    if record.error is not None:
        raise InputError(record.error["type"], record.error["message"])
    return record, scored_frame(detector, data, record)


def score_moment(
    detector: Detector, media: bytes | Path, name: str, at: float
) -> tuple[Record, np.ndarray, float]:
    """Score one frame of a clip, as a picture.

    Args:
        detector: what to score with.
        media: the clip's bytes, or its path.
        name: the record's name for it.
        at: seconds from the clip's beginning.

    Returns:
        The frame's record, the frame itself (``[height, width, 3]``, dtype ``uint8``; turned back if it was
        judged so), its time in seconds.

    Raises:
        InputError: the clip cannot be decoded, or has no frame at that time.
    """
    still = next(stills(media, at=(at,), bounds=Bounds(pixels=detector.max_pixels), strict=detector.strict))
    (record,) = detector.stream([Source(name, "memory", payload=still.rgb)])
    record.format = still.about.container
    return record, _as_judged(still.rgb, record), still.time


def scored_frame(detector: Detector, data: bytes, record: Record) -> np.ndarray:
    """The frame of a file that a record is about, turned back if it was judged so.

    Args:
        detector: the one that scored it.
        data: the bytes of the image's file.
        record: its record.

    Returns:
        ``[height, width, 3]``, dtype ``uint8``.
    """
    if record.clip is not None and record.frame is not None:
        moment = record.clip["frames"][record.frame]["time"]
        still = next(stills(data, at=(moment,), bounds=Bounds(pixels=detector.max_pixels)))
        return _as_judged(still.rgb, record)
    decoded = decode(data, max_pixels=detector.max_pixels, frames=detector.frames, strict=detector.strict)
    for pixels in decoded:
        if pixels.frame == record.frame:
            rgb = dict(looks(pixels.rgb, pixels.alpha))[record.background or ""]
            return _as_judged(rgb, record)
    raise AssertionError("the scored frame is missing")


def _as_judged(rgb: np.ndarray, record: Record) -> np.ndarray:
    """A stored frame as its record says that it was judged: turned back, or as it is."""
    return np.ascontiguousarray(np.rot90(rgb, -(record.turned // 90)))


def find_stability(detector: Detector, rgb: np.ndarray, verdict: str) -> dict[str, Any]:
    """How a picture's score changes under re-encoding (see `stability`).

    Args:
        detector: what to score with.
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        verdict: verdict of the picture itself.

    Returns:
        The ``stability`` object of a record.
    """
    copies: list[Mapping[str, Any]] = []
    for name, copy in reencoded(rgb):
        (record,) = detector.stream([Source(name, "memory", payload=copy)])
        scores = {"logit": record.logit, "probability": record.probability, "verdict": record.verdict}
        copies.append({"name": name} | scores)
    return judge(verdict, copies)[1]


def find_influence(detector: Detector, rgb: np.ndarray, at_most: int = TILES_AT_MOST) -> Influence:
    """Tiles and patches of a picture.

    Args:
        detector: what to score with.
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        at_most: largest number of tiles.
    """
    return Influence(find_tiles(detector, rgb, at_most), find_patches(detector, rgb))


def find_tiles(detector: Detector, rgb: np.ndarray, at_most: int = TILES_AT_MOST) -> list[Tile]:
    """Logits of native crops on a grid. It covers the picture if ``at_most`` crops can, else it is sparse.

    Args:
        detector: what to score with.
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        at_most: largest number of crops.

    Returns:
        Tiles row by row, all inside the picture, or inside its content if the plan trims margins.
    """
    box = looked_at(rgb, detector.plan)
    inside = cut(rgb, box)
    height, width = inside.shape[:2]
    size = detector.plan.size
    columns, rows = tile_counts(width, height, size, at_most)
    across, down = _fractions(columns, width, size), _fractions(rows, height, size)
    places = [(x, y) for y in down for x in across]
    # Corners lie on a grid of 8 pixels, so two places may give the same box.
    crops = (moved(native_view(inside, size, x, y), box) for x, y in places)
    views = list({view.box: view for view in crops}.values())
    logits: list[float] = []
    for at in range(0, len(views), detector.batch_size):
        batch = np.stack([view.rgb for view in views[at : at + detector.batch_size]])
        logits += detector.model.probes["native"].logits(detector.model.tower.features(batch)).tolist()
    return [Tile(view.box, logit) for view, logit in zip(views, logits, strict=True)]


def tile_counts(width: int, height: int, size: int, at_most: int) -> tuple[int, int]:
    """Columns and rows of a grid of tiles that covers the picture, as far as ``at_most`` tiles allow.

    Of the possible grids it is the one with the smallest distance between neighbours, across and down.

    Args:
        width, height: of the picture, in pixels.
        size: side of a tile, in pixels.
        at_most: largest number of tiles.
    """
    across, down = math.ceil(width / size), math.ceil(height / size)
    grids = [(columns, min(down, at_most // columns)) for columns in range(1, min(across, at_most) + 1)]
    return min(grids, key=lambda grid: sorted((width / grid[0], height / grid[1]), reverse=True))


def _fractions(count: int, length: int, size: int) -> list[float]:
    """Places of tiles along one side, as fractions of the range that a tile can be moved.

    If the tiles cover the side, the first and the last touch its ends. Otherwise each is in the middle of an
    equal part.
    """
    if count == 1:
        return [0.5]
    if count * size >= length:
        return [i / (count - 1) for i in range(count)]
    return [((i + 0.5) * length / count - size / 2) / (length - size) for i in range(count)]


def find_patches(detector: Detector, rgb: np.ndarray) -> list[Patches]:
    """Split the logit of each whole view over its patches.

    `Probe.linear_at` gives a linear function for the view's logit. Half of its features are means over patch
    tokens, so their part of the logit is a sum over patches (class activation maps: Zhou et al., 2016). The
    split is exact. The places are approximate: tokens of later blocks hold information about the whole
    picture, and transformers store global information in some patches (Darcet et al., 2024). So even an empty
    picture shows a pattern.

    Args:
        detector: what to score with.
        rgb: ``[height, width, 3]``, dtype ``uint8``.

    Returns:
        One per whole view; empty if the features have no patch means or the model scores no whole view.
    """
    plan, tower = detector.plan, detector.model.tower
    found = []
    for view in whole_views(rgb, plan) if tower.patch_mean else []:
        (classes,), (tokens,) = tower.patch_tokens(np.stack([view.rgb]))
        features = np.concatenate([classes, tokens.mean(axis=(1, 2))])
        flat, bias = detector.model.probes["whole"].linear_at(features)
        weight = flat.reshape(2, *classes.shape)
        rows, columns = tokens.shape[1:3]
        grid = np.einsum("brcw,bw->rc", tokens.astype(np.float64), weight[1]) / (rows * columns)
        found.append(Patches(view.box, bias, float((classes * weight[0]).sum()), grid))
    return found
