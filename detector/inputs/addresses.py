"""Which addresses may be fetched from when the URL comes from somebody else.

A URL may name a machine of this network, or a name that resolves to one, or redirect to one. So each
connection resolves its name once, checks every address found, and goes to a checked one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_TRIED = 4
# Public prefixes through which a gateway reaches IPv4 addresses: the IPv4 address is what counts.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Prefixes that carry an IPv4 address in old or local ways, that relay, or that nothing public uses.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        *(
            "64:ff9b:1::/48",
            "2002::/16",
            "2001::/32",
            "::/96",
            "fec0::/10",
            "100::/64",
            "3fff::/20",
            "5f00::/16",
        ),
        *("192.88.99.0/24", "192.0.0.0/24", "240.0.0.0/4", "100.64.0.0/10"),
    )
)


class RefusedAddressError(httpx.ConnectError):
    """A host has no address that may be fetched from."""


class Guard:
    """Decides which addresses may be fetched from: public ones, and those of given networks.

    Args:
        allowed: networks that may be fetched from though they are not public.
    """

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def allows(self, address: Address) -> bool:
        """Whether an address may be fetched from."""
        address = _inner(address)
        if any(address.version == net.version and address in net for net in self._allowed):
            return True
        if any(address.version == net.version and address in net for net in _NEVER):
            return False
        return address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        )

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them allowed.

        Raises:
            RefusedAddressError: it has none, or one that is not allowed. Which of the two is not told: that
                would tell which names exist here.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            texts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            addresses = [ipaddress.ip_address(text) for text in texts]
        except (OSError, ValueError):  # UnicodeError is a ValueError; a scope may follow the address
            addresses = []
        if not addresses or not all(map(self.allows, addresses)):
            raise RefusedAddressError("the host has no public address")
        return [str(address) for address in addresses[:_MOST_TRIED]]


class GuardedTransport(httpx.BaseTransport):
    """Sends requests to checked addresses only. TLS still checks the certificate for the host's name.

    Args:
        guard: decides.
        inner: sends the requests.
    """

    def __init__(self, guard: Guard, inner: httpx.BaseTransport) -> None:
        self._guard = guard
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to one of its host's addresses, each in turn while no connection is made.

        Raises:
            RefusedAddressError: the host has an address that is not allowed, or none.
        """
        url = request.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        addresses = self._guard.resolve(url.host, port)
        for address in addresses:
            to = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                return self._inner.handle_request(to)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
