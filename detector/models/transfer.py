"""Copies between the computer's memory and the tower's device.

On a CUDA device they run beside the computing: views go over in a stream of their own, through pinned memory,
and features come back without a wait for the device. So one batch is copied while another is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

Waiting = Callable[[], np.ndarray]


class Transfer:
    """Copies that are complete when a method returns.

    Args:
        device: where the tower is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def there(self, array: np.ndarray) -> torch.Tensor:
        """An array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def back(self, tensor: torch.Tensor) -> Waiting:
        """A function that gives a tensor of the device as an array, once it is computed."""
        array = tensor.cpu().numpy()
        return lambda: array


class StreamTransfer(Transfer):
    """Copies from and to a CUDA device beside its computing. Only the function that `back` gives waits."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def there(self, array: np.ndarray) -> torch.Tensor:
        """An array as a tensor on the device. What the current stream does next waits for the copy."""
        pinned = torch.from_numpy(array).pin_memory()
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            tensor = pinned.to(self.device, non_blocking=True)
        computing.wait_stream(self._stream)
        tensor.record_stream(computing)
        return tensor

    def back(self, tensor: torch.Tensor) -> Waiting:
        """A function that waits for a tensor, and gives it as an array."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))

        def wait() -> np.ndarray:
            done.synchronize()
            return host.numpy()

        return wait


def transfer(device: torch.device) -> Transfer:
    """The copies that a device allows."""
    return StreamTransfer(device) if device.type == "cuda" else Transfer(device)
