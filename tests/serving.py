"""Servers in threads, with the tiny model."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from conftest import wait_until

from aidetect.cli.server.run import Server
from aidetect.cli.server.settings import Settings


@dataclass
class Running:
    """A server that runs in a thread, a client for it, and the lines of its access log."""

    server: Server
    client: httpx.Client
    lines: list[str]
    thread: threading.Thread

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


class Servers:
    """Starts servers, and ends them."""

    def __init__(self, model: Path) -> None:
        self._model = str(model)
        self._running: list[Running] = []

    def start(self, ready: bool = True, **settings: Any) -> Running:
        """A server; it is ready unless told otherwise."""
        lines: list[str] = []
        detector = {"batch_size": 8, "workers": 2} | settings.pop("detector", {})
        given = {"model": self._model, "device": "cpu", "detector": detector, "cache": False}
        server = Server(Settings(**{**given, "port": 0, "grace": 5.0, **settings}), lines.append)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = httpx.Client(base_url=server.address, verify=False, timeout=30)
        running = Running(server, client, lines, thread)
        self._running.append(running)
        assert wait_until(lambda: server.started)
        if ready:
            assert wait_until(lambda: server.service.engine.ready, 30)
        return running

    def stop(self) -> None:
        """End all."""
        for running in self._running:
            running.client.close()
            running.server.should_exit = True
        for running in self._running:
            running.thread.join(15)
            assert not running.thread.is_alive()
