"""Fetching, against a server on the loopback interface that misbehaves on purpose."""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import wait_until, within

from aidetect.detector.errors import InputError
from aidetect.detector.inputs.fetch import Fetcher, FetchOptions, _retry_after

QUICK = FetchOptions(
    connect_timeout=2, read_timeout=2, total_timeout=4, max_bytes=100_000, max_redirects=3, backoff=0.01
)
Route = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Routes of a test; ``hits`` are the paths asked for, ``most`` the requests handled at once."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.hits: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.now = self.most = 0
        self.stop = threading.Event()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                with lock:
                    outer.hits.append(self.path)
                    outer.headers.append(dict(self.headers))
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                try:
                    with contextlib.suppress(OSError):  # the client may well hang up
                        outer.routes[self.path](self)
                finally:
                    with lock:
                        outer.now -= 1

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.stop.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Route:
    """A route that answers the same every time."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return route


def in_turn(*routes: Route) -> Route:
    """A route that answers differently each time; the last answer stays."""
    left = list(routes)

    def route(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return route


def fetch(url: str, options: FetchOptions = QUICK) -> bytes:
    with Fetcher(options) as fetcher:
        return fetcher.fetch(url)


def refused(url: str, options: FetchOptions = QUICK, seconds: float = 8) -> InputError:
    with within(seconds), pytest.raises(InputError) as caught:
        fetch(url, options)
    assert "\n" not in str(caught.value)
    return caught.value


def changed(**values: object) -> FetchOptions:
    return FetchOptions(**{**QUICK.__dict__, **values})


# --- plain answers ----------------------------------------------------------------------------------


def test_body_is_returned(server: Server) -> None:
    server.routes["/a.jpg"] = answer(200, bytes(range(256)) * 300)
    with Fetcher(QUICK, user_agent="aidetect/9") as fetcher:
        assert fetcher.fetch(f"{server.base}/a.jpg") == bytes(range(256)) * 300
        assert fetcher.fetch(f"{server.base}/a.jpg#part") == bytes(range(256)) * 300
    assert server.headers[0]["User-Agent"] == "aidetect/9"
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_empty_body(server: Server) -> None:
    server.routes["/"] = answer(200, b"")
    assert fetch(server.base) == b""


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 410, 418, 501])
def test_final_refusals_are_not_tried_again(server: Server, status: int) -> None:
    server.routes["/x"] = answer(status)
    error = refused(f"{server.base}/x")
    assert error.kind == "http_error"
    assert str(status) in str(error)
    assert server.hits == ["/x"]


def test_network_switched_off(server: Server) -> None:
    error = refused(f"{server.base}/x", changed(allowed=False))
    assert error.kind == "network_refused"
    assert "--no-network" in str(error)
    assert server.hits == []


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://a b/", "http://\udcff/x", "http://h:99999/"]
)
def test_bad_addresses(url: str) -> None:
    assert refused(url, changed(retries=0)).kind in ("bad_url", "network_error")


# --- further tries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(server: Server, status: int) -> None:
    server.routes["/x"] = in_turn(answer(status), answer(status), answer(200, b"ok"))
    assert fetch(f"{server.base}/x") == b"ok"
    assert len(server.hits) == 3


def test_tries_end_and_wait_longer_each_time(server: Server) -> None:
    times: list[float] = []
    server.routes["/x"] = lambda handler: (times.append(time.monotonic()), answer(503)(handler))[1]
    error = refused(f"{server.base}/x", changed(retries=3, backoff=0.05))
    assert error.kind == "http_error"
    assert "503" in str(error)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 3
    assert all(gap >= wait for gap, wait in zip(gaps, (0.05, 0.1, 0.2), strict=True))


def test_no_further_tries(server: Server) -> None:
    server.routes["/x"] = answer(500)
    refused(f"{server.base}/x", changed(retries=0))
    assert len(server.hits) == 1


def test_retry_after_is_kept(server: Server) -> None:
    server.routes["/x"] = in_turn(answer(429, Retry_After="1"), answer(200, b"ok"))
    start = time.monotonic()
    assert fetch(f"{server.base}/x") == b"ok"
    assert 1 <= time.monotonic() - start < 4


@pytest.mark.parametrize(
    "value", ["soon", "", "-1", "\xb2", "Mon, 01 Jan 0001 00:00:00 -0000", "1e9", "9" * 400]
)
def test_nonsense_in_retry_after(server: Server, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    server.routes["/x"] = in_turn(answer(503, Retry_After=value), answer(200, b"ok"))
    with Fetcher(QUICK) as fetcher:
        monkeypatch.setattr(fetcher._stop, "wait", waits.append)
        assert fetcher.fetch(f"{server.base}/x") == b"ok"
    assert len(waits) == 1
    assert 0 <= waits[0] <= 30


def test_retry_after_forms() -> None:
    assert _retry_after("7") == 7
    assert _retry_after(None) is None
    assert _retry_after("later") is None
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 95 < (_retry_after(date) or 0) <= 100
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_leaving_ends_the_waiting(server: Server) -> None:
    server.routes["/x"] = answer(429, Retry_After="25")
    fetcher = Fetcher(QUICK)
    errors: list[InputError] = []

    def get() -> None:
        try:
            fetcher.fetch(f"{server.base}/x")
        except InputError as error:
            errors.append(error)

    with within(5):
        thread = threading.Thread(target=get)
        with fetcher:
            thread.start()
            assert wait_until(lambda: len(server.hits) == 1)
            time.sleep(0.1)
        thread.join(4)
    assert not thread.is_alive()
    assert errors


def test_leaving_cuts_a_stalled_download(server: Server) -> None:
    server.routes["/x"] = lambda handler: server.stop.wait(20)
    fetcher = Fetcher(changed(read_timeout=20, total_timeout=20))
    errors: list[InputError] = []

    def get() -> None:
        try:
            fetcher.fetch(f"{server.base}/x")
        except InputError as error:
            errors.append(error)

    with within(5):
        thread = threading.Thread(target=get)
        with fetcher:
            thread.start()
            assert wait_until(lambda: len(server.hits) == 1)
            time.sleep(0.1)
        thread.join(4)
    assert not thread.is_alive()
    assert errors


# --- redirects --------------------------------------------------------------------------------------


def chain(server: Server, length: int) -> str:
    for step in range(length):
        server.routes[f"/{step}"] = answer(302, Location=f"/{step + 1}")
    server.routes[f"/{length}"] = answer(200, b"end")
    return f"{server.base}/0"


def test_redirects_up_to_the_cap(server: Server) -> None:
    assert fetch(chain(server, 3)) == b"end"


def test_redirects_over_the_cap(server: Server) -> None:
    error = refused(chain(server, 4))
    assert error.kind == "too_many_redirects"
    assert len(server.hits) == 4


def test_redirect_loop(server: Server) -> None:
    server.routes["/x"] = answer(301, Location="/x")
    assert refused(f"{server.base}/x").kind == "too_many_redirects"


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_redirect_to_another_scheme(server: Server, target: str) -> None:
    server.routes["/x"] = answer(302, Location=target)
    assert refused(f"{server.base}/x").kind == "bad_url"
    assert server.hits == ["/x"]


# --- size and time ----------------------------------------------------------------------------------


def test_announced_size_over_the_cap(server: Server) -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        server.stop.wait(10)

    server.routes["/x"] = route
    assert refused(f"{server.base}/x", seconds=2).kind == "too_large"
    assert len(server.hits) == 1


def test_endless_body(server: Server) -> None:
    sent = []

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.stop.is_set():
            handler.wfile.write(bytes(10_000))
            sent.append(10_000)

    server.routes["/x"] = route
    assert refused(f"{server.base}/x").kind == "too_large"
    assert sum(sent) < 50_000_000
    assert len(server.hits) == 1


def test_cap_is_exact(server: Server) -> None:
    server.routes["/x"] = answer(200, bytes(100_000))
    server.routes["/y"] = answer(200, bytes(100_001))
    assert len(fetch(f"{server.base}/x")) == 100_000
    assert refused(f"{server.base}/y").kind == "too_large"


def test_packed_body(server: Server) -> None:
    server.routes["/x"] = answer(200, gzip.compress(b"plain" * 100), Content_Encoding="gzip")
    assert fetch(f"{server.base}/x") == b"plain" * 100
    server.routes["/bomb"] = answer(200, gzip.compress(bytes(20_000_000)), Content_Encoding="gzip")
    assert refused(f"{server.base}/bomb").kind == "too_large"
    twice = gzip.compress(gzip.compress(bytes(50_000_000)))
    server.routes["/twice"] = answer(200, twice, Content_Encoding="gzip, gzip")
    with within(1):
        assert refused(f"{server.base}/twice").kind == "http_error"


def drip(server: Server, before: bytes) -> Route:
    """Send a start, then a byte now and then, forever."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(before)
        while not server.stop.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    return route


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
    ],
    ids=["body", "body of known length", "header"],
)
def test_dripping_server_is_left(server: Server, start: bytes) -> None:
    server.routes["/x"] = drip(server, start)
    error = refused(f"{server.base}/x", changed(total_timeout=0.5), seconds=3)
    assert error.kind == "timeout"
    assert "0.5 s" in str(error)
    assert len(server.hits) == 1


def test_silent_server(server: Server) -> None:
    server.routes["/x"] = lambda handler: server.stop.wait(10)
    error = refused(f"{server.base}/x", changed(read_timeout=0.2, retries=1))
    assert error.kind == "timeout"
    assert len(server.hits) == 2


def test_slow_redirects_count_too(server: Server) -> None:
    for step in range(3):
        server.routes[f"/{step}"] = lambda handler, step=step: (
            time.sleep(0.3),
            answer(302, Location=f"/{step + 1}")(handler),
        )[1]
    server.routes["/3"] = answer(200, b"late")
    assert refused(f"{server.base}/0", changed(total_timeout=0.5), seconds=3).kind == "timeout"


def test_connection_closed_early(server: Server) -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.routes["/x"] = in_turn(route, answer(200, b"whole"))
    assert fetch(f"{server.base}/x") == b"whole"
    server.routes["/y"] = route
    error = refused(f"{server.base}/y", changed(retries=1))
    assert error.kind == "network_error"
    assert server.hits.count("/y") == 2


def test_not_http(server: Server) -> None:
    server.routes["/x"] = lambda handler: handler.wfile.write(b"\x89PNG\r\n\x1a\n" * 10)
    assert refused(f"{server.base}/x", changed(retries=0)).kind == "network_error"


def test_refused_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/x", changed(retries=1)).kind == "network_error"


def test_at_most_so_many_at_once(server: Server) -> None:
    together = threading.Barrier(3, timeout=2)

    def route(handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()
        time.sleep(0.05)
        answer(200, handler.path.encode())(handler)

    paths = [f"/{n}" for n in range(9)]
    server.routes.update(dict.fromkeys(paths, route))
    with within(10), Fetcher(changed(at_once=3)) as fetcher, ThreadPoolExecutor(9) as pool:
        bodies = list(pool.map(lambda path: fetcher.fetch(server.base + path), paths))
    assert bodies == [path.encode() for path in paths]
    assert server.most == 3


def test_nothing_stays_behind(server: Server) -> None:
    server.routes["/x"] = answer(200, b"ok")
    before = threading.active_count()
    with Fetcher(QUICK) as fetcher:
        for _ in range(3):
            fetcher.fetch(f"{server.base}/x")
    assert wait_until(lambda: threading.active_count() <= before)
