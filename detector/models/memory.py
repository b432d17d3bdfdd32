"""Keeping freed memory: what a tower frees after one batch serves the next.

The C library of Linux hands large blocks back to the system the moment they are freed, and the system clears
them anew for the next batch: on two cores a quarter of a tower's time went there.
"""

from __future__ import annotations

import ctypes
import sys

# Names and numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 << 20  # the most that glibc takes; larger blocks go back as before
_LARGEST_REST = (1 << 31) - 1


def keep_freed() -> bool:
    """Have glibc keep what is freed in blocks of up to 32 MiB, for as long as the process lives.

    It holds for the whole process, so that a program decides it, not a library.

    Returns:
        Whether it is so; ``False`` with another C library, where nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")):
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST)
    )
