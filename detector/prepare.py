"""Preparing a source in a worker thread: read it, decode it, cut its views."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .clips.container import HEAD, container, container_of
from .clips.reader import Bounds, stills
from .clips.sampling import DEFAULT, Sampling
from .errors import InputError
from .images.backdrop import looks
from .images.caution import cautions
from .images.pixels import Pixels, decode, from_array, size
from .images.stability import reencoded
from .images.turns import turned
from .images.views import Squares, ViewPlan, cut, looked_at, make_views, thumbnail
from .inputs import stores
from .inputs.fetch import Fetcher
from .inputs.source import Source, file_digest, read_file, read_stream
from .models.thresholds import Thresholds
from .pending import Extras, Frame, Prepared, kept_frames
from .record import Record
from .resources import PixelGate, Places
from .resultcache import ResultCache

# Pixels that may be decoded at the same time. A larger picture is decoded alone.
_DECODING_AT_ONCE = 48_000_000
# What a clip counts for meanwhile: at most two are decoded at the same time.
_CLIP = 24_000_000
# Clips whose views may wait for their turn, each some hundred MB at most.
CLIPS_AT_ONCE = 2
# Part of a file's key in the result cache: another number when files are decoded in another way.
_DECODING = "decoding-2"


@dataclass
class Preparer:
    """Prepares the sources of one stream. Its threads share one instance.

    Attributes:
        plan: which views are cut.
        thresholds: those stated in the records.
        max_pixels, frames, strict, sampling: as for `Detector`.
        clips: limits the clips whose views are held. Who takes a `Prepared` that is ``large`` gives its place
            back.
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
    sampling: Sampling = DEFAULT
    clips: Places = field(default_factory=lambda: Places(CLIPS_AT_ONCE))
    _gate: PixelGate = field(default_factory=lambda: PixelGate(_DECODING_AT_ONCE))

    def prepare(self, source: Source, turn: float = math.inf) -> Prepared:
        """Read and decode one source and cut its views. If that fails, the record has status ``error``.

        Args:
            source: what is prepared.
            turn: its number in the order in which prepared sources are taken, if there is one.
        """
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
                is_clip = isinstance(data, Path) or container(data[:HEAD]) is not None
                if isinstance(data, Path):
                    record.file_sha256, record.file_bytes = file_digest(data, Bounds.bytes)
                else:
                    record.file_sha256 = hashlib.sha256(data).hexdigest()
                    record.file_bytes = len(data)
                if self.cache is not None:
                    options: tuple[object, ...] = (self.max_pixels, self.frames, self.strict)
                    options += (self.sampling,) if is_clip else (self.extras.stability,)
                    prepared.file = f"{_DECODING}:{record.file_sha256}:{options}"
                    # Evidence and thumbnails are not in the cache: they need the pixels each time.
                    if not (self.extras.evidence or self.extras.thumbnail):
                        prepared.frames = kept_frames(self.cache, prepared.file)
                if prepared.frames:
                    prepared.file = None  # nothing new to store
                elif is_clip:
                    self.clips.enter(turn)
                    prepared.large = True
                    with self._gate.hold(_CLIP):
                        prepared.frames = self._clip(data, record)
                elif isinstance(data, bytes):
                    with self._gate.hold(min(size(data), self.max_pixels)):
                        prepared.frames = self._decoded(data, record)
        except InputError as error:
            prepared.frames = []
            record.status = "error"
            record.error = {"type": error.kind, "message": str(error)}
        except BaseException:
            if prepared.large:
                self.clips.leave()
            raise
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

    def _clip(self, media: bytes | Path, record: Record) -> list[Frame]:
        """A clip's sampled frames; evidence, where it is asked for, even of one that cannot be decoded."""
        frames: list[Frame] = []
        notes: list[str] = []
        bounds = Bounds(pixels=self.max_pixels)
        try:
            for still in stills(
                media, sampling=self.sampling, bounds=bounds, strict=self.strict, notes=notes
            ):
                about = still.about
                frame = self._frame(from_array(still.rgb, about.container))
                frame.frame = len(frames)
                frame.clip = {"codec": about.codec, "seconds": about.seconds, "fps": about.fps}
                frame.clip |= {"time": still.time, "shot": still.shot}
                if self.extras.thumbnail:
                    frame.thumbnail = thumbnail(still.rgb, self.extras.thumbnail)
                frames.append(frame)
        finally:
            if self.extras.evidence:
                record.evidence = _evidence_of_clip(media, self.extras.trust_list)
        for frame in frames:
            frame.frames = len(frames)
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
            turned=turned(pixels.rgb, self.plan, box, middle, views) if self.plan.turn else None,
        )

    def _read(self, source: Source) -> bytes | Path:
        """A source's bytes; of a clip in a file its path, for clips may be larger than memory."""
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
        path = Path(source.location)
        return path if container_of(path) else read_file(path)


def _evidence_of_clip(media: bytes | Path, trust_list: str | None) -> list[dict[str, Any]]:
    from .evidence.evidence import find_evidence

    if isinstance(media, bytes):
        return find_evidence(media, None, trust_list)
    try:
        with media.open("rb") as stream:
            return find_evidence(stream, None, trust_list)
    except OSError:  # the file is gone: reading its frames says so
        return []
