"""Who may come in, and what a client can make the server do."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import encode, shapes, wait_until, within
from serving import Running

from aidetect.cli.server.auth import Credentials
from aidetect.detector.errors import AidetectError

PICTURE = encode(shapes(64, 48))
SECRET = "k3JqYw8Zr1VbN5tX"
HASHED = "sha256:" + hashlib.sha256(b"another long secret").hexdigest()


def check(running: Running, **more: Any) -> httpx.Response:
    return running.client.post("/1.0/check.json?models=genai", files={"media": ("a", PICTURE)}, **more)


def basic(user: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


# --- credentials --------------------------------------------------------------------------------------


@pytest.fixture
def guarded(start: Any) -> Any:
    return start(credentials=Credentials([("ann", SECRET), ("bob", HASHED)]))


def test_the_cloud_api_takes_fields(guarded: Running) -> None:
    for user, secret in (("ann", SECRET), ("bob", "another long secret")):
        assert check(guarded, data={"api_user": user, "api_secret": secret}).status_code == 200
    assert wait_until(lambda: len(guarded.lines) == 2)
    assert guarded.log[0]["user"] == "ann"


@pytest.mark.parametrize(
    ("user", "secret"),
    [
        ("ann", ""),
        ("", ""),
        ("ann", SECRET[:-1]),
        ("bob", SECRET),
        ("eve", SECRET),
        ("bob", HASHED),
        ("", SECRET),
    ],
)
def test_wrong_ones_are_refused(guarded: Running, user: str, secret: str) -> None:
    reply = check(guarded, data={"api_user": user, "api_secret": secret})
    assert reply.status_code == 401
    error = reply.json()["error"]
    assert error == {"type": "argument_error", "code": 1, "message": "Incorrect API user or API secret"}
    for path in ("/v1/scan", "/v1/explain"):
        reply = guarded.client.post(path, content=PICTURE, headers=basic(user, secret))
        assert (reply.status_code, reply.json()["error"]["type"]) == (401, "credentials")
        assert reply.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/docs", "/openapi.json"])
def test_everything_but_health_and_the_page_wants_them(guarded: Running, path: str) -> None:
    assert guarded.client.get(path).status_code == 401
    assert guarded.client.get(path, headers=basic("ann", SECRET)).status_code == 200
    assert guarded.client.get("/healthz").status_code == 200
    assert guarded.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("value", ["", "Basic", "Basic !!!", "Basic /w==", "Bearer x", "Basic " + "A" * 9000])
def test_malformed_headers(guarded: Running, value: str) -> None:
    assert guarded.client.get("/v1/model", headers={"Authorization": value}).status_code == 401


def test_files_of_credentials(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# who\n\nann:{SECRET}\nbob:{HASHED}\n", encoding="utf-8")
    found = Credentials.read(path)
    assert found.accept("ann", SECRET)
    assert found.accept("bob", "another long secret")
    assert not found.accept("bob", HASHED)
    assert SECRET not in repr(vars(found))
    for text, words in (
        ("", "no credentials"),
        ("ann", "line 1"),
        ("ann:short", "short"),
        (f":{SECRET}", "empty"),
        (f"ann:{SECRET}\nann:{SECRET}", "twice"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(AidetectError, match=words):
            Credentials.read(path)
    with pytest.raises(AidetectError, match="cannot read"):
        Credentials.read(tmp_path / "missing")


# --- names and origins --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1", "a b", "[::1"],
)
def test_other_names_are_refused(running: Running, host: str) -> None:
    reply = check(running, headers={"Host": host})
    assert reply.status_code in (400, 421)
    assert running.client.get("/", headers={"Host": host}).status_code in (400, 421)
    assert running.client.get("/readyz", headers={"Host": host or "x"}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8077", "[::1]:80", "127.9.9.9"])
def test_names_of_loopback(running: Running, host: str) -> None:
    assert check(running, headers={"Host": host}).status_code == 200


def test_a_public_name(start: Any) -> None:
    running = start(public_hosts=("Detect.example",))
    assert check(running, headers={"Host": "detect.example:443"}).status_code == 200
    assert check(running, headers={"Host": "other.example"}).status_code == 421


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://[x"])
def test_pages_of_other_origins_are_refused(running: Running, origin: str) -> None:
    reply = check(running, headers={"Origin": origin})
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers


def test_the_own_page_may(running: Running) -> None:
    own = running.server.address
    assert check(running, headers={"Origin": own}).status_code == 200


def test_an_origin_that_was_let_in(start: Any) -> None:
    running = start(cors=("https://app.example",))
    reply = check(running, headers={"Origin": "https://app.example"})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert running.client.options("/v1/scan", headers=asked).status_code == 200
    assert check(running, headers={"Origin": "https://evil.example"}).status_code == 403


def test_no_cookies_and_strict_headers(running: Running) -> None:
    for path in ("/", "/docs", "/v1/model", "/healthz"):
        headers = running.client.get(path).headers
        assert "set-cookie" not in headers
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


# --- addresses ----------------------------------------------------------------------------------------


class Listener:
    """A socket on loopback that counts who comes."""

    def __init__(self) -> None:
        self.count = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.count += 1
                connection.recv(4096)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PICTURE)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + PICTURE)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Any:
    found = Listener()
    yield found
    found.close()


def test_no_address_of_this_machine_is_fetched(running: Running, listener: Listener) -> None:
    hosts = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "a@127.1",
        "0",
        "127.0.0.1.",
    ]
    urls = [f"http://{host}:{listener.port}/x" for host in hosts]
    for url in urls:
        query = {"models": "genai", "url": url}
        reply = running.client.get("/1.0/check.json", params=query)
        assert (reply.status_code, reply.json()["error"]["type"]) == (400, "media_error")
        assert running.client.post("/1.0/check.json", data=query).status_code == 400
    report = running.client.post("/v1/scan", json={"urls": urls}).json()
    assert [record["status"] for record in report["records"]] == ["error"] * len(urls)
    assert {record["error"]["type"] for record in report["records"]} <= {"address_refused", "bad_url"}
    assert running.client.post("/v1/explain", json={"urls": urls[:1]}).status_code == 400
    assert listener.count == 0


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x", "data:,x", "/etc/passwd", "http:/x", "x", "//x"],
)
def test_other_schemes(running: Running, url: str) -> None:
    reply = running.client.get("/1.0/check.json", params={"models": "genai", "url": url})
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "media_error")
    assert "root:" not in reply.text


def test_a_network_that_was_opened(start: Any, listener: Listener) -> None:
    running = start(networks=(ipaddress.ip_network("127.0.0.1/32"),))
    url = f"http://127.0.0.1:{listener.port}/a.png"
    reply = running.client.get("/1.0/check.json", params={"models": "genai", "url": url})
    assert reply.json()["status"] == "success"
    assert reply.json()["media"]["uri"] == url
    report = running.client.post("/v1/scan", json={"urls": [url, url], "views": "fast"}).json()
    assert [record["status"] for record in report["records"]] == ["ok", "ok"]
    assert listener.count == 3


def test_no_network_at_all(start: Any, listener: Listener) -> None:
    running = start(networks=(ipaddress.ip_network("127.0.0.1/32"),), network=False)
    reply = running.client.get(
        "/1.0/check.json", params={"models": "genai", "url": f"http://127.0.0.1:{listener.port}/"}
    )
    assert reply.json()["aidetect"]["error"]["type"] == "network_refused"
    assert listener.count == 0


# --- limits -------------------------------------------------------------------------------------------


def raw(running: Running, data: bytes, wait: float = 5.0) -> bytes:
    """Send bytes on a connection, and read until its end."""
    with socket.create_connection(running.server.socket.getsockname(), timeout=wait) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        return found


def test_more_than_may_wait(start: Any) -> None:
    running = start(max_waiting=2)
    go = threading.Event()
    live = running.server.service.engine._live
    live.call(lambda: go.wait(20))
    assert wait_until(lambda: live.waiting == 1)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(check, running) for _ in range(6)]
        assert wait_until(lambda: sum(future.done() for future in futures) == 5)
        go.set()
        replies = [future.result() for future in futures]
    assert sorted(reply.status_code for reply in replies) == [200, *[503] * 5]
    busy = next(reply for reply in replies if reply.status_code == 503)
    assert busy.json()["error"]["type"] == "api_error"
    assert int(busy.headers["retry-after"]) > 0


def test_uploads_held_at_once(start: Any) -> None:
    running = start(max_memory=len(PICTURE) + 1000)
    assert check(running).status_code == 200
    assert running.client.post("/v1/scan", content=bytes(len(PICTURE) + 1001)).status_code == 503
    assert check(running).status_code == 200
    assert running.server.service.budget.held == 0


def test_a_request_that_takes_too_long(start: Any) -> None:
    running = start(timeout=0.3)
    go = threading.Event()
    running.server.service.engine._live.call(lambda: go.wait(20))
    with within(5):
        reply = check(running)
    assert reply.status_code == 503
    assert "longer" in reply.json()["error"]["message"]
    go.set()


def test_replies_do_not_wait_for_one_another(running: Running) -> None:
    """Nagle's algorithm is off: a reply of two parts does not wait for the receipt of the first."""
    running.client.get("/healthz")
    (connection,) = running.server.server_state.connections
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_slow_body(start: Any) -> None:
    running = start(upload_timeout=0.3)
    head = b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with within(4):
        reply = raw(running, head + b"abc")
    assert reply.startswith(b"HTTP/1.1 408") or reply == b""
    assert check(running).status_code == 200


def test_slow_and_endless_headers(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from aidetect.cli.server import run

    monkeypatch.setattr(run, "_HEADER_SECONDS", 0.3)
    with within(4):
        assert raw(running, b"GET / HTTP/1.1\r\nHost: loc") == b""
        assert raw(running, b"") == b""
        # Hardly more than is read: a connection that is closed with bytes unread may lose its reply.
        endless = b"X: y\r\n" * (run._HEADER_BYTES // 6 + 1)
        assert raw(running, b"GET / HTTP/1.1\r\n" + endless).startswith(b"HTTP/1.1 400")
    assert check(running).status_code == 200


def test_a_second_request_that_drips(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from aidetect.cli.server import run

    monkeypatch.setattr(run, "_HEADER_SECONDS", 0.3)
    with within(4):
        reply = raw(running, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT")
    assert reply.count(b"200 OK") == 1


def test_connections_are_bounded(start: Any) -> None:
    running = start(max_connections=3)
    running.client.close()
    address = running.server.socket.getsockname()
    held = [socket.create_connection(address) for _ in range(3)]
    assert wait_until(lambda: len(running.server.server_state.connections) == 3)
    reply = raw(running, b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 503")
    assert b"too many connections" in reply
    for connection in held:
        connection.close()
    assert wait_until(lambda: len(running.server.server_state.connections) == 0)
    reply = raw(running, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"200" in reply


def test_who_goes_away_costs_nothing(running: Running) -> None:
    go = threading.Event()
    live = running.server.service.engine._live
    live.call(lambda: go.wait(20))
    head = b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PICTURE)
    for _ in range(3):
        connection = socket.create_connection(running.server.socket.getsockname())
        connection.sendall(head + PICTURE)
        connection.close()
    time.sleep(0.2)
    go.set()
    assert wait_until(lambda: live.waiting == 0)
    assert check(running).status_code == 200
    assert wait_until(lambda: running.server.service.budget.held == 0)


def test_an_error_of_ours_is_a_plain_500(
    running: Running, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from aidetect.cli.server.engine import Engine

    def broken(*args: Any) -> Any:
        raise RuntimeError("secret detail /home/x")

    monkeypatch.setattr(Engine, "score", broken)
    reply = check(running)
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "unknown_error"
    assert "secret" not in reply.text
    assert "Runtime" not in reply.text
    assert wait_until(lambda: bool(running.lines))
    assert running.log[0]["error"] == "internal"
    assert "secret detail" in capfd.readouterr().err
