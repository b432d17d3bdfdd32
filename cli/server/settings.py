"""What a server is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auth import Credentials

MIB = 2**20
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes:
        model: name or folder of the model; ``None`` for the one that is shipped.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        mode: views of requests that do not name a mode.
        detector: further arguments of `Detector`.
        cache: whether the result cache is used.
        host, port: where it listens; port 0 for any free one.
        tls: files of the certificate and its key, or ``None``.
        credentials: who may come in; ``None`` for everybody.
        public_hosts: names in ``Host`` headers besides those of the loopback interface.
        cors: origins whose pages may read replies.
        network: whether addresses that clients give are fetched.
        networks: networks that may be fetched from though they are not public.
        max_upload: largest image, in bytes.
        max_memory: bytes of uploads held at the same time.
        max_waiting: images that may wait.
        max_connections: connections at the same time.
        timeout, upload_timeout: seconds of a whole request, and of its body.
        grace: seconds to finish what is under way at the end.
        log_names: whether the access log names pictures.
    """

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    mode: str = "standard"
    detector: dict[str, Any] = field(default_factory=dict)
    cache: bool = True
    host: str = "127.0.0.1"
    port: int = 8077
    tls: tuple[str, str] | None = None
    credentials: Credentials | None = None
    public_hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    network: bool = True
    networks: tuple[Network, ...] = ()
    max_upload: int = 12 * MIB
    max_memory: int = 512 * MIB
    max_waiting: int = 256
    max_connections: int = 512
    timeout: float = 120.0
    upload_timeout: float = 30.0
    grace: float = 30.0
    log_names: bool = False
