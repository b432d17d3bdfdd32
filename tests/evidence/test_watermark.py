"""The invisible watermark is read back whatever way it was embedded, and nothing is read where none is."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from conftest import encode, gradient, noise, shapes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from aidetect.detector.evidence import watermark
from aidetect.detector.evidence.watermark import MESSAGES, Message, find_watermark


def photograph(width: int = 512, height: int = 512, seed: int = 0) -> np.ndarray:
    """Shapes with soft edges and a little grain, away from black and white."""
    picture = Image.fromarray(shapes(width, height, seed)).filter(ImageFilter.GaussianBlur(3))
    grain = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    return np.clip(np.asarray(picture) * 0.4 + 75 + grain, 0, 255).astype(np.uint8)


def embed(rgb: np.ndarray, bits: str, floats: bool = False, swapped: bool = False) -> np.ndarray:
    """Mark a picture by the method that `aidetect.detector.evidence.watermark` describes, block by block.

    (Pictures from this encoder were compared once with those of invisible-watermark 0.2.0: its decoder reads
    these, and ours reads its.)
    """
    picture = rgb[:, :, ::-1].astype(np.float64) if swapped else rgb.astype(np.float64)
    red, green, blue = np.moveaxis(picture, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = 0.492 * (blue - luma) + (0.5 if floats else 128)
    if not floats:
        chroma = np.rint(chroma)
    change = np.zeros_like(chroma)
    rows, columns = rgb.shape[0] // 8, rgb.shape[1] // 8
    for number in range(rows * columns):
        top, left = 8 * (number // columns), 8 * (number % columns)
        block = chroma[top : top + 8, left : left + 8].reshape(4, 2, 4, 2).sum(axis=(1, 3)) / 2
        place = 1 + int(np.argmax(np.abs(block).ravel()[1:]))
        old = block.ravel()[place]
        new = 36 * (abs(old) // 36 + 0.25 + 0.5 * int(bits[number % len(bits)]))
        y, x = top + 2 * (place // 4), left + 2 * (place % 4)
        change[y : y + 2, x : x + 2] = (np.copysign(new, old) - old) / 2
    if not floats:
        change = np.rint(change)
    blue, green = blue + 2.032 * change, green - 0.395 * change
    marked = np.clip(np.rint(np.stack([red, green, blue], axis=2)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(marked[:, :, ::-1]) if swapped else marked


@pytest.mark.parametrize("swapped", [False, True], ids=["BGR", "RGB"])
@pytest.mark.parametrize("floats", [False, True], ids=["bytes", "floats"])
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_every_message_is_read_back(message: Message, floats: bool, swapped: bool) -> None:
    hit = find_watermark(embed(photograph(), message.bits, floats, swapped))
    assert hit is not None
    assert hit.message == message
    assert hit.agreeing >= 0.9 * len(message.bits)
    assert hit.chance < 1e-7


@pytest.mark.parametrize("size", [(256, 256), (1024, 768), (517, 389), (640, 264), (384, 384)])
def test_sizes(size: tuple[int, int]) -> None:
    hit = find_watermark(embed(photograph(*size), MESSAGES[3].bits, floats=True))
    assert hit is not None
    assert hit.message.name == "SDXL"


def test_pictures_too_small_for_the_pipelines_are_not_read() -> None:
    assert find_watermark(embed(photograph(248, 256), MESSAGES[3].bits, floats=True)) is None


def test_messages_are_as_the_pipelines_embed_them() -> None:
    bits = {message.name: message.bits for message in MESSAGES}
    assert int(bits["StableDiffusionV1"], 2).to_bytes(17, "big") == b"StableDiffusionV1"
    assert len(bits["StableDiffusionV1-Inpainting"]) == 224
    assert int(bits["SDV2"], 2).to_bytes(4, "big") == b"SDV2"
    assert int(bits["SDXL"], 2) == 0xB3EC907BB19E
    # Python's bin() drops the leading zeros of a constant.
    assert bits["FLUX"] == bin(int(bits["FLUX, 48 bits"], 2))[2:]
    assert len(bits["FLUX"]) == 46


@pytest.mark.parametrize(
    "picture",
    [
        photograph(),
        noise(512, 512),
        gradient(512, 512),
        shapes(512, 384),
        np.zeros((512, 512, 3), np.uint8),
        np.full((512, 512, 3), 255, np.uint8),
        np.full((512, 512, 3), (10, 200, 90), np.uint8),
        np.tile(noise(8, 384), (48, 1, 1)),  # every bit of 48 has a column of blocks of its own
    ],
    ids=["photograph", "noise", "gradient", "shapes", "black", "white", "green", "columns"],
)
def test_no_watermark_is_seen_where_there_is_none(picture: np.ndarray) -> None:
    assert find_watermark(picture) is None


def test_an_unknown_message_is_no_hit() -> None:
    bits = "".join(str(bit) for bit in np.random.default_rng(5).integers(0, 2, 48))
    assert find_watermark(embed(photograph(), bits)) is None


@pytest.mark.parametrize("floats", [False, True], ids=["bytes", "floats"])
@pytest.mark.parametrize(
    "other", ["Copyright A Meyer", "test", "InvokeAI", "somebody-else.com", "SDV2 no", "qwertyuiop"]
)
def test_another_text_is_no_hit(other: str, floats: bool) -> None:
    """Letters share three bits of eight, so that any text agrees with any other in most bits."""
    bits = "".join(f"{byte:08b}" for byte in other.encode())
    assert find_watermark(embed(photograph(), bits, floats)) is None


def test_random_texts_pass_as_seldom_as_they_should() -> None:
    rng = np.random.default_rng(2)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", np.uint8)
    hits = 0
    for message in MESSAGES:
        numbers = np.arange(8 * len(message.bits))
        for _ in range(500 if message.is_text else 0):
            bits = np.unpackbits(rng.choice(letters, len(message.bits) // 8)).astype(bool)
            hits += watermark._compare(bits[numbers % len(bits)], numbers, message, "") is not None
    assert hits <= 1


def test_scaling_and_cropping_remove_it() -> None:
    marked = embed(photograph(), MESSAGES[3].bits, floats=True)
    assert find_watermark(marked) is not None
    half = np.asarray(Image.fromarray(marked).resize((400, 400), Image.Resampling.BICUBIC))
    assert find_watermark(half) is None
    assert find_watermark(np.ascontiguousarray(marked[3:, 5:])) is None


def test_png_keeps_it() -> None:
    marked = embed(photograph(), MESSAGES[3].bits)
    assert find_watermark(np.asarray(Image.open(io.BytesIO(encode(marked))))) is not None


def test_the_threshold_bounds_false_hits() -> None:
    """Over all messages and ways to read, coin tosses pass in fewer than one of a million pictures."""
    total = 0.0
    for message in MESSAGES:
        length = len(message.bits)
        numbers = np.arange(8192)
        passed = []
        for agreeing in range(length // 2, length + 1):
            votes = np.array([bit == "1" for bit in message.bits])
            votes[: length - agreeing] ^= True
            if watermark._compare(votes[numbers % length], numbers, message, "bytes, BGR"):
                passed.append(agreeing)
        assert passed
        assert passed == list(range(passed[0], length + 1))
        total += 4 * watermark._chance(length, passed[0])
    assert total < 1e-6


def test_coin_tosses_pass_as_seldom_as_they_should() -> None:
    rng = np.random.default_rng(1)
    numbers = np.arange(4096)
    hits = sum(
        watermark._compare(rng.integers(0, 2, 4096).astype(bool), numbers, message, "") is not None
        for message in MESSAGES
        for _ in range(200)
    )
    assert hits == 0


def test_huge_pictures_cost_no_more_than_large_ones() -> None:
    def seconds(picture: np.ndarray) -> float:
        start = time.process_time()
        find_watermark(picture)
        return time.process_time() - start

    large, huge = np.zeros((1024, 1024, 3), np.uint8), np.zeros((6000, 8000, 3), np.uint8)
    assert min(seconds(huge) for _ in range(3)) < 3 * min(seconds(large) for _ in range(3)) + 0.05


def test_large_pictures_are_read_from_some_of_their_rows() -> None:
    hit = find_watermark(embed(photograph(1600, 1200), MESSAGES[0].bits))
    assert hit is not None
    assert hit.message.name == "StableDiffusionV1"


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 5))
def test_any_shape(width: int, height: int, seed: int) -> None:
    assert find_watermark(noise(width, height, seed)) is None


@pytest.mark.parametrize("shape", [(8, 70_000), (70_000, 8), (1, 100_000), (16, 8192), (7, 50_000)])
def test_strips(shape: tuple[int, int]) -> None:
    assert find_watermark(noise(shape[1], shape[0])) is None
