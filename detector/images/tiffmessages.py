"""What libtiff says of a file: kept as text, where it would go to standard error."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import PIL

_LONGEST = 300
_MOST = 5
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_local = threading.local()


@contextlib.contextmanager
def libtiff_messages(messages: list[str]) -> Iterator[None]:
    """Put what libtiff says on this thread into a list (a few lines at most), while the block runs."""
    _install()
    before = getattr(_local, "messages", None)
    _local.messages = messages
    try:
        yield
    finally:
        _local.messages = before


@functools.cache
def _install() -> object:
    """Give libtiff a handler of its messages; returns what must stay alive, or ``None`` without libtiff.

    libtiff passes a format and its arguments as C does; C's own ``vsnprintf`` makes text of them.
    """
    try:
        library = ctypes.CDLL(str(_library()))
        put = ctypes.CDLL(None).vsnprintf
        put.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

        def handle(module: bytes | None, form: bytes | None, arguments: int | None) -> None:
            messages = getattr(_local, "messages", None)
            if messages is None or len(messages) >= _MOST or form is None:
                return
            text = ctypes.create_string_buffer(_LONGEST)
            put(text, _LONGEST, form, arguments)
            said = f"{(module or b'').decode('latin-1')}: {text.value.decode('utf-8', 'replace')}"
            messages.append(" ".join(said.removeprefix(": ").split()))

        handler = _HANDLER(handle)
        quiet = _HANDLER(lambda module, form, arguments: None)
        for name, chosen in (("TIFFSetErrorHandler", handler), ("TIFFSetWarningHandler", quiet)):
            function = getattr(library, name)
            function.argtypes, function.restype = [_HANDLER], ctypes.c_void_p
            function(chosen)
    except (OSError, AttributeError, TypeError, StopIteration):
        return None
    return handler, quiet


def _library() -> Path:
    """The libtiff that Pillow has loaded: beside its package, as wheels have it, else the system's.

    Raises:
        StopIteration: there is none.
    """
    package = Path(PIL.__file__).parent
    places = (package.parent / "pillow.libs", package / ".dylibs")
    bundled = (path for place in places if place.is_dir() for path in sorted(place.glob("libtiff*")))
    maps = Path("/proc/self/maps")
    loaded = maps.read_text().split() if maps.exists() else []
    return next(
        path for path in (*bundled, *(Path(word) for word in loaded if "libtiff" in word)) if path.exists()
    )
