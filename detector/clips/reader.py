"""Frames of a clip, decoded in a child process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from .container import HEAD, container, has_video
from .sampling import DEFAULT, Sampling
from .shots import Sorter

# What the extra ``aidetect[video]`` gives.
NEEDED = "clips need the extra: pip install 'aidetect[video]'"
_LONGEST_LINE = 10_000
_SLOW = "slow", "decoding was ended because it took too long"


@dataclass(frozen=True)
class Bounds:
    """What a clip may cost.

    Attributes:
        bytes: larger files are refused.
        pixels: clips with more pixels a frame are refused.
        length: seconds of the clip that are looked at; a longer clip is judged by its beginning.
        seconds: decoding is ended after so long; what was decoded until then is judged.
        memory: bytes of address space of the child process, where the system can limit it.
    """

    bytes: int = 4 * 2**30
    pixels: int = 200_000_000
    length: float = 4 * 3600.0
    seconds: float = 120.0
    memory: int = 8 * 2**30


@dataclass(frozen=True)
class About:
    """What a clip's container says of it.

    Attributes:
        container: ``MP4``, ``MOV``, ``WebM``, ``MKV`` or ``AVI``.
        codec: the decoder's name, e.g. ``h264``.
        seconds: its length.
        fps: frames a second on average; 0 if unknown.
    """

    container: str
    codec: str
    seconds: float
    fps: float


@dataclass(frozen=True, eq=False)
class Still:
    """A frame of a clip.

    Attributes:
        time: when it is shown, in seconds from the beginning.
        rgb: ``[height, width, 3]``, dtype ``uint8``, C-contiguous.
        shot: number of the shot that it belongs to, from 0.
        about: the clip that it is from.
    """

    time: float
    rgb: np.ndarray
    shot: int
    about: About


def stills(
    media: Path | bytes,
    *,
    sampling: Sampling = DEFAULT,
    at: Sequence[float] = (),
    bounds: Bounds = Bounds(),
    strict: bool = False,
    notes: list[str] | None = None,
) -> Iterator[Still]:
    """Frames of a clip that show different pictures, in the order of time.

    Args:
        media: the path of a file, or its bytes.
        sampling: how densely.
        at: times in seconds, ascending; the frames from these times on are given instead, all of them.
        bounds: what the clip may cost.
        strict: refuse clips that cannot be decoded to their end. Otherwise they are judged as far as they go.
        notes: warnings about the clip, ``slug: text``, are added to this list.

    Raises:
        InputError: ``not_a_clip``, ``unsupported``, ``too_large``, ``damaged``, ``truncated``, ``encrypted``,
            ``no_video``, ``empty``, ``no_such_time``, ``slow``, or why the file cannot be read.
    """
    with _as_file(media) as file:
        file.seek(0)
        name = container(file.read(HEAD))
        if name is None:
            raise InputError("not_a_clip", "this is not an MP4, MOV, WebM, MKV or AVI file")
        if not has_video():
            raise InputError("unsupported", NEEDED)
        if file.seek(0, os.SEEK_END) > bounds.bytes:
            raise InputError("too_large", f"more than {bounds.bytes / 2**20:.0f} MiB of data")
        file.seek(0)
        job = {
            **{"container": name, "fps": sampling.fps, "frames": sampling.frames, "at": list(at)},
            **{"max_pixels": bounds.pixels, "max_seconds": bounds.length},
            "limits": {"cpu_seconds": math.ceil(4 * bounds.seconds), "bytes": bounds.memory},
        }
        found: list[str] = []
        yield from _different(_decoded(job, file, bounds.seconds, found), keep_all=bool(at))
        damage = [note for note in found if note.startswith(("damaged", "truncated", "slow"))]
        if strict and damage:
            slug, _, text = damage[0].partition(": ")
            raise InputError(slug, text)
        if notes is not None:
            notes += found


def _different(frames: Iterator[tuple[float, np.ndarray, About]], keep_all: bool) -> Iterator[Still]:
    sorter = Sorter()
    for time, rgb, about in frames:
        new = sorter.is_new(rgb)
        if new or keep_all:
            yield Still(time, rgb, sorter.shot, about)


@contextlib.contextmanager
def _as_file(media: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(media, bytes):
        with _in_memory() as file:
            file.write(media)
            file.flush()
            yield file
    else:
        from ..inputs.source import file_error

        try:
            opened = media.open("rb")
        except OSError as error:
            raise file_error(error) from None
        with opened:
            yield opened


def _in_memory() -> IO[bytes]:
    """A file without a name; in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("clip"), "w+b")
    return tempfile.TemporaryFile()


def _decoded(
    job: dict[str, Any], file: IO[bytes], seconds: float, notes: list[str]
) -> Iterator[tuple[float, np.ndarray, About]]:
    """What the child process decodes. It is ended when the caller stops."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", f"{__package__}.child", json.dumps(job)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path)},
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield from _messages(child, job, late, notes)
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _messages(
    child: subprocess.Popen[bytes], job: dict[str, Any], late: threading.Event, notes: list[str]
) -> Iterator[tuple[float, np.ndarray, About]]:
    assert child.stdout is not None
    about = About(job["container"], "unknown", 0.0, 0.0)
    count = 0
    while True:
        message = _message(child.stdout)
        kind = message.get("kind")
        if kind == "clip":
            about = About(job["container"], message["codec"], message["seconds"], message["fps"])
        elif kind == "note":
            notes.append(f"{message['slug']}: {message['text']}")
        elif kind == "frame" and message["width"] * message["height"] <= job["max_pixels"]:
            rgb = _array(child.stdout, message["height"], message["width"])
            if rgb is not None:
                count += 1
                yield message["time"], rgb, about
        elif kind == "end":
            return
        else:
            slug, text = _end(child, message, late)
            if not count:
                raise InputError(slug, text)
            notes.append(f"{slug}: {text}; {count} frame{'s' * (count > 1)} of it were judged")
            return


def _end(child: subprocess.Popen[bytes], message: dict[str, Any], late: threading.Event) -> tuple[str, str]:
    """Why there is nothing more: a slug and a text."""
    if message.get("kind") == "error":
        return str(message["slug"]), str(message["text"])
    if late.is_set():
        return _SLOW
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=5)
    if child.poll() == -getattr(signal, "SIGXCPU", 0):
        return _SLOW
    return "damaged", f"the clip stops its decoder (code {child.poll()})"


def _message(stream: IO[bytes]) -> dict[str, Any]:
    line = stream.readline(_LONGEST_LINE)
    try:
        message = json.loads(line)
    except ValueError:  # the process has ended
        return {}
    return message if isinstance(message, dict) else {}


def _array(stream: IO[bytes], height: int, width: int) -> np.ndarray | None:
    body = stream.read(height * width * 3)
    if len(body) < height * width * 3:
        return None
    return np.frombuffer(body, np.uint8).reshape(height, width, 3)
