"""Preparing a source in a worker thread: read it, decode it, cut its views."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import InputError
from .images.backdrop import looks
from .images.caution import cautions
from .images.pixels import Pixels, decode, from_array, size
from .images.stability import reencoded
from .images.turns import turned
from .images.views import Squares, ViewPlan, cut, looked_at, make_views, thumbnail
from .inputs import stores
from .inputs.fetch import Fetcher
from .inputs.source import Source, read_file, read_stream
from .models.thresholds import Thresholds
from .pending import Extras, Frame, Prepared, kept_frames
from .record import Record
from .resources import PixelGate
from .resultcache import ResultCache

# Pixels that may be decoded at the same time. A larger picture is decoded alone.
_DECODING_AT_ONCE = 48_000_000
# Part of a file's key in the result cache: another number when files are decoded in another way.
_DECODING = "decoding-2"


@dataclass
class Preparer:
    """Prepares the sources of one stream. Its threads share one instance.

    Attributes:
        plan: which views are cut.
        thresholds: those stated in the records.
        max_pixels, frames, strict: as for `Detector`.
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
    strict: bool = False
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
                    options = (self.max_pixels, self.frames, self.strict, self.extras.stability)
                    prepared.file = f"{_DECODING}:{record.file_sha256}:{options}"
                    # Evidence and thumbnails are not in the cache: they need the pixels each time.
                    if not (self.extras.evidence or self.extras.thumbnail):
                        prepared.frames = kept_frames(self.cache, prepared.file)
                if prepared.frames:
                    prepared.file = None  # nothing new to store
                else:
                    with self._gate.hold(min(size(data), self.max_pixels)):
                        prepared.frames = self._decoded(data, record)
        except InputError as error:
            prepared.frames = []
            record.status = "error"
            record.error = {"type": error.kind, "message": str(error)}
        record.milliseconds = (time.perf_counter() - start) * 1000
        return prepared

    def _decoded(self, data: bytes, record: Record) -> list[Frame]:
        """A file's frames; evidence, where it is asked for, even of a file that cannot be decoded."""
        frames: list[Frame] = []
        notes: list[str] = []
        first: np.ndarray | None = None
        try:
            for pixels in decode(
                data, max_pixels=self.max_pixels, frames=self.frames, strict=self.strict, notes=notes
            ):
                frames += self._cut(pixels)
                first = pixels.rgb if self.extras.evidence and first is None else first
        finally:
            if self.extras.evidence:
                from .evidence.evidence import find_evidence

                record.evidence = find_evidence(data, first, self.extras.trust_list)
        for frame in frames:
            frame.warnings += notes
        return frames

    def _cut(self, pixels: Pixels) -> list[Frame]:
        """A decoded frame, as stored and as seen on a background, with re-encodings where requested.

        Of a picture that is not opaque, versions of one colour are left out if there is another: they show
        nothing.
        """
        seen = [self._look(pixels, backdrop, rgb) for backdrop, rgb in looks(pixels.rgb, pixels.alpha)]
        pictures = [frames for frames in seen if not any(w.startswith("flat:") for w in frames[0].warnings)]
        return [frame for frames in pictures or seen for frame in frames]

    def _look(self, pixels: Pixels, backdrop: str, rgb: np.ndarray) -> list[Frame]:
        frame = self._frame(from_array(rgb, pixels.format) if backdrop else pixels)
        frame.sha256, frame.frame, frame.frames = pixels.sha256, pixels.frame, pixels.frames
        frame.backdrop = backdrop
        if pixels.alpha is not None:
            frame.alpha_sha256 = hashlib.sha256(pixels.alpha.data).hexdigest()
        if self.extras.thumbnail:
            frame.thumbnail = thumbnail(rgb, self.extras.thumbnail)
        frames = [frame]
        if self.extras.stability:
            for name, copy in reencoded(rgb):
                other = self._frame(from_array(copy))
                other.frame, other.reencoding, other.backdrop = frame.frame, name, backdrop
                frames.append(other)
        return frames

    def _frame(self, pixels: Pixels) -> Frame:
        box = looked_at(pixels.rgb, self.plan)
        inside = cut(pixels.rgb, box)
        squares = Squares(inside, self.plan.size, self.plan.interpolation, self.plan.spread)
        views = make_views(pixels.rgb, self.plan, box, squares)
        looks = [view for view in views if view.kind != "native"]
        plain = [replace(view, rgb=view.plain) for view in looks if view.plain is not None]
        wholes = [view for view in views if view.kind == "whole"]
        middle = wholes[len(wholes) // 2] if len(wholes) % 2 else squares.view()
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
            turned=turned(pixels.rgb, self.plan, box, plain) if self.plan.turn else None,
        )

    def _read(self, source: Source) -> bytes:
        if source.error is not None:
            raise source.error
        if source.kind == "url":
            return self.fetcher.fetch(source.location)
        if source.kind == "remote":
            return stores.read(source.location, self.fetcher.options, source.size)
        if source.kind == "stdin":
            if self.stdin is None:
                raise InputError("unreadable", "standard input is not available here")
            return read_stream(self.stdin)
        if isinstance(source.payload, bytes):
            return source.payload
        return read_file(Path(source.location))
