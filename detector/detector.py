"""The detector: a stream of sources in, a stream of records out, in the same order."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from .attribution import generators
from .caution import cautions
from .device import Device, choose
from .errors import AidetectError, InputError
from .fetch import Fetcher, FetchOptions
from .model import DEFAULT_MODEL, Model, load_model
from .pixels import DEFAULT_FRAMES, DEFAULT_MAX_PIXELS, Pixels, decode, from_array, size
from .record import Record, ViewScore
from .source import Source, read_file, read_stream
from .views import View, make_views, whole_view

# Pixels that may be decoded at the same time; a larger picture is decoded alone.
_DECODING_AT_ONCE = 48_000_000
# Images after which freed memory is handed back: large arrays of many sizes leave the heap in pieces.
_TRIM_EVERY = 16
# Results of distinct pictures remembered, so that repeated pixels are computed once.
_REMEMBERED = 20_000


@dataclass
class _Result:
    """Logits of one distinct picture's views; empty until its batch has run."""

    kinds: list[str]
    boxes: list[tuple[int, int, int, int]]
    logits: list[float] = field(default_factory=list)
    families: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        return len(self.logits) == len(self.kinds)


@dataclass
class _Frame:
    key: str
    sha256: str
    width: int
    height: int
    format: str
    frame: int
    frames: int
    views: list[View]
    warnings: list[str]
    result: _Result | None = None


@dataclass
class _Prepared:
    record: Record
    frames: list[_Frame]
    charge: list[_Result] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return all(frame.result is not None and frame.result.done for frame in self.frames)


class Detector:
    """Scores images with one model on one device.

    Args:
        model: a loaded model.
        device: where and in which number format its tower runs.
        mode: ``fast``, ``standard`` or ``thorough``: which views are looked at.
        batch_size: views a forward pass; ``None`` for 8 on the CPU and 64 elsewhere.
        workers: threads that read and decode; ``None`` for one a core, four at the most.
        max_pixels: pictures with more pixels are refused before decoding.
        frames: at most this many frames of an animation are scored; the highest logit counts.
    """

    def __init__(
        self,
        model: Model,
        device: Device,
        mode: str = "standard",
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        frames: int = DEFAULT_FRAMES,
    ) -> None:
        preprocess = model.tower.preprocess
        self.model = model
        self.device = device
        self.mode = mode
        self.plan = model.card.plan(mode, preprocess.size, preprocess.interpolation)
        self.calibration = model.card.calibration(mode)
        self.thresholds = model.card.thresholds(mode)
        self.batch_size = batch_size or (8 if device.name == "cpu" else 64)
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.max_pixels = max_pixels
        self.frames = frames
        model.tower.to(torch.device(device.name), device.dtype)

    @classmethod
    def load(
        cls, model: str = DEFAULT_MODEL, device: str = "auto", mode: str = "standard", **options: int
    ) -> Detector:
        """Load a model by name or path, hashes verified, onto a device.

        Args:
            model: a model's name or the path of its folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            mode: ``fast``, ``standard`` or ``thorough``.
            **options: as for the class: ``batch_size, workers, max_pixels, frames``.

        Raises:
            ModelError: the model is missing, damaged or inconsistent.
            AidetectError: the device is not usable.
        """
        return cls(load_model(model), choose(device), mode, **options)

    def score(self, images: Iterable[str | os.PathLike[str] | bytes | np.ndarray]) -> list[Record]:
        """Score images.

        Args:
            images: each a file's path, an encoded image's bytes, or an RGB array
                ``[height, width, 3]`` of dtype ``uint8``.

        Returns:
            One record an image, in order. A bad image gives a record of status ``error``.
        """
        return list(self.stream(_source(image) for image in images))

    def stream(
        self,
        sources: Iterable[Source],
        fetch: FetchOptions | None = None,
        stdin: BinaryIO | None = None,
        remember: bool = True,
    ) -> Iterator[Record]:
        """Score sources as they come; records follow in the same order, each as soon as it is done.

        Args:
            sources: what to score; consumed a little ahead of the records.
            fetch: limits for http(s) addresses.
            stdin: where a source of kind ``stdin`` is read from.
            remember: compute equal pixels once.
        """
        waiting: deque[_Prepared] = deque()
        batch: list[tuple[_Result, View]] = []
        known: OrderedDict[str, _Result] = OrderedDict()
        gate = _PixelGate(_DECODING_AT_ONCE)
        depth = max(2 * self.workers, 2 * self.batch_size)
        fetch = fetch or FetchOptions()
        with Fetcher(fetch) as fetcher, _pool(self.workers) as readers, _pool(fetch.at_once) as downloads:
            futures: deque[Future[_Prepared]] = deque()
            upcoming = iter(sources)
            exhausted = False
            finished = 0
            while True:
                while not exhausted and len(futures) < depth:
                    source = next(upcoming, None)
                    if source is None:
                        exhausted = True
                    else:
                        pool = downloads if source.kind == "url" else readers
                        futures.append(pool.submit(self._prepare, source, fetcher, stdin, gate))
                ready = bool(futures) and (futures[0].done() or not batch)
                if ready:
                    prepared = futures.popleft().result()
                    self._enqueue(prepared, batch, known if remember else OrderedDict())
                    waiting.append(prepared)
                # A batch that is not full runs all the same when nothing else is ready to fill it.
                if len(batch) >= self.batch_size or (batch and not ready):
                    taken, batch[: self.batch_size] = batch[: self.batch_size], []
                    self._run(taken)  # may make the batch size smaller
                while waiting and waiting[0].done:
                    yield self._finish(waiting.popleft())
                    finished += 1
                    if finished % _TRIM_EVERY == 0:
                        _trim()
                if exhausted and not futures and not batch:
                    break
                while len(known) > _REMEMBERED:
                    known.popitem(last=False)

    def _prepare(
        self, source: Source, fetcher: Fetcher, stdin: BinaryIO | None, gate: _PixelGate
    ) -> _Prepared:
        """Read, decode and cut one source; runs in a worker thread and never raises for bad input."""
        start = time.perf_counter()
        record = Record(source.name, thresholds=self.thresholds)
        frames: list[_Frame] = []
        try:
            if isinstance(source.payload, np.ndarray):
                try:
                    pixels = from_array(source.payload)
                except ValueError as error:
                    raise InputError("bad_array", str(error)) from None
                frames.append(self._cut(pixels))
            else:
                data = _read(source, fetcher, stdin)
                record.file_sha256 = hashlib.sha256(data).hexdigest()
                record.file_bytes = len(data)
                with gate.hold(min(size(data), self.max_pixels)):
                    for pixels in decode(data, max_pixels=self.max_pixels, frames=self.frames):
                        frames.append(self._cut(pixels))
        except InputError as error:
            frames = []
            record.status = "error"
            record.error = {"type": error.kind, "message": str(error)}
        record.milliseconds = (time.perf_counter() - start) * 1000
        return _Prepared(record, frames)

    def _cut(self, pixels: Pixels) -> _Frame:
        rgb = pixels.rgb
        views = make_views(rgb, self.plan)
        whole = views[0] if self.plan.whole else whole_view(rgb, self.plan.size)
        return _Frame(
            pixels.key,
            pixels.sha256,
            pixels.width,
            pixels.height,
            pixels.format,
            pixels.frame,
            pixels.frames,
            views,
            cautions(pixels.width, pixels.height, whole.rgb),
        )

    def _enqueue(
        self, prepared: _Prepared, batch: list[tuple[_Result, View]], known: OrderedDict[str, _Result]
    ) -> None:
        for frame in prepared.frames:
            result = known.get(frame.key)
            if result is None:
                result = _Result([v.kind for v in frame.views], [v.box for v in frame.views])
                known[frame.key] = result
                batch += [(result, view) for view in frame.views]
                prepared.charge.append(result)
            frame.result = result
            frame.views = []

    def _run(self, batch: list[tuple[_Result, View]]) -> None:
        start = time.perf_counter()
        features = self._features(np.stack([view.rgb for _, view in batch]))
        logits = np.empty(len(batch))
        for kind, probe in self.model.probes.items():
            rows = [i for i, (_, view) in enumerate(batch) if view.kind == kind]
            if rows:
                logits[rows] = probe.logits(features[rows])
        for (result, _), logit in zip(batch, logits, strict=True):
            result.logits.append(float(logit))
        for (result, view), vector in zip(batch, features, strict=True):
            if view.kind in self.model.families:
                family_probe = self.model.families[view.kind]
                result.families.append(family_probe.log_probabilities(vector[None])[0])
        share = (time.perf_counter() - start) / len(batch)
        for result, _ in batch:
            result.seconds += share

    def _features(self, views: np.ndarray) -> np.ndarray:
        """Features of a batch; halves the batch for good when memory runs out.

        On a GPU a short batch is filled up, so that every picture goes through the same kernels
        whatever its neighbours.
        """
        parts: list[np.ndarray] = []
        at = 0
        while at < len(views):
            part = views[at : at + self.batch_size]
            count = len(part)
            if self.device.name != "cpu" and count < self.batch_size:
                filler = np.zeros((self.batch_size - count, *views.shape[1:]), views.dtype)
                part = np.concatenate([part, filler])
            try:
                parts.append(self.model.tower.features(part)[:count])
                at += count
                continue
            except (torch.OutOfMemoryError, MemoryError) as error:
                if len(part) == 1:
                    raise AidetectError(
                        f"not enough memory on {self.device.name} for a single view; "
                        "close other programs or use --device cpu"
                    ) from error
            if self.device.name == "cuda":
                torch.cuda.empty_cache()
            self.batch_size = len(part) // 2
        return np.concatenate(parts)

    def _finish(self, prepared: _Prepared) -> Record:
        record = prepared.record
        record.milliseconds += 1000 * sum(result.seconds for result in prepared.charge)
        best: tuple[float, _Frame, _Result] | None = None
        for frame in prepared.frames:
            assert frame.result is not None
            logit = self.calibration.join(frame.result.kinds, frame.result.logits)
            if best is None or logit > best[0]:
                best = (logit, frame, frame.result)
        if best is None:
            return record
        logit, frame, result = best
        record.pixels_sha256, record.format = frame.sha256, frame.format
        record.width, record.height = frame.width, frame.height
        record.frame, record.frames = frame.frame, frame.frames
        record.warnings = frame.warnings
        record.views = [
            ViewScore(kind, box, z)
            for kind, box, z in zip(result.kinds, result.boxes, result.logits, strict=True)
        ]
        record.logit = logit
        record.probability = self.calibration.probability(logit)
        record.verdict = self.thresholds.verdict(record.probability)
        if result.families:
            names = next(iter(self.model.families.values())).names
            record.generators = generators(record.probability, result.kinds, result.families, names)
        return record


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # not glibc
        return None


def _trim() -> None:
    """Hand freed memory back to the system, where the C library can."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


class _PixelGate:
    """Bounds the pixels being decoded at the same time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._capacity)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that does not wait for queued work when its user stops early."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="aidetect-read")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _source(image: str | os.PathLike[str] | bytes | np.ndarray) -> Source:
    if isinstance(image, bytes):
        return Source("<bytes>", "memory", payload=image)
    if isinstance(image, np.ndarray):
        return Source("<array>", "memory", payload=image)
    return Source(os.fspath(image), "file")


def _read(source: Source, fetcher: Fetcher, stdin: BinaryIO | None) -> bytes:
    if source.error is not None:
        raise source.error
    if source.kind == "url":
        return fetcher.fetch(source.name)
    if source.kind == "stdin":
        if stdin is None:
            raise InputError("unreadable", "standard input is not available here")
        return read_stream(stdin)
    if isinstance(source.payload, bytes):
        return source.payload
    return read_file(Path(source.name))
