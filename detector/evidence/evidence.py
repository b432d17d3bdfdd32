"""Evidence beside the score: what metadata, C2PA manifests and watermarks say, and never part of it.

Anyone can write or remove any of this. What is found is a claim to weigh; that nothing is found says
nothing.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from .c2pa import read_manifest
from .claims import claims_of_generators
from .clip import read_clip
from .clipclaims import cameras_of_clip, claims_in_stream
from .metadata import Metadata, read_metadata
from .names import manifest_maker, names_generator, names_tool
from .watermark import find_watermark

# Entries of one picture, characters of a sentence and of a value, values of a list.
_MOST_ENTRIES = 16
_LONGEST_SENTENCE = 240
_LONGEST_VALUE = 120
_MOST_VALUES = 8


def find_evidence(
    data: bytes | BinaryIO, rgb: np.ndarray | None, trust_list: str | None = None
) -> list[dict[str, Any]]:
    """What the metadata and the watermarks of a picture or a video say of its origin.

    Args:
        data: the whole file; empty when there is none. A video may be a seekable stream instead: then only
            parts of it are held in memory.
        rgb: the decoded pixels, ``[height, width, 3]``, dtype ``uint8``, or ``None``: then no watermark is
            looked for.
        trust_list: certificates of authorities in PEM form, to check signers of C2PA manifests against.

    Returns:
        At most 16 entries, each with ``kind`` (``generator-metadata``, ``camera-metadata``, ``c2pa`` or
        ``watermark``), ``where`` (the place in the file), ``says`` (a sentence of at most 240 characters)
        and ``detail`` (named values: numbers, texts of at most 120 characters, short lists). Texts are
        printable and free of line breaks; everything can be written as JSON. Hostile bytes never raise.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    metadata = Metadata()
    with contextlib.suppress(Exception):
        metadata = read_clip(stream) or (read_metadata(data) if isinstance(data, bytes) else metadata)
    finders: tuple[Callable[[], Iterator[dict[str, Any]]], ...] = (
        lambda: _from_manifest(stream, metadata, trust_list),
        lambda: _from_generators(metadata),
        lambda: _from_camera(metadata),
        lambda: _from_pixels(rgb),
    )
    found: list[dict[str, Any]] = []
    for find in finders:
        # The bytes are hostile, and the score must come out whatever they do to this.
        with contextlib.suppress(Exception):
            for entry in find():
                if entry not in found and len(found) < _MOST_ENTRIES:
                    found.append(entry)
    return found


def _entry(kind: str, where: str, says: str, detail: dict[str, Any]) -> dict[str, Any]:
    """An entry whose parts are bounded and printable; empty details are left out."""
    bounded = {name: _bounded(value) for name, value in detail.items()}
    kept = {name: value for name, value in bounded.items() if value not in ("", [], None)}
    return {
        "kind": kind,
        "where": _plain(where, 60),
        "says": _plain(says, _LONGEST_SENTENCE),
        "detail": kept,
    }


def _bounded(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(str(item), _LONGEST_VALUE) for item in value[:_MOST_VALUES]]
    return _plain(str(value), _LONGEST_VALUE)


def _plain(text: str, longest: int) -> str:
    """Text on one line, of printable characters only, cut with an ellipsis."""
    text = " ".join(text[: 8 * longest].split())
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


# --- metadata ---------------------------------------------------------------------------------------


def _from_generators(metadata: Metadata) -> Iterator[dict[str, Any]]:
    names = names_tool if metadata.is_clip else names_generator
    for claims in (claims_in_stream(metadata.fields), claims_of_generators(metadata.fields, names)):
        for claim in claims:
            yield _entry("generator-metadata", claim.where, claim.says, claim.detail)


_CAPTURES = {
    "computationalCapture": "computational capture with a camera",
    "digitalCapture": "capture with a digital camera",
    "negativeFilm": "scan of a photographic negative",
    "positiveFilm": "scan of a photographic positive",
}


def _from_camera(metadata: Metadata) -> Iterator[dict[str, Any]]:
    for place in ("EXIF", "XMP"):
        said: dict[str, str] = {}
        for item in metadata.fields:
            if item.where == place and not names_generator(item):
                said.setdefault(item.name, item.text)
        make, model = _plain(said.get("Make", ""), 60), _plain(said.get("Model", ""), 60)
        camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
        exposure = _exposure(said)
        if camera or said.get("LensModel") or exposure:
            claimed = camera or said.get("LensModel") or "an exposure, but no maker"
            detail = {
                "camera": camera,
                "lens": said.get("LensModel", ""),
                **exposure,
                "taken": said.get("DateTimeOriginal", ""),
                "software": said.get("Software", said.get("CreatorTool", "")),
            }
            yield _entry(
                "camera-metadata", place, f"claims a camera: {claimed}; anyone can write this", detail
            )
            break
    for claim in cameras_of_clip(metadata.fields):
        yield _entry("camera-metadata", claim.where, claim.says, claim.detail)
    for item in metadata.fields:
        source = item.text.rpartition("/")[2]
        if item.name == "DigitalSourceType" and source in _CAPTURES:
            says = f"claims a {_CAPTURES[source]}; anyone can write this"
            yield _entry("camera-metadata", item.where, says, {"source_type": source})


def _exposure(said: dict[str, str]) -> dict[str, Any]:
    """Exposure values of EXIF, whose numbers the reader has written as fractions."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError, ZeroDivisionError, OverflowError):
        if "ExposureTime" in said:
            time = Fraction(said["ExposureTime"])
            found["exposure"] = f"{float(time):.3g} s" if time >= 1 else f"1/{round(1 / time)} s"
        for name, key, unit in (("FNumber", "aperture", "f/"), ("FocalLength", "focal_length", "")):
            if name in said:
                number = f"{float(Fraction(said[name])):.3g}"
                found[key] = f"{unit}{number}" if unit else f"{number} mm"
        if "ISO" in said:
            found["iso"] = int(Fraction(said["ISO"]))
    return found


# --- C2PA -------------------------------------------------------------------------------------------


def _from_manifest(
    data: BinaryIO, metadata: Metadata, trust_list: str | None = None
) -> Iterator[dict[str, Any]]:
    if metadata.manifest_where:
        detail = read_manifest(data, metadata, trust_list)
        names = [detail.get("generator", ""), *detail.pop("agents", []), detail.get("signer", "")]
        if _generated(detail["source_types"]):
            detail["made_by"] = manifest_maker(names)
        yield _entry("c2pa", metadata.manifest_where, _manifest_says(detail), detail)
        if b"SynthID" in metadata.manifest:
            says = "the manifest says that the pixels carry a SynthID watermark, which only Google can read"
            yield _entry("generator-metadata", metadata.manifest_where, says, {"generator": "Google AI"})
        return
    for item in metadata.fields:
        if item.name == "provenance" and item.text.lower().startswith(("http:", "https:")):
            says = "names a C2PA manifest kept elsewhere; it was not fetched"
            yield _entry("c2pa", item.where, says, {"checked": False, "address": item.text})
            return


def _manifest_says(detail: dict[str, Any]) -> str:
    generated = _generated(detail["source_types"])
    if not detail["checked"]:
        claim = f"; its bytes name {generated}" if generated else ""
        if detail["reason"] == "not installed":
            return f"a C2PA manifest is present{claim}; pip install 'aidetect[c2pa]' to read and check it"
        return f"a C2PA manifest is present{claim}, but cannot be read: {detail['reason'][:100]}"
    signer = _plain(detail["signer"], 50) or "an unnamed signer"
    by = f" of {detail['made_by']}" if detail.get("made_by") else ""
    claim = f"it claims {generated}{by}" if generated else "it claims no generative model"
    unproven = detail["trusted"] is None or "claimSignature.mismatch" in detail["problems"]
    name = " (name not verified)" if unproven else ""
    name = " (on the trust list)" if detail["trusted"] and not unproven else name
    findings = list(detail["findings"])
    if not detail["intact"] and findings:
        state = f"but {findings.pop(0)}"
    else:
        state = "intact" if detail["intact"] else "of unknown state"
    says = f"a C2PA manifest signed by {signer}{name}, {state}; {claim}"
    for finding in findings:  # those that find no room are in the detail
        says = f"{says}; {finding}" if len(says) + len(finding) + 2 <= _LONGEST_SENTENCE else says
    return says


def _generated(source_types: list[str]) -> str:
    for source, words in (
        ("trainedAlgorithmicMedia", "a generative model"),
        ("compositeWithTrainedAlgorithmicMedia", "parts by a generative model"),
        ("algorithmicMedia", "an algorithm"),
    ):
        if source in source_types:
            return f"{words} ({source})"
    return ""


# --- watermarks -------------------------------------------------------------------------------------


def _from_pixels(rgb: np.ndarray | None) -> Iterator[dict[str, Any]]:
    hit = find_watermark(rgb) if rgb is not None else None
    if hit is None:
        return
    length = len(hit.message.bits)
    says = (
        f"carries the invisible watermark of {hit.message.used_by}: {hit.agreeing} of {length} bits agree; "
        "anyone can embed it"
    )
    detail = {
        "message": hit.message.name,
        "bits_agreeing": hit.agreeing,
        "bits": length,
        "chance": hit.chance,
        "read_as": hit.reading,
    }
    yield _entry("watermark", "pixels", says, detail)
