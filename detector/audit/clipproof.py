"""Proof, for any given clip, that its score comes from the pixels of its frames alone."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..clips.container import container_of
from ..clips.remux import remux
from ..detector import Detector
from ..errors import InputError
from ..evidence.boxes import track_headers
from ..evidence.metadata import C2PA_UUID, XMP_UUID
from ..images.repack import JUMBF, TRAILING, XMP
from ..inputs.source import Source
from ..record import Record
from .proof import Copy

_LABEL = json.dumps({"Label": "1", "ContentProducer": "kling", "ProduceID": "x"})
_GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20}}})
_TAGS = {
    "title": "Sora: a cat",
    "comment": "made with Midjourney; real photograph; steps: 20",
    "encoder": "Kling AI",
    "artist": "Canon EOS R5",
    "AIGC": _LABEL,
    "prompt": _GRAPH,
}
_OTHER_NAME = "DSC_0001 not Midjourney.jpg"
# A quarter turn, as cameras that are held upright write it.
_TURNED = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)


def prove_clip(detector: Detector, path: Path, notes: list[str]) -> Iterator[Copy]:
    """Score a clip, and copies of it with other metadata, each one separately.

    Args:
        detector: its ``sampling`` says which frames are compared.
        path: of the clip's file.
        notes: what could not be tried is added to this list.

    Yields:
        One `Copy` each, the original first. Copies are files of a temporary folder, one at a time.

    Raises:
        InputError: the original cannot be decoded.
    """
    (record,) = detector.stream([Source(str(path), "file")], remember=False)
    if record.clip is None:
        error = record.error or {}
        raise InputError(error.get("type", "not_a_clip"), error.get("message", "this is not a clip"))
    first = _judged(record)
    yield Copy("original", record.fingerprint, record.logit, True, record.clip["frames"])
    is_whole = not any(warning.startswith(("truncated", "damaged", "slow")) for warning in record.warnings)
    with tempfile.TemporaryDirectory(prefix="aidetect-") as folder:
        for name, copy in _copies(path, Path(folder), is_whole, notes):
            (record,) = detector.stream([Source(str(copy), "file")], remember=False)
            copy.unlink()
            frames = (record.clip or {}).get("frames")
            yield Copy(name, record.fingerprint, record.logit, _judged(record) == first, frames)


def _judged(record: Record) -> object:
    """What two copies must have in common: the pixels and the logit of each frame, and of the clip."""
    frames = (record.clip or {}).get("frames", [])
    return record.logit, [(frame["pixels_sha256"], frame["logit"]) for frame in frames]


def _copies(path: Path, folder: Path, is_whole: bool, notes: list[str]) -> Iterator[tuple[str, Path]]:
    container = container_of(path) or ""
    other = folder / _OTHER_NAME
    shutil.copyfile(path, other)
    yield "another name", other
    target = folder / f"copy{path.suffix}"
    for name, tags in (("stripped", {}), ("hostile metadata", _TAGS)):
        try:
            remux(path, target, container, tags)
        except InputError as error:
            notes.append(f"not remuxed: {error}")
            break
        yield f"{container} remuxed, {name}", target
    if not is_whole:  # what is put into a damaged file may become its pictures
        return
    if container in ("MP4", "MOV"):
        shutil.copyfile(path, target)
        with target.open("r+b") as file:
            headers = track_headers(file)
            for start, stop in headers:
                file.seek(start)
                at = start + (52 if file.read(1) == b"\1" else 40)  # times take more room in version 1
                if at + len(_TURNED) <= stop:
                    file.seek(at)
                    file.write(_TURNED)
        if headers:
            yield f"{container} original, turned by its matrix", target
        shutil.copyfile(path, target)
        with target.open("ab") as file:
            file.write(_box(b"uuid", C2PA_UUID + bytes(4) + b"manifest\0" + bytes(8) + JUMBF))
            file.write(_box(b"uuid", XMP_UUID + XMP))
            file.write(_box(b"free", TRAILING))
        yield f"{container} original, hostile boxes", target
    shutil.copyfile(path, target)
    with target.open("ab") as file:
        file.write(TRAILING)
    yield f"{container} original, trailing bytes", target


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body
