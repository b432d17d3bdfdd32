"""Fetching images over http(s), with every limit that a hostile or broken server makes necessary."""

from __future__ import annotations

import email.utils
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import httpx

from .errors import InputError

_RETRY_STATUS = {429, 500, 502, 503, 504}


@dataclass(frozen=True)
class FetchOptions:
    """Limits of fetching.

    Attributes:
        allowed: ``False`` refuses every address.
        connect_timeout, read_timeout: seconds to wait for a connection and for the next bytes.
        total_timeout: seconds one download may take, all redirects and bytes included.
        max_bytes: size above which a download is given up while it streams.
        max_redirects: redirects followed at the most.
        retries: further tries after 429, 5xx, or a broken connection.
        backoff: seconds before the first further try; it doubles each time.
        at_once: downloads at the same time.
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


class Fetcher:
    """Downloads addresses; safe to share between threads. Use it as a context manager."""

    def __init__(self, options: FetchOptions = FetchOptions(), user_agent: str = "aidetect") -> None:
        self.options = options
        self._agent = user_agent
        self._gate = threading.BoundedSemaphore(max(1, options.at_once))
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._client is not None:
            self._client.close()

    def fetch(self, url: str) -> bytes:
        """The body behind an address.

        Raises:
            InputError: ``network_refused``, ``bad_url``, ``http_error``, ``network_error``,
                ``timeout``, ``too_large``, ``too_many_redirects``.
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
        with self._lock:
            if self._client is None:
                options = self.options
                self._client = httpx.Client(
                    follow_redirects=True,
                    max_redirects=options.max_redirects,
                    timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout),
                    headers={"User-Agent": self._agent, "Accept": "image/*,*/*;q=0.5"},
                )
            return self._client

    def _once(self, url: str) -> bytes:
        deadline = time.monotonic() + self.options.total_timeout
        limit = self.options.max_bytes
        too_large = InputError("too_large", f"the download is over {limit / 2**20:.0f} MiB")
        try:
            with self._get_client().stream("GET", url) as response:
                status = response.status_code
                if status in _RETRY_STATUS:
                    after = _retry_after(response.headers.get("retry-after"))
                    raise _RetryableError(InputError("http_error", f"the server answered {status}"), after)
                if status != 200:
                    raise InputError("http_error", f"the server answered {status}")
                length = response.headers.get("content-length", "")
                if length.isdigit() and int(length) > limit:
                    raise too_large
                chunks: list[bytes] = []
                total = 0
                for chunk in response.iter_bytes():
                    total += len(chunk)
                    if total > limit:
                        raise too_large
                    if time.monotonic() > deadline or self._stop.is_set():
                        raise InputError(
                            "timeout", f"the download took over {self.options.total_timeout:g} s"
                        )
                    chunks.append(chunk)
                return b"".join(chunks)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise InputError("bad_url", f"not a usable address: {error}") from None
        except httpx.TooManyRedirects:
            limit = self.options.max_redirects
            raise InputError("too_many_redirects", f"more than {limit} redirects") from None
        except httpx.TimeoutException:
            raise _RetryableError(InputError("timeout", "the server did not answer in time")) from None
        except (httpx.HTTPError, httpx.StreamError, RuntimeError) as error:
            text = str(error) or type(error).__name__
            raise _RetryableError(InputError("network_error", f"cannot fetch: {text}")) from None


class _RetryableError(Exception):
    def __init__(self, error: InputError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def _retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
