"""Listing ahead of the scoring: in bounds, in order, and without losing an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from conftest import wait_until

from aidetect.detector.inputs.ahead import Ahead
from aidetect.detector.inputs.source import Source


def numbered(count: int, payload: bytes | None = None) -> Iterator[Source]:
    return (Source(str(n), "memory", payload=payload) for n in range(count))


def test_all_come_in_order() -> None:
    ahead = Ahead(numbered(1000), most=10)
    assert ahead.any()
    assert [source.name for source in ahead] == [str(n) for n in range(1000)]
    assert ahead.complete
    assert ahead.total == 1000
    assert not ahead.any()


def test_so_many_and_no_more_wait() -> None:
    for ahead in (Ahead(numbered(1000), most=10), Ahead(numbered(1000, bytes(100)), most_bytes=1000)):
        assert wait_until(lambda ahead=ahead: ahead.listed == 10)
        assert not wait_until(lambda ahead=ahead: ahead.listed > 10, 0.2)
        assert ahead.total is None
        next(iter(ahead))
        assert wait_until(lambda ahead=ahead: ahead.listed == 11)
        ahead.close()


def test_a_large_one_comes_alone() -> None:
    ahead = Ahead(numbered(5, bytes(100)), most_bytes=10)
    assert len(list(ahead)) == 5


def test_an_error_comes_after_what_was_listed() -> None:
    def failing() -> Iterator[Source]:
        yield from numbered(3)
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for source in Ahead(failing()):
            seen.append(source.name)
    assert seen == ["0", "1", "2"]


def test_closing_closes_the_listing() -> None:
    closed = threading.Event()

    def endless() -> Iterator[Source]:
        try:
            while True:
                yield Source("x", "file")
        finally:
            closed.set()

    ahead = Ahead(endless(), most=5)
    assert ahead.any()
    ahead.close()
    assert wait_until(closed.is_set)
