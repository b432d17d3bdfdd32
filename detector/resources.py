"""Limits for long runs: pixels decoded at once, reading threads, waiting threads, freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # not glibc
        return None


def trim() -> None:
    """Return freed memory to the system, if the C library can."""
    give_back = _malloc_trim()
    if give_back is not None:
        give_back(0)


# What people set for the waiting of OpenMP's threads: by its standard, for GNU's and for Intel's and LLVM's.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> bool:
    """Make OpenMP's threads sleep while they wait for one another; by default they take a core to wait.

    Where decoders or other programs need a core too, a waiting thread keeps it from the one it waits for.
    OpenMP reads this when torch is loaded, so it must be called before. It applies to the whole process and
    its children. So programs should call this, libraries should not.

    Returns:
        Whether it was set. What the environment says already stays, and it is ``False``.
    """
    if any(name in os.environ for name in _WAITING):
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For large imports: no garbage collection meanwhile.

    Importing torch makes so many objects that a fifth of the time would go into looking for garbage. It
    applies to the whole process, so programs should call this, libraries should not.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class PixelGate:
    """Limits how many pixels are decoded at the same time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels fit the limit. A picture above the limit waits until it is alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._capacity)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


class Places:
    """Limits how many large sources are held at the same time.

    The one whose turn it is always passes, so those behind it cannot keep it waiting. At the end of a
    ``with`` block all pass.

    Args:
        places: how many are held.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held = 0
        self._turn = -1.0
        self._changed = threading.Condition()

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *error: object) -> None:
        self.call(math.inf)

    def enter(self, turn: float = math.inf) -> None:
        """Wait for a place, or for the turn: a number that grows with the order."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._places or turn <= self._turn)
            self._held += 1

    def leave(self) -> None:
        """Give a place back."""
        with self._changed:
            self._held -= 1
            self._changed.notify_all()

    def call(self, turn: float) -> None:
        """Say whose turn it is."""
        with self._changed:
            self._turn = turn
            self._changed.notify_all()


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool that drops queued work when its user stops early."""
    threads = ThreadPoolExecutor(workers, thread_name_prefix="aidetect-read")
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
