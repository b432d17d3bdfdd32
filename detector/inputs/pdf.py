"""Pictures in PDF files, by pypdf (the extra `pdf`)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ..errors import InputError
from .members import BeyondLimitsError, Budget, Member, damaged

# As stored, these are files of their own.
_WHOLE = {"/DCTDecode": "JPEG", "/DCT": "JPEG", "/JPXDecode": "JPEG 2000"}
_MOST_PAGES = 100_000
_MOST_PIXELS = 100_000_000  # of a picture that is not stored as a file
# pypdf's own limits would refuse pages that were scanned at 600 dpi.
_CONFIGURATION: dict[str, Any] = {
    **dict.fromkeys(("maximum_declared_stream_length", "array_based_stream_maximum_output_length"), 2**29),
    **dict.fromkeys(("zlib_maximum_output_length", "lzw_maximum_output_length"), 2**29),
    **dict.fromkeys(("run_length_maximum_output_length", "image_maximum_buffer_size"), 2**29),
    "stream_decoding_work_maximum_length": 2**30,
}
_DEEPEST = 8  # forms in one another
_BROKEN = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError, NotImplementedError, struct.error, zlib.error, MemoryError),
)


def members(stream: BinaryIO, budget: Budget) -> Iterator[Member]:
    """The pictures embedded in a PDF, page by page: ``page-3/image-1``. One that comes again is left out.

    A JPEG or JPEG 2000 is given as it is stored, byte for byte. Others are given as PNG.

    Raises:
        InputError: ``missing_extra``, ``encrypted``, ``damaged_archive``, or beyond the limits.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError:
        raise InputError("missing_extra", "PDF files need the extra: pip install 'aidetect[pdf]'") from None
    broken = (PyPdfError, DependencyError, *_BROKEN)
    locked = InputError("encrypted", "it is encrypted; save the PDF without its password first")
    try:
        reader = pypdf.PdfReader(stream)
        if reader.is_encrypted and not reader.decrypt(""):
            raise locked
        count = len(reader.pages)
    except DependencyError:
        raise locked from None
    except broken as error:
        raise damaged(f"this PDF is damaged: {error}") from None
    if count > _MOST_PAGES:
        raise BeyondLimitsError(f"more than {_MOST_PAGES} pages")
    seen: set[Any] = set()
    lost = 0
    for number in range(count):
        found: list[Any] = []
        try:
            with pypdf.apply_configuration(**_CONFIGURATION):
                _find(reader.pages[number], found, seen, 0)
        except broken:
            lost += 1
        for index, picture in enumerate(found, 1):
            load = _loader(picture, budget, broken)
            yield Member(f"page-{number + 1}/image-{index}", load, picture=True)
        reader.resolved_objects.clear()  # else every stream would stay in memory
    if lost:
        raise damaged(f"{lost} of {count} pages are damaged; the pictures of the others were read")


def _find(page: Any, found: list[Any], seen: set[Any], depth: int) -> None:
    """Collect the pictures of a page or a form that were not seen before."""
    resources = _resources(page)
    entries = resources.get("/XObject") if resources is not None else None
    if entries is None:
        return
    for entry in entries.get_object().values():
        # The same picture is often on every page.
        key = (entry.idnum, entry.generation) if hasattr(entry, "idnum") else id(entry.get_object())
        if key in seen:
            continue
        seen.add(key)
        item = entry.get_object()
        kind = item.get("/Subtype")
        if kind == "/Image" and not item.get("/ImageMask"):
            found.append(item)
        elif kind == "/Form" and depth < _DEEPEST:
            _find(item, found, seen, depth + 1)


def _resources(page: Any) -> Any:
    """The resources of a page, which may be those of the group of pages that it is in."""
    for _ in range(100):
        if "/Resources" in page:
            return page["/Resources"].get_object()
        if "/Parent" not in page:
            return None
        page = page["/Parent"].get_object()
    return None


def _loader(picture: Any, budget: Budget, broken: tuple[type[Exception], ...]) -> Callable[[], bytes]:
    def load() -> bytes:
        from pypdf import apply_configuration

        try:
            with apply_configuration(**_CONFIGURATION):
                data = _stored(picture)
                if data is None:
                    data = _drawn(picture)
        except InputError:
            raise
        except broken as error:
            raise damaged(f"this picture cannot be read from the PDF: {error}") from None
        budget.spend(len(data))
        return data

    return load


def _stored(picture: Any) -> bytes | None:
    """The JPEG or JPEG 2000 that a PDF holds; ``None`` if it holds pixels."""
    from pypdf.filters import decode_stream_data
    from pypdf.generic import ArrayObject, NameObject, NullObject, StreamObject

    filters = _listed(picture.get("/Filter"))
    if not filters or str(filters[-1]) not in _WHOLE:
        return None
    if len(filters) == 1:
        return bytes(picture._data)
    parameters = _listed(picture.get("/DecodeParms"))
    parameters += [NullObject()] * (len(filters) - len(parameters))
    wrapped = StreamObject()
    wrapped._data = picture._data
    wrapped[NameObject("/Filter")] = ArrayObject(filters[:-1])
    wrapped[NameObject("/DecodeParms")] = ArrayObject(parameters[: len(filters) - 1])
    return bytes(decode_stream_data(wrapped))


def _listed(value: Any) -> list[Any]:
    """A value that may be one, several or none, as a list."""
    if value is None:
        return []
    value = value.get_object()
    return [item.get_object() for item in value] if isinstance(value, list) else [value]


def _drawn(picture: Any) -> bytes:
    """A picture that is stored as pixels, as PNG."""
    width, height = int(picture["/Width"]), int(picture["/Height"])
    if width * height > _MOST_PIXELS:
        raise InputError(
            "too_large", f"{width}x{height} pixels are more than {_MOST_PIXELS // 10**6} million"
        )
    image = picture.decode_as_image()
    if image is None:
        raise damaged("this picture cannot be read from the PDF")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
