"""Live scoring: pictures from many callers, in the batches of one computing thread.

`Detector.stream` scores one list for one caller. `Live` takes sources at any time, from any thread, and
computes them in the same steps. So a picture's score is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from .detector import TRIM_EVERY, Detector
from .errors import AidetectError
from .images.views import View
from .inputs.fetch import Fetcher, FetchOptions
from .inputs.source import Source
from .pending import Extras, Prepared, Result
from .prepare import Preparer
from .record import Record
from .resources import trim
from .resultcache import ResultCache

T = TypeVar("T")


class BusyError(AidetectError):
    """There are as many sources waiting as may wait. Try again later."""


class ClosedError(AidetectError):
    """The work was given up, or not taken on, because of `Live.close`."""


class Watcher(Protocol):
    """Is told how the work goes. Its methods are called from the threads that work."""

    def waited(self, seconds: float) -> None:
        """A source was taken on, so many seconds after it was submitted."""

    def computed(self, views: int, seconds: float) -> None:
        """A batch was computed."""


class _Nobody:
    def waited(self, seconds: float) -> None:
        pass

    def computed(self, views: int, seconds: float) -> None:
        pass


@dataclass(eq=False)
class _Lane:
    """The work of one detector: views that wait for a batch, and jobs that wait for their views."""

    detector: Detector
    cache: ResultCache | None
    preparer: Preparer
    batch: list[tuple[Result, View]] = field(default_factory=list)
    jobs: deque[_Job] = field(default_factory=deque)
    # Equal pictures that are under way at the same time are computed once.
    known: WeakValueDictionary[str, Result] = field(default_factory=WeakValueDictionary)


@dataclass(eq=False)
class _Job:
    """A source on its way to its record."""

    lane: _Lane
    source: Source
    extras: Extras
    future: Future[Record]
    submitted: float
    prepared: Prepared | None = None
    has_room: bool = False


@dataclass(eq=False)
class _Call:
    """A function to be called in the computing thread."""

    function: Callable[[], Any]
    future: Future[Any]


class Live:
    """Scores sources from many callers with one computing thread. Threads may share it.

    Args:
        detectors: by mode; they share one model, and the first is the default.
        caches: results of earlier runs, by mode.
        waiting: as many sources may be submitted and not yet scored.
        linger: seconds that a partial batch waits at most while another picture is being decoded.
        watcher: is told of waiting times and batches.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        caches: Mapping[str, ResultCache] | None = None,
        *,
        waiting: int = 256,
        linger: float = 0.02,
        watcher: Watcher | None = None,
    ) -> None:
        self.detectors = dict(detectors)
        first = next(iter(self.detectors.values()))
        # Sources are bytes, pixels or errors: what has an address is fetched by those who submit it.
        base = Preparer(
            *(first.plan, first.thresholds, first.max_pixels, first.frames),
            *(Fetcher(FetchOptions(allowed=False)), None, None, Extras()),
            strict=first.strict,
            sampling=first.sampling,
        )
        self._lanes = {}
        for mode, detector in self.detectors.items():
            cache = (caches or {}).get(mode)
            # `replace` keeps the gate: all lanes together decode so many pixels at once.
            preparer = dataclasses.replace(
                base, plan=detector.plan, thresholds=detector.thresholds, cache=cache
            )
            self._lanes[mode] = _Lane(detector, cache, preparer)
        self._limit = waiting
        self._linger = linger
        self._watcher = watcher or _Nobody()
        self._lock = threading.Lock()
        self._open = True
        self._pending: set[_Job | _Call] = set()
        self._decoding = 0
        self._calls: deque[_Call] = deque()
        self._arrived: queue.SimpleQueue[_Job | _Call | None] = queue.SimpleQueue()
        # As in `Detector.stream`: so many pictures are decoded before their turn, whatever waits behind.
        self._room = threading.Semaphore(max(2 * first.workers, 2 * first.batch_size))
        self._readers = ThreadPoolExecutor(first.workers, thread_name_prefix="aidetect-read")
        self._worker = threading.Thread(target=self._work, name="aidetect-compute", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """How many sources and calls are submitted and not yet answered."""
        return len(self._pending)

    def submit(self, source: Source, extras: Extras | None = None, mode: str | None = None) -> Future[Record]:
        """Score a source.

        A future that is cancelled before its picture is decoded costs no computing.

        Args:
            source: bytes or pixels of kind ``memory``, or an ``error``.
            extras: what to report besides the score.
            mode: which detector; ``None`` for the first.

        Returns:
            The record to come. A source that cannot be decoded gives a record of status ``error``.

        Raises:
            BusyError: as many sources are waiting as may wait.
            ClosedError: after `close`.
            KeyError: there is no such mode.
        """
        lane = self._lanes[mode or next(iter(self._lanes))]
        job = _Job(lane, source, extras or Extras(), Future(), time.perf_counter())
        with self._lock:
            self._admit(job)
            self._decoding += 1
            self._readers.submit(self._prepare, job)
        return job.future

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Call a function in the computing thread, between batches. It may use the model.

        Raises:
            BusyError: as many sources and calls are waiting as may wait.
            ClosedError: after `close`.
        """
        call = _Call(function, Future())
        with self._lock:
            self._admit(call)
            self._arrived.put(call)
        return call.future

    def close(self, grace: float = 0.0) -> bool:
        """Take no more work, and wait for what is under way. What is left then fails with `ClosedError`.

        Args:
            grace: seconds to wait.

        Returns:
            Whether all work was finished.
        """
        with self._lock:
            self._open = False
        end = time.monotonic() + grace
        while self._pending and time.monotonic() < end:
            time.sleep(0.02)
        with self._lock:
            left = list(self._pending)
        for item in left:
            self._fail(item, ClosedError("the work was given up: shutting down"))
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._arrived.put(None)
        if not left:
            self._worker.join()
        return not left

    def _admit(self, item: _Job | _Call) -> None:
        if not self._open:
            raise ClosedError("shutting down")
        if len(self._pending) >= self._limit:
            raise BusyError("too many pictures are waiting; try again later")
        self._pending.add(item)

    # Whoever takes an item out of those pending, and nobody else, answers its future.
    def _take_out(self, item: _Job | _Call) -> bool:
        with self._lock:
            if item not in self._pending:
                return False
            self._pending.remove(item)
        if isinstance(item, _Job):
            if item.has_room:
                self._room.release()
            if item.prepared is not None and item.prepared.large:
                item.lane.preparer.clips.leave()
        return True

    def _answer(self, item: _Job | _Call, function: Callable[[], Any]) -> None:
        """Call a function, and hand its result or its error to whoever waits for the item."""
        try:
            result = function()
        except Exception as error:
            self._fail(item, error)
            return
        if self._take_out(item):
            item.future.set_result(result)

    def _fail(self, item: _Job | _Call, error: Exception) -> None:
        if self._take_out(item):
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                item.future.set_exception(error)

    # --- in the threads that decode -------------------------------------------------------------------

    def _prepare(self, job: _Job) -> None:
        self._room.acquire()
        with self._lock:
            wanted = job in self._pending and job.future.set_running_or_notify_cancel()
            job.has_room = wanted
        if wanted:
            self._watcher.waited(time.perf_counter() - job.submitted)
            preparer = dataclasses.replace(job.lane.preparer, extras=job.extras)
            try:
                job.prepared = preparer.prepare(job.source)
            except Exception as error:
                self._fail(job, error)
        else:
            self._room.release()
            self._take_out(job)
        with self._lock:
            self._decoding -= 1
        self._arrived.put(job)

    # --- in the computing thread ----------------------------------------------------------------------

    def _work(self) -> None:
        finished = 0
        while self._gather():
            busy = [lane for lane in self._lanes.values() if lane.batch]
            if busy:
                lane = min(busy, key=lambda lane: lane.jobs[0].submitted if lane.jobs else 0.0)
                before = finished
                finished += self._compute(lane)
                if finished // TRIM_EVERY > before // TRIM_EVERY:
                    trim()
            if self._calls:
                call = self._calls.popleft()
                if call.future.set_running_or_notify_cancel():
                    self._answer(call, call.function)
                else:
                    self._take_out(call)

    def _gather(self) -> bool:
        """Take what has arrived. Wait while there is nothing to do, and shortly to fill a batch.

        Returns:
            Whether to go on; ``False`` after `close`.
        """
        end = None
        while True:
            batches = [lane for lane in self._lanes.values() if lane.batch]
            timeout: float | None = None
            if self._calls or any(len(lane.batch) >= lane.detector.batch_size for lane in batches):
                timeout = 0.0
            elif batches:
                end = end or time.monotonic() + self._linger
                timeout = max(0.0, end - time.monotonic()) if self._decoding else 0.0
            try:
                item = self._arrived.get(timeout != 0, timeout)
            except queue.Empty:
                return True
            if item is None:
                return False
            if isinstance(item, _Call):
                self._calls.append(item)
            elif item.prepared is not None:
                self._enqueue(item, item.prepared)

    def _enqueue(self, job: _Job, prepared: Prepared) -> None:
        lane = job.lane
        try:
            lane.detector.enqueue(prepared, lane.batch, lane.known, lane.cache)
        except Exception as error:
            self._fail(job, error)
            return
        lane.jobs.append(job)
        self._finish(lane)

    def _compute(self, lane: _Lane) -> int:
        """Compute a batch, and give the records that are ready.

        Returns:
            How many.
        """
        size = lane.detector.batch_size
        taken, lane.batch[:size] = lane.batch[:size], []
        start = time.perf_counter()
        try:
            lane.batch[:0] = lane.detector.run(taken)
        except Exception as error:  # all whose views were in it get it
            self._drop(lane, {id(result) for result, _ in taken}, error)
            return 0
        self._watcher.computed(len(taken), time.perf_counter() - start)
        return self._finish(lane)

    def _finish(self, lane: _Lane) -> int:
        finished = 0
        for job in list(lane.jobs):
            if job.prepared is not None and job.prepared.done:
                lane.jobs.remove(job)
                self._answer(job, functools.partial(lane.detector.finish, job.prepared, lane.cache))
                finished += 1
        return finished

    def _drop(self, lane: _Lane, results: set[int], error: Exception) -> None:
        for job in list(lane.jobs):
            frames = job.prepared.frames if job.prepared is not None else []
            if results & {id(frame.result) for frame in frames}:
                lane.jobs.remove(job)
                self._fail(job, error)
        lane.batch = [(result, view) for result, view in lane.batch if id(result) not in results]
        for key, result in list(lane.known.items()):
            if id(result) in results:
                del lane.known[key]
