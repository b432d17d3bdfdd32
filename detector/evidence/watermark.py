"""The invisible watermark that Stable Diffusion and FLUX pipelines leave in the pixels, read back.

Those pipelines embed a fixed message with the method that the package invisible-watermark calls
``dwtDct`` (https://github.com/ShieldMnt/invisible-watermark, 0.1 and 0.2). Facts of the method, which,
its name notwithstanding, takes no DCT:

* The carrier is the approximation band of a one-level Haar transform of the chroma plane U of OpenCV's
  YUV, cut into 4 x 4 blocks: a block is 8 x 8 pixels. Blocks are numbered row by row, and block ``n``
  carries bit ``n`` modulo the message's length.
* The largest coefficient but the first, by absolute value, is the carrier of a block: a bit 1 puts its
  absolute value at three quarters of a step of 36, a bit 0 at one quarter.
* Pictures under 256 x 256 pixels in area are never marked.

Two habits of the pipelines make four ways to read. Some mark bytes, where U is centred on 128, and some
mark floats, where OpenCV centres it on 0.5. Some hand over RGB where BGR is expected, so that red and
blue change places. A message is reported when so many bits agree that coin tosses would do as well, in
any message read in any way, in fewer than one of a million pictures, and texts only when they cannot well
be another text.

Agreement says that somebody embedded the message, which anyone can. Absence says nothing: scaling,
cropping, flat or saturated colours, and JPEG with halved chroma (4:2:0) below quality 95 or so lose it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_STEP = 36
_BLOCK = 8  # pixels a side
_SMALLEST = 256 * 256
# Blocks looked at: rows of them are left out evenly in larger pictures.
_MOST_BLOCKS = 8_192
_FALSE_HITS = 1e-6
# Probability with which another text than the one reported may pass, where a text was embedded.
_OTHER_TEXTS = 1e-4


@dataclass(frozen=True)
class Message:
    """A message that a pipeline embeds: its bits, who embeds it, and whether the bits spell letters."""

    name: str
    used_by: str
    bits: str
    is_text: bool = False


def _text(text: str, used_by: str) -> Message:
    return Message(text, used_by, "".join(f"{byte:08b}" for byte in text.encode()), is_text=True)


# Sources: CompVis/stable-diffusion scripts/txt2img.py; runwayml/stable-diffusion inpainting demo;
# Stability-AI/stablediffusion scripts/txt2img.py; Stability-AI/generative-models and huggingface/diffusers,
# stable_diffusion_xl/watermark.py; black-forest-labs/flux src/flux/util.py. FLUX writes a constant of 48
# bits, but makes its list with Python's bin(), which drops the two leading zeros.
_FLUX = "001010101111111010000111100111001111010100101110"
MESSAGES = (
    _text("StableDiffusionV1", "Stable Diffusion 1 scripts"),
    _text("StableDiffusionV1-Inpainting", "Stable Diffusion 1 inpainting scripts"),
    _text("SDV2", "Stable Diffusion 2 scripts"),
    Message("SDXL", "Stable Diffusion XL pipelines", "101100111110110010010000011110111011000110011110"),
    Message("FLUX", "FLUX inference code", _FLUX.lstrip("0")),
    Message("FLUX, 48 bits", "FLUX inference code, leading zeros kept", _FLUX),
)


@dataclass(frozen=True)
class Hit:
    """A message found.

    Attributes:
        message: which one.
        agreeing: how many of its bits the picture carries.
        chance: probability that coin tosses agree in as many bits of this message.
        reading: ``bytes`` or ``floats``, and the order of channels, with which it was read.
    """

    message: Message
    agreeing: int
    chance: float
    reading: str


def find_watermark(rgb: np.ndarray) -> Hit | None:
    """The message embedded in a picture.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.

    Returns:
        The most certain hit; ``None`` for most pictures.
    """
    height, width = rgb.shape[:2]
    rows, columns = height // _BLOCK, width // _BLOCK
    if height * width < _SMALLEST or rows == 0 or columns == 0:
        return None
    # Whole rows of blocks are taken, so that a block's number follows from its place.
    taken = min(rows, max(1, _MOST_BLOCKS // columns))
    kept = np.arange(taken) * rows // taken
    columns = min(columns, _MOST_BLOCKS)
    numbers = (kept[:, None] * (width // _BLOCK) + np.arange(columns)).ravel()
    strips = rgb[: rows * _BLOCK].reshape(rows, _BLOCK, width, 3)[kept, :, : columns * _BLOCK]
    readings = ((reading, _votes(band)) for reading, band in _bands(strips))
    hits = (_compare(votes, numbers, message, reading) for reading, votes in readings for message in MESSAGES)
    return min((hit for hit in hits if hit), key=lambda hit: hit.chance, default=None)


def _bands(strips: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """U's approximation band, ``[rows, 4, width / 2]``, for each way to read."""
    red, green, blue = (strips[..., channel].astype(np.int32) for channel in range(3))
    for order, first, last in (("BGR", blue, red), ("RGB", red, blue)):
        # As OpenCV computes it on bytes, in fixed point with 14 bits of fraction.
        luma = (4899 * last + 9617 * green + 1868 * first + 8192) >> 14
        centred = ((first - luma) * 8061 + 8192) >> 14
        yield f"bytes, {order}", _haar(np.clip(centred, -128, 127)) + 256
    red, green, blue = _haar(red), _haar(green), _haar(blue)
    for order, first, last in (("BGR", blue, red), ("RGB", red, blue)):
        exact = np.float32(0.587) * green + np.float32(0.299) * last + np.float32(0.114) * first
        yield f"floats, {order}", np.float32(0.492) * (first - exact) + 1


def _haar(plane: np.ndarray) -> np.ndarray:
    """The approximation band: half the sum of every 2 x 2 samples, dtype ``float32``."""
    pairs = plane[:, 0::2] + plane[:, 1::2]
    band: np.ndarray = (pairs[:, :, 0::2] + pairs[:, :, 1::2]).astype(np.float32) / 2
    return band


def _votes(band: np.ndarray) -> np.ndarray:
    """The bit that each block carries, in order, ``[blocks]``, dtype ``bool``."""
    size = np.abs(band)
    places = [size[:, row, column::4] for row in range(4) for column in range(4)]
    largest: np.ndarray = functools.reduce(np.maximum, places[1:])
    votes: np.ndarray = largest % _STEP > _STEP / 2
    return votes.ravel()


def _compare(votes: np.ndarray, numbers: np.ndarray, message: Message, reading: str) -> Hit | None:
    length = len(message.bits)
    place = numbers % length
    count = np.bincount(place, minlength=length)
    ones = np.bincount(place, weights=votes, minlength=length)
    # The method's own rounding: a bit is 1 when 255 times the share of ones is above 127.
    read = ones * 255 > 127 * count
    wanted = np.frombuffer(message.bits.encode(), dtype=np.uint8) == ord("1")
    agree = (read == wanted) & (count > 0)
    agreeing = int(np.count_nonzero(agree))
    chance = _chance(length, agreeing)
    if chance * len(MESSAGES) * 4 >= _FALSE_HITS:
        return None
    if message.is_text:
        # The first three bits of all letters are much the same: the other five must tell the text.
        telling = agree[np.arange(length) % 8 >= 3]
        if _chance(telling.size, int(np.count_nonzero(telling))) > _OTHER_TEXTS:
            return None
    return Hit(message, agreeing, chance, reading)


@functools.cache
def _chance(length: int, agreeing: int) -> float:
    """Probability that at least ``agreeing`` of ``length`` coin tosses come out as given."""
    ways: int = sum(math.comb(length, k) for k in range(agreeing, length + 1))
    return ways / (1 << length)
