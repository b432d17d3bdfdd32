"""Fetching images over http(s), with limits against hostile or broken servers."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .redact import without_secrets

if TYPE_CHECKING:  # httpx is imported with the first download, since most scans have none
    import httpx

    from .addresses import Guard

_RETRY_STATUS = {429, 500, 502, 503, 504}


@dataclass(frozen=True)
class FetchOptions:
    """Limits of fetching.

    Attributes:
        allowed: ``False`` refuses every URL.
        connect_timeout, read_timeout: seconds to wait for a connection and for the next bytes.
        total_timeout: seconds that one download may take, including redirects.
        max_bytes: largest size of a download; it is aborted once it is larger.
        max_redirects: largest number of redirects to follow.
        retries: number of retries after 429, 5xx, or a broken connection.
        backoff: seconds before the first retry; doubled for each further one.
        at_once: number of downloads at the same time.
        guard: decides which addresses may be fetched from, where URLs come from somebody else; ``None`` for
            any. With a guard, no proxy is used.
    """

    allowed: bool = True
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    total_timeout: float = 120.0
    max_bytes: int = 64 * 2**20
    max_redirects: int = 5
    retries: int = 3
    backoff: float = 0.5
    at_once: int = 4
    guard: Guard | None = None


LIMITS = FetchOptions()


class Fetcher:
    """Downloads URLs. Threads may share it. Use it as a context manager."""

    def __init__(self, options: FetchOptions = LIMITS, user_agent: str = "aidetect") -> None:
        self.options = options
        self._agent = user_agent
        self._gate = threading.BoundedSemaphore(max(1, options.at_once))
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watches: set[_Watch] = set()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for watch in list(self._watches):
            watch.cut()
        if self._client is not None:
            self._client.close()

    def fetch(self, url: str) -> bytes:
        """The body of a URL.

        Raises:
            InputError: ``network_refused``, ``address_refused``, ``bad_url``, ``http_error``,
                ``network_error``, ``timeout``, ``too_large``, ``too_many_redirects``.
        """
        if not self.options.allowed:
            raise InputError("network_refused", "network use is switched off by --no-network")
        with self._gate:
            wait = self.options.backoff
            for left in range(self.options.retries, -1, -1):
                try:
                    return self._once(url)
                except _RetryableError as again:
                    if left == 0 or self._stop.is_set():
                        raise again.error from None
                    self._stop.wait(min(again.after if again.after is not None else wait, 30.0))
                    wait *= 2
        raise AssertionError("unreachable")

    def _get_client(self) -> httpx.Client:
        import httpx

        from .addresses import GuardedTransport

        with self._lock:
            if self._client is None:
                options = self.options
                # Each download has its own connection, which its watch can cut.
                limits = httpx.Limits(max_keepalive_connections=0)
                guarded = None
                if options.guard is not None:
                    inner = httpx.HTTPTransport(trust_env=False, limits=limits)
                    guarded = GuardedTransport(options.guard, inner)
                self._client = httpx.Client(
                    transport=guarded,
                    follow_redirects=True,
                    max_redirects=options.max_redirects,
                    timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout),
                    limits=limits,
                    headers={
                        "User-Agent": self._agent,
                        "Accept": "image/*,*/*;q=0.5",
                        "Accept-Encoding": "identity",
                    },
                )
            return self._client

    def _once(self, url: str) -> bytes:
        watch = _Watch(self.options.total_timeout)
        late = InputError("timeout", f"the download took longer than {self.options.total_timeout:g} s")
        self._watches.add(watch)
        try:
            with watch:
                body = self._download(url, watch)
        except (_RetryableError, InputError):
            if watch.expired:
                raise late from None
            raise
        finally:
            self._watches.discard(watch)
        if watch.expired:  # if the length is unknown, a cut connection looks like the end of the body
            raise late
        return body

    def _download(self, url: str, watch: _Watch) -> bytes:
        import httpx

        from .addresses import RefusedAddressError

        limit = self.options.max_bytes
        too_large = InputError("too_large", f"the download is larger than {limit / 2**20:.0f} MiB")
        try:
            with self._get_client().stream("GET", url, extensions={"trace": watch.trace}) as response:
                status = response.status_code
                if status in _RETRY_STATUS:
                    after = _retry_after(response.headers.get("retry-after"))
                    raise _RetryableError(InputError("http_error", f"the server answered {status}"), after)
                if status != 200:
                    raise InputError("http_error", f"the server answered {status}")
                if "," in response.headers.get("content-encoding", ""):  # each can expand a thousandfold
                    raise InputError("http_error", "the server compressed the data more than once")
                length = response.headers.get("content-length", "")
                if length.isdecimal() and int(length) > limit:
                    raise too_large
                chunks: list[bytes] = []
                total = 0
                for chunk in response.iter_bytes():
                    total += len(chunk)
                    if total > limit:
                        raise too_large
                    if watch.expired:
                        break
                    chunks.append(chunk)
                return b"".join(chunks)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            text = without_secrets(f"not a valid URL: {error}", url)
            raise InputError("bad_url", text) from None
        except httpx.TooManyRedirects:
            limit = self.options.max_redirects
            raise InputError("too_many_redirects", f"more than {limit} redirects") from None
        except RefusedAddressError as error:
            raise InputError("address_refused", str(error)) from None
        except httpx.TimeoutException:
            raise _RetryableError(InputError("timeout", "the server did not answer in time")) from None
        except (httpx.HTTPError, httpx.StreamError, RuntimeError) as error:
            text = without_secrets(str(error) or type(error).__name__, url)
            raise _RetryableError(InputError("network_error", f"cannot fetch: {text}")) from None


class _Watch:
    """Cuts the connections of one download when its time is up, even during a header that never ends."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._streams: list[Any] = []
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note a new connection (httpx's ``trace`` extension)."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._streams.append(info["return_value"])
            if self.expired:
                self.cut()

    def cut(self) -> None:
        """End the download now."""
        self.expired = True
        for stream in list(self._streams):
            with contextlib.suppress(OSError, AttributeError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _RetryableError(Exception):
    def __init__(self, error: InputError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a ``Retry-After`` header; ``None`` if it is missing or invalid."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
