"""`aidetect serve` under load, by wrk (Debian package `wrk`), beside `aidetect scan` on the same pictures.

    python benchmarks/serve_load.py [--requests 2000] [--at-once 1 8 64] [--views fast] [--memory 10000]

Draws pictures, scores them with `aidetect scan`, and sends them to a server without a cache. Prints for each
number of connections: requests answered and lost, images per second, p50 and p99, and whether every score is
the one of the scan. Then memory over many requests, and what became of the requests when SIGTERM came.
Exits with 1 if something was lost or wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# Sends the pictures in turn, prints what came back, and stops after so many replies.
LUA = """
local bodies, at, count, most = {}, 0, 0, MOST
local boundary = "aidetectwrkboundary"
wrk.method = "POST"
wrk.path = "/1.0/check.json?models=genai"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
function init(args)
  for line in io.lines("LIST") do
    local file = io.open(line, "rb")
    local name = line:match("([^/]+)$")
    bodies[#bodies + 1] = wrk.format(nil, nil, nil, "--" .. boundary ..
      '\\r\\nContent-Disposition: form-data; name="media"; filename="' .. name .. '"\\r\\n\\r\\n' ..
      file:read("*a") .. "\\r\\n--" .. boundary .. "--\\r\\n")
    file:close()
  end
end
function request()
  at = at % #bodies + 1
  return bodies[at]
end
function response(status, headers, body)
  io.write("reply ", status, " ", body:match('"uri":"([^"]+)"') or "-", " ",
    body:match('"ai_generated":([^,}]+)') or "-", "\\n")
  count = count + 1
  if count == most then
    io.write("enough\\n")
    io.flush()
    wrk.thread:stop()
  end
end
function done(summary, latency)
  io.write(string.format("latency %f %f\\n", latency:percentile(50) / 1000, latency:percentile(99) / 1000))
  local e = summary.errors
  io.write(string.format("errors %d %d %d %d\\n", e.connect, e.read, e.write, e.timeout))
end
"""


def draw(folder: Path, count: int, side: int) -> list[Path]:
    """Different pictures: noise of several grains."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        small = rng.integers(0, 256, (8 + number % 40, 8 + number % 50, 3), dtype=np.uint8)
        path = folder / f"{number:05}.jpg"
        Image.fromarray(small).resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(path, quality=85)
        paths.append(path)
    return paths


def scan(paths: list[Path], options: list[str]) -> tuple[dict[str, float], float]:
    """Probabilities by file name, and images a second after the first result."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write("\n".join(map(str, paths)))
        names.flush()
        command = [sys.executable, "-m", "aidetect.cli", "scan", "--from", names.name, "-q", "--no-cache"]
        process = subprocess.Popen(
            [*command, "--format", "jsonl", *options], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        found: dict[str, float] = {}
        first = 0.0
        for line in process.stdout:
            record = json.loads(line)
            found[Path(record["input"]).name] = record["type"]["ai_generated"]
            first = first or time.perf_counter()
        seconds = time.perf_counter() - first
        process.wait()
    return found, (len(found) - 1) / seconds


class Server:
    """`aidetect serve` in a process."""

    def __init__(self, options: list[str], folder: Path) -> None:
        self._out, self._err = folder / "log.jsonl", folder / "err.txt"
        command = [sys.executable, "-m", "aidetect.cli", "serve", "--port", "0", "--no-cache", *options]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        while "ready at" not in self._err.read_text():
            if self.process.poll() is not None:
                raise SystemExit(self._err.read_text())
            time.sleep(0.1)
        self.url = self._err.read_text().split("ready at ")[1].split()[0]

    def memory(self, name: str = "VmRSS") -> float:
        """Resident memory in MiB: now, or at its peak (``VmHWM``)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+)", text)
        return int(found[1]) / 1024 if found else float("nan")

    def metric(self, name: str) -> float:
        """A value from ``/metrics``."""
        with urllib.request.urlopen(f"{self.url}/metrics") as reply:
            found = re.search(rf"^{name} (\S+)$", reply.read().decode(), re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def statuses(self) -> Counter[int]:
        """Requests in the access log, by status."""
        return Counter(json.loads(line)["status"] for line in self._out.read_text().splitlines())

    @property
    def trouble(self) -> bool:
        """Whether it wrote a traceback."""
        return "Traceback" in self._err.read_text()


@contextmanager
def serving(options: list[str]) -> Iterator[Server]:
    """A server that ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, Path(folder))
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(60)


@dataclass
class Load:
    """What wrk saw."""

    statuses: Counter[str]
    scores: list[tuple[str, float]]
    seconds: float
    p50: float
    p99: float
    errors: dict[str, int]


def wrk(url: str, paths: list[Path], requests: int, at_once: int, end: threading.Event | None = None) -> Load:
    """Send so many requests over so many connections, or requests until an event."""
    with tempfile.TemporaryDirectory() as folder:
        names, script = Path(folder) / "names.txt", Path(folder) / "load.lua"
        names.write_text("\n".join(map(str, paths)) + "\n")
        script.write_text(LUA.replace("LIST", str(names)).replace("MOST", str(requests)))
        command = ["wrk", "-t1", f"-c{at_once}", "-d3600s", "--timeout", "120s", "-s", str(script), url]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if end is not None:
            threading.Thread(target=lambda: (end.wait(), process.send_signal(signal.SIGINT))).start()
        text, taken = "", 0.0
        for line in process.stdout:
            if line == "enough\n":
                taken = time.perf_counter() - start
                process.send_signal(signal.SIGINT)  # wrk itself would wait for its time to be over
            text += line
        process.wait()
    replies = re.findall(r"^reply (\d+) (\S+) (\S+)$", text, re.MULTILINE)
    p50, p99 = re.findall(r"^latency (\S+) (\S+)$", text, re.MULTILINE)[0]
    numbers = re.findall(r"^errors (\d+) (\d+) (\d+) (\d+)$", text, re.MULTILINE)[0]
    return Load(
        Counter(status for status, _, _ in replies),
        [(name, float(value)) for _, name, value in replies if value != "-"],
        taken or time.perf_counter() - start,
        float(p50),
        float(p99),
        dict(zip(("connect", "read", "write", "timeout"), map(int, numbers), strict=True)),
    )


def report(load: Load, at_once: int, expected: dict[str, float], rate: float) -> bool:
    """Print one line; whether all is well."""
    answered = sum(load.statuses.values())
    wrong = sum(expected[name] != value for name, value in load.scores)
    lost = sum(load.errors.values()) + answered - load.statuses["200"]
    speed = answered / load.seconds
    print(
        f"{at_once:>3} at once: {answered} answered, {lost} lost or refused, {wrong} other scores than scan, "
        f"{speed:.2f} images/s ({speed / rate:.0%} of scan), p50 {load.p50:.0f} ms, p99 {load.p99:.0f} ms",
        flush=True,
    )
    return not (lost or wrong) and len(load.scores) == answered


def flat_memory(options: list[str], paths: list[Path], requests: int) -> bool:
    """Memory over many requests; whether it stays as it is after the first third."""
    with serving(options) as server:
        samples: list[float] = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(1.0):
                samples.append(server.memory())

        thread = threading.Thread(target=watch)
        thread.start()
        load = wrk(server.url, paths, requests, 8)
        done.set()
        thread.join()
        third = max(1, len(samples) // 3)
        before, after = max(samples[:third]), max(samples[-third:])
        print(
            f"memory over {sum(load.statuses.values())} requests: at most {before:.0f} MiB in the first "
            f"third, {after:.0f} MiB in the last; peak {server.memory('VmHWM'):.0f} MiB",
            flush=True,
        )
        return after <= 1.1 * before and load.statuses["200"] == requests


def end_under_load(options: list[str], paths: list[Path], at_once: int) -> bool:
    """SIGTERM under load: whether the access log and wrk agree on every answer."""
    with serving(options) as server:
        found: list[Load] = []
        end = threading.Event()
        thread = threading.Thread(target=lambda: found.append(wrk(server.url, paths, 10**9, at_once, end)))
        thread.start()
        time.sleep(4)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        end.set()
        thread.join()
        (load,) = found
        logged = server.statuses()
        seen = {int(status): count for status, count in load.statuses.items()}
        print(
            f"SIGTERM with {at_once} at once: exit code {code}, log {dict(logged)}, client {seen}, "
            f"broken while reading {load.errors['read']}",
            flush=True,
        )
        return code == 0 and dict(logged) == seen and load.errors["read"] == 0 and not server.trouble


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=320, help="of a picture, in pixels")
    parser.add_argument("--memory", type=int, default=10_000, help="requests of the memory test; 0 for none")
    parser.add_argument("--views", default="fast", choices=["fast", "standard", "thorough"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=None)
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing: apt-get install wrk")
    options = ["--views", arguments.views, "--device", arguments.device]
    options += ["--model", arguments.model] if arguments.model else []
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder), arguments.pictures, arguments.side)
        expected, rate = scan(paths, options)
        print(f"scan: {len(expected)} images, {rate:.2f} images/s", flush=True)
        well = []
        with serving(options) as server:
            wrk(server.url, paths, 8, 1)  # the first batches are slower
            for at_once in arguments.at_once:
                load = wrk(server.url, paths, arguments.requests, at_once)
                well.append(report(load, at_once, expected, rate))
            views = server.metric("aidetect_batch_views_sum") / server.metric("aidetect_batch_views_count")
            print(f"{views:.1f} views a batch, peak memory {server.memory('VmHWM'):.0f} MiB", flush=True)
            well.append(not server.trouble)
        if arguments.memory:
            well.append(flat_memory(options, paths, arguments.memory))
        well.append(end_under_load(options, paths, max(arguments.at_once)))
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
