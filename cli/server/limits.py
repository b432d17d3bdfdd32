"""Limits on what uploads may take: bytes held at once, and seconds to arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

from starlette.requests import Request

from .refusal import Refusal


class Hold:
    """The bytes that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.bytes = 0

    def grow(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            Refusal: ``busy``: all requests together hold as many as they may.
        """
        if self._budget.held + count > self._budget.most:
            raise Refusal("busy", "the server holds as many uploads as it may; try again later")
        self._budget.held += count
        self.bytes += count


class Budget:
    """Limits the bytes of uploads that all requests hold at the same time. For one event loop.

    Args:
        most: how many bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[Hold]:
        """A share that may grow. It is given back at the end."""
        share = Hold(self)
        try:
            yield share
        finally:
            self.held -= share.bytes


async def chunks(request: Request, most: int, seconds: float, hold: Hold) -> AsyncGenerator[bytes, None]:
    """A request's body as it arrives.

    Args:
        request: whose body.
        most: largest number of bytes.
        seconds: until its end.
        hold: counts the bytes.

    Raises:
        Refusal: ``too_large``, ``slow``, ``busy``, or ``request`` for a body that ends early.
    """
    too_large = Refusal("too_large", f"the upload is larger than {most / 2**20:g} MiB")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    total = 0
    end = asyncio.get_running_loop().time() + seconds
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout_at(end):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal("slow", f"the upload took longer than {seconds:g} s") from None
        total += len(chunk)
        if total > most:
            raise too_large
        hold.grow(len(chunk))
        yield chunk
