"""Clips made of drawn pictures."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

os.environ.setdefault("SVT_LOG", "0")  # its encoder writes to standard error

# Codec, pixel format and container of each kind of clip: what the wheel of PyAV can write.
KINDS = {
    "h264.mp4": ("libx264", "yuv420p", "mp4"),
    "h264.mov": ("libx264", "yuv420p", "mov"),
    "hevc.mp4": ("libx265", "yuv420p", "mp4"),
    "vp9.webm": ("libvpx-vp9", "yuv420p", "webm"),
    "vp8.mkv": ("libvpx", "yuv420p", "matroska"),
    "av1.mp4": ("libsvtav1", "yuv420p", "mp4"),
    "mpeg4.avi": ("mpeg4", "yuv420p", "avi"),
    "mjpeg.avi": ("mjpeg", "yuvj420p", "avi"),
}
_FAST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
    "libvpx": {"cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
_TICKS = 12_000  # a second
SCENES = ((200, 60, 40), (40, 160, 70), (50, 70, 210), (230, 220, 60))


def scene(number: int, moved: float, width: int = 160, height: int = 96) -> np.ndarray:
    """A drawn picture of a shot, in which something moves: ``moved`` is 0..1."""
    colour = SCENES[number % len(SCENES)]
    picture = Image.new("RGB", (width, height), colour)
    draw = ImageDraw.Draw(picture)
    for i in range(8):
        x = (i * 37 + moved * width) % width
        draw.ellipse((x, i * 9, x + 26, i * 9 + 22), fill=tuple(255 - c // (i + 1) for c in colour))
    return np.asarray(picture)


def pictures(seconds: float, rate: int, shots: int = 2, **size: int) -> Iterator[np.ndarray]:
    """The frames of a clip of some shots."""
    count = round(seconds * rate)
    for i in range(count):
        yield scene(i * shots // count, i / count * 3, **size)


def clip(
    kind: str,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 8,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    times: Iterable[float] | None = None,
    sound: bool = False,
    source: str = "rgb24",
) -> bytes:
    """A clip's bytes.

    Args:
        kind: one of `KINDS`.
        frames: pictures of equal size.
        rate: frames a second.
        options: of the encoder.
        container_options: of the container.
        prepare: is given the stream before anything is encoded.
        times: when each frame is shown, in seconds; as the rate says without it.
        sound: whether there is a sound track of silence too.
        source: the pixel format of the pictures.
    """
    codec, pixel_format, container = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:  # libav opens an MP4 twice to move its index
        path = Path(folder) / "clip"
        with av.open(path, "w", format=container, container_options=container_options or {}) as output:
            pictures = list(frames)
            stream = output.add_stream(codec, rate=rate, options={**_FAST.get(codec, {}), **(options or {})})
            stream.height, stream.width = pictures[0].shape[:2]
            if source == "yuv420p":
                stream.height = stream.height * 2 // 3
            stream.pix_fmt = pixel_format
            stream.codec_context.thread_count = 1
            if times is not None:
                stream.codec_context.time_base = Fraction(1, _TICKS)
            prepare(stream)
            track = output.add_stream("aac", rate=44100) if sound else None
            moments = list(times) if times is not None else [i / rate for i in range(len(pictures))]
            for picture, moment in zip(pictures, moments, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format=source)
                frame.pts, frame.time_base = round(moment * _TICKS), Fraction(1, _TICKS)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if track is not None:
                _silence(output, track)
        return path.read_bytes()


def sound_only() -> bytes:
    """An MP4 file without pictures."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        _silence(output, output.add_stream("aac", rate=44100))
    return target.getvalue()


def _silence(output: Any, track: Any) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = 44100, 0
    output.mux(track.encode(frame))
    output.mux(track.encode(None))
