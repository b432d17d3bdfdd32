"""`scan --engine ray` from a bucket: speed beside one process, memory, and what killing costs.

    python benchmarks/ray_scan.py draw FOLDER [--pictures 2000]
    python benchmarks/ray_scan.py speed FOLDER [--images 400]
    python benchmarks/ray_scan.py faults FOLDER [--images N] [--seconds 420]  (again until all is done)
    python benchmarks/ray_scan.py reckon

`draw` makes pictures of 1216 x 832 pixels. `speed` scans some of them with one process, then on a cluster of
two nodes of one core, from an S3 server on this machine (moto). Start-up does not count: the rate is that
from the first written part to the last. `faults` scans all on the cluster. Every time it kills an actor with
SIGKILL while it works; after so many seconds it kills the command, too, and the next call continues the run.
`reckon` says how many hours of a core a million and a billion images take at the speeds in the model's card.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from around_tower import photo
from PIL import Image

SIZE = (1216, 832)
OPTIONS = ["--views", "fast", "--precision", "float32", "--device", "cpu"]


def draw(folder: Path, count: int) -> None:
    """Pictures that all differ: some base pictures, each rolled and brightened in its own way."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    bases = [np.asarray(photo(rng, *SIZE)).astype(np.int16) for _ in range(12)]
    for number in range(count):
        base = bases[number % len(bases)]
        picture = np.roll(base, (17 * number, 31 * number), (0, 1)) + number % 40 - 20
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:05}.jpg", quality=90)


@contextmanager
def bucket(pictures: list[Path]) -> Iterator[Any]:
    """An S3 server on loopback that holds the pictures; gives s3fs for it."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    from s3fs import S3FileSystem

    store = S3FileSystem()
    store.mkdir("bench")
    for path in pictures:
        store.pipe_file(f"bench/in/{path.name}", path.read_bytes())
    yield store
    server.stop()


@contextmanager
def cluster() -> Iterator[str]:
    """Two nodes of one core each; gives the address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    found = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    found.add_node(**node)
    yield str(found.address)
    found.shutdown()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "aidetect.cli", "scan", "s3://bench/in", *OPTIONS, *words]


class Memory(threading.Thread):
    """Peak resident memory of a run's processes by kind, in MiB, and of all together (shared pages once)."""

    def __init__(self, driver: int) -> None:
        super().__init__(daemon=True)
        self.driver = driver
        self.peaks: defaultdict[str, float] = defaultdict(float)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(1.0):
            total = 0.0
            for process in psutil.process_iter(["pid", "cmdline"]):
                words = " ".join(process.info["cmdline"] or [])
                kind = self._kind(process.info["pid"], words)
                if kind is None:
                    continue
                try:
                    used = process.memory_full_info()
                except psutil.Error:
                    continue
                self.peaks[kind] = max(self.peaks[kind], used.rss / 2**20)
                total += used.pss / 2**20
            self.peaks["all together"] = max(self.peaks["all together"], total)

    def _kind(self, pid: int, words: str) -> str | None:
        if pid == self.driver:
            return "command"
        if "Scorer" in words:
            return "actor"
        if "ray::" in words:
            return "task that describes the model" if "describe" in words else "other task"
        return "Ray's own" if "/ray/" in words else None


def written(store: Any, seen: dict[str, int]) -> int:
    """Images in the finished parts of the run."""
    store.invalidate_cache()
    for path in store.glob("bench/out/*.parquet"):
        if path not in seen:
            with store.open(path) as stream:
                seen[path] = pq.ParquetFile(stream).metadata.num_rows
    return sum(seen.values())


def rate(marks: list[tuple[float, int]]) -> float:
    """Images a second from the first mark (time, images so far) to the last."""
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def one_process() -> float:
    """Images a second of a plain scan."""
    words = command("--no-cache", "-q", "--format", "jsonl")
    marks = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        memory = Memory(process.pid)
        memory.start()
        marks = [(time.perf_counter(), number) for number, _ in enumerate(process.stdout, 1)]
        memory.over.set()
    print(f"one process: {rate(marks):.2f} images/s, {memory.peaks['command']:.0f} MiB", flush=True)
    return rate(marks)


def on_cluster(store: Any, address: str, *words: str, stop: float = 1e9, kill: bool = False) -> Memory:
    """Scan on the cluster. Prints the rate.

    Args:
        store: s3fs.
        address: of the cluster.
        words: further options.
        stop: seconds until the command is killed.
        kill: kill an actor once some parts are written.
    """
    fixed = ["--engine", "ray", "--ray-address", address, "--actors", "2", "-o", "s3://bench/out"]
    begun = time.perf_counter()
    seen: dict[str, int] = {}
    before = written(store, seen)
    marks: list[tuple[float, int]] = []
    with subprocess.Popen(command(*fixed, "--part-images", "16", *words)) as process:
        memory = Memory(process.pid)
        memory.start()
        while process.poll() is None:
            time.sleep(0.5)
            now = written(store, seen)
            if now > (marks[-1][1] if marks else before):
                marks.append((time.perf_counter(), now))
            if kill and now > before + 100:
                victims = [
                    p
                    for p in psutil.process_iter(["cmdline"])
                    if "Scorer" in " ".join(p.info["cmdline"] or [])
                ]
                print(f"SIGKILL to one of {len(victims)} actors after {now - before} images", flush=True)
                victims[0].kill()
                kill = False
            if time.perf_counter() - begun > stop:
                print(f"SIGKILL to the command with {now} images written", flush=True)
                process.kill()
        memory.over.set()
    total = time.perf_counter() - begun
    if len(marks) > 1:
        print(
            f"cluster: {rate(marks):.2f} images/s, first part after {marks[0][0] - begun:.0f} s", flush=True
        )
    print(f"cluster: exit code {process.returncode} after {total:.0f} s", flush=True)
    peaks = ", ".join(f"{kind} {mib:.0f}" for kind, mib in sorted(memory.peaks.items()))
    print(f"cluster: peak memory in MiB: {peaks}", flush=True)
    memory.peaks["rate"] = rate(marks) if len(marks) > 1 else 0.0
    return memory


def speed(pictures: list[Path]) -> None:
    """One process beside the cluster."""
    with bucket(pictures) as store:
        alone = one_process()
        with cluster() as address:
            spread = on_cluster(store, address).peaks["rate"]
    print(f"{len(pictures)} images, cluster beside one process: {100 * spread / alone:.0f} %")


def faults(pictures: list[Path], folder: Path, seconds: float) -> None:
    """A run that is killed in every way, in pieces. Its parts are kept in a folder between the pieces."""
    kept = folder / "out"
    kept.mkdir(exist_ok=True)
    with bucket(pictures) as store:
        if any(kept.iterdir()):
            store.put(f"{kept}/", "bench/out/", recursive=True)
        with cluster() as address:
            on_cluster(store, address, "--resume", stop=seconds, kill=True)
            time.sleep(3)
        store.invalidate_cache()
        with tempfile.TemporaryDirectory(dir=folder) as new:
            store.get("bench/out/", f"{new}/", recursive=True)
            for path in Path(new).iterdir():
                path.replace(kept / path.name)
    found: Counter[str] = Counter()
    for part in kept.glob("*.parquet"):
        found.update(pq.read_table(part, columns=["input"])["input"].to_pylist())
    wanted = {f"s3://bench/in/{path.name}" for path in pictures}
    print(
        f"{len(found)} of {len(wanted)} images in parts, {sum(found.values()) - len(found)} twice, ", end=""
    )
    print(f"{len(set(found) - wanted)} that are none")
    if (kept / "_SUCCESS").exists():
        counts = json.loads((kept / "_manifest.json").read_text())["counts"]
        lost = len(wanted - set(found))
        print(f"all is done: {lost} lost, {sum(found.values()) - len(found)} doubled; {counts}")


def reckon() -> None:
    """Hours of a core for many images, from the speeds in the card of the default model."""
    from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card

    card = read_model_card(DEFAULT_MODEL).data
    threads = 2
    print("| `--views` | images/s a core | core hours for 10^6 | core hours for 10^9 | 10^9 on 1,000 cores |")
    print("| --- " * 5 + "|")
    for mode, measured in card["speed"]["images_per_second"].items():
        a_core = measured / threads
        hours = 1e6 / a_core / 3600
        days = hours * 1000 / 1000 / 24
        print(f"| `{mode}` | {a_core:.2f} | {hours:,.0f} | {1000 * hours:,.0f} | {days:,.1f} days |")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=["draw", "speed", "faults", "reckon"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("ray-scan"))
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--images", type=int, help="scan only so many (speed: 400 if not given)")
    parser.add_argument("--seconds", type=float, default=420.0)
    arguments = parser.parse_args()
    if arguments.step == "reckon":
        reckon()
        return
    places = arguments.folder / "pictures"
    if arguments.step == "draw":
        draw(places, arguments.pictures)
        return
    pictures = sorted(places.glob("*.jpg"))
    if arguments.step == "speed":
        speed(pictures[: arguments.images or 400])
    else:
        faults(pictures[: arguments.images], arguments.folder, arguments.seconds)


if __name__ == "__main__":
    main()
