"""Listing in a thread, ahead of the scoring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

from .source import Source

_MOST = 10_000
_MOST_BYTES = 2**26


class Ahead:
    """Draws sources in a thread before they are asked for. Iterate over it once, and close it.

    Args:
        sources: they are drawn, and closed, in that thread.
        most: as many wait at most.
        most_bytes: as many bytes in memory wait at most; a source that has more waits alone.
    """

    def __init__(self, sources: Iterator[Source], most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self.listed = 0  # sources drawn so far
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[Source] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._work: Future[None] = Future()
        self._work.add_done_callback(self._wake)
        # A daemon: nobody should wait for a request that hangs.
        threading.Thread(target=self._run, args=[sources], name="aidetect-list", daemon=True).start()

    @property
    def complete(self) -> bool:
        """Whether the listing has come to its end."""
        return self._work.done()

    @property
    def total(self) -> int | None:
        """How many sources there are, or ``None`` while they are being listed."""
        return self.listed if self.complete else None

    def __iter__(self) -> Iterator[Source]:
        while self.any():
            with self._changed:
                source = self._waiting.popleft()
                self._bytes -= _weight(source)
                self._changed.notify_all()
            yield source

    def any(self) -> bool:
        """Wait for the next source, and say whether there is one.

        Raises:
            Exception: whatever the sources raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._work.done())
            if self._waiting:
                return True
        self._work.result()
        return False

    def close(self) -> None:
        """Stop listing. A listing that hangs in a request is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self, sources: Iterator[Source]) -> None:
        try:
            self._draw(sources)
        except Exception as error:  # it is raised where the sources are read
            self._work.set_exception(error)
        else:
            self._work.set_result(None)

    def _draw(self, sources: Iterator[Source]) -> None:
        for source in sources:
            weight = _weight(source)
            with self._changed:
                self._changed.wait_for(lambda weight=weight: self._closed or self._has_room(weight))  # type: ignore[misc]
                if self._closed:
                    break
                self._waiting.append(source)
                self._bytes += weight
                self.listed += 1
                self._changed.notify_all()

    def _has_room(self, weight: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._most and self._bytes + weight <= self._most_bytes

    def _wake(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()


def _weight(source: Source) -> int:
    return len(source.payload) if isinstance(source.payload, bytes) else 0
