"""Files that hold more than one picture: which of them are judged."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from conftest import encode, gradient, noise, sha256, shapes
from PIL import Image

from aidetect.detector.errors import InputError
from aidetect.detector.images import containers, pixels
from aidetect.detector.images.animation import chosen, scenes, shot
from aidetect.detector.images.pixels import decode, has_jxl, size

FIRST, SECOND = shapes(64, 48, seed=1), shapes(64, 48, seed=2)


def judged(data: bytes, **options: Any) -> tuple[list[str], list[str]]:
    """Hashes of the pictures judged, and the notes."""
    notes: list[str] = []
    return [p.sha256 for p in decode(data, notes=notes, **options)], notes


# --- a JPEG with further JPEGs behind it ------------------------------------------------------------


def test_of_a_multi_picture_jpeg_the_primary_picture_is_judged() -> None:
    images = [Image.fromarray(one) for one in (FIRST, SECOND)]
    data = encode(images[0], "MPO", save_all=True, append_images=images[1:], quality=90)
    assert judged(data)[0] == judged(encode(FIRST, "JPEG", quality=90))[0]


def test_of_an_ultra_hdr_jpeg_the_primary_picture_is_judged() -> None:
    # The gain map is a grey JPEG behind the picture, named by a directory in an XMP segment.
    plain, gain = encode(FIRST, "JPEG", quality=90), encode(Image.fromarray(SECOND).convert("L"), "JPEG")
    xmp = b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:] + gain
    assert judged(data) == judged(plain)


# --- HEIC -------------------------------------------------------------------------------------------


def heic(*pictures: np.ndarray, **options: Any) -> bytes:
    first, *rest = [Image.fromarray(one) for one in pictures]
    return encode(first, "HEIF", save_all=True, append_images=rest, quality=90, **options)


def test_every_picture_of_a_heic_is_judged() -> None:
    single = [judged(heic(one))[0][0] for one in (FIRST, SECOND)]
    for primary in (0, 1):
        found = list(decode(heic(FIRST, SECOND, primary_index=primary)))
        assert [p.sha256 for p in found] == single
        assert [(p.frame, p.frames) for p in found] == [(0, 2), (1, 2)]


def test_a_thumbnail_in_a_heic_is_not_judged() -> None:
    import pillow_heif

    file = pillow_heif.from_pillow(Image.fromarray(shapes(256, 256)))
    buffer = io.BytesIO()
    file.save(buffer, quality=90, thumbnails=[64])
    (found,) = decode(buffer.getvalue())
    assert (found.width, found.frames) == (256, 1)


@pytest.mark.parametrize(("type_", "words"), [(b"avc1", "AVC"), (b"vvc1", "VVC"), (b"j2k1", "JPEG 2000")])
def test_a_heic_in_another_coding_is_unsupported_and_not_damaged(type_: bytes, words: str) -> None:
    data = heic(FIRST).replace(b"hvc1", type_)
    with pytest.raises(InputError, match=rf"unsupported coding: .*{words}") as caught:
        list(decode(data))
    assert caught.value.kind == "unsupported"


def test_a_damaged_heic_is_damaged() -> None:
    data = bytearray(heic(FIRST))
    at = data.index(b"iinf")
    data[at : at + 4] = b"xxxx"
    with pytest.raises(InputError) as caught:
        list(decode(bytes(data)))
    assert caught.value.kind == "damaged"


# --- pages ------------------------------------------------------------------------------------------


def test_pages_beyond_the_limit_are_told() -> None:
    pages = [Image.fromarray(noise(24, 16, seed)) for seed in range(12)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    found, notes = judged(data)
    assert len(found) == 8
    assert notes == ["sampled: 8 of 12 pages were judged (see --frames)"]
    found, notes = judged(data, frames=12)
    assert len(found) == 12
    assert notes == []


# --- icons ------------------------------------------------------------------------------------------


def test_the_largest_picture_of_an_icon_is_judged() -> None:
    big, small = noise(64, 64, 1), noise(16, 16, 2)
    parts = [encode(one, "PNG") for one in (small, big)]
    head, body = struct.pack("<HHH", 0, 1, 2), b""
    for part, side in zip(parts, (16, 64), strict=True):
        head += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(part), 6 + 32 + len(body))
        body += part
    assert judged(head + body)[0] == [sha256(big)]


def test_the_largest_picture_of_an_apple_icon_is_judged() -> None:
    big, small = noise(256, 256, 1), noise(128, 128, 2)
    blocks = b""
    for code, one in ((b"ic07", small), (b"ic08", big)):
        part = encode(one, "PNG")
        blocks += code + struct.pack(">I", len(part) + 8) + part
    data = b"icns" + struct.pack(">I", len(blocks) + 8) + blocks
    assert judged(data)[0] == [sha256(big)]


# --- animations -------------------------------------------------------------------------------------


def film(format: str, frames: list[np.ndarray], milliseconds: list[int], **options: Any) -> bytes:
    first, *rest = [Image.fromarray(one) for one in frames]
    if format == "WEBP":
        options |= {"lossless": True}
    return encode(first, format, save_all=True, append_images=rest, duration=milliseconds, loop=0, **options)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("place", [1, 6, 11, 13])
def test_the_frame_shown_longest_is_judged(format: str, place: int) -> None:
    frames = [shapes(64, 48, seed) for seed in range(20)]
    times = [40] * 20
    times[place] = 3000
    found = list(decode(film(format, frames, times)))
    assert len(found) == 8
    assert place in [p.frame for p in found]
    assert found[0].frame == 0


def test_the_last_frame_of_an_animation_that_ends_is_judged() -> None:
    first, *rest = [Image.fromarray(shapes(64, 48, seed)) for seed in range(20)]
    data = encode(first, "GIF", save_all=True, append_images=rest, duration=40)
    assert [p.frame for p in decode(data)][-1] == 19


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_near_equal_frames_are_judged_once(format: str) -> None:
    # 40 frames of one scene that hardly changes, and three short ones of others.
    still = shapes(64, 48, seed=3)
    frames = [np.clip(still.astype(int) + i % 3, 0, 255).astype(np.uint8) for i in range(40)]
    others = {13: shapes(64, 48, seed=7), 22: shapes(64, 48, seed=8), 31: shapes(64, 48, seed=9)}
    for place, other in others.items():
        frames[place] = other
    data = film(format, frames, [100] * 40)
    found = list(decode(data))
    assert [p.frame for p in found] == [0, 13, 22, 31]
    assert [p.sha256 for p in found[1:]] == [sha256(other) for other in others.values()]
    assert judged(data)[1] == []


def test_few_frames_are_all_judged() -> None:
    frames = [shapes(64, 48, seed=3)] * 3 + [shapes(64, 48, seed=4)]
    data = encode(
        Image.fromarray(frames[0]),
        "TIFF",
        save_all=True,
        append_images=[Image.fromarray(one) for one in frames[1:]],
    )
    assert len(judged(data)[0]) == 4


def test_frames_left_out_are_told() -> None:
    frames = [shapes(64, 48, seed) for seed in range(20)]
    _, notes = judged(film("PNG", frames, [40] * 20))
    assert notes == ["sampled: 8 of 20 different frames were judged (see --frames)"]


def test_equal_times_are_sampled_evenly() -> None:
    pictures = [(i, 40.0) for i in range(20)]
    assert chosen(pictures, 5) == [0, 4, 8, 12, 16]
    assert chosen(pictures, 1) == [0]
    assert chosen(pictures, 99) == list(range(20))


def test_times_of_equal_pictures_add_up() -> None:
    one, other = shot(FIRST, 40), shot(SECOND, 100)
    assert scenes([one, other, one, one], endless=True) == [(0, 120.0), (1, 100.0)]
    assert scenes([one, other], endless=False) == [(0, 40.0), (1, float("inf"))]
    # As browsers do, a frame of no time is shown for a tenth of a second.
    assert scenes([shot(FIRST, 0)], endless=True) == [(0, 100.0)]


# --- JPEG XL ----------------------------------------------------------------------------------------


def jxl(rgb: np.ndarray, **options: Any) -> bytes:
    return encode(rgb, "JXL", **options)


@pytest.mark.parametrize(
    "shape", [(40, 24), (160, 120), (8, 8), (256, 256), (1000, 3), (3, 1000), (320, 180), (2000, 1)]
)
def test_jpeg_xl(shape: tuple[int, int]) -> None:
    rgb = noise(*shape)
    data = jxl(rgb, lossless=True)
    assert has_jxl()
    assert containers.jxl_size(data) == shape
    (found,) = decode(data)
    assert found.format == "JXL"
    assert np.array_equal(found.rgb, rgb)


def test_jpeg_xl_in_boxes() -> None:
    from aidetect.detector.images.repack import hostile_exif

    data = jxl(gradient(), lossless=True, exif=hostile_exif(1))
    assert data[4:8] == b"JXL "
    assert containers.jxl_size(data) == (40, 24)
    assert judged(data)[0] == [sha256(gradient())]


def test_a_large_jpeg_xl_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jxl(gradient(40, 24), lossless=True)
    assert size(data) == 960
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InputError) as caught:
        list(decode(data, max_pixels=959))
    assert caught.value.kind == "too_large"


def test_jpeg_xl_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jxl(gradient())
    monkeypatch.setattr(pixels, "has_jxl", lambda: False)
    with pytest.raises(InputError, match=r"aidetect\[jxl\]") as caught:
        list(decode(data))
    assert caught.value.kind == "unsupported"


def test_a_cut_jpeg_xl_is_an_error() -> None:
    data = jxl(shapes())
    with pytest.raises(InputError):
        list(decode(data[: len(data) // 2]))
