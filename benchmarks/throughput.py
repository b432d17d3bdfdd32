"""How fast the whole command is: in each mode and number format, and beside another checkout.

    python benchmarks/throughput.py FOLDER [--limit 100] [--views standard]... [--precision float32]...
        [--before PATH] [--device cpu]

Prints for each choice the seconds and the CPU seconds of a scan of one image, images per second after the
first result, views per image, and the peak memory. With `--before`, the same of the package in PATH (a folder
to put on PYTHONPATH), whose number format is not chosen. The bare tower is the same forward
passes with nothing around them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One scan: images, views, seconds to the first result and to the end, CPU seconds, peak MiB."""

    images: int
    views: int
    first: float
    total: float
    cpu: float
    peak_mib: float


def peak_rss_mib(process: subprocess.Popen[str]) -> float:
    """Peak resident memory of a running process, in MiB, from /proc (Linux)."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float("nan")


def scan(files: list[str], options: list[str], path: str | None) -> Run:
    """Run the command over files."""
    environment = {**os.environ, **({"PYTHONPATH": path} if path else {})}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write("\n".join(files))
        names.flush()
        command = [sys.executable, "-m", "aidetect.cli", "scan", "--from", names.name, "-q"]
        command += ["--format", "jsonl", "--no-cache", *options]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        first, seen, views, peak = 0.0, 0, 0, 0.0
        for line in process.stdout:
            seen += 1
            first = first or time.perf_counter() - start
            views += len(json.loads(line)["views"])
            peak = max(peak, peak_rss_mib(process))
        total = time.perf_counter() - start
        process.wait()
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Run(seen, views, first, total, cpu, peak)


def row(name: str, files: list[str], options: list[str], path: str | None = None) -> None:
    """Scan one file, then all, and print a row."""
    one = min((scan(files[:1], options, path) for _ in range(3)), key=lambda run: run.total)
    run = scan(files, options, path)
    speed = (run.images - 1) / (run.total - run.first)
    cells = [f"{one.total:.1f} s", f"{one.cpu:.1f} s", f"{speed:.2f}", f"{run.views / run.images:.1f}"]
    print(f"| {name} | " + " | ".join(cells) + f" | {run.peak_mib:.0f} MiB |", flush=True)


def bare_tower(device: str, precision: str) -> float:
    """Views a second of the tower alone, in batches as the command makes them."""
    from aidetect.detector.detector import Detector

    detector = Detector.load(device=device, precision=precision)
    return detector.model.tower.views_per_second(detector.batch_size, seconds=10.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--views", action="append", choices=["fast", "adaptive", "standard", "thorough"])
    parser.add_argument("--precision", action="append", choices=["float32", "bfloat16", "auto"])
    parser.add_argument("--before", help="folder that holds another version of the package")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from aidetect.detector.inputs.walk import walk
    from aidetect.detector.models.memory import keep_freed
    from aidetect.detector.resources import wait_asleep

    keep_freed()  # as the command does
    wait_asleep()
    files = [str(path) for path in walk(arguments.folder)][: arguments.limit]
    print("| version, views, format | one image | its CPU time | images/s | views an image | memory |")
    print("| --- " * 6 + "|", flush=True)
    for views in arguments.views or ["standard"]:
        options = ["--device", arguments.device, "--views", views]
        if arguments.before and views != "adaptive":
            row(f"before, {views}", files, options, arguments.before)
        for precision in arguments.precision or ["auto"]:
            row(f"{views}, {precision}", files, [*options, "--precision", precision])
    for precision in arguments.precision or ["auto"]:
        print(f"bare tower, {precision}: {bare_tower(arguments.device, precision):.2f} views/s")


if __name__ == "__main__":
    main()
