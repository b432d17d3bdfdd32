"""The detector: takes a stream of sources and gives a stream of records in the same order."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, MutableMapping
from concurrent.futures import Future
from typing import Any, BinaryIO

import numpy as np
import torch

from .clips.sampling import DEFAULT as DEFAULT_SAMPLING
from .clips.sampling import Sampling
from .clips.verdict import judged, mixed, nearest
from .errors import AidetectError
from .images.pixels import DEFAULT_FRAMES, DEFAULT_MAX_PIXELS
from .images.stability import judge
from .images.turns import LOOK
from .images.views import View
from .inputs.fetch import Fetcher, FetchOptions
from .inputs.source import Source
from .models.attribution import generators
from .models.device import Device, choose
from .models.model import DEFAULT_MODEL, Model, load_model
from .models.orientation import Orientation
from .models.probe import probe_of
from .models.transfer import Waiting
from .pending import Extras, Frame, Prepared, Result, kept_result
from .prepare import CLIPS_AT_ONCE, Preparer
from .record import Record, ViewScore
from .resources import Places, cores, pool, trim
from .resultcache import ResultCache
from .versions import library_versions, tool

# After so many images freed memory goes back to the system: large arrays of many sizes fragment the heap.
TRIM_EVERY = 16
# Results of a stream kept in memory, so that repeated pixels are computed once.
_REMEMBERED = 20_000
# Bytes in memory of sources that wait to be prepared; one source may have more.
_HELD = 2**28


class Detector:
    """Scores images with one model on one device.

    Args:
        model: a loaded model.
        device: the device and number format that the tower runs with.
        mode: ``fast``, ``adaptive``, ``standard`` or ``thorough``; it decides which views are scored.
        batch_size: views per forward pass; ``None`` means 8 on the CPU and 64 elsewhere.
        workers: threads that read and decode; ``None`` means one per core, at most four.
        max_pixels: pictures with more pixels are refused before decoding.
        frames: at most this many frames of an animation are scored; the highest logit counts.
        strict: damaged files are errors; else they are judged as far as they can be decoded.
        sampling: which frames of clips are scored.
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
        strict: bool = False,
        sampling: Sampling = DEFAULT_SAMPLING,
    ) -> None:
        preprocess = model.tower.preprocess
        self.model = model
        self.device = device
        self.mode = mode
        self.plan = model.card.plan(mode, preprocess.size, preprocess.interpolation)
        self.calibration = model.card.calibration(mode)
        self.stages = model.card.stages(mode)
        self.thresholds = model.card.thresholds(mode)
        self.batch_size = batch_size or (8 if device.name == "cpu" else 64)
        self.workers = workers or min(4, cores())
        self.max_pixels = max_pixels
        self.frames = frames
        self.strict = strict
        self.sampling = sampling
        # Batches that a GPU computes while others are cut, and logits are computed, on the CPU.
        self._ahead = 1 if device.name == "cuda" else 0
        model.tower.to(torch.device(device.name), device.dtype)

    @property
    def identity(self) -> str:
        """Everything besides pixels that can change a score: tool, model, views, device, libraries.

        As JSON text.
        """
        plan = [getattr(self.plan, name) for name in self.plan.__dataclass_fields__]
        device = [self.device.name, self.device.dtype_name]
        parts = [tool(), self.model.card.sha256, self.mode, plan, device, library_versions()]
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def load(
        cls,
        model: str = DEFAULT_MODEL,
        device: str = "auto",
        mode: str = "standard",
        *,
        precision: str = "auto",
        **options: Any,
    ) -> Detector:
        """Load a model by name or path onto a device, after verifying its hashes.

        Args:
            model: a model's name or the path of its folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            mode: ``fast``, ``adaptive``, ``standard`` or ``thorough``.
            precision: ``auto``, ``float32`` or ``bfloat16``.
            **options: as for the class: ``batch_size, workers, max_pixels, frames, strict,
                sampling``.

        Raises:
            ModelError: the model is missing, damaged or inconsistent.
            AidetectError: the device or the precision cannot be used.
        """
        chosen = choose(device, precision)
        return cls(load_model(model, chosen.dtype), chosen, mode, **options)

    def reading(self, logit: float) -> tuple[float, str]:
        """The calibrated probability and the verdict for a raw logit."""
        probability = self.calibration.probability(logit)
        return probability, self.thresholds.verdict(probability)

    def score(self, images: Iterable[str | os.PathLike[str] | bytes | np.ndarray]) -> list[Record]:
        """Score images.

        Args:
            images: paths of files, bytes of encoded images, or RGB arrays ``[height, width, 3]`` of
                dtype ``uint8``.

        Returns:
            One record per image, in order. An image that cannot be read gives a record of status ``error``.
        """
        return list(self.stream(_source(image) for image in images))

    def stream(
        self,
        sources: Iterable[Source],
        fetch: FetchOptions | None = None,
        stdin: BinaryIO | None = None,
        remember: bool = True,
        cache: ResultCache | None = None,
        extras: Extras | None = None,
    ) -> Iterator[Record]:
        """Score sources as they arrive. Records keep their order; each is yielded as soon as it is ready.

        Args:
            sources: what to score; read slightly ahead of the records.
            fetch: limits for http(s) URLs and object stores.
            stdin: where a source of kind ``stdin`` is read from.
            remember: compute equal pixels only once.
            cache: results of earlier runs; new results are stored in it before they are yielded.
            extras: what to report besides scores.
        """
        waiting: deque[Prepared] = deque()
        batch: list[tuple[Result, View]] = []
        running: deque[tuple[list[tuple[Result, View]], Waiting]] = deque()
        known: OrderedDict[str, Result] = OrderedDict()
        fetch = fetch or FetchOptions()
        depth = 2 * max(self.workers, self.batch_size, fetch.at_once)
        extras = extras or Extras()
        places = Places(CLIPS_AT_ONCE)
        with (
            Fetcher(fetch) as fetcher,
            pool(self.workers) as readers,
            pool(fetch.at_once) as downloads,
            places,
        ):
            preparer = Preparer(
                *(self.plan, self.thresholds, self.max_pixels, self.frames, fetcher, stdin, cache, extras),
                strict=self.strict,
                sampling=self.sampling,
                clips=places,
            )
            futures: deque[Future[Prepared]] = deque()
            sizes: deque[int] = deque()  # bytes that these hold until they are prepared
            upcoming = iter(sources)
            exhausted = False
            submitted = taken_up = finished = 0
            while True:
                while not exhausted and len(futures) < depth and _held(futures, sizes) <= _HELD:
                    source = next(upcoming, None)
                    if source is None:
                        exhausted = True
                    else:
                        threads = downloads if source.kind in ("url", "remote") else readers
                        futures.append(threads.submit(preparer.prepare, source, submitted))
                        sizes.append(len(source.payload) if isinstance(source.payload, bytes) else 0)
                        submitted += 1
                places.call(taken_up)
                # A clip may have more views than a batch: nothing more is taken up meanwhile.
                room = len(batch) < self.batch_size
                ready = bool(futures) and room and (futures[0].done() or not (batch or running))
                if ready:
                    prepared = futures.popleft().result()
                    sizes.popleft()
                    taken_up += 1
                    if prepared.large:
                        places.leave()
                    self.enqueue(prepared, batch, known if remember else OrderedDict(), cache)
                    waiting.append(prepared)
                # A partial batch runs when nothing else is ready to fill it.
                if len(batch) >= self.batch_size or (batch and not ready and not running):
                    taken, batch[: self.batch_size] = batch[: self.batch_size], []
                    running.append((taken, self._begin(taken)))  # may reduce the batch size
                    wait = len(running) > self._ahead
                else:
                    wait = bool(running) and not ready
                if wait:
                    batch[:0] = self._complete(*running.popleft())
                while waiting and waiting[0].done:
                    yield self.finish(waiting.popleft(), cache)
                    finished += 1
                    if finished % TRIM_EVERY == 0:
                        trim()
                if exhausted and not (futures or batch or running):
                    break
                while len(known) > _REMEMBERED:
                    known.popitem(last=False)

    def score_prepared(self, prepared: Iterable[Prepared]) -> list[Record]:
        """Score sources that were read and cut into views elsewhere.

        Args:
            prepared: what a `Preparer` with this detector's plan and thresholds made of them.

        Returns:
            One record per source, in order.
        """
        sources = list(prepared)
        batch: list[tuple[Result, View]] = []
        known: dict[str, Result] = {}
        for one in sources:
            self.enqueue(one, batch, known, None)
        while batch:
            taken, batch[: self.batch_size] = batch[: self.batch_size], []
            batch[:0] = self.run(taken)
        return [self.finish(one, None) for one in sources]

    def enqueue(
        self,
        prepared: Prepared,
        batch: list[tuple[Result, View]],
        known: MutableMapping[str, Result],
        cache: ResultCache | None,
    ) -> None:
        """Find the results of a prepared source, or add its views to a batch. A step of `stream`."""
        for frame in prepared.frames:
            result = frame.result or known.get(frame.key)
            if result is None and cache is not None:
                result = kept_result(cache, frame.key)
            if result is None:
                result = Result([], [])
                batch += [(result, view) for view in result.begin(frame.views, frame.turned)]
                prepared.charge.append(result)
            known[frame.key] = frame.result = result
            frame.views, frame.turned = [], None

    def run(self, batch: list[tuple[Result, View]]) -> list[tuple[Result, View]]:
        """Compute a batch, at most ``batch_size`` views. A step of `stream`.

        Returns:
            Further views of these pictures that are to be scored next, before others.
        """
        return self._complete(batch, self._begin(batch))

    def _begin(self, batch: list[tuple[Result, View]]) -> Waiting:
        """Begin with the features of a batch. On a GPU this returns before they are computed."""
        start = time.perf_counter()
        features = self._features(np.stack([view.rgb for _, view in batch]))
        _charge(batch, time.perf_counter() - start)
        return features

    def _complete(self, batch: list[tuple[Result, View]], waiting: Waiting) -> list[tuple[Result, View]]:
        """Wait for the features of a batch, and hand its logits to their pictures; as `run` returns."""
        start = time.perf_counter()
        features = waiting()
        judged = [place for place, (_, view) in enumerate(batch) if view.kind != LOOK]
        logits = np.empty(len(batch))
        for kind, probe in self.model.probes.items():
            rows = [place for place in judged if probe_of(batch[place][1].kind) == kind]
            if rows:
                logits[rows] = probe.logits(features[rows])
        for place in judged:
            result, view = batch[place]
            result.logits.append(float(logits[place]))
            family_probe = self.model.families.get(probe_of(view.kind))
            if family_probe is not None:
                result.families.append(family_probe.log_probabilities(features[place, None])[0])
        if self.model.orientation is not None:
            self._orient(batch, features, self.model.orientation)
        _charge(batch, time.perf_counter() - start)
        different = {id(result): result for result, _ in batch}.values()
        return [
            (result, view)
            for result in different
            for view in result.settle(self.stages, self.model.orientation)
        ]

    @staticmethod
    def _orient(batch: list[tuple[Result, View]], features: np.ndarray, orientation: Orientation) -> None:
        for (result, view), vector in zip(batch, features, strict=True):
            if result.turned is not None and view.kind != "native":
                votes = result.votes if result.looks is None else result.looks
                votes.append(orientation.votes(vector[None])[0])

    def _features(self, views: np.ndarray) -> Waiting:
        """Begin with the features of views. When memory runs out, the batch size is halved for the rest of
        the run.

        On a GPU a short batch is padded to full size. So the same kernels compute every picture, and its
        score does not depend on its neighbours.
        """
        parts: list[tuple[Waiting, int]] = []
        at = 0
        while at < len(views):
            part = views[at : at + self.batch_size]
            count = len(part)
            if self.device.name != "cpu" and count < self.batch_size:
                filler = np.zeros((self.batch_size - count, *views.shape[1:]), views.dtype)
                part = np.concatenate([part, filler])
            try:
                parts.append((self.model.tower.begin(part), count))
                at += count
                continue
            except (torch.OutOfMemoryError, MemoryError) as error:
                if len(part) == 1:
                    other = "" if self.device.name == "cpu" else " or use --device cpu"
                    raise AidetectError(
                        f"not enough memory on {self.device.name} for a single view; "
                        f"close other programs{other}"
                    ) from error
            if self.device.name == "cuda":
                torch.cuda.empty_cache()
            self.batch_size = len(part) // 2
        return lambda: np.concatenate([wait()[:count] for wait, count in parts])

    def finish(self, prepared: Prepared, cache: ResultCache | None) -> Record:
        """The record of a source whose results are complete. A step of `stream`."""
        record = prepared.record
        record.milliseconds += 1000 * sum(result.seconds for result in prepared.charge)
        results = {frame.key: frame.result for frame in prepared.frames if frame.result is not None}
        if not results:
            return record
        record.cached = all(result.kept for result in results.values())
        if cache is not None:
            new = {key: result.to_data() for key, result in results.items() if not result.kept}
            if new or prepared.file:
                cache.put(prepared.file, [frame.to_data() for frame in prepared.frames], new)
        logits = {key: self.stages.logit(r.stage, r.kinds, r.logits) for key, r in results.items()}
        frame = max((f for f in prepared.frames if not f.reencoding), key=lambda f: logits[f.key])
        logit, settled = logits[frame.key], None
        if frame.clip is not None:
            frame, logit, settled = self._clip(record, prepared.frames, logits)
        result = results[frame.key]
        record.pixels_sha256, record.format = frame.sha256, frame.format
        record.width, record.height = frame.width, frame.height
        record.frame, record.frames = frame.frame, frame.frames
        record.background, record.alpha_sha256 = frame.backdrop or None, frame.alpha_sha256
        record.warnings = list(frame.warnings)
        if frame.alpha_sha256 is not None:
            seen = f"as seen on {frame.backdrop}" if frame.backdrop else "as stored, without alpha"
            record.warnings.append(f"transparent: not opaque; the score is of the picture {seen}")
        record.thumbnail = frame.thumbnail
        record.views = [
            ViewScore(kind, box, z)
            for kind, box, z in zip(result.kinds, result.boxes, result.logits, strict=True)
        ]
        record.turned = 90 * result.quarters
        record.logit = logit
        record.probability, verdict = self.reading(logit)
        record.verdict = settled or verdict
        if record.clip is not None:
            record.warnings += mixed(record.clip, verdict, record.verdict)
        if result.families:
            names = next(iter(self.model.families.values())).names
            record.generators = generators(record.probability, result.kinds, result.families, names)
        same = [f for f in prepared.frames if (f.frame, f.backdrop) == (frame.frame, frame.backdrop)]
        copies = [f for f in same if f.reencoding]
        if copies:
            self._stability(record, {f.reencoding: logits[f.key] for f in copies})
        return record

    def _clip(
        self, record: Record, frames: list[Frame], logits: dict[str, float]
    ) -> tuple[Frame, float, str]:
        """Judge a clip by its frames: the frame nearest to the clip's logit, this logit, the verdict."""
        parts = [(frame.clip or {}, frame.sha256, logits[frame.key]) for frame in frames]
        record.clip, logit, verdict = judged(parts, self.reading)
        record.strip = [frame.thumbnail for frame in frames if frame.thumbnail]
        return frames[nearest([logit for _, _, logit in parts], logit)], logit, verdict

    def _stability(self, record: Record, logits: dict[str, float]) -> None:
        copies = []
        for name, logit in logits.items():
            probability, verdict = self.reading(logit)
            copies.append({"name": name, "logit": logit, "probability": probability, "verdict": verdict})
        before = str(record.verdict)
        record.verdict, record.stability = judge(before, copies)
        if not record.stability["kept"]:
            others = ", ".join(f"{c['verdict']} as {c['name']}" for c in copies if c["verdict"] != before)
            record.warnings.append(f"unstable: {before} as given, but {others}")


def _held(futures: Iterable[Future[Prepared]], sizes: Iterable[int]) -> int:
    """Bytes in memory of sources that wait to be prepared."""
    return sum(size for future, size in zip(futures, sizes, strict=True) if not future.done())


def _charge(batch: list[tuple[Result, View]], seconds: float) -> None:
    for result, _ in batch:
        result.seconds += seconds / len(batch)


def _source(image: str | os.PathLike[str] | bytes | np.ndarray) -> Source:
    if isinstance(image, bytes):
        return Source("<bytes>", "memory", payload=image)
    if isinstance(image, np.ndarray):
        return Source("<array>", "memory", payload=image)
    return Source(os.fspath(image), "file")
