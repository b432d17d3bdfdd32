"""The command: options, signals, and the end under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from conftest import encode, shapes, wait_until, within

from aidetect.cli.main import main

PICTURE = encode(shapes(64, 48))


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["serve", *words], env=environment)


def said(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_an_open_address_wants_credentials() -> None:
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.com"):
        assert "--credentials" in said(run("--host", host))


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:short")
    (tmp_path / "x.pem").write_text("no certificate")
    pem = str(tmp_path / "x.pem")
    assert "short" in said(run("--credentials", str(tmp_path / "users")))
    assert "belong together" in said(run("--tls-cert", pem))
    assert "certificate" in said(run("--tls-cert", pem, "--tls-key", pem))
    assert "belong together" in said(run(AIDETECT_API_USER="ann"))
    assert "short" in said(run(AIDETECT_API_USER="ann", AIDETECT_API_SECRET="x"))
    assert "cannot listen" in said(run("--host", "203.0.113.7", "--no-auth"))


def test_a_network_that_is_none() -> None:
    result = run("--allow-network", "10.0.0.0/99")
    assert result.exit_code == 2


def test_without_the_packages_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'aidetect[serve]'" in said(run())


# --- a process ----------------------------------------------------------------------------------------


class Process:
    """The command in a process of its own."""

    def __init__(self, *words: str, folder: Path) -> None:
        command = [sys.executable, "-m", "aidetect.cli", "serve", "--port", "0", "--no-cache", *words]
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        self._folder = folder

    @property
    def err(self) -> str:
        return (self._folder / "err").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._folder / "out").read_text().splitlines()]

    def ready(self) -> str:
        assert wait_until(lambda: "ready at" in self.err or self.process.poll() is not None, 60)
        return self.err.split("listening on ")[1].split()[0]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def served(tiny_model_folder: Path, tmp_path: Path) -> Iterator[Any]:
    begun: list[Process] = []

    def begin(*words: str, model: Path = tiny_model_folder) -> Process:
        process = Process("--model", str(model), "--device", "cpu", *words, folder=tmp_path)
        begun.append(process)
        return process

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(10)


def test_sigterm_under_load(served: Any) -> None:
    """Whatever was accepted is answered: with a score, or with a refusal that says that the end is near."""
    process = served()
    url = process.ready()
    answers: Counter[int] = Counter()
    lost: list[Exception] = []
    stop = threading.Event()

    def work() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                try:
                    parts = {"media": ("a.png", PICTURE)}
                    answers[client.post(f"{url}/1.0/check.json?models=genai", files=parts).status_code] += 1
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    lost.append(error)
                    return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: answers[200] > 40, 30)
    process.signal(signal.SIGTERM)
    assert process.process.wait(20) == 0
    stop.set()
    for thread in threads:
        thread.join(10)
    assert lost == []
    assert set(answers) <= {200, 503}
    logged = Counter(line["status"] for line in process.log)
    assert logged == answers
    assert "Traceback" not in process.err


def test_what_is_under_way_is_finished(served: Any) -> None:
    """A request whose body is still arriving at SIGTERM gets its score."""
    process = served()
    url = httpx.URL(process.ready())
    import socket

    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        head = f"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
        connection.sendall(head.encode() + PICTURE[:100])
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(PICTURE[100:])
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    assert reply.startswith(b"HTTP/1.1 200 OK")
    assert process.process.wait(10) == 0


def test_a_second_signal_ends_at_once(served: Any) -> None:
    process = served("--grace", "60", "--upload-timeout", "60")
    url = httpx.URL(process.ready())
    import socket

    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.process.poll() is None
        with within(3):
            process.signal(signal.SIGTERM)
            assert process.process.wait(5) == 128 + signal.SIGTERM


def test_the_grace_ends(served: Any) -> None:
    process = served("--grace", "0.5", "--upload-timeout", "60")
    url = httpx.URL(process.ready())
    import socket

    with socket.create_connection((url.host, url.port)) as connection, within(12):
        connection.sendall(b"POST /v1/scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.3)
        process.signal(signal.SIGINT)
        assert process.process.wait(15) == 0


def test_a_damaged_model_ends_with_code_5(served: Any, model_copy: Path) -> None:
    (model_copy / "probe.safetensors").write_bytes(b"x")
    process = served(model=model_copy)
    assert process.process.wait(60) == 5
    assert "error" in process.err
    assert "Traceback" not in process.err
