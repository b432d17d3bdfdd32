"""The one door from bytes to pixels.

Nothing but the ``uint8`` RGB array that leaves this module is ever scored. The conversion rule,
the same for every container:

* no EXIF orientation, ICC profile, gamma, DPI, thumbnail or embedded preview is applied or used;
* alpha is dropped, not composited; palettes are expanded to the colour each index names;
* 16-bit and 32-bit integer samples keep their high byte of 16 (``value >> 8``, clipped to 0..255);
* floating point samples are read as 0..1 when all finite samples lie there, else as 0..255;
* bilevel and grey samples are repeated on the three channels; CMYK and YCbCr are converted by
  Pillow's own formula without a profile; of L*a*b* only the lightness is kept.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError

DEFAULT_MAX_PIXELS = 200_000_000
DEFAULT_FRAMES = 8
# A hostile animation can make a decoder walk for hours: frames are sampled among the first ones
# that fit in this many decoded pixels.
_WALK_BUDGET = 4_000_000_000
_WALK_FRAMES = 2_000

# Containers whose extra images are other pictures of the same scene in time or a document's pages.
# (MPO is left out on purpose: its later frames are depth maps, gain maps and previews.)
_ANIMATED = {"GIF", "WEBP", "PNG", "TIFF", "AVIF"}
# Formats that run an external program or draw text rather than hold pixels.
_REFUSED = {"EPS", "WMF", "EMF", "FPX", "MIC", "GRIB", "HDF5", "BUFR", "PDF"}

_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded pixels, and what a record says of them.

    Attributes:
        rgb: array of shape ``[height, width, 3]``, dtype ``uint8``, 0..255, C-contiguous.
        sha256: SHA-256 (hex) of ``rgb``'s bytes in row-major order, without any header.
        format: the container's name as the decoder found it in the bytes, e.g. ``JPEG``.
        frame: index of the frame or page in its container, from 0.
        frames: number of frames or pages in the container.
    """

    rgb: np.ndarray
    sha256: str
    format: str
    frame: int = 0
    frames: int = 1

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    @property
    def key(self) -> str:
        """Identity of the picture: equal for equal pixels of equal size."""
        return f"{self.width}x{self.height}:{self.sha256}"


def from_array(rgb: np.ndarray, format: str = "array") -> Pixels:
    """Wrap an RGB array.

    Args:
        rgb: shape ``[height, width, 3]``, dtype ``uint8``.

    Raises:
        ValueError: another shape or dtype, or an empty array.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
    rgb = np.ascontiguousarray(rgb)
    return Pixels(rgb, hashlib.sha256(rgb.data).hexdigest(), format)


@cache
def _register() -> tuple[str, ...]:
    """Load Pillow's plug-ins (and HEIF's, when installed) once; return the formats we accept."""
    Image.init()
    try:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    except ImportError:
        pass
    # Our own limit is checked before decoding. Pillow's, which refuses above twice its value, stays as a
    # second one for pictures inside containers whose header names another size (ICO, ICNS, GIF, BLP).
    Image.MAX_IMAGE_PIXELS = DEFAULT_MAX_PIXELS // 2
    return tuple(sorted(set(Image.OPEN) - _REFUSED))


def has_heif() -> bool:
    """Whether HEIC/HEIF can be decoded (extra ``aidetect[heif]``)."""
    return "HEIF" in _register()


def decode(
    data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, frames: int = DEFAULT_FRAMES
) -> Iterator[Pixels]:
    """Decode an image's bytes, frame by frame.

    Args:
        data: the whole file.
        max_pixels: refuse pictures with more pixels (checked before decoding).
        frames: at most this many evenly spaced frames of an animation or pages of a document.

    Yields:
        One `Pixels` a frame; still images give one.

    Raises:
        InputError: ``empty``, ``not_an_image``, ``unsupported``, ``too_large``, ``truncated``.
    """
    formats = _register()
    if not data:
        raise InputError("empty", "the file is empty (0 bytes)")
    # Never lowered: another thread may be decoding under a larger limit.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, (max_pixels + 1) // 2)
    data = _without_jpeg_metadata(_without_ancillary_png_chunks(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=formats)
        except UnidentifiedImageError:
            raise InputError(*_what_is_it(data)) from None
        except Exception as error:
            raise _decode_error(error) from None
        with image:
            yield from _frames(image, max_pixels, frames)


def size(data: bytes) -> int:
    """Pixels that decoding one frame will take, from the header alone; 0 when unknown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_register()) as image:
                return int(image.width * image.height)
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)
    except Exception:  # the header is hostile input; decode() will say what is wrong
        return 0


def _frames(image: Image.Image, max_pixels: int, wanted: int) -> Iterator[Pixels]:
    name = image.format or "unknown"
    _check_size(image, max_pixels)
    try:
        count = int(getattr(image, "n_frames", 1)) if name in _ANIMATED else 1
    except Exception as error:
        raise _decode_error(error) from None
    area = max(1, image.width * image.height)
    walk = max(1, min(count, _WALK_FRAMES, _WALK_BUDGET // area))
    for index in evenly_spaced(walk, wanted):
        try:
            if index:
                image.seek(index)
                _check_size(image, max_pixels)
            rgb = _rgb(image)
        except InputError:
            raise
        except Exception as error:
            raise _decode_error(error) from None
        pixels = from_array(rgb, name)
        yield Pixels(pixels.rgb, pixels.sha256, name, index, count)


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``count`` frames, evenly spaced, the first among them."""
    wanted = max(1, min(count, wanted))
    return sorted({i * count // wanted for i in range(wanted)})


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError("truncated", f"the image has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise InputError(
            "too_large",
            f"{width}x{height} is {width * height / 1e6:.1f} MP, over the limit of "
            f"{max_pixels / 1e6:.1f} MP (raise it with --max-pixels)",
        )


def _rgb(image: Image.Image) -> np.ndarray:
    """Convert the current frame by the rule in this module's docstring."""
    # Pillow turns TIFFs on loading, by the tag or else by the XMP packet; neither must matter.
    orientation = image.getexif().get(274, 1) if image.format == "TIFF" else 1
    image.load()
    frame: Image.Image = image
    if orientation in _UNDO_ORIENTATION:
        frame = image.transpose(_UNDO_ORIENTATION[orientation])
    mode = frame.mode
    if mode.startswith("I"):
        values = np.asarray(frame)
        grey = np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode == "F":
        floats = np.nan_to_num(np.asarray(frame, dtype=np.float64), nan=0.0, posinf=0, neginf=0)
        scale = 255.0 if floats.size and floats.min() >= 0 and floats.max() <= 1 else 1.0
        grey = np.clip(np.rint(floats * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode == "LAB":
        frame = frame.getchannel(0)
    elif mode == "RGBa":
        frame = frame.convert("RGBA")
    elif mode == "La":
        frame = frame.convert("LA")
    if frame.mode in ("RGBA", "RGBX"):
        return np.asarray(frame)[:, :, :3].copy()
    if frame.mode == "P":
        frame.info.pop("transparency", None)
    return np.asarray(frame.convert("RGB"))


def _decode_error(error: Exception) -> InputError:
    if isinstance(error, MemoryError):
        return InputError("too_large", "not enough memory to decode this image")
    if isinstance(error, Image.DecompressionBombError):
        return InputError("too_large", f"over the limit of pixels (raise it with --max-pixels): {error}")
    text = str(error) or type(error).__name__
    truncated = re.search(r"truncat|incomplete|unexpected end|broken|premature|EOF", text, re.I)
    kind = "truncated" if truncated else "damaged"
    return InputError(kind, f"the image data is {kind}: {text[:200]}")


_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}


def _without_ancillary_png_chunks(data: bytes) -> bytes:
    """Drop the PNG chunks that hold no pixels, so that none of them can even make decoding fail.

    (A compressed text chunk that expands without end stops Pillow; a wrong profile warns.)
    """
    if not data.startswith(_PNG):
        return data
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if name in _PNG_PIXEL_CHUNKS or end > len(data):
            kept.append(data[at:end])
        at = end
        if name == b"IEND":
            break
    return b"".join(kept)


_JPEG_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 to APP13, APP15, COM; not JFIF and Adobe


def _without_jpeg_metadata(data: bytes) -> bytes:
    """Drop the segments before a JPEG's first scan that hold no pixels, for the same reason.

    (A malformed profile or Photoshop segment makes Pillow refuse the file.)
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return data
    kept, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and len(data) > at + 3:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:  # the scan, or nothing to skip by
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker not in _JPEG_METADATA:
            kept.append(data[at:end])
        at = end
    kept.append(data[at:])
    return b"".join(kept)


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (_PNG, "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"ftypavi", "AVIF"),
)


def _what_is_it(data: bytes) -> tuple[str, str]:
    """Say what bytes that no decoder knows look like."""
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "not_an_image", "this is an HTML page, not an image"
    if head.startswith((b"<?xml", b"<svg")) and b"<svg" in data[:4096].lower():
        return "unsupported", "SVG is a vector drawing without pixels; export it to PNG first"
    if data[4:8] == b"ftyp" and data[8:12] in {b"heic", b"heix", b"mif1", b"msf1", b"heim", b"hevc"}:
        if not has_heif():
            return "unsupported", "HEIC needs the extra: pip install 'aidetect[heif]'"
        return "damaged", "the HEIC data is damaged"
    if head.startswith(b"%!ps") or data.startswith(b"\xc5\xd0\xd3\xc6"):
        return "unsupported", "this is PostScript, a program that draws; export it to PNG first"
    if head.startswith(b"%pdf"):
        return "unsupported", "this is a PDF document; extract its images first"
    for magic, name in _MAGIC:
        if data.startswith(magic, 4 if magic.startswith(b"ftyp") else 0):
            return "truncated", f"the {name} data is truncated or damaged"
    return "not_an_image", "no decoder recognises this as an image"
