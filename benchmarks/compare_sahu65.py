"""aidetect beside sahu65 1.1.0, on the same pictures, whose repositories our probe had not seen.

    python benchmarks/compare_sahu65.py --index ../shared/corpus/index.csv

Takes reduced whole pictures (view `whole` of the index), as many of each class, spread over sources. sahu65
is installed from the package registry into a virtual environment of its own and asked for each picture's
probability; our scores are the held-out ones that come with the model, of folds that had not seen the
picture's repository. Speed: seconds a picture of both tools' own code over the same files, one after the
other on this machine, start-up left out; ours is `aidetect scan --views fast --no-cache`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from pathlib import Path

import numpy as np

from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card
from aidetect.detector.training.dataset import Example, Reader, read_index
from aidetect.detector.training.heldout import read_held_out
from aidetect.detector.training.metrics import rate, roc_auc, threshold_at_fpr

PACKAGE = "sahu65==1.1.0"
# Runs in the other tool's environment: names on standard input, a JSON line each on standard output.
WORKER = """
import json, sys, time
import sahu65
sahu65.warm()
for line in sys.stdin:
    start = time.perf_counter()
    result = sahu65.detect(line.rstrip("\\n"))
    row = {"score": float(result.ai_probability), "verdict": str(result.verdict)}
    print(json.dumps(row | {"seconds": time.perf_counter() - start}), flush=True)
"""


def choose(examples: list[Example], known: set[str], limit: int) -> list[Example]:
    """As many pictures of each class, one source after the other, seeded."""
    rng = random.Random(0)
    chosen = []
    for label in (1, 0):
        by_source: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            if example.label == label and example.view == "whole" and name_of(example) in known:
                by_source[example.source].append(example)
        queues = [by_source[source] for source in sorted(by_source)]
        for queue in queues:
            rng.shuffle(queue)
        mine: list[Example] = []
        while len(mine) < limit // 2 and any(queues):
            mine += [queue.pop() for queue in queues if queue]
        chosen += mine[: limit // 2]
    return chosen


def name_of(example: Example) -> str:
    """A picture's name as held-out scores have it."""
    return f"{example.group}/{example.original}"


def environment(folder: Path) -> Path:
    """Python of an environment with the other tool in it; made when missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return python


def theirs(python: Path, files: list[Path]) -> list[dict[str, object]]:
    """The other tool's answers."""
    names = "\n".join(map(str, files)) + "\n"
    command = [str(python), "-c", WORKER]
    done = subprocess.run(command, input=names, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def our_speed(files: list[Path]) -> float:
    """Seconds a picture of ``aidetect scan --views fast``, after the first result."""
    command = [sys.executable, "-m", "aidetect.cli", "scan", "--from", "-", "-q", "--no-cache"]
    command += ["--views", "fast", "--format", "jsonl", "--device", "cpu"]
    with tempfile.TemporaryFile("w+") as names:
        names.write("\n".join(map(str, files)) + "\n")
        names.seek(0)
        process = subprocess.Popen(command, stdin=names, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        stamps = [time.perf_counter() for _ in process.stdout]
        process.wait()
    batch = 8  # arrives together
    return (stamps[-1] - stamps[batch - 1]) / (len(stamps) - batch)


def row(name: str, labels: np.ndarray, scores: np.ndarray, fpr: float) -> str:
    """A line of the table: AUC, and recall where as many reals are accused."""
    limit = threshold_at_fpr(labels.tolist(), scores.tolist(), fpr)
    found = rate(int((scores[labels == 1] >= limit).sum()), int((labels == 1).sum()))
    recall = f"{found.value:.1%} ({found.low:.1%}-{found.high:.1%})"
    return f"| {name} | {roc_auc(labels.tolist(), scores.tolist()):.3f} | {recall} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "sahu65-venv")
    arguments = parser.parse_args()
    ours: dict[str, dict[str, float]] = defaultdict(dict)
    card = read_model_card(arguments.model)
    for mode in ("fast", "standard"):
        for scored in read_held_out(card, mode):
            if scored.condition == "clean":
                ours[scored.name][mode] = scored.logit
    known = {name for name, modes in ours.items() if {"fast", "standard"} <= set(modes)}
    examples = choose(read_index(arguments.index), known, arguments.limit)
    python = environment(arguments.environment)
    with tempfile.TemporaryDirectory() as folder:
        reader, files = Reader(), []
        for number, example in enumerate(examples):
            files.append(Path(folder) / f"{number:05}.jpg")
            files[-1].write_bytes(reader.read(example))
        answers = theirs(python, files)
        seconds = our_speed(files[:120])
    labels = np.array([example.label for example in examples])
    called = np.array(["ai" in str(a["verdict"]).lower().replace("-", "_").split("_") for a in answers])
    accused = rate(int(called[labels == 0].sum()), int((labels == 0).sum()))
    print(f"{int((labels == 1).sum())} AI and {int((labels == 0).sum())} real pictures; sahu65 calls")
    print(f"{accused.value:.1%} ({accused.low:.1%}-{accused.high:.1%}) of the real ones AI. Its verdicts:")
    print(sorted({str(a["verdict"]) for a in answers}))
    print("\n| tool | AUC | recall at that false positive rate |\n|---|---|---|")
    fpr = max(accused.value, 1 / max(1, int((labels == 0).sum())))
    print(row("sahu65 1.1.0", labels, np.array([float(str(a["score"])) for a in answers]), fpr))
    for mode in ("fast", "standard"):
        logits = np.array([ours[name_of(example)][mode] for example in examples])
        print(row(f"aidetect --views {mode}", labels, logits, fpr))
    their_seconds = float(np.mean([float(str(a["seconds"])) for a in answers[8:]]))
    print(f"\nsahu65: {1 / their_seconds:.2f} images/s; aidetect --views fast: {1 / seconds:.2f} images/s")


if __name__ == "__main__":
    main()
