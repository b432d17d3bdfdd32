"""The model behind the server: loaded in the background, used by all requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from aidetect.detector.errors import InputError, ModelError

from ..common import say
from .metrics import Metrics
from .refusal import Refusal
from .settings import Settings

if TYPE_CHECKING:
    from aidetect.detector.detector import Detector
    from aidetect.detector.inputs.source import Source
    from aidetect.detector.live import Live
    from aidetect.detector.pending import Extras
    from aidetect.detector.record import Record

T = TypeVar("T")
_DOWNLOADS = 8


class Engine:
    """Scores sources for the requests of one event loop.

    Args:
        settings: model, device and limits.
        metrics: is told of waiting times and batches.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._live: Live | None = None
        self._closing = False
        self._headers: dict[str, dict[str, Any]] = {}
        self._stack = contextlib.ExitStack()
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="aidetect-fetch")
        self._stack.callback(self._downloads.shutdown, wait=False, cancel_futures=True)

    # --- start and end --------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the model and test it. It takes seconds: not for the event loop.

        Raises:
            ModelError: the model is missing, damaged, or computes other scores than its card says.
            AidetectError: the device cannot be used.
        """
        from aidetect.detector.audit import selftest
        from aidetect.detector.audit.report import header
        from aidetect.detector.detector import Detector
        from aidetect.detector.inputs.addresses import Guard
        from aidetect.detector.inputs.fetch import Fetcher, FetchOptions
        from aidetect.detector.live import Live
        from aidetect.detector.models.model import DEFAULT_MODEL
        from aidetect.detector.resultcache import ResultCache, default_path

        settings = self._settings
        first = Detector.load(
            settings.model or DEFAULT_MODEL,
            settings.device,
            settings.mode,
            precision=settings.precision,
            **settings.detector,
        )
        detectors = {settings.mode: first}
        for mode in first.model.card.data["modes"]:
            if mode not in detectors:
                detectors[mode] = Detector(first.model, first.device, mode, **settings.detector)
        result = selftest.run(first)
        if result is not None and not result.passed:
            raise ModelError("the self-test failed; see: aidetect doctor")
        caches = {}
        if settings.cache:
            for mode, detector in detectors.items():
                cache = ResultCache(default_path(), first.model.card.name, detector.identity, say)
                self._stack.callback(cache.close)
                caches[mode] = cache
        self._headers = {mode: header(each, datetime.now(UTC)) for mode, each in detectors.items()}
        options = FetchOptions(
            allowed=settings.network,
            connect_timeout=5.0,
            read_timeout=10.0,
            total_timeout=min(30.0, settings.timeout),
            max_bytes=settings.max_upload,
            retries=0,
            at_once=_DOWNLOADS,
            guard=Guard(settings.networks),
        )
        self._fetcher = self._stack.enter_context(Fetcher(options))
        self._live = Live(detectors, caches, waiting=settings.max_waiting, watcher=self._metrics)
        self._metrics.waiting.set_function(lambda: self._live.waiting if self._live else 0)
        self._metrics.ready.set(1)

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return self._live is not None and not self._closing

    @property
    def closing(self) -> bool:
        """Whether it takes no more work."""
        return self._closing

    def drain(self) -> None:
        """Say from now on that it takes no more work. Requests that are under way may still use it."""
        self._closing = True

    def close(self) -> None:
        """Give up what is under way, and close everything."""
        self._closing = True
        if self._live is not None:
            self._live.close()
        self._stack.close()

    # --- for requests ---------------------------------------------------------------------------------

    @property
    def modes(self) -> list[str]:
        """The modes of the model; the first is the default."""
        return list(self._engine().detectors)

    def detector(self, mode: str | None = None) -> Detector:
        """The detector of a mode."""
        detectors = self._engine().detectors
        return detectors[mode or next(iter(detectors))]

    def header(self, mode: str | None = None) -> dict[str, Any]:
        """The header of a report that starts now."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._headers[mode or self.modes[0]] | {"started": started}

    async def score(self, source: Source, extras: Extras, mode: str | None = None) -> Record:
        """The record of a source.

        Raises:
            Refusal: too many are waiting, or the server is starting or closing.
        """
        live = self._engine()
        with _refusing():
            record = await asyncio.wrap_future(live.submit(source, extras, mode))
        self._metrics.images.labels(record.verdict or "error").inc()
        self._metrics.cached.inc(record.cached)
        if record.error is not None:
            self._metrics.errors.labels(record.error["type"]).inc()
        return record

    async def call(self, function: Callable[[], T]) -> T:
        """What a function returns that uses the model."""
        live = self._engine()
        with _refusing():
            future: Future[T] = live.call(function)
            return await asyncio.wrap_future(future)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """What a function returns that takes time but no model."""
        return await asyncio.to_thread(function)

    async def fetch(self, url: str) -> Source:
        """An address that a client gave, as a source of its bytes or of the error."""
        from aidetect.detector.inputs.source import Source

        self._engine()
        if url.partition(":")[0].lower() not in ("http", "https"):
            return Source(url, "error", InputError("bad_url", "only http and https addresses are fetched"))
        try:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(self._downloads, self._fetcher.fetch, url)
        except InputError as error:
            return Source(url, "error", error)
        return Source(url, "memory", payload=data)

    def _engine(self) -> Live:
        if self._live is None:
            raise Refusal("starting", "the model is being loaded; try again soon")
        return self._live


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    from aidetect.detector.live import BusyError, ClosedError

    try:
        yield
    except BusyError as error:
        raise Refusal("busy", str(error)) from None
    except ClosedError:
        raise Refusal("closing", "the server is shutting down") from None
