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

import contextlib
import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from . import salvage
from .animation import chosen, evenly_spaced, scenes, shot
from .backdrop import opacity
from .containers import PNG, cleaned, heif_other_coding, is_jxl, jxl_size, png_transparency, riff_missing
from .tiffmessages import libtiff_messages

DEFAULT_MAX_PIXELS = 200_000_000
DEFAULT_FRAMES = 8
# A hostile animation can make a decoder walk for hours: frames are sampled among the first ones
# that fit in this many decoded pixels.
_WALK_BUDGET = 4_000_000_000
_WALK_FRAMES = 2_000

# Containers whose extra images are other pictures of the same scene in time or a document's pages.
# (MPO is left out on purpose: its later frames are depth maps, gain maps and previews.)
_ANIMATED = {"GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF", "JXL"}
# Of these, those whose pictures lie side by side and not one after the other in time.
_PAGES = {"TIFF", "HEIF"}
# Of these, those that start again for ever unless they say otherwise; a GIF plays once.
_ENDLESS = {"WEBP", "PNG", "AVIF", "JXL"}
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
        alpha: opacity, ``[height, width]``, dtype ``uint8``, 255 for opaque; ``None`` where all is opaque.
    """

    rgb: np.ndarray
    sha256: str
    format: str
    frame: int = 0
    frames: int = 1
    alpha: np.ndarray | None = None

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
    # What Pillow logs of a file is said by the error that it raises; unheard, it would go to stderr.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # Once for the process: what `catch_warnings` changes is restored by whichever thread ends first.
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|pillow_jxl)\b")
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401  (it registers itself)
    try:
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    except ImportError:
        pass
    # Our own limit is checked before decoding. Pillow's, which refuses above twice its value, stays as a
    # second one for pictures inside containers whose header names another size (ICO, ICNS, GIF, BLP).
    Image.MAX_IMAGE_PIXELS = DEFAULT_MAX_PIXELS // 2
    return tuple(sorted(set(Image.OPEN) - _REFUSED))


def has_jxl() -> bool:
    """Whether JPEG XL can be decoded (extra ``aidetect[jxl]``)."""
    return "JXL" in _register()


def has_heif() -> bool:
    """Whether HEIC/HEIF can be decoded (extra ``aidetect[heif]``)."""
    return "HEIF" in _register()


def decode(
    data: bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    frames: int = DEFAULT_FRAMES,
    strict: bool = False,
    notes: list[str] | None = None,
) -> Iterator[Pixels]:
    """Decode an image's bytes, frame by frame.

    Args:
        data: the whole file.
        max_pixels: refuse pictures with more pixels (checked before decoding).
        frames: at most this many frames of an animation or pages of a document (see `animation`).
        strict: refuse damaged files. Otherwise they are decoded as far as they go: of a picture of which
            at least a tenth of the rows is there, those rows are returned.
        notes: warnings about the file, ``slug: text``, are added to this list.

    Yields:
        One `Pixels` a frame; still images give one.

    Raises:
        InputError: ``empty``, ``not_an_image``, ``unsupported``, ``too_large``, ``truncated``, ``damaged``.
    """
    formats = _register()
    notes = [] if notes is None else notes
    if not data:
        raise InputError("empty", "the file is empty (0 bytes)")
    # Never lowered: another thread may be decoding under a larger limit.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, (max_pixels + 1) // 2)
    job = _Job(cleaned(data), png_transparency(data), formats, max_pixels, frames, notes)
    done: set[int] = set()
    complaints: list[str] = []
    whole = _listening(_whole(job), complaints)
    try:
        for pixels in whole:
            done.add(pixels.frame)
            yield pixels
    except InputError as error:
        if strict or error.kind not in ("truncated", "damaged"):
            raise
        yield from _listening(_as_far_as_it_goes(job, error, done), complaints)
    notes += [f"tiff: {text}" for text in dict.fromkeys(complaints)]


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be decoded, and how."""

    data: bytes
    transparency: bytes | None
    formats: tuple[str, ...]
    max_pixels: int
    frames: int
    notes: list[str]

    def opened(self, data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data), formats=self.formats)
        _check_size(image, self.max_pixels)
        return image

    def walk(self, image: Image.Image, count: int = _WALK_FRAMES) -> int:
        """How many frames are looked through."""
        return max(1, min(count, _WALK_FRAMES, _WALK_BUDGET // max(1, image.width * image.height)))


def _listening(frames: Iterator[Pixels], complaints: list[str]) -> Iterator[Pixels]:
    """The frames, with what libtiff says of them put in a list and not on standard error."""
    while True:
        with libtiff_messages(complaints):
            pixels = next(frames, None)
        if pixels is None:
            return
        yield pixels


def _whole(job: _Job) -> Iterator[Pixels]:
    """The frames of a file that nothing is wrong with."""
    if is_jxl(job.data):
        if not has_jxl():
            raise InputError("unsupported", "JPEG XL needs the extra: pip install 'aidetect[jxl]'")
        _check_limit(*jxl_size(job.data), job.max_pixels)  # its plug-in decodes all of it on opening
    try:
        image = Image.open(io.BytesIO(job.data), formats=job.formats)
    except UnidentifiedImageError:
        raise InputError(*_what_is_it(job.data)) from None
    except Exception as error:
        raise _decode_error(error, job.data) from None
    with image:
        yield from _frames(image, job)


def _as_far_as_it_goes(job: _Job, error: InputError, done: set[int]) -> Iterator[Pixels]:
    """The frames of a damaged file that are not done yet.

    Raises:
        InputError: the one given, or one that says how little there is; only when no frame is done.
    """
    best, found = 0.0, 0
    kind = error.kind
    try:
        for part in salvage.parts(job.data, job.opened, job.walk, job.frames):
            kept = salvage.extent(part.known, part.image.height)
            if part.frame in done:
                continue
            best = max(best, kept.share)
            if kept.share < salvage.LEAST:
                continue
            frame = _loaded(part.image) if part.known is None else part.image
            alpha = opacity(frame, job.transparency)
            rgb = _rgb(frame)
            pixels = _pixels(kept.cut(rgb), None if alpha is None else kept.cut(alpha), part.image.format)
            found += 1
            if part.frames == 1 or part.known is not None:
                job.notes.append(_damage(kind, part, kept))
            yield replace(pixels, frame=part.frame, frames=part.frames)
    except Exception as other:
        if isinstance(other, InputError) and other.kind == "too_large":
            raise
    if not found and not done:
        if best:
            raise InputError(kind, f"{error}; only {_percent(best)} of the rows are there") from None
        raise error
    if not any(note.startswith(kind) for note in job.notes):
        job.notes.append(f"{kind}: {found + len(done)} frames were judged of a file that is {kind}")


def _percent(share: float) -> str:
    """A share in per cent, never rounded up: 100% is all."""
    return f"{int(100 * share)}%"


def _damage(kind: str, part: salvage.Part, kept: salvage.Extent) -> str:
    where = f" of frame {part.frame}" if part.frame else ""
    count = f"{kept.lower - kept.upper} of {kept.rows}"
    if kept.step > 1:
        return (
            f"{kind}: {_percent(kept.share)} of the rows{where} could be decoded ({count}), at "
            f"1/{kept.step} of its size; only this was judged"
        )
    judged = "" if kept.whole else "; only these were judged"
    return f"{kind}: {_percent(kept.share)} of the rows{where} could be decoded ({count}){judged}"


def size(data: bytes) -> int:
    """Pixels that decoding one frame will take, from the header alone; 0 when unknown."""
    if is_jxl(data):  # its plug-in decodes all of it on opening
        width, height = jxl_size(data)
        return width * height
    try:
        with Image.open(io.BytesIO(data), formats=_register()) as image:
            return int(image.width * image.height)
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)
    except Exception:  # the header is hostile input; decode() will say what is wrong
        return 0


def _frames(image: Image.Image, job: _Job) -> Iterator[Pixels]:
    name = image.format or "unknown"
    _check_size(image, job.max_pixels)
    try:
        count = int(getattr(image, "n_frames", 1)) if name in _ANIMATED else 1
    except Exception as error:
        raise _decode_error(error) from None
    for index in _chosen(image, job, name, count):
        rgb, alpha = _frame(image, job, index)
        yield replace(_pixels(rgb, alpha, name), frame=index, frames=count)


def _frame(image: Image.Image, job: _Job, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        if image.format in _ANIMATED and image.tell() != index:
            image.seek(index)
            _check_size(image, job.max_pixels)
        return _samples(image, job.transparency)
    except InputError:
        raise
    except Exception as error:
        raise _decode_error(error, job.data) from None


def _chosen(image: Image.Image, job: _Job, name: str, count: int) -> list[int]:
    """Indices of the frames to judge."""
    walk = job.walk(image, count)
    if walk <= job.frames or job.frames == 1 or name in _PAGES:
        taken = evenly_spaced(walk, job.frames)
        if len(taken) < count > 1:
            what = "pages" if name in _PAGES else "frames"
            job.notes.append(f"sampled: {len(taken)} of {count} {what} were judged (see --frames)")
        return taken
    shots = []
    for index in range(walk):
        rgb, _ = _frame(image, job, index)
        shots.append(shot(rgb, float(image.info.get("duration") or 0)))
    loop = image.info.get("loop", 0 if name in _ENDLESS else 1)
    pictures = scenes(shots, endless=loop == 0)
    if len(pictures) > job.frames or walk < count:
        job.notes.append(
            f"sampled: {min(len(pictures), job.frames)} of {len(pictures)} different frames were judged "
            "(see --frames)"
        )
    return chosen(pictures, job.frames)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError("truncated", f"the image has no pixels ({width}x{height})")
    _check_limit(width, height, max_pixels)


def _check_limit(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InputError(
            "too_large",
            f"{width}x{height} is {width * height / 1e6:.1f} MP, over the limit of "
            f"{max_pixels / 1e6:.1f} MP (raise it with --max-pixels)",
        )


def _samples(image: Image.Image, transparency: bytes | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The current frame by the rule in this module's docstring, and its opacity.

    Args:
        transparency: a PNG's tRNS chunk, which was kept from Pillow.
    """
    frame = _loaded(image)
    # Before anything else: turning the palette into colours forgets what is transparent.
    alpha = opacity(frame, transparency)
    return _rgb(frame), alpha


def _pixels(rgb: np.ndarray, alpha: np.ndarray | None, name: str | None) -> Pixels:
    pixels = from_array(rgb, name or "unknown")
    if alpha is None or alpha.shape != rgb.shape[:2] or alpha.min() == 255:
        return pixels
    return replace(pixels, alpha=np.ascontiguousarray(alpha))


def _loaded(image: Image.Image) -> Image.Image:
    """The current frame, as it is stored."""
    # Pillow turns TIFFs on loading, by the tag or else by the XMP packet; neither must matter.
    orientation = image.getexif().get(274, 1) if image.format == "TIFF" else 1
    image.load()
    return image.transpose(_UNDO_ORIENTATION[orientation]) if orientation in _UNDO_ORIENTATION else image


def _rgb(frame: Image.Image) -> np.ndarray:
    """Convert a loaded frame by the rule in this module's docstring."""
    mode = frame.mode
    if mode.startswith("I"):
        values = np.asarray(frame)
        grey = np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode == "F":
        with np.errstate(invalid="ignore"):  # numpy warns of signalling NaNs, once for the process
            samples = np.asarray(frame, dtype=np.float64)
        floats = np.nan_to_num(samples, nan=0.0, posinf=0, neginf=0)
        scale = 255.0 if floats.size and floats.min() >= 0 and floats.max() <= 1 else 1.0
        grey = np.clip(np.rint(floats * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode == "LAB":
        frame = frame.getchannel(0)
    elif mode == "RGBa":
        frame = frame.convert("RGBA")
    elif mode == "La":
        frame = frame.convert("LA")
    if frame.mode == "P":
        frame.info.pop("transparency", None)
    return np.asarray(frame if frame.mode == "RGB" else frame.convert("RGB"))


def _decode_error(error: Exception, data: bytes = b"") -> InputError:
    if isinstance(error, MemoryError):
        return InputError("too_large", "not enough memory to decode this image")
    if isinstance(error, Image.DecompressionBombError):
        return InputError("too_large", f"over the limit of pixels (raise it with --max-pixels): {error}")
    text = str(error) or type(error).__name__
    coding = heif_other_coding(data) if data[4:8] == b"ftyp" else ""
    if coding and re.search(r"unsupported|codec|plugin|no decod", text, re.I):
        return InputError("unsupported", _UNSUPPORTED_CODING.format(coding))
    truncated = re.search(r"truncat|incomplete|unexpected end|broken|premature|EOF", text, re.I)
    kind = "truncated" if truncated or riff_missing(data) > 0 else "damaged"
    return InputError(kind, f"the image data is {kind}: {text[:200]}")


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (PNG, "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"ftypavif", "AVIF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
)


_UNSUPPORTED_CODING = (
    "unsupported coding: this HEIF file holds {}, which the installed libheif cannot decode; "
    "export it to PNG or JPEG first"
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
        coding = heif_other_coding(data)
        if coding:
            return "unsupported", _UNSUPPORTED_CODING.format(coding)
        return "damaged", "the HEIC data is damaged"
    if head.startswith(b"%!ps") or data.startswith(b"\xc5\xd0\xd3\xc6"):
        return "unsupported", "this is PostScript, a program that draws; export it to PNG first"
    if head.startswith(b"%pdf"):
        return "unsupported", "this is a PDF document; save it, and scan the file by its name"
    if head.startswith((b"pk\3\4", b"7z\xbc\xaf", b"\x1f\x8b", b"\xfd7zxz")) or data[257:262] == b"ustar":
        return "unsupported", "this is an archive; save it, and scan the file by its name"
    for magic, name in _MAGIC:
        if data.startswith(magic, 4 if magic.startswith(b"ftyp") else 0):
            return "truncated", f"the {name} data is truncated or damaged"
    return "not_an_image", "no decoder recognises this as an image"
