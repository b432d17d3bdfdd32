"""Preparing a source in a worker thread: read it, decode it, cut its views."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import InputError
from .images.caution import cautions
from .images.pixels import Pixels, decode, from_array, size
from .images.stability import reencoded
from .images.views import ViewPlan, cut, looked_at, make_views, thumbnail, whole_view
from .inputs.fetch import Fetcher
from .inputs.source import Source, read_file, read_stream
from .models.model import Thresholds
from .pending import Extras, Frame, Prepared, kept_frames
from .record import Record
from .resources import PixelGate
from .resultcache import ResultCache

# Pixels that may be decoded at the same time. A larger picture is decoded alone.
_DECODING_AT_ONCE = 48_000_000


@dataclass
class Preparer:
    """Prepares the sources of one stream. Its threads share one instance.

    Attributes:
        plan: which views are cut.
        thresholds: those stated in the records.
        max_pixels, frames: as for `Detector`.
        fetcher: reads http(s) URLs.
        stdin: where a source of kind ``stdin`` is read from.
        cache: results of earlier runs.
        extras: what to report besides scores.
    """

    plan: ViewPlan
    thresholds: Thresholds
    max_pixels: int
    frames: int
    fetcher: Fetcher
    stdin: BinaryIO | None
    cache: ResultCache | None
    extras: Extras
    _gate: PixelGate = field(default_factory=lambda: PixelGate(_DECODING_AT_ONCE))

    def prepare(self, source: Source) -> Prepared:
        """Read and decode one source and cut its views. If that fails, the record has status ``error``."""
        start = time.perf_counter()
        record = Record(source.name, thresholds=self.thresholds)
        prepared = Prepared(record, [])
        try:
            if isinstance(source.payload, np.ndarray):
                try:
                    pixels = from_array(source.payload)
                except ValueError as error:
                    raise InputError("bad_array", str(error)) from None
                prepared.frames = self._cut(pixels)
            else:
                data = self._read(source)
                record.file_sha256 = hashlib.sha256(data).hexdigest()
                record.file_bytes = len(data)
                if self.cache is not None:
                    prepared.file = (
                        f"{record.file_sha256}:{self.max_pixels}:{self.frames}:{self.extras.stability}"
                    )
                    # Evidence and thumbnails are not in the cache: they need the pixels each time.
                    if not (self.extras.evidence or self.extras.thumbnail):
                        prepared.frames = kept_frames(self.cache, prepared.file)
                if prepared.frames:
                    prepared.file = None  # nothing new to store
                else:
                    with self._gate.hold(min(size(data), self.max_pixels)):
                        for pixels in decode(data, max_pixels=self.max_pixels, frames=self.frames):
                            prepared.frames += self._cut(pixels)
                            if self.extras.evidence and record.evidence is None:
                                from .evidence.evidence import find_evidence

                                record.evidence = find_evidence(data, pixels.rgb)
        except InputError as error:
            prepared.frames = []
            record.status = "error"
            record.error = {"type": error.kind, "message": str(error)}
        record.milliseconds = (time.perf_counter() - start) * 1000
        return prepared

    def _cut(self, pixels: Pixels) -> list[Frame]:
        """A decoded frame and, with ``--stability``, its re-encodings, each with its views."""
        frame = self._frame(pixels)
        if self.extras.thumbnail:
            frame.thumbnail = thumbnail(pixels.rgb, self.extras.thumbnail)
        frames = [frame]
        if self.extras.stability:
            for name, rgb in reencoded(pixels.rgb):
                other = self._frame(from_array(rgb))
                other.frame, other.reencoding = frame.frame, name
                frames.append(other)
        return frames

    def _frame(self, pixels: Pixels) -> Frame:
        box = looked_at(pixels.rgb, self.plan)
        views, inside = make_views(pixels.rgb, self.plan, box), cut(pixels.rgb, box)
        wholes = [view for view in views if view.kind == "whole"]
        middle = wholes[len(wholes) // 2] if len(wholes) % 2 else whole_view(inside, self.plan.size)
        return Frame(
            pixels.key,
            pixels.sha256,
            pixels.width,
            pixels.height,
            pixels.format,
            pixels.frame,
            pixels.frames,
            cautions(inside.shape[1], inside.shape[0], middle.rgb),
            views=views,
        )

    def _read(self, source: Source) -> bytes:
        if source.error is not None:
            raise source.error
        if source.kind == "url":
            return self.fetcher.fetch(source.name)
        if source.kind == "stdin":
            if self.stdin is None:
                raise InputError("unreadable", "standard input is not available here")
            return read_stream(self.stdin)
        if isinstance(source.payload, bytes):
            return source.payload
        return read_file(Path(source.name))
