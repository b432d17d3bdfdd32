"""Reaching object stores and other file systems by fsspec, and what goes wrong on the way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import InputError
from .fetch import FetchOptions
from .redact import without_secrets
from .source import file_error

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

OBJECT_STORES = frozenset("s3 s3a gs gcs abfs abfss az".split())
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_LONGEST = 200  # characters of a plug-in's message
# Another try gives the same.
_FINAL = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ImportError,
    TypeError,
    ValueError,
)


def scheme_of(name: str) -> str | None:
    """The scheme of an address, in lower case; ``None`` for a name that is no address."""
    found = _ADDRESS.match(name)
    return found[1].lower() if found else None


def open_store(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it. Each thread gets its own.

    Raises:
        InputError: ``unsupported_scheme``, ``missing_extra``, ``bad_url``, or the store cannot be reached.
    """
    import fsspec

    scheme = scheme_of(address) or "file"
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        hint = "pip install 'aidetect[cloud]'" if scheme in OBJECT_STORES else str(error)
        raise InputError("missing_extra", f"{scheme}:// needs a further package: {hint}") from None
    except ValueError:
        text = f"{scheme}:// is not supported; use a path, an http(s) URL, or an address that fsspec knows"
        raise InputError("unsupported_scheme", text) from None
    with Explained(address):
        # Not `url_to_fs`, which takes "::" in a name for a chain of file systems.
        store = fsspec.filesystem(scheme, **kind._get_kwargs_from_urls(address))
        return store, str(store._strip_protocol(address))


def check_allowed(address: str, limits: FetchOptions) -> None:
    """Refuse an address where no network is to be used.

    Raises:
        InputError: ``network_refused``.
    """
    if not limits.allowed and scheme_of(address) not in ("file", "local", "memory"):
        raise InputError("network_refused", "network use is switched off by --no-network")


class Explained:
    """Turns what a plug-in raises into an `InputError`, with the original as its cause.

    Each plug-in has a client library with exceptions of its own, so any `Exception` is turned.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise _explained(error, self._address) from error


def _explained(error: Exception, address: str) -> InputError:
    """What a store's plug-in raised as an `InputError`, without the secrets of the address."""
    text = without_secrets(" ".join(str(error).split()), address) or type(error).__name__
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if any(word in type(error).__name__.lower() for word in ("credential", "authentication")):
        return InputError("permission_denied", f"no credentials for this store: {text}")
    if isinstance(error, OSError) and isinstance(
        error, FileNotFoundError | PermissionError | IsADirectoryError
    ):
        return file_error(error)
    if isinstance(error, _FINAL):
        return InputError("bad_url", f"this address cannot be used: {text}")
    return InputError("network_error", f"cannot read from the store: {text}")


def tried(once: Callable[[], T], limits: FetchOptions) -> T:
    """Call a function that raises `InputError`, again if the reason may be gone in a moment."""
    wait = limits.backoff
    for left in range(limits.retries, -1, -1):
        try:
            return once()
        except InputError as error:
            if left == 0 or error.kind != "network_error":
                raise
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")
