"""`aidetect serve` under hostile requests: malformed forms, broken pictures, huge headers, slow bodies.

    python benchmarks/serve_hostile.py [--requests 20000] [--seed 0] [--views fast]

A listener on the loopback interface counts who comes: all addresses that are sent lead to it. Prints counts
of statuses by kind of request, memory, and what the listener saw. Exits with 1 if there was a status 500, a
traceback, a visit to the listener, or a good request that was not answered afterwards.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
from PIL import Image
from serve_load import serving

HOSTS = """
    127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 017700000001 0177.0.0.1 0177.1 0 0.0.0.0
    127.000.000.001 127.0.0.1. localhost LOCALHOST localhost. [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1]
    [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::127.0.0.1] [fe80::1%25lo] [fe80::1%lo] ip6-localhost
    example.com@127.0.0.1 a:b@localhost 127.0.0.1%00.example.com 127.0.0.1%2f [::ffff:0:127.0.0.1]
""".split()
HOSTS += ["\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"]
SCHEMES = ["http", "https", "HTTP", "hTTp", "ftp", "file", "gopher", "dict", "ws", "", "http:", "javascript"]
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO"]


def pictures() -> list[bytes]:
    """A small picture in each format that Pillow writes here."""
    rgb = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(rgb).resize((96, 72), Image.Resampling.BICUBIC)
    found = []
    for name in FORMATS:
        stream = io.BytesIO()
        image.save(stream, name)
        found.append(stream.getvalue())
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Data with some bytes changed, left out, doubled, or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.choice([1, 4, 100])]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
        elif kind == 3:
            out[at:at] = out[max(0, at - 50) : at]
        else:
            del out[at:]
    return bytes(out)


class Attack:
    """Requests of all kinds, as bytes for a connection.

    Args:
        port: of the listener that nothing may reach.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._pictures = pictures()
        self.kinds: list[Callable[[random.Random], bytes]] = [
            *(self.form, self.picture, self.address, self.addresses, self.headers, self.line),
            *(self.json, self.options, self.host, self.cut),
        ]

    def form(self, rng: random.Random) -> bytes:
        """A malformed form."""
        head = rng.choice([b'; name="media"; filename="a.png"', b'; name="models"', b"", b'; name="\xff"'])
        body = b"--x\r\nContent-Disposition: form-data" + head + b"\r\n\r\n"
        body += rng.choice(self._pictures) + b"\r\n--x--\r\n"
        charset = rng.choice(["", "; charset=undefined", "; charset=utf-16", "; charset=idna", "; charset=x"])
        kind = rng.choice(
            ["multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary="]
        )
        return self._post(
            rng.choice(["/1.0/check.json?models=genai", "/v1/scan"]), mutated(body, rng), kind + charset
        )

    def picture(self, rng: random.Random) -> bytes:
        """A broken picture."""
        return self._post("/v1/scan?evidence=1", mutated(rng.choice(self._pictures), rng), "image/png")

    def address(self, rng: random.Random) -> bytes:
        """An address of the listener, in some notation."""
        url = quote(self._url(rng), safe="")
        return f"GET /1.0/check.json?models=genai&url={url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def addresses(self, rng: random.Random) -> bytes:
        """Several such addresses."""
        urls = json.dumps({"urls": [self._url(rng) for _ in range(rng.randrange(1, 5))]})
        return self._post("/v1/scan", urls.encode(), "application/json")

    def headers(self, rng: random.Random) -> bytes:
        """Huge, many or malformed headers."""
        value = rng.choice([b"a" * 70_000, b"\0", b"\xff" * 100, b"a\r\n b", b"a\n", b""])
        lines = b"X: " + value + b"\r\n"
        count = rng.choice([1, 3, 3000]) if len(value) < 1000 else 1
        return b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n" + lines * count + b"\r\n"

    def line(self, rng: random.Random) -> bytes:
        """A malformed request line, or lengths that do not fit."""
        start = b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        odd = [
            b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n",
            b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ]
        return rng.choice([mutated(start, rng), *odd])

    def json(self, rng: random.Random) -> bytes:
        """JSON that is none, or is too deep."""
        odd = [b"[" * 50_000, b'{"urls":' * 2000, b'{"urls": 1e999}', b'{"urls": [{}]}', b"\xff\xfe", b"null"]
        body = mutated(b'{"urls": ["http://127.0.0.1/"], "views": "fast"}', rng)
        return self._post(
            rng.choice(["/v1/scan", "/v1/explain"]), rng.choice([*odd, body]), "application/json"
        )

    def options(self, rng: random.Random) -> bytes:
        """Options and paths that do not exist."""
        path = rng.choice(
            ["/v1/scan", "/v1/model", "/v1/explain", "/1.0/check.json", "/1.0/feedback.json", "/x"]
        )
        junk = quote(rng.randbytes(rng.randrange(40)))
        query = rng.choice(
            [f"views={junk}", f"models={junk}", "&" * 500, f"{junk}={junk}", "url=", "models=genai"]
        )
        method = rng.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "X"])
        return f"{method} {path}?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()

    def host(self, rng: random.Random) -> bytes:
        """A name that is not the server's, or a page of another origin."""
        name = rng.choice(["evil.example", "", "127.0.0.1@evil", "localhost:99999999", "[::", "\x7f"])
        origin = rng.choice(
            ["", "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://[\r\n"]
        )
        return f"GET /v1/model HTTP/1.1\r\nHost: {name}\r\n{origin}\r\n".encode()

    def cut(self, rng: random.Random) -> bytes:
        """A request that ends before its end; the client stays, or goes."""
        whole = self._post("/v1/scan", rng.choice(self._pictures), "image/png")
        return whole[: rng.randrange(1, len(whole))]

    def _url(self, rng: random.Random) -> str:
        scheme = rng.choice([*SCHEMES, "http", "http", "http", "https"])
        return f"{scheme}://{rng.choice(HOSTS)}:{self._port}/{rng.choice(['', 'a.png', '?b#c', '../d'])}"

    @staticmethod
    def _post(path: str, body: bytes, kind: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def listen() -> tuple[int, Callable[[], int]]:
    """A listener on loopback: its port, and how many came."""
    count = 0
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        nonlocal count
        while True:
            connection, _ = server.accept()
            count += 1
            connection.close()

    threading.Thread(target=run, daemon=True).start()
    return server.getsockname()[1], lambda: count


def send(address: tuple[str, int], data: bytes, rng: random.Random) -> str:
    """Send bytes, at once or in pieces; the status that came back, or what else happened."""
    try:
        with socket.create_connection(address, timeout=10) as connection:
            if rng.random() < 0.1:
                for at in range(0, min(len(data), 2000), 400):
                    connection.sendall(data[at : at + 400])
                connection.sendall(data[2000:])
            else:
                connection.sendall(data)
            if rng.random() < 0.1:
                return "left"
            found = connection.recv(65536)
    except TimeoutError:
        return "silence"
    except OSError:
        return "closed"
    return found[9:12].decode("latin-1") if found.startswith(b"HTTP/1.1 ") else "closed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", default="fast", choices=["fast", "standard", "thorough"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=None)
    arguments = parser.parse_args()
    port, visits = listen()
    attack = Attack(port)
    options = ["--views", arguments.views, "--device", arguments.device, "--upload-timeout", "1"]
    options += ["--model", arguments.model] if arguments.model else []
    found: dict[str, Counter[str]] = {kind.__name__: Counter() for kind in attack.kinds}
    with serving(options) as server:
        name, _, number = server.url.removeprefix("http://").partition(":")
        address = (name, int(number))

        def one(index: int) -> None:
            rng = random.Random(f"{arguments.seed} {index}")
            kind = attack.kinds[index % len(attack.kinds)]
            found[kind.__name__][send(address, kind(rng), rng)] += 1

        memory = []
        with ThreadPoolExecutor(16) as pool:
            for start in range(0, arguments.requests, 1000):
                list(pool.map(one, range(start, min(start + 1000, arguments.requests))))
                memory.append(server.memory())
        good = b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        body = pictures()[0]
        after = send(address, good % len(body) + body, random.Random(1))
        for name, counts in found.items():
            print(f"{name:<10} {', '.join(f'{status}: {count}' for status, count in sorted(counts.items()))}")
        total = sum(found.values(), Counter())
        print(f"{total.total()} requests; status 500: {total['500']}; traceback: {server.trouble}")
        print(f"the listener on loopback saw {visits()} connections; a good request afterwards: {after}")
        print(f"memory {memory[0]:.0f} MiB after 1,000, {memory[-1]:.0f} MiB at the end", flush=True)
        bad = total["500"] or visits() or server.trouble or after != "200"
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
