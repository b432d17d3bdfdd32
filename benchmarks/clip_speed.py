"""Speed and memory of a scan of a long clip.

    python benchmarks/clip_speed.py [--minutes 10] [--codec libx264] [--clip clip.mp4]

Makes a clip of 1920 x 1080 pixels at 25 frames a second, if there is none, with a key frame every 10 seconds;
this takes minutes. Then scans it as the command line does, in the mode `fast` with 64 frames, without the
cache. Prints seconds, and the most memory that all its processes took.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
from PIL import Image

WIDTH, HEIGHT, RATE = 1920, 1080, 25
OPTIONS = {
    "libx264": {"preset": "superfast", "crf": "23", "g": str(10 * RATE)},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime", "crf": "34", "b": "0", "row-mt": "1"},
    "libsvtav1": {"preset": "12"},
}


def drawn(seed: int = 0) -> Image.Image:
    """A large picture with detail of all sizes."""
    random = np.random.default_rng(seed)
    size = (HEIGHT * 2, WIDTH * 2)
    picture = np.zeros((*size, 3))
    for side in (4, 16, 64, 256):
        small = random.uniform(0, 255, (size[0] // side, size[1] // side, 3)).astype(np.uint8)
        large = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        picture += np.asarray(large, np.float64) / 4
    return Image.fromarray(picture.astype(np.uint8))


def make(path: Path, codec: str, minutes: int) -> None:
    """Code a clip: pictures are panned over, for 15 seconds each."""
    length = 15 * RATE
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=RATE, options=OPTIONS[codec])
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(minutes * 60 * RATE):
            if number % length == 0:
                picture = np.asarray(drawn(number))
            x = y = number % length * 2
            part = np.ascontiguousarray(picture[y : y + HEIGHT, x : x + WIDTH])
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def peak(process: psutil.Process, found: list[int]) -> None:
    """Watch the memory of a process and its children."""
    while True:
        try:
            family = [process, *process.children(recursive=True)]
            found[0] = max(found[0], sum(each.memory_info().rss for each in family))
        except psutil.Error:
            return
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--codec", choices=sorted(OPTIONS), default="libx264")
    parser.add_argument("--clip", type=Path, help="made if it is missing, else used")
    parser.add_argument("--frames", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        suffix = "webm" if options.codec == "libvpx-vp9" else "mp4"
        clip = options.clip or Path(folder) / f"clip.{suffix}"
        if not clip.exists():
            make(clip, options.codec, options.minutes)
        with av.open(clip) as source:
            length = (source.duration or 0) / av.time_base
        size = clip.stat().st_size / 2**20
        print(f"{clip.name}: {WIDTH}x{HEIGHT}, {length:.0f} s, {options.codec}, {size:.0f} MiB", flush=True)
        words = ["-m", "aidetect.cli", "scan", str(clip), "--views", "fast", "--no-cache", "--device", "cpu"]
        words += ["--video-frames", str(options.frames)]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], env=os.environ)
        most = [0]
        watcher = threading.Thread(target=peak, args=(psutil.Process(process.pid), most), daemon=True)
        watcher.start()
        code = process.wait()
        took = time.perf_counter() - start
    cores = len(os.sched_getaffinity(0))
    print(f"{took:.1f} s on {cores} cores, {most[0] / 2**20:.0f} MiB at most, exit code {code}")


if __name__ == "__main__":
    main()
