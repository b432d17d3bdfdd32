"""Keeping freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from aidetect.detector.models.memory import keep_freed

FAULTS = """
import resource, sys
from aidetect.detector.models.memory import keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
def fill():
    return len([b"x" * (16 << 20) for _ in range(8)])
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the system hands out to a process that allocates 128 MiB again and again."""
    run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_serves_again() -> None:
    assert faults("keep") < faults("hand back") / 4


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed()
