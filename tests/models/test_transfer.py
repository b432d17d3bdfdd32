"""Copies from and to a GPU, which these machines lack: with stand-ins for CUDA's streams and events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from aidetect.detector.models.transfer import StreamTransfer, Transfer, transfer

CPU = torch.device("cpu")


class FakeStream:
    """A stream that notes what is asked of it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class FakeEvent:
    """An event whose work is done once somebody waits for it."""

    log: ClassVar[list[str]] = []
    late: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def record(self, stream: FakeStream) -> None:
        self.log.append(f"event in {stream.name}")

    def synchronize(self) -> None:
        self.log.append("waited")
        for host, tensor in self.late:
            host.set_(tensor.clone())  # type: ignore[call-overload]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the stand-ins were asked for. A copy back to the host arrives only when it was waited for."""
    log: list[str] = []
    computing, copying = FakeStream("computing", log), FakeStream("copying", log)
    FakeEvent.log, FakeEvent.late = log, []

    @contextlib.contextmanager
    def stream(which: FakeStream) -> Iterator[None]:
        log.append(f"in {which.name}")
        yield
        log.append(f"out of {which.name}")

    empty = torch.empty

    def unpinned(*size: Any, pin_memory: bool, **rest: Any) -> torch.Tensor:
        assert pin_memory
        return empty(*size, **rest)

    def copy(host: torch.Tensor, tensor: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        assert non_blocking
        host.zero_()
        FakeEvent.late.append((host, tensor))
        return host

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        log.append("pinned")
        return tensor

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "copy_", copy)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, which: log.append(f"kept for {which.name}")
    )
    return log


def test_views_go_over_in_a_stream_of_their_own(log: list[str]) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tensor = StreamTransfer(CPU).there(array)
    assert tensor.tolist() == array.tolist()
    assert log == [
        *("pinned", "in copying", "out of copying"),
        *("computing waits for copying", "kept for computing"),
    ]


def test_features_come_back_when_they_are_waited_for(log: list[str]) -> None:
    wait = StreamTransfer(CPU).back(torch.tensor([[1.5, -2.0]]))
    assert log == ["event in computing"]
    assert wait().tolist() == [[1.5, -2.0]]
    assert log == ["event in computing", "waited"]


def test_other_devices_copy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    assert isinstance(transfer(torch.device("cuda")), StreamTransfer)
    plain = transfer(CPU)
    assert type(plain) is Transfer
    tensor = plain.there(np.ones(3, np.float32))
    wait = plain.back(2 * tensor)
    assert wait().tolist() == [2, 2, 2]
