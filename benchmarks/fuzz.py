"""Decode, cut and search many damaged files, and count what goes wrong.

    python benchmarks/fuzz.py --files 100000 --seed 1

Files of every format and mode are drawn, damaged at random, and sent through the whole pipeline but for the
image tower, which is never asked. Each worker is a process of its own: one that
dies, or computes for ten seconds, is counted with the file it was at, and replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

HANG = 10.0
_ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "tests" / "images")]


def preparer() -> Any:
    """What a worker thread of a scan does before the tower is asked."""
    from aidetect.detector.images.views import ViewPlan
    from aidetect.detector.inputs.fetch import Fetcher, FetchOptions
    from aidetect.detector.models.thresholds import Thresholds
    from aidetect.detector.pending import Extras
    from aidetect.detector.prepare import Preparer

    plan = ViewPlan(224, native=3, whole_jpeg=90, spread=True, trim=True)
    fetcher = Fetcher(FetchOptions(allowed=False))
    extras = Extras(evidence=True)
    return Preparer(plan, Thresholds(0.9, 0.5), 20_000_000, 8, fetcher, None, None, extras)


def work(seed: int, start: int, count: int, step: int, pipe: Any, errors: str) -> None:
    """Go through files ``start``, ``start + step``, ..., telling the parent of each."""
    import zoo

    from aidetect.detector.inputs.source import Source

    one = preparer()
    files = list(zoo.animals())  # encoders may speak; only what decoding says is counted
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    for number in range(start, count, step):
        data = fuzzed(files, seed, number)
        began = time.process_time()
        pipe.send(("begin", number, began))
        try:
            prepared = one.prepare(Source(f"file {number}", "memory", payload=data))
        except Exception as error:
            pipe.send(("escaped", number, f"{type(error).__name__}: {error}"[:200]))
            continue
        record = prepared.record
        kind = record.error["type"] if record.error else "judged" if prepared.frames else "lost"
        slugs = {w.split(":")[0] for frame in prepared.frames for w in frame.warnings}
        kept = slugs & {"truncated", "damaged", "transparent", "tiff"}
        took = time.process_time() - began
        pipe.send(("done", number, kind, sorted(kept), took, record.evidence is not None))
    pipe.send(("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    pipe.send(("end",))


def fuzzed(files: list[tuple[str, bytes]], seed: int, number: int) -> bytes:
    """The damaged file of that number."""
    import zoo

    rng = random.Random(f"{seed}:{number}")
    (_, data), (_, other) = rng.choice(files), rng.choice(files)
    return zoo.mutated(data, other, rng)


class Worker:
    """A process that goes through every so many files."""

    def __init__(self, seed: int, start: int, count: int, step: int, errors: str) -> None:
        self.arguments = (seed, count, step, errors)
        self.at = start
        self.began: float | None = None
        self.start(start)

    def start(self, start: int) -> None:
        """Begin with a file."""
        seed, count, step, errors = self.arguments
        self.pipe, child = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=work, args=(seed, start, count, step, child, errors))
        self.process.start()
        child.close()
        self.began = None

    def seconds(self) -> float:
        """Time that it has computed, in seconds: another program's load is no hang."""
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self.process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0


def run(files: int, seed: int, workers: int, errors: str) -> dict[str, Any]:
    """Counts of a run."""
    counts: Counter[str] = Counter()
    found: dict[str, list[Any]] = {"crashed": [], "hung": [], "escaped": [], "slowest": []}
    memory = told = 0
    done = set()
    live = [Worker(seed, start, files, workers, errors) for start in range(workers)]
    while live:
        if len(done) >= told + 1000:
            told = len(done)
            print(
                f"{told} files, {len(found['crashed'])} crashes, {len(found['hung'])} hangs", file=sys.stderr
            )
        for worker in list(live):
            dead = not worker.process.is_alive()
            try:
                while worker.pipe.poll(0 if dead else 0.02):
                    what, *rest = worker.pipe.recv()
                    if what == "begin":
                        worker.at, worker.began = rest[0], rest[1]
                    elif what == "escaped":
                        found["escaped"].append(rest)
                        done.add(rest[0])
                    elif what == "done":
                        number, kind, slugs, took, has_evidence = rest
                        done.add(number)
                        counts[kind] += 1
                        counts.update(f"warned {slug}" for slug in slugs)
                        counts["without evidence"] += not has_evidence
                        found["slowest"] = sorted([*found["slowest"], [round(took, 2), number]])[-3:]
                        worker.began = None
                    elif what == "memory":
                        memory = max(memory, rest[0])
                    elif what == "end":
                        live.remove(worker)
                        worker.process.join()
            except (EOFError, OSError):
                dead = True
            if worker not in live:
                continue
            hung = worker.began is not None and worker.seconds() - worker.began > HANG
            if dead or hung:
                found["hung" if hung else "crashed"].append([worker.at, worker.process.exitcode])
                with contextlib.suppress(OSError):
                    worker.process.kill()
                worker.process.join()
                done.add(worker.at)
                worker.start(worker.at + workers)
    said = Path(errors).read_text(errors="replace") if Path(errors).exists() else ""
    return {
        "files": files,
        "seed": seed,
        "crashes": len(found["crashed"]),
        "hangs over 10 s": len(found["hung"]),
        "exceptions that escaped": len(found["escaped"]),
        "tracebacks on stderr": said.count("Traceback"),
        "lines on stderr": len(said.splitlines()),
        "records lost": files - len(done) + counts["lost"],
        "peak memory of a worker, MiB": memory // 1024,
        "outcomes": dict(sorted(counts.items())),
        "which": {name: list(itertools.islice(entries, 10)) for name, entries in found.items()},
    }


def main() -> None:
    """Fuzz, and print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--errors", default="fuzz-errors.txt", help="where workers' standard error goes")
    given = parser.parse_args()
    Path(given.errors).unlink(missing_ok=True)
    print(json.dumps(run(given.files, given.seed, given.workers, given.errors), indent=1))


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
