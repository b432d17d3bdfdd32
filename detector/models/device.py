"""The choice of device and number format, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import AidetectError


@dataclass(frozen=True)
class Device:
    """The device that the tower runs on.

    Attributes:
        name: ``cpu``, ``cuda`` or ``mps``.
        dtype: ``float32``, or ``bfloat16`` on CUDA devices that support it.
        why: the reason for the choice, for people to read.
    """

    name: str
    dtype: torch.dtype
    why: str

    @property
    def dtype_name(self) -> str:
        """Name of the number format, e.g. ``float32``."""
        return str(self.dtype).removeprefix("torch.")


def choose(wanted: str = "auto") -> Device:
    """Choose a device.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        AidetectError: the requested device cannot be used here.
    """
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if wanted == "cuda" and not cuda:
        built = "has no CUDA support" if not torch.version.cuda else "finds no usable NVIDIA GPU"
        raise AidetectError(f"--device cuda: this torch ({torch.__version__}) {built}; use --device cpu")
    if wanted == "mps" and not mps:
        raise AidetectError("--device mps: no Apple GPU is usable here; use --device cpu")
    if wanted == "cuda" or (wanted == "auto" and cuda):
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return Device("cuda", dtype, f"CUDA GPU found: {torch.cuda.get_device_name()}")
    if wanted == "mps" or (wanted == "auto" and mps):
        return Device("mps", torch.float32, "Apple GPU found")
    why = "requested" if wanted == "cpu" else "no CUDA or Apple GPU is usable"
    return Device("cpu", torch.float32, f"{why}; {torch.get_num_threads()} threads")
