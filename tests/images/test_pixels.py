"""The pixel door: every container decodes by the documented rule, and metadata never moves a pixel."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from conftest import encode, exif, gradient, jpeg_with, noise, png_chunk, png_with, raw_png, sha256, within
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from aidetect.detector.errors import InputError
from aidetect.detector.images import pixels
from aidetect.detector.images.pixels import (
    DEFAULT_MAX_PIXELS,
    Pixels,
    decode,
    evenly_spaced,
    from_array,
    has_heif,
    size,
)


def decode_one(data: bytes, **options: int) -> Pixels:
    """The only frame of a still image."""
    (only,) = decode(data, **options)
    return only


def refused(data: bytes, **options: Any) -> InputError:
    """The error that decoding gives."""
    with pytest.raises(InputError) as caught:
        list(decode(data, **options))
    assert "\n" not in str(caught.value)
    return caught.value


def raw_tiff(
    samples: np.ndarray, bits: int, photometric: int = 1, kind: int = 1, endian: str = "<", **tags: int
) -> bytes:
    """A baseline TIFF: ``samples`` [height, width(, bands)] as they are to lie in the file.

    Args:
        kind: 1 unsigned, 2 signed, 3 floating point.
        tags: ``extra`` (ExtraSamples) and ``orientation``.
    """
    height, width = samples.shape[:2]
    bands = samples.shape[2] if samples.ndim == 3 else 1
    data = samples.astype(samples.dtype.newbyteorder(endian)).tobytes()
    entries: list[tuple[int, list[int]]] = [
        (256, [width]),
        (257, [height]),
        (258, [bits] * bands),
        (259, [1]),
        (262, [photometric]),
        (273, [8]),
        (277, [bands]),
        (278, [height]),
        (279, [len(data)]),
        (339, [kind] * bands),
    ]
    if "extra" in tags:
        entries.append((338, [tags["extra"]]))
    if "orientation" in tags:
        entries.append((274, [tags["orientation"]]))
    entries.sort()
    directory = 8 + len(data) + len(data) % 2
    far = directory + 2 + 12 * len(entries) + 4
    body, tail = struct.pack(endian + "H", len(entries)), b""
    for tag, values in entries:
        long = tag in (273, 279)
        packed = struct.pack(f"{endian}{len(values)}{'I' if long else 'H'}", *values)
        if len(packed) > 4:
            where, tail = struct.pack(endian + "I", far + len(tail)), tail + packed
        else:
            where = packed.ljust(4, b"\0")
        body += struct.pack(endian + "HHI", tag, 4 if long else 3, len(values)) + where
    magic = b"II*\0" if endian == "<" else b"MM\0*"
    pad = b"\0" * (len(data) % 2)
    return magic + struct.pack(endian + "I", directory) + data + pad + body + bytes(4) + tail


# --- every container --------------------------------------------------------------------------------

# Lossless ways to store 8-bit RGB: the decoded pixels must be exactly those drawn.
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-packbits": ("TIFF", {"compression": "packbits"}),
    "tiff-zstd": ("TIFF", {"compression": "zstd"}),
    "bigtiff": ("TIFF", {"big_tiff": True}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tga": ("TGA", {}),
    "tga-rle": ("TGA", {"compression": "tga_rle"}),
    "jpeg2000": ("JPEG2000", {"num_resolutions": 1}),
    "jpeg2000-raw": ("JPEG2000", {"num_resolutions": 1, "no_jp2": True}),
    "qoi": ("QOI", {}),
    "sgi": ("SGI", {}),
    "pcx": ("PCX", {}),
    "dds": ("DDS", {}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 95}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "progressive": True, "optimize": True}),
    "webp": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95, "speed": 10}),
    "heic": ("HEIF", {"quality": 95}),
    "jpeg2000": ("JPEG2000", {"irreversible": True, "quality_mode": "dB", "quality_layers": [50]}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_container_gives_the_pixels_drawn(name: str) -> None:
    format, options = LOSSLESS[name]
    rgb = noise(37, 21, seed=3)
    found = decode_one(encode(rgb, format, **options))
    assert np.array_equal(found.rgb, rgb)
    assert found.rgb.dtype == np.uint8
    assert found.rgb.flags.c_contiguous
    assert found.sha256 == sha256(rgb)
    assert (found.width, found.height, found.format) == (37, 21, format)
    assert (found.frame, found.frames) == (0, 1)
    assert found.key == f"37x21:{found.sha256}"


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_container_gives_nearly_the_pixels_drawn(name: str) -> None:
    format, options = LOSSY[name]
    rgb = gradient(72, 40)
    found = decode_one(encode(rgb, format, **options))
    assert found.rgb.shape == rgb.shape
    assert found.format == format
    assert np.abs(found.rgb.astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("codec", [None, "bmp"])
def test_icon(codec: str | None) -> None:
    rgb = noise(32, 24)
    options = {"bitmap_format": codec} if codec else {}
    found = decode_one(encode(rgb, "ICO", sizes=[(32, 24)], **options))
    assert np.array_equal(found.rgb, rgb)


def test_gif_of_few_colours_is_exact() -> None:
    image = Image.fromarray(noise(20, 12)).quantize(64)
    found = decode_one(encode(image, "GIF"))
    assert np.array_equal(found.rgb, np.asarray(image.convert("RGB")))


def test_format_is_read_from_the_bytes_alone() -> None:
    # The door never sees a file name, so an extension cannot matter.
    assert [decode_one(encode(gradient(), f)).format for f in ("PNG", "JPEG", "BMP")] == [
        "PNG",
        "JPEG",
        "BMP",
    ]


@settings(max_examples=100)
@given(
    rgb=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
    name=st.sampled_from(sorted(LOSSLESS)),
    orientation=st.integers(1, 8),
    icc=st.binary(max_size=80),
    xmp=st.binary(max_size=80),
)
def test_lossless_roundtrip_with_hostile_metadata(
    rgb: np.ndarray, name: str, orientation: int, icc: bytes, xmp: bytes
) -> None:
    format, options = LOSSLESS[name]
    if format in ("PNG", "WEBP", "TIFF"):
        options = {**options, "exif": exif(orientation), "icc_profile": icc}
    if format == "WEBP":
        options["xmp"] = xmp
    if format == "TIFF":
        options["tiffinfo"] = {700: xmp, 33723: icc, 34377: xmp, 270: "gradient"}
    found = decode_one(encode(rgb, format, **options))
    assert found.sha256 == sha256(rgb)
    assert np.array_equal(found.rgb, rgb)


# --- frames -----------------------------------------------------------------------------------------


def animation(format: str, count: int = 5, **options: Any) -> tuple[bytes, list[np.ndarray]]:
    """A file of several distinct frames, and the frames."""
    frames = [np.full((16, 24, 3), 20 + 40 * i, np.uint8) for i in range(count)]
    for index, frame in enumerate(frames):
        frame[:8, : 4 + index] = (250, 10 * index, 0)
    images = [Image.fromarray(frame) for frame in frames]
    if format == "GIF":
        images = [image.quantize(16) for image in images]
    data = encode(images[0], format, save_all=True, append_images=images[1:], **options)
    return data, frames


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("GIF", {"duration": 50, "loop": 0}),
        ("PNG", {"duration": 50}),
        ("WEBP", {"lossless": True, "duration": 50}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 95, "speed": 10, "duration": 50}),
    ],
)
def test_frames_of_animations_and_pages(format: str, options: dict[str, Any]) -> None:
    data, frames = animation(format, 5, **options)
    tolerance = 6 if format == "AVIF" else 0
    found = list(decode(data))
    assert [p.frame for p in found] == [0, 1, 2, 3, 4]
    assert {p.frames for p in found} == {5}
    for got, drawn in zip(found, frames, strict=True):
        assert np.abs(got.rgb.astype(int) - drawn).mean() <= tolerance

    some = list(decode(data, frames=2))
    assert [p.frame for p in some] == [0, 2]
    assert [p.sha256 for p in some] == [found[0].sha256, found[2].sha256]
    assert [p.frame for p in decode(data, frames=1)] == [0]


def test_pages_of_different_sizes() -> None:
    pages = [gradient(20, 10), noise(8, 30), gradient(5, 5)]
    first, *rest = [Image.fromarray(page) for page in pages]
    data = encode(first, "TIFF", save_all=True, append_images=rest)
    assert [p.sha256 for p in decode(data)] == [sha256(page) for page in pages]


def test_multi_picture_jpeg_gives_its_first_picture_only() -> None:
    # Later pictures of an MPO are depth maps, gain maps and previews.
    first, second = Image.fromarray(gradient(48, 32)), Image.fromarray(noise(48, 32))
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=90)
    assert b"MPF\0" in data
    found = decode_one(data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
        assert np.array_equal(found.rgb, np.asarray(image))
    assert found.frames == 1


def test_long_animation_is_not_walked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = animation("GIF", 6)
    monkeypatch.setattr(pixels, "_WALK_FRAMES", 3)
    assert [p.frame for p in decode(data)] == [0, 1, 2]
    monkeypatch.setattr(pixels, "_WALK_BUDGET", 2 * 16 * 24)
    found = list(decode(data))
    assert [p.frame for p in found] == [0, 1]
    assert {p.frames for p in found} == {6}


@given(count=st.integers(1, 5000), wanted=st.integers(-3, 60))
def test_evenly_spaced(count: int, wanted: int) -> None:
    found = evenly_spaced(count, wanted)
    assert found[0] == 0
    assert found == sorted(set(found))
    assert len(found) == max(1, min(count, wanted))
    assert found[-1] < count
    gaps = np.diff([*found, count])
    assert gaps.max() - gaps.min() <= 1


# --- orientation ------------------------------------------------------------------------------------

LOPSIDED = noise(13, 7, seed=5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "name", ["png", "webp", "tiff", "tiff-lzw", "tiff-deflate", "tiff-packbits", "bigtiff"]
)
def test_orientation_does_not_turn_lossless_pictures(name: str, orientation: int) -> None:
    format, options = LOSSLESS[name]
    found = decode_one(encode(LOPSIDED, format, exif=exif(orientation), **options))
    assert np.array_equal(found.rgb, LOPSIDED)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "avif", "tiff-jpeg"])
def test_orientation_does_not_turn_lossy_pictures(name: str, orientation: int) -> None:
    format, options = LOSSY[name]
    plain = decode_one(encode(gradient(), format, **options))
    turned = decode_one(encode(gradient(), format, exif=exif(orientation), **options))
    assert turned.sha256 == plain.sha256
    assert turned.rgb.shape == gradient().shape


def test_exif_orientation_does_not_turn_heic() -> None:
    data = encode(gradient(64, 40), "HEIF", exif=exif(1))
    at = data.index(exif(1)) + exif(1).index(b"\x01\x12\0\x03") + 8  # the value of tag 0x0112
    hashes = set()
    for orientation in range(1, 9):
        patched = data[:at] + struct.pack(">H", orientation) + data[at + 2 :]
        hashes.add(decode_one(patched).sha256)
    assert hashes == {decode_one(encode(gradient(64, 40), "HEIF")).sha256}


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [*range(10), 255, 65535])
def test_raw_tiff_tag_does_not_turn(endian: str, orientation: int) -> None:
    data = raw_tiff(LOPSIDED, 8, photometric=2, endian=endian, orientation=orientation)
    assert np.array_equal(decode_one(data).rgb, LOPSIDED)


@pytest.mark.parametrize("form", ['tiff:Orientation="{}"', "<tiff:Orientation>{}</tiff:Orientation>"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation_in_xmp_does_not_turn(format: str, form: str) -> None:
    # Pillow turns TIFFs by the XMP packet when there is no tag.
    options: dict[str, Any] = {"WEBP": {"lossless": True}}.get(format, {})
    plain = decode_one(encode(LOPSIDED, format, **options))
    for orientation in range(1, 9):
        xmp = f"<x:xmpmeta>{form.format(orientation)}</x:xmpmeta>".encode()
        if format == "TIFF":
            data = encode(LOPSIDED, format, tiffinfo={700: xmp})
        elif format == "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", xmp.decode())
            data = encode(LOPSIDED, format, pnginfo=text)
        else:
            data = encode(LOPSIDED, format, xmp=xmp, **options)
        assert xmp in data
        assert decode_one(data).sha256 == plain.sha256


def test_every_page_of_a_tiff_keeps_its_own_direction() -> None:
    buffer = io.BytesIO()
    pages = [noise(9, 5, seed) for seed in range(4)]
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as writer:
        for page, orientation in zip(pages, (6, 1, 8, 3), strict=True):
            Image.fromarray(page).save(writer, "TIFF", exif=exif(orientation))
            writer.newFrame()
    assert [p.sha256 for p in decode(buffer.getvalue())] == [sha256(page) for page in pages]
    assert [p.sha256 for p in decode(buffer.getvalue(), frames=2)] == [sha256(pages[0]), sha256(pages[2])]


# --- other metadata ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000"])
def test_colour_profile_moves_nothing(format: str) -> None:
    # A profile of a colour space far from sRGB.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB", 9000)).tobytes()
    plain = decode_one(encode(gradient(), format))
    profiled = encode(gradient(), format, icc_profile=profile)
    assert decode_one(profiled).sha256 == plain.sha256


PNG_CHUNKS = {
    "tEXt": b"parameters\0a portrait, steps: 20",
    "zTXt": b"Comment\0\0" + zlib.compress(b"words"),
    "iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
    "gAMA": struct.pack(">I", 10000),
    "cHRM": struct.pack(">8I", *range(1, 9)),
    "sRGB": b"\0",
    "cICP": bytes([9, 16, 0, 1]),
    "sBIT": bytes([1, 1, 1]),
    "bKGD": struct.pack(">3H", 9, 9, 9),
    "tRNS": struct.pack(">3H", 1, 2, 3),
    "pHYs": struct.pack(">IIB", 1, 9999, 1),
    "iCCP": b"name\0\0" + zlib.compress(b"no profile"),
    "eXIf": exif(6)[6:],
    "caBX": bytes(range(256)),
    "tIME": bytes(7),
    "prVt": b"private",
}


@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_png_chunk_moves_nothing(name: str) -> None:
    data = encode(LOPSIDED, "PNG")
    for payload in (PNG_CHUNKS[name], b"", bytes(3), b"\xff" * 300):
        assert decode_one(png_with(data, (name.encode(), payload))).sha256 == sha256(LOPSIDED)
    broken = bytearray(png_with(data, (name.encode(), PNG_CHUNKS[name])))
    broken[33 + 8 + len(PNG_CHUNKS[name])] ^= 0xFF  # its checksum
    assert decode_one(bytes(broken)).sha256 == sha256(LOPSIDED)


def test_png_text_bomb_is_not_inflated() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9)
    data = png_with(encode(LOPSIDED, "PNG"), *[(b"zTXt", bomb)] * 20)
    with within(2):
        assert decode_one(data).sha256 == sha256(LOPSIDED)


def test_metadata_of_an_animated_png_moves_nothing() -> None:
    data, frames = animation("PNG", 3, duration=10)
    noisy = png_with(data, (b"tEXt", b"a\0b"), (b"eXIf", exif(8)[6:]))
    assert [p.sha256 for p in decode(noisy)] == [sha256(frame) for frame in frames]


JPEG_SEGMENTS = {
    "comment": (0xFE, b"made by a test"),
    "exif": (0xE1, exif(6)),
    "damaged exif": (0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "exif with another length": (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12"),
    "xmp": (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
    "profile without its count": (0xE2, b"ICC_PROFILE\0"),
    "half a profile": (0xE2, b"ICC_PROFILE\0\x01\x02half"),
    "malformed multi-picture index": (0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\x05\0\0\0"),
    "photoshop that ends early": (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "content credentials": (0xEB, b"JP\0\x01\0\0\0\x01\0\0\0\x20jumb"),
    "flashpix": (0xE2, b"FPXR\0"),
    "unknown": (0xEF, b""),
}


@pytest.mark.parametrize("name", JPEG_SEGMENTS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_segment_moves_nothing(name: str, mode: str) -> None:
    data = encode(Image.fromarray(gradient()).convert(mode), "JPEG")
    plain = decode_one(data)
    assert decode_one(jpeg_with(data, JPEG_SEGMENTS[name])).sha256 == plain.sha256


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*range(0xE1, 0xEE), 0xEF, 0xFE]),
            st.sampled_from(
                [b"", b"Exif\0\0II*\0\x08\0\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0"]
            ),
            st.binary(max_size=60),
        ),
        max_size=4,
    )
)
def test_no_jpeg_segment_moves_anything(segments: list[tuple[int, bytes, bytes]]) -> None:
    data = encode(gradient(), "JPEG", quality=80)
    hostile = jpeg_with(data, *[(marker, head + rest) for marker, head, rest in segments])
    assert decode_one(hostile).sha256 == decode_one(data).sha256


def test_adobe_segment_still_counts() -> None:
    # It says how colours are stored: dropping it would change pixels.
    data = encode(gradient(), "JPEG", quality=95, keep_rgb=True)
    assert np.abs(decode_one(data).rgb.astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "QOI"])
def test_trailing_bytes_move_nothing(format: str) -> None:
    data = encode(gradient(), format)
    plain = decode_one(data)
    for tail in (b"\0" * 50, noise().tobytes(), encode(noise(), "PNG"), b"<html>"):
        assert decode_one(data + tail).sha256 == plain.sha256


# --- alpha ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["png", "webp", "tiff", "tiff-lzw", "tga", "jpeg2000", "qoi", "sgi", "dds"])
def test_alpha_is_dropped_not_composited(name: str) -> None:
    format, options = LOSSLESS[name]
    rgb = noise(16, 8)
    alpha = np.tile(np.arange(16, dtype=np.uint8) * 17, (8, 1))  # from fully transparent to opaque
    data = encode(Image.fromarray(np.dstack([rgb, alpha])), format, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert "A" in image.mode
    assert np.array_equal(decode_one(data).rgb, rgb)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "TGA", "JPEG2000"])
def test_grey_alpha_is_dropped(format: str) -> None:
    grey = noise(16, 8)[:, :, 0]
    alpha = np.tile(np.arange(16, dtype=np.uint8) * 17, (8, 1))
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    assert np.array_equal(decode_one(encode(image, format)).rgb, np.repeat(grey[:, :, None], 3, axis=2))


def palette_picture() -> tuple[Image.Image, np.ndarray]:
    image = Image.fromarray(noise(12, 8)).quantize(32)
    return image, np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "BMP", "TGA", "PCX"])
def test_palette_is_expanded(format: str) -> None:
    image, rgb = palette_picture()
    assert np.array_equal(decode_one(encode(image, format)).rgb, rgb)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_index_shows_its_colour(format: str) -> None:
    image, rgb = palette_picture()
    index = int(np.asarray(image)[0, 0])
    assert np.array_equal(decode_one(encode(image, format, transparency=index)).rgb, rgb)


def test_palette_with_alphas_shows_its_colours() -> None:
    image, rgb = palette_picture()
    data = encode(image, "PNG", transparency=bytes(range(0, 256, 8)))
    assert b"tRNS" in data
    assert np.array_equal(decode_one(data).rgb, rgb)


def test_palette_alpha_mode() -> None:
    image, rgb = palette_picture()
    image = image.convert("PA")
    image.putalpha(Image.new("L", image.size, 9))
    assert image.mode == "PA"
    assert np.array_equal(decode_one(encode(image, "TIFF")).rgb, rgb)


def test_premultiplied_alpha_is_divided_out() -> None:
    # TIFF's associated alpha: stored colour = colour x alpha.
    stored = np.zeros((4, 6, 4), np.uint8)
    stored[:, :, 0], stored[:, :, 1], stored[:, :, 3] = 100, 50, 128
    found = decode_one(raw_tiff(stored, 8, photometric=2, extra=1)).rgb
    assert np.abs(found.astype(int) - (199, 100, 0)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_modes_are_divided_out(mode: str) -> None:
    straight = Image.fromarray(np.dstack([gradient(), np.full(gradient().shape[:2], 200, np.uint8)]))
    frame = straight.convert("LA").convert("La") if mode == "La" else straight.convert("RGBa")
    frame.format = None
    expected = np.asarray(straight.convert("L").convert("RGB") if mode == "La" else straight.convert("RGB"))
    assert np.abs(pixels._rgb(frame).astype(int) - expected).max() <= 3


# --- other sample types -----------------------------------------------------------------------------


def grey3(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


WIDE = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_16_bit_grey_tiff_keeps_the_high_byte(endian: str) -> None:
    assert np.array_equal(decode_one(raw_tiff(WIDE, 16, endian=endian)).rgb, grey3(WIDE >> 8))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bit_grey_keeps_the_high_byte(format: str) -> None:
    options = {"num_resolutions": 1} if format == "JPEG2000" else {}
    data = encode(Image.fromarray(WIDE), format, **options)
    assert np.array_equal(decode_one(data).rgb, grey3(WIDE >> 8))


def test_16_bit_colour_keeps_the_high_byte() -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    assert np.array_equal(decode_one(raw_png(7, 5, 16, 2, rows)).rgb, (wide >> 8).astype(np.uint8))
    for endian in "<>":
        found = decode_one(raw_tiff(wide, 16, photometric=2, endian=endian)).rgb
        assert np.array_equal(found, (wide >> 8).astype(np.uint8))


def test_integers_are_clipped() -> None:
    values = np.array([[-5, 0, 255], [256, 65535, 65536], [2**31 - 1, -(2**31), 32767]], np.int32)
    expected = [[0, 0, 0], [1, 255, 255], [255, 0, 127]]
    assert np.array_equal(decode_one(raw_tiff(values, 32, kind=2)).rgb, grey3(np.array(expected)))
    signed = np.array([[-3, 256, 32767]], np.int16)
    assert np.array_equal(decode_one(raw_tiff(signed, 16, kind=2)).rgb, grey3(np.array([[0, 1, 127]])))


def test_floats_in_0_to_1_are_scaled() -> None:
    values = np.array([[0.0, 0.5, 1.0], [0.25, np.nan, np.inf]], np.float32)
    expected = np.array([[0, 128, 255], [64, 0, 0]])
    assert np.array_equal(decode_one(raw_tiff(values, 32, kind=3)).rgb, grey3(expected))


@pytest.mark.filterwarnings("error")
def test_signalling_nans_are_black_and_silent() -> None:
    values = np.array([[0x7F800001, 0x3F800000], [0xFF812345, 0x3F000000]], np.uint32).view(np.float32)
    assert np.array_equal(decode_one(raw_tiff(values, 32, kind=3)).rgb, grey3(np.array([[0, 255], [0, 128]])))


def test_other_floats_are_clipped() -> None:
    values = np.array([[0.0, 0.6, 254.4], [-7.0, 1e30, -np.inf]], np.float32)
    expected = np.array([[0, 1, 254], [0, 255, 0]])
    assert np.array_equal(decode_one(raw_tiff(values, 32, kind=3)).rgb, grey3(expected))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF", "PPM", "XBM", "MSP", "WEBP"])
def test_bilevel_is_black_and_white(format: str) -> None:
    bits = noise(16, 8)[:, :, 0] > 127
    image = Image.fromarray(np.where(bits, 255, 0).astype(np.uint8)).convert("1")
    options = {"lossless": True} if format == "WEBP" else {}
    found = decode_one(encode(image, format, **options)).rgb
    assert np.array_equal(found, grey3(np.where(bits, 255, 0)))


def test_fax_tiff() -> None:
    image = Image.fromarray(noise(16, 8)[:, :, 0]).convert("1")
    data = encode(image, "TIFF", compression="group4")
    assert np.array_equal(decode_one(data).rgb, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "TGA"])
def test_grey_is_repeated(format: str) -> None:
    grey = noise(11, 7)[:, :, 1]
    assert np.array_equal(decode_one(encode(Image.fromarray(grey), format)).rgb, grey3(grey))


@pytest.mark.parametrize("profile", [False, True])
def test_cmyk_is_converted_without_a_profile(profile: bool) -> None:
    inks = np.random.default_rng(2).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    image = Image.frombytes("CMYK", (9, 6), inks.tobytes())
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(image, "TIFF", **({"icc_profile": icc} if profile else {}))
    inks = inks.astype(float)
    expected = (255 - inks[:, :, :3]) * (255 - inks[:, :, 3:]) / 255
    assert np.abs(decode_one(data).rgb - expected).max() <= 1


def test_cmyk_jpeg() -> None:
    image = Image.fromarray(gradient()).convert("CMYK")
    found = decode_one(encode(image, "JPEG", quality=100, subsampling=0)).rgb
    assert np.abs(found.astype(int) - gradient()).mean() < 3


def test_ycbcr_tiff() -> None:
    image = Image.fromarray(gradient()).convert("YCbCr")
    assert np.array_equal(decode_one(encode(image, "TIFF")).rgb, np.asarray(image.convert("RGB")))


def test_of_lab_only_the_lightness_is_kept() -> None:
    bands = [Image.fromarray(noise(10, 6, seed)[:, :, 0]) for seed in range(3)]
    data = encode(Image.merge("LAB", bands), "TIFF")
    assert np.array_equal(decode_one(data).rgb, grey3(np.asarray(bands[0])))


# --- limits and refusals ----------------------------------------------------------------------------


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def huge_headers() -> dict[str, bytes]:
    """Small files whose headers claim enormous pictures."""
    png, gif, bmp = (encode(gradient(), f) for f in ("PNG", "GIF", "BMP"))
    header = struct.pack(">II", 60000, 60000)
    ihdr = patched(png, 16, header)
    jpeg = encode(gradient(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    tiff = raw_tiff(LOPSIDED, 8, photometric=2)
    at = tiff.index(struct.pack("<HHIHH", 256, 3, 1, 13, 0))
    tall = tiff.index(struct.pack("<HHIHH", 257, 3, 1, 7, 0))
    return {
        "png": patched(ihdr, 29, struct.pack(">I", zlib.crc32(ihdr[12:29]))),
        "gif": patched(gif, 6, struct.pack("<HH", 60000, 60000)),
        "bmp": patched(bmp, 18, struct.pack("<ii", 60000, 60000)),
        "jpeg": patched(jpeg, frame + 5, struct.pack(">HH", 60000, 60000)),
        "tiff": patched(patched(tiff, at + 8, struct.pack("<H", 60000)), tall + 8, struct.pack("<H", 60000)),
        "ppm": b"P6\n60000 60000\n255\n" + bytes(100),
        "qoi": b"qoif" + header + bytes([3, 0]) + bytes(100),
        "tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 60000, 60000, 24, 32) + bytes(100),
        "psd": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 60000, 60000, 8, 3) + bytes(200),
        "sgi": struct.pack(">HBBHHHH", 474, 0, 1, 3, 60000, 60000, 3) + bytes(600),
    }


@pytest.mark.parametrize("name", huge_headers())
def test_huge_picture_is_refused_before_decoding(name: str) -> None:
    data = huge_headers()[name]
    with within(2):
        error = refused(data)
    assert error.kind == "too_large"
    assert "--max-pixels" in str(error)


def test_limit_is_exact_and_adjustable() -> None:
    data = encode(gradient(40, 25), "PNG")
    assert decode_one(data, max_pixels=1000).width == 40
    error = refused(data, max_pixels=999)
    assert error.kind == "too_large"
    assert "40x25" in str(error)


def test_limit_is_above_pillows_own_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow refuses above 2 x MAX_IMAGE_PIXELS; --max-pixels must be able to allow more.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", DEFAULT_MAX_PIXELS // 2)
    tall = b"P6\n60000 60000\n255\n"
    assert refused(tall).kind == "too_large"
    monkeypatch.setattr(pixels, "_samples", lambda image, transparency: (noise(2, 2), None))
    assert decode_one(tall, max_pixels=3_600_000_000).format == "PPM"
    assert refused(tall, max_pixels=3_599_999_999).kind == "too_large"


@pytest.mark.parametrize("container", ["ICO", "ICNS", "BLP"])
def test_container_that_hides_a_huge_picture(monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", DEFAULT_MAX_PIXELS // 2)
    if container == "BLP":
        inner = huge_headers()["jpeg"]
        header = struct.pack("<4sIIIIII", b"BLP1", 0, 0, 16, 16, 5, 0)
        offsets = struct.pack("<16I", 28 + 128 + 4, *[0] * 15) + struct.pack("<16I", len(inner), *[0] * 15)
        data = header + offsets + struct.pack("<I", 0) + inner
    elif container == "ICO":
        inner = huge_headers()["png"]
        data = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    else:
        inner = huge_headers()["png"]
        block = b"ic07" + struct.pack(">I", len(inner) + 8) + inner
        data = b"icns" + struct.pack(">I", len(block) + 8) + block
    with within(2):
        size(data)
        error = refused(data)
    assert error.kind == "too_large"
    assert "--max-pixels" in str(error)


def test_icon_picture_larger_than_its_header_says() -> None:
    inner = encode(noise(200, 100), "PNG")
    data = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    assert refused(data, max_pixels=10_000).kind == "too_large"
    assert decode_one(data, max_pixels=20_000).width == 200


def test_later_frame_that_is_huge() -> None:
    data, _ = animation("GIF", 4)
    second = data.index(b"\x2c", data.index(b"\x2c") + 1)
    parts = []
    at = -1
    while (at := data.find(b"\x21\xf9\x04", at + 1)) >= 0:
        parts.append(at)
    second = data.index(b"\x2c", parts[1])
    grown = patched(data, second + 5, struct.pack("<HH", 60000, 60000))
    with within(5):
        assert refused(grown, frames=2).kind == "too_large"
        assert refused(grown).kind == "too_large"


def test_memory_error_becomes_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(pixels, "_loaded", fail)
    error = refused(encode(gradient(), "PNG"))
    assert error.kind == "too_large"
    assert "memory" in str(error)


def test_size_is_read_from_the_header() -> None:
    assert size(encode(gradient(40, 24), "JPEG")) == 960
    assert size(huge_headers()["ppm"]) >= 2 * (DEFAULT_MAX_PIXELS // 2)
    assert size(b"") == size(b"<html>") == size(encode(gradient(), "PNG")[:20]) == 0


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("shape", [(1, 1), (20000, 1), (1, 20000)])
def test_extreme_shapes(format: str, shape: tuple[int, int]) -> None:
    rgb = noise(*shape)
    assert decode_one(encode(rgb, format)).sha256 == sha256(rgb)


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (b"", "empty", "0 bytes"),
        (b"\n  <!DOCTYPE html><html><body>404</body></html>", "not_an_image", "HTML"),
        (b"<HTML><img src=x></HTML>", "not_an_image", "HTML"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", "unsupported", "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "unsupported", "PDF"),
        (encode(gradient(), "EPS"), "unsupported", "PostScript"),
        (encode(gradient(), "PDF"), "unsupported", "PDF"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "unsupported", "PostScript"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image", "no decoder"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "truncated", "truncated"),
        (b"plain words, nothing else", "not_an_image", "no decoder"),
        (b"PK\x03\x04" + bytes(60), "unsupported", "archive"),
        (bytes(4000), "not_an_image", "no decoder"),
        (b"\x7fELF" + bytes(60), "not_an_image", "no decoder"),
        (b"\xff\xd8\xff", "truncated", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "truncated", "PNG"),
    ],
)
def test_refusals(data: bytes, kind: str, word: str) -> None:
    error = refused(data)
    assert error.kind == kind
    assert word in str(error)
    assert size(data) == 0


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"]
)
def test_half_a_file_is_refused_when_strict(format: str) -> None:
    data = encode(noise(64, 64), format)
    assert refused(data[: len(data) // 2], strict=True).kind == "truncated"


def test_half_a_heic_is_refused() -> None:
    data = encode(noise(64, 64), "HEIF")
    assert refused(data[: len(data) // 2]).kind in ("damaged", "truncated")


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(gradient(64, 40), "HEIF")
    assert has_heif()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    pixels._register.cache_clear()
    try:
        assert not has_heif()
        error = refused(data)
    finally:
        monkeypatch.undo()
        pixels._register.cache_clear()
    assert error.kind == "unsupported"
    assert "aidetect[heif]" in str(error)
    assert decode_one(data).format == "HEIF"


# --- arrays -----------------------------------------------------------------------------------------


def test_array_is_hashed_without_its_layout() -> None:
    rgb = noise(9, 6)
    same = np.asfortranarray(rgb)
    assert from_array(rgb).sha256 == from_array(same).sha256 == hashlib.sha256(rgb.tobytes()).hexdigest()
    assert from_array(rgb[::-1]).sha256 != from_array(rgb).sha256
    assert from_array(rgb.reshape(9, 6, 3)).key != from_array(rgb).key


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        from_array(bad)


# --- fuzzing ----------------------------------------------------------------------------------------


def corpus() -> list[bytes]:
    """A small real file of every kind."""
    rgb = noise(24, 16)
    files = [encode(rgb, format, **options) for format, options in (*LOSSLESS.values(), *LOSSY.values())]
    files += [animation(format, 3)[0] for format in ("GIF", "PNG", "WEBP", "TIFF")]
    files += [encode(rgb, "ICO", sizes=[(24, 16)]), encode(rgb, "ICO", sizes=[(24, 16)], bitmap_format="bmp")]
    files += [encode(Image.fromarray(rgb).convert("1"), f) for f in ("XBM", "MSP", "PPM", "TIFF")]
    files += [encode(palette_picture()[0], f) for f in ("PNG", "GIF", "BMP", "TIFF", "BLP")]
    files += [raw_tiff(WIDE, 16), raw_tiff(WIDE.astype(np.float32), 32, kind=3), encode(rgb, "SPIDER")]
    files += [encode(rgb, "MPO", save_all=True, append_images=[Image.fromarray(rgb)], exif=exif(3))]
    return files


CORPUS = corpus()
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "drop", "insert", "splice", "claim"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
        st.sampled_from(range(len(CORPUS))),
    ),
    min_size=1,
    max_size=5,
)


def mutate(data: bytes, edits: list[tuple[str, float, bytes, int]]) -> bytes:
    for what, where, payload, other in edits:
        # Headers are where decoders go wrong: half of the edits lie in the first 128 bytes.
        reach = len(data) if payload[0] & 1 else min(len(data), 128)
        at = int(where * reach)
        if what == "flip" and data:
            data = patched(data, at, bytes([data[at] ^ (payload[0] or 1)]))
        elif what == "set":
            data = patched(data, at, payload)
        elif what == "cut":
            data = data[: int(where * len(data))]
        elif what == "drop":
            data = data[:at] + data[at + payload[0] :]
        elif what == "insert":
            data = data[:at] + payload + data[at:]
        elif what == "splice":
            source = CORPUS[other]
            data = data[:at] + source[int(where * len(source)) :]
        elif what == "claim":
            data = patched(data, at, b"\xff" * (payload[0] % 5))
    return data


@settings(max_examples=600)
@given(which=st.sampled_from(range(len(CORPUS))), edits=EDITS)
def test_damaged_files_give_pixels_or_an_input_error(
    which: int, edits: list[tuple[str, float, bytes, int]]
) -> None:
    data = mutate(CORPUS[which], edits)
    with within(5):
        size(data)
        try:
            for found in decode(data, max_pixels=1_000_000, frames=4):
                assert found.rgb.dtype == np.uint8
                assert found.rgb.shape == (found.height, found.width, 3)
                assert found.width * found.height <= 1_000_000
                assert found.sha256 == sha256(found.rgb)
        except InputError as error:
            assert error.kind in {"empty", "not_an_image", "unsupported", "too_large", "truncated", "damaged"}
            assert "\n" not in str(error)


@given(data=st.binary(max_size=200))
def test_random_bytes_give_pixels_or_an_input_error(data: bytes) -> None:
    with within(5):
        try:
            list(decode(data, max_pixels=1_000_000))
        except InputError as error:
            assert str(error)


@pytest.mark.parametrize("junk", [png_chunk(b"IDAT", b"x"), b"\xff" * 64, b"\xff\xd8" + b"\xff\xe1\0\0" * 9])
def test_headers_without_pictures(junk: bytes) -> None:
    for head in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\0\0", b""):
        assert refused(head + junk).kind in ("truncated", "not_an_image", "damaged")
