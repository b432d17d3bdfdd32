"""Claims that only videos make: marks in the coded stream, and cameras that name themselves in boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .labels import Claim
from .metadata import Field
from .names import named_in

# UUIDs of user data in H.264 and HEVC streams (see `aidetect.detector.evidence.sei`). Encoders write
# their settings under others, as x264 does: that is no sign of a generator.
# Kling's: github.com/storytold/artcraft and MatrixA/aicheck, 2026, from clips of several versions.
_KLING = "91ca60614aee385486142d5f73f4ae2e"

_MAKES = ("com.apple.quicktime.make", "com.android.manufacturer", "©mak", "manu", "@mak")
_MODELS = ("com.apple.quicktime.model", "com.android.model", "©mod", "©mdl", "CNMN", "modl", "@mod")
_PROGRAMS = ("com.apple.quicktime.software", "FIRM", "©swr")
_DATES = ("com.apple.quicktime.creationdate", "©day")
_SONY = re.compile(r'<Device\s+manufacturer="([^"<]{1,60})"\s+modelName="([^"<]{1,60})"')
# Cameras that name no maker, but have boxes and tracks of their own (exiftool's QuickTime.pm and
# Samsung.pm; tracks as ffprobe shows them).
_HABITS = (
    ("GoPro", ("GPMF", "FIRM"), re.compile(r"GoPro ")),
    ("DJI", (), re.compile(r"DJI[ .]")),
    ("Samsung", ("smta",), None),
)


def claims_in_stream(fields: list[Field]) -> Iterator[Claim]:
    """What generators write between the pictures of a stream."""
    for item in fields:
        if item.where.endswith(" SEI") and (item.name == _KLING or item.text.startswith("kling-ai")):
            says = "the coded stream carries the mark that Kling writes (kling-ai)"
            yield Claim(item.where, says, {"generator": "Kling", "uuid": item.name, "text": item.text})
            return


def cameras_of_clip(fields: list[Field]) -> Iterator[Claim]:
    """The camera that a video names, if it names one."""
    of_boxes = [item for item in fields if item.where.startswith(("MP4 ", "MOV "))]
    said: dict[str, str] = {}
    for item in of_boxes:
        if not named_in(item.text):
            said.setdefault(item.name, item.text)
    make, model = _first(said, _MAKES), _first(said, _MODELS)
    where = next((item.where for item in of_boxes if item.name in (*_MAKES, *_MODELS)), "")
    sony = _SONY.search(said.get("xml", "")[:20_000])
    if not make and not model and sony:
        make, model = sony.groups()
        where = next(item.where for item in of_boxes if item.name == "xml")
    if not make and not model:
        make, where = _habit(of_boxes)
    if make or model:
        camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
        detail = {"camera": camera, "taken": _first(said, _DATES), "software": _first(said, _PROGRAMS)}
        yield Claim(where, f"claims a camera: {camera}; anyone can write this", detail)


def _first(said: dict[str, str], names: tuple[str, ...]) -> str:
    return next((" ".join(said[name].split())[:60] for name in names if said.get(name)), "")


def _habit(fields: list[Field]) -> tuple[str, str]:
    """A maker known by its boxes or tracks, and where; empty texts if there is none."""
    for maker, boxes, tracks in _HABITS:
        for item in fields:
            is_track = tracks and item.name in ("handler", "compressor") and tracks.match(item.text.strip())
            if item.name in boxes or is_track:
                return maker, f"{item.where} {item.name}"
    return "", ""
