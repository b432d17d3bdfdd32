"""Damaged files: as much of the picture as the bytes that are there determine, and no more.

A viewer shows a truncated picture as far as it goes, so it is judged as far as it goes. Which pixels the
bytes determine is found by decoding twice: onto two canvases of different colours, or with two different
continuations of the coded data. Where both agree, the file speaks; where they differ, the decoder does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .animation import evenly_spaced
from .containers import (
    PNG,
    WebpPicture,
    jpeg_scans,
    png_renumbered,
    webp_animation,
    webp_frames,
    webp_of_frames,
    webp_picture,
    webp_still,
)

# Below this share of its rows a picture is not judged.
LEAST = 0.1
# Interlaced pictures come in passes: every 8th pixel first. A coarser grid must bring so much more.
_STEPS, _GAIN = (1, 2, 4, 8), 0.1
# Continuations of lossless WebP data that are tried until two of them decode.
_FILLERS = 24
# Fewer are tried of large pictures: in all about so many pixels. A filler is at most so long, in bytes.
_FILLED_PIXELS, _LONGEST_FILLER = 200_000_000, 64 * 2**20
_EOI = b"\xff\xd9"

Open = Callable[[bytes], Image.Image]
Walk = Callable[[Image.Image], int]


@dataclass(frozen=True, eq=False)
class Part:
    """A frame of a damaged file.

    Attributes:
        frame: its index.
        frames: how many frames can be decoded, in part at least.
        image: at that frame; loaded where ``known`` is given.
        known: pixels that the file determines, ``[height, width]``, dtype ``bool``; ``None`` for all.
    """

    frame: int
    frames: int
    image: Image.Image
    known: np.ndarray | None


@dataclass(frozen=True)
class Extent:
    """How much of a picture is known.

    Attributes:
        step: every so many rows and columns are known (1: all; interlaced pictures: 2, 4 or 8).
        upper, lower: the rows of that grid which are known.
        rows: how many rows the grid has.
    """

    step: int
    upper: int
    lower: int
    rows: int

    @property
    def share(self) -> float:
        """Share of the rows, 0..1."""
        return (self.lower - self.upper) / self.rows

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.step == 1 and self.lower - self.upper == self.rows

    def cut(self, samples: np.ndarray) -> np.ndarray:
        """The known part of ``[height, width, ...]``."""
        return np.ascontiguousarray(samples[:: self.step, :: self.step][self.upper : self.lower])


def parts(data: bytes, opened: Open, walk: Walk, wanted: int) -> Iterator[Part]:
    """Frames of a damaged file: whole ones, then the one in which the damage lies.

    Args:
        data: the file, cleaned of metadata.
        opened: opens an image and checks its size.
        walk: how many frames of an image may be read.
        wanted: at most so many whole frames are returned.

    Raises:
        Exception: whatever a decoder says of bytes that it cannot read at all.
    """
    if data.startswith(b"\xff\xd8\xff"):
        yield _jpeg(data, opened)
    elif data[8:12] == b"WEBP":
        yield from _webp(data, opened, walk, wanted)
    else:
        yield from _walked(png_renumbered(data) if data.startswith(PNG) else data, opened, walk, wanted)


def extent(known: np.ndarray | None, height: int) -> Extent:
    """What to keep of a picture of which these pixels are known (see `Part`)."""
    if known is None:
        return Extent(1, 0, height, height)
    best: Extent | None = None
    for step in _STEPS:
        rows = np.asarray(known[::step, ::step].all(axis=1))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
        runs = edges.reshape(-1, 2)
        upper, lower = max(runs, key=lambda run: run[1] - run[0]) if len(runs) else (0, 0)
        found = Extent(step, int(upper), int(lower), len(rows))
        if best is None or found.share > best.share + _GAIN:
            best = found
    assert best is not None
    return best


def _jpeg(data: bytes, opened: Open) -> Part:
    scans, end, progressive = jpeg_scans(data)
    if progressive and scans > 1:  # the first scan holds every block's mean: all is there, in less detail
        image = opened(data[:end] + _EOI)
        image.load()
        return Part(0, 1, image, None)
    part = _continued_twice((data[:end] + bytes([byte]) * 65536 + _EOI for byte in (0x00, 0x55)), opened)
    if progressive or (part.known is not None and part.known.all()):
        return part
    return _filled_twice(data, opened, 0)


def _webp(data: bytes, opened: Open, walk: Walk, wanted: int) -> Iterator[Part]:
    head, frames = webp_frames(data)
    if not frames:
        picture = webp_picture(data)
        if picture is not None:
            yield _continued_twice(map(picture.file, _fillers(picture)), opened)
        return
    last = frames[-1]
    cut = len(last) < 8 + int.from_bytes(last[4:8], "little")
    sound = frames[:-1] if cut else frames
    whole = 0
    if sound:
        animation = webp_of_frames(head, sound)
        whole, _ = _whole_frames(opened(animation), walk)
        yield from _chosen(animation, opened, whole, wanted, min(whole + 1, len(frames)))
    picture = webp_picture(webp_still(frames[whole])) if whole < len(frames) else None
    if picture is not None:
        upto = frames[: whole + 1]
        files = (webp_animation(head, upto, picture.continued(filler)) for filler in _fillers(picture))
        yield _continued_twice(files, opened, whole)


def _fillers(picture: WebpPicture) -> Iterator[bytes]:
    """Different bytes to follow a picture's coded data, enough for the rest of it."""
    pixels = picture.width * picture.height
    # A picture takes at most so many bytes; what is too much does no harm.
    room = min(2 * pixels, _LONGEST_FILLER) + 4096
    for byte in range(min(_FILLERS, max(4, _FILLED_PIXELS // pixels))):
        yield bytes([(byte * 0x55) & 0xFF, byte]) * (room // 2)


def _continued_twice(files: Iterator[bytes], opened: Open, index: int = 0) -> Part:
    """The frame that two continuations of a file's data show, the first two that decode."""
    loaded: list[Image.Image] = []
    last: Exception = ValueError("the data cannot be decoded")
    for file in files:
        try:
            image = opened(file)
            if index:
                image.seek(index)
            image.load()
        except Exception as error:
            last = error
            continue
        loaded.append(image)
        if len(loaded) == 2:
            first, second = (np.asarray(image) for image in loaded)
            return Part(index, index + 1, loaded[0], _agreeing(first, second))
    raise last


def _walked(data: bytes, opened: Open, walk: Walk, wanted: int) -> Iterator[Part]:
    """Whole frames, evenly spaced, then the one in which the damage lies."""
    whole, ended = _whole_frames(opened(data), walk)
    yield from _chosen(data, opened, whole, wanted, whole if ended else whole + 1)
    if not ended:
        yield _filled_twice(data, opened, whole)


def _chosen(data: bytes, opened: Open, whole: int, wanted: int, count: int) -> Iterator[Part]:
    """At most ``wanted`` of the first frames, which are whole."""
    image = opened(data)
    for index in evenly_spaced(whole, wanted) if whole else []:
        if index:
            image.seek(index)
        yield Part(index, count, image, None)


def _whole_frames(image: Image.Image, walk: Walk) -> tuple[int, bool]:
    """How many frames can be decoded whole, and whether there are no more to try."""
    most = walk(image)
    for index in range(most):
        try:
            if index:
                image.seek(index)
        except Exception:
            return index, True
        try:
            image.load()
        except Exception:
            return index, False
        if not getattr(image, "is_animated", False):
            return index + 1, True
    return most, True


def _filled_twice(data: bytes, opened: Open, index: int) -> Part:
    """A frame decoded onto two canvases."""
    first = _on_canvas(opened(data), index, 1)
    image = opened(data)
    return Part(index, index + 1, image, _agreeing(first, _on_canvas(image, index, 0)))


def _on_canvas(image: Image.Image, index: int, value: int) -> np.ndarray:
    """Decode a frame onto a canvas of one value, and return its samples before frames are joined.

    Pixels beside the frame's own rectangle are set to zero: they are those of the frames before.
    """
    if index:
        image.seek(index)
    hooked: Any = image
    boxes = [tile[1] for tile in hooked.tile]
    prepare, end = hooked.load_prepare, hooked.load_end
    raw: list[np.ndarray] = []

    def load_prepare() -> None:
        prepare()
        mode = image.im.mode
        bands = len(image.getbands()) if mode == image.mode else 1
        one = 255 * value if mode == "1" else value
        image.im.paste((one,) * bands if bands > 1 else one, (0, 0, *image.im.size))

    def load_end() -> None:
        raw.append(np.array(Image.Image._new(image, image.im)))
        if image.format != "TIFF":  # there it turns the picture by a tag
            end()

    hooked.load_prepare, hooked.load_end = load_prepare, load_end
    try:
        image.load()
    except Exception:
        if image._im is None:
            raise
        if not raw:
            load_end()
    hooked.tile = []
    samples = raw[0]
    outside = np.ones(samples.shape[:2], bool)
    for left, upper, right, lower in (box or (0, 0, *image.size) for box in boxes):
        outside[upper:lower, left:right] = False
    samples[outside] = 0
    return samples


def _agreeing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if first.shape != second.shape:
        raise ValueError("the data cannot be decoded")
    same = np.equal(first, second)
    return np.asarray(same if same.ndim == 2 else same.all(axis=2))
