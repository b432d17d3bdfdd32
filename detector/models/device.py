"""The choice of device and number format, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import AidetectError
from .onednn import depends_on_batch


@dataclass(frozen=True)
class Device:
    """The device that the tower runs on.

    Attributes:
        name: ``cpu``, ``cuda`` or ``mps``.
        dtype: the number format, ``float32`` or ``bfloat16``.
        why: the reason for the choice, for people to read.
    """

    name: str
    dtype: torch.dtype
    why: str

    @property
    def dtype_name(self) -> str:
        """Name of the number format, e.g. ``float32``."""
        return str(self.dtype).removeprefix("torch.")


def choose(wanted: str = "auto", precision: str = "auto") -> Device:
    """Choose a device and its number format.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``float32``, ``bfloat16``, or ``auto`` for bfloat16 where the device computes faster in it,
            and on a CPU only if a score does not depend on the batch.

    Raises:
        AidetectError: the device cannot be used here, or has no fast bfloat16.
    """
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if wanted == "cuda" and not cuda:
        built = "has no CUDA support" if not torch.version.cuda else "finds no usable NVIDIA GPU"
        raise AidetectError(f"--device cuda: this torch ({torch.__version__}) {built}; use --device cpu")
    if wanted == "mps" and not mps:
        raise AidetectError("--device mps: no Apple GPU is usable here; use --device cpu")
    if wanted == "cuda" or (wanted == "auto" and cuda):
        name, why = "cuda", f"CUDA GPU found: {torch.cuda.get_device_name()}"
        fast = torch.cuda.is_bf16_supported()
    elif wanted == "mps" or (wanted == "auto" and mps):
        name, why, fast = "mps", "Apple GPU found", False
    else:
        reason = "requested" if wanted == "cpu" else "no CUDA or Apple GPU is usable"
        threads = torch.get_num_threads()
        name, why = "cpu", f"{reason}; {threads} thread{'' if threads == 1 else 's'}"
        fast = cpu_bfloat16() is not None
    if precision == "bfloat16" and not fast:
        raise AidetectError(
            f"--precision bfloat16: this {name.upper()} has no fast bfloat16; use --precision float32"
        )
    if precision == "auto" and name == "cpu" and fast:
        fast = not depends_on_batch(torch.bfloat16)
    dtype = torch.bfloat16 if fast and precision != "float32" else torch.float32
    return Device(name, dtype, why)


def cpu_bfloat16() -> str | None:
    """The instructions by which this CPU multiplies bfloat16 numbers fast: ``AMX`` or ``AVX512-BF16``."""
    for name, test in (("AMX", "_is_amx_tile_supported"), ("AVX512-BF16", "_is_avx512_bf16_supported")):
        supported = getattr(torch.cpu, test, None)  # older releases of torch lack some
        if supported is not None and supported():
            return name
    return None
