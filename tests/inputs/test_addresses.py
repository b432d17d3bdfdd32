"""Fetching for somebody else: no address that is not public is reached, in whatever notation."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.errors import InputError
from aidetect.detector.inputs.addresses import Guard
from aidetect.detector.inputs.fetch import Fetcher, FetchOptions

QUICK = FetchOptions(connect_timeout=2, read_timeout=2, total_timeout=4, retries=0, guard=Guard())
PRIVATE = """
    127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254 0.0.0.0 0.1.2.3
    100.64.0.1 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255 ::1 :: fe80::1 fe80::1%lo fc00::1 fd00:ec2::254 fec0::1 ff02::1 ::ffff:127.0.0.1
    ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::8.8.8.8
    2002:7f00:1:: 2002:808:808:: 2001:0:1::1 2001:db8::1 100::1 5f00::1
""".split()
PUBLIC = "8.8.8.8 1.1.1.1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700::1111 2a00:1450::1".split()


@pytest.mark.parametrize("text", PRIVATE)
def test_not_public(text: str) -> None:
    assert not Guard().allows(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert Guard().allows(ipaddress.ip_address(text))


def test_a_network_may_be_opened() -> None:
    guard = Guard([ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")])
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "8.8.8.8"):
        assert guard.allows(ipaddress.ip_address(text))
    for text in ("10.2.0.1", "127.0.0.1", "fe80::1"):
        assert not guard.allows(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts_the_same(address: Any) -> None:
    expected = Guard().allows(address)
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        inside = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address))
        assert Guard().allows(inside) is expected


# --- over sockets -------------------------------------------------------------------------------------


class Listener:
    """A web server on loopback that counts connections; ``locations`` are where its paths redirect to."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.locations: dict[str, str] = {}
        self.hits: list[str] = []
        self.hosts: list[str] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                outer.hits.append(self.path)
                outer.hosts.append(self.headers["Host"])
                location = outer.locations.get(self.path)
                self.send_response(302 if location else 200)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"inner")

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def fetch(url: str, options: FetchOptions = QUICK) -> bytes:
    with Fetcher(options) as fetcher:
        return fetcher.fetch(url)


def refused(url: str, options: FetchOptions = QUICK) -> str:
    with pytest.raises(InputError) as caught:
        fetch(url, options)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value.kind


HOSTS = """
    127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 017700000001 0177.0.0.1 0177.1 0 0.0.0.0
    127.000.000.001 127.0.0.1. localhost LOCALHOST localhost. [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1]
    [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::127.0.0.1] [fe80::1%25lo] [fe80::1%lo]
    example.com@127.0.0.1 example.com:80@127.0.0.1 127.0.0.1%00.example.com 127.0.0.1%2f
""".split()
# Digits, letters and full stops that become plain ones when a name is normalised.
HOSTS += [
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_loopback_in_every_notation(host: str, scheme: str, listener: Listener) -> None:
    assert refused(f"{scheme}://{host}:{listener.port}/x") in ("address_refused", "bad_url")
    assert listener.connections == 0


def test_the_listener_would_be_reached(listener: Listener) -> None:
    open_ = FetchOptions(retries=0, guard=Guard([ipaddress.ip_network("127.0.0.0/8")]))
    assert fetch(f"http://127.0.0.1:{listener.port}/x", open_) == b"inner"
    assert fetch(f"http://localhost:{listener.port}/x", open_) == b"inner"
    assert listener.hosts == [f"127.0.0.1:{listener.port}", f"localhost:{listener.port}"]


class Names:
    """Stands for the resolver: fixed answers, one after the other; the last stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]) -> None:
        self.asked: list[str] = []
        self._names = {name.replace("_", "."): answers for name, answers in names.items()}
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name not in self._names:
            return self._real(host, port, *args, **kwargs)
        answers = self._names[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


def test_a_name_that_resolves_to_loopback(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, evil_test=[["127.0.0.1"]])
    assert refused(f"http://evil.test:{listener.port}/x") == "address_refused"
    assert listener.connections == 0


def test_one_of_many_addresses_is_enough(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, evil_test=[["127.0.0.1", "8.8.8.8"]])
    assert refused(f"http://evil.test:{listener.port}/x") == "address_refused"
    assert listener.connections == 0


def test_a_name_is_resolved_once(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes between check and connection (rebinding): the checked address is used."""
    guard = Guard([ipaddress.ip_network("127.0.0.1/32")])
    names = Names(monkeypatch, evil_test=[["127.0.0.1"], ["10.9.9.9"]])
    assert fetch(f"http://evil.test:{listener.port}/x", FetchOptions(retries=0, guard=guard)) == b"inner"
    assert names.asked.count("evil.test") == 1
    assert listener.hosts == [f"evil.test:{listener.port}"]


@pytest.mark.parametrize("target", ["http://10.0.0.1/", "http://[::1]:{port}/y", "//127.0.0.2:{port}/y"])
def test_redirects_are_checked(target: str, listener: Listener) -> None:
    listener.locations["/x"] = target.format(port=listener.port)
    guard = Guard([ipaddress.ip_network("127.0.0.1/32")])
    options = FetchOptions(retries=0, guard=guard, connect_timeout=1)
    assert refused(f"http://127.0.0.1:{listener.port}/x".replace("127.0.0.1", "localhost"), options) == (
        "address_refused"
    )
    assert listener.hits == ["/x"]


def test_a_redirect_to_a_name_is_resolved_and_checked(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, first_test=[["127.0.0.1"]], second_test=[["127.0.0.3"]])
    listener.locations["/x"] = f"http://second.test:{listener.port}/y"
    guard = Guard([ipaddress.ip_network("127.0.0.1/32")])
    assert (
        refused(f"http://first.test:{listener.port}/x", FetchOptions(retries=0, guard=guard))
        == "address_refused"
    )
    assert listener.hits == ["/x"]


def test_a_proxy_of_the_environment_is_not_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    assert refused("http://127.0.0.1:9/x") == "address_refused"
    assert listener.connections == 0


def test_the_next_address_is_tried(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, two_test=[["127.0.0.9", "127.0.0.1"]])
    guard = Guard([ipaddress.ip_network("127.0.0.0/8")])
    assert fetch(f"http://two.test:{listener.port}/x", FetchOptions(retries=0, guard=guard)) == b"inner"


def test_no_such_name() -> None:
    assert refused("http://no-such-name.invalid/x") == "address_refused"


def test_tls_checks_the_name_and_not_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tls import certificates

    made = certificates(tmp_path, "good.test", datetime.now(UTC) + timedelta(days=1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    listener = Listener(context)
    Names(monkeypatch, good_test=[["127.0.0.1"]], bad_test=[["127.0.0.1"]])
    real = ssl.create_default_context

    def trusting(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        found = real(*args, **kwargs)
        found.load_verify_locations(made.authority)
        return found

    monkeypatch.setattr(ssl, "create_default_context", trusting)
    options = FetchOptions(retries=0, guard=Guard([ipaddress.ip_network("127.0.0.0/8")]))
    try:
        assert fetch(f"https://good.test:{listener.port}/x", options) == b"inner"
        assert refused(f"https://bad.test:{listener.port}/x", options) == "network_error"
        assert listener.hosts == [f"good.test:{listener.port}"]
    finally:
        listener.close()
