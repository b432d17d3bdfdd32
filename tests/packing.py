"""Archives and PDF files made of pictures that the tests draw."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterable
from typing import Any

from PIL import Image

Files = Iterable[tuple[str, bytes]]


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name, (2024, 11, 30, 12, 0, 0)), data, method)
    return buffer.getvalue()


def tarred(files: Files, packing: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    if packing == "zst":
        from backports import zstd

        return zstd.compress(data)
    packers: dict[str, Any] = {
        "": bytes,
        "gz": gzip.compress,
        "bz2": lambda data: bz2.compress(data, 1),
        "xz": lambda data: lzma.compress(data, preset=0),
    }
    return bytes(packers[packing](data))


def sevenzipped(files: Files, **options: Any) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", **options) as archive:
        for name, data in files:
            archive.writestr(data, name)
    return buffer.getvalue()


def pdf(*pages: Iterable[tuple[dict[str, Any], bytes]], password: str = "") -> bytes:
    """A PDF with so many pages of pictures, each given by its dictionary and its data."""
    import pypdf
    from pypdf.generic import DictionaryObject, NameObject, NumberObject, StreamObject

    def value(given: Any) -> Any:
        return NameObject(given) if isinstance(given, str) else NumberObject(given)

    writer = pypdf.PdfWriter()
    for pictures in pages:
        page = writer.add_blank_page(200, 200)
        entries = DictionaryObject()
        for number, (attributes, data) in enumerate(pictures):
            stream = StreamObject()
            stream._data = data
            for key, given in {"/Type": "/XObject", "/Subtype": "/Image", **attributes}.items():
                stream[NameObject(key)] = value(given)
            entries[NameObject(f"/Im{number}")] = writer._add_object(stream)
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): entries})
    if password:
        writer.encrypt(password, algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def jpeg_object(data: bytes) -> tuple[dict[str, Any], bytes]:
    """A JPEG as a PDF holds it."""
    width, height = Image.open(io.BytesIO(data)).size
    size = {"/Width": width, "/Height": height, "/BitsPerComponent": 8}
    return {**size, "/ColorSpace": "/DeviceRGB", "/Filter": "/DCTDecode"}, data
