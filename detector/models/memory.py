"""Reuse of freed memory from one batch to the next.

By default glibc returns large blocks to the system as soon as they are freed, and the system clears them
again for the next batch. On two cores this took a quarter of a tower's time.
"""

from __future__ import annotations

import ctypes
import sys

# Names and numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 << 20  # glibc's maximum; larger blocks are returned as before
_LARGEST_REST = (1 << 31) - 1


def keep_freed() -> bool:
    """Make glibc keep freed blocks of up to 32 MiB for as long as the process lives.

    The setting applies to the whole process. So programs should call this, libraries should not.

    Returns:
        Whether the setting was made. With another C library nothing changes and it is ``False``.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")):
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST)
    )
