"""How fast the whole command is, beside the bare tower on the same device and views.

    python benchmarks/throughput.py FOLDER [--views standard] [--limit 100] [--device cpu]

Prints images per second of `aidetect scan` (process start left out and in), the bare tower's forward
passes over as many views, seconds from start to the first result, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def peak_rss_mib(process: subprocess.Popen[str]) -> float:
    """Peak resident memory of a running process, in MiB, from /proc (Linux)."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float("nan")


def scan(files: list[str], views: str, device: str) -> dict[str, float]:
    """Run the installed command over files; seconds to the first and the last result, peak memory."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write("\n".join(files))
        names.flush()
        command = [sys.executable, "-m", "aidetect.cli", "scan", "--from", names.name, "-q"]
        command += ["--format", "jsonl", "--views", views, "--device", device, "--no-cache"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first, seen, view_count, peak = 0.0, 0, 0, 0.0
        for line in process.stdout:
            seen += 1
            first = first or time.perf_counter() - start
            view_count += len(json.loads(line)["views"])
            peak = max(peak, peak_rss_mib(process))
        total = time.perf_counter() - start
        process.wait()
    return {"images": seen, "views": view_count, "first": first, "total": total, "peak_mib": peak}


def bare_tower(views: int, device: str, seconds: float = 20.0) -> float:
    """Views a second of the tower alone, in batches as the command makes them."""
    from aidetect.detector.detector import Detector

    detector = Detector.load(device=device)
    size, batch = detector.plan.size, detector.batch_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    detector.model.tower.features(pixels)
    start, done = time.perf_counter(), 0
    while done < views and time.perf_counter() - start < seconds:
        detector.model.tower.features(pixels)
        done += batch
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", default="standard", choices=["fast", "standard", "thorough"])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from aidetect.detector.inputs.source import walk
    from aidetect.detector.models.memory import keep_freed

    keep_freed()  # as the command does
    files = [str(path) for path in walk(arguments.folder)][: arguments.limit]
    before = bare_tower(200, arguments.device)
    result = scan(files, arguments.views, arguments.device)
    bare = (before + bare_tower(200, arguments.device)) / 2
    steady = result["views"] / (result["total"] - result["first"])
    print(f"images                      {result['images']} ({result['views']} views)")
    print(f"first result after          {result['first']:.1f} s")
    print(f"whole command               {result['images'] / result['total']:.2f} images/s")
    print(f"after the first result      {steady:.2f} views/s")
    print(f"bare tower                  {bare:.2f} views/s")
    print(f"command / bare tower        {steady / bare:.1%}")
    print(f"peak memory                 {result['peak_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
