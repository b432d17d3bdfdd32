"""Running the server: listening, limits of connections, signals, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aidetect.detector.errors import AidetectError, ModelError

from ..common import say
from .accesslog import to_stdout
from .app import build
from .refusal import Refusal
from .service import Service
from .settings import Settings

_HEADER_SECONDS = 10.0
_HEADER_BYTES = 32 * 1024
_KEEP_ALIVE_SECONDS = 15
# After SIGTERM, idle connections stay open so long: a request on its way gets an answer.
_LINGER_SECONDS = 0.5
_UNREAD_MILLISECONDS = 60_000
# Connections above the limit are told so; above this many more they are cut.
_SPARE = 64


class _Connection(H11Protocol):
    """A connection: one of not too many, whose requests must arrive in time.

    uvicorn waits for headers and bodies for as long as they take.
    """

    most: ClassVar[int]
    seconds: ClassVar[float]
    _timer: asyncio.TimerHandle | None = None
    _ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        if len(self.connections) > self.most + _SPARE:
            transport.abort()
            return
        self._arm(_HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and set the time for those to come."""
        state = self.conn.their_state
        super().data_received(data)
        if self._ending and self.cycle is not None:
            self.cycle.keep_alive = False
        now = self.conn.their_state
        if now is h11.SEND_BODY:
            if state is not h11.SEND_BODY:
                self._arm(self.seconds)
        elif now is h11.IDLE:
            if self._timer is None and self.conn.trailing_data[0]:
                self._arm(_HEADER_SECONDS)
        else:
            self._disarm()

    def on_response_complete(self) -> None:
        """Go on to the next request, of which a part may be here."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._arm(_HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._disarm()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer what is under way, or what comes in the next moment, and end."""
        if self.cycle is None or self.cycle.response_complete:
            self._ending = True
            self.loop.call_later(_LINGER_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """A server that ends well: at SIGTERM or SIGINT it finishes what is under way; at a second one it ends.

    Args:
        settings: what it is started with.
        write: takes the lines of the access log.

    Raises:
        AidetectError: it cannot listen there.
    """

    def __init__(self, settings: Settings, write: Callable[[str], object] = to_stdout) -> None:
        self.settings = settings
        self.service = Service.of(settings)
        self.failure: AidetectError | None = None
        limits = {"most": settings.max_connections, "seconds": settings.upload_timeout}
        options: dict[str, Any] = {}
        if settings.tls is not None:
            options = {"ssl_certfile": settings.tls[0], "ssl_keyfile": settings.tls[1]}
        config = uvicorn.Config(
            build(self.service, self._load, write, self._closed),
            http=type("Connection", (_Connection,), limits),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.grace) + 1,
            **options,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise AidetectError(f"cannot use the certificate and key for TLS: {error}") from None
        super().__init__(config)
        self.socket = _listen(settings.host, settings.port)

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host, port = self.socket.getsockname()[:2]
        scheme = "https" if self.settings.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def serve_forever(self) -> None:
        """Serve until a signal.

        Raises:
            AidetectError: the model cannot be loaded, or this machine computes other scores with it.
        """
        try:
            self.run(sockets=[self.socket])
        finally:
            self.service.engine.close()
        if self.failure is not None:
            raise self.failure

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving. The signal is not raised again: an orderly end has exit code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = (signal.SIGTERM, signal.SIGINT)
        before = {name: signal.signal(name, self.handle_exit) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once at the second."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more work, finish what is under way within the grace, and end."""
        engine = self.service.engine
        engine.drain()
        loop = asyncio.get_running_loop()
        late = loop.call_later(self.settings.grace, lambda: loop.run_in_executor(None, engine.close))
        await super().shutdown(sockets)
        late.cancel()

    def _closed(self) -> Refusal | None:
        if self.service.engine.closing:
            return Refusal("closing", "the server is shutting down", {"Connection": "close"})
        if len(self.server_state.connections) > self.settings.max_connections:
            return Refusal("busy", "there are too many connections; try again later", {"Connection": "close"})
        return None

    def _load(self) -> None:
        threading.Thread(target=self._load_engine, name="aidetect-load", daemon=True).start()

    def _load_engine(self) -> None:
        failure: AidetectError | None = ModelError("the model could not be loaded")
        try:
            self.service.engine.load()
            failure = None
            say(f"aidetect: ready at {self.address}")
        except AidetectError as error:
            failure = error
        finally:  # also after an error of ours, whose traceback is printed
            if failure is not None:
                self.failure, self.should_exit = failure, True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends replies at once. Else some wait 40 ms (Nagle's algorithm).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # for clients that do not read their reply
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MILLISECONDS)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise AidetectError(f"cannot listen on {host} port {port}: {error}") from None
    return listener
