"""What bfloat16 does to scores: the same pictures scored in both number formats.

    python benchmarks/precision.py --index INDEX -o scores.csv [--limit N] [--device cpu] [--views standard]

Prints how far logits move, and how many verdicts change. Scores are kept in the CSV file, so a second run
continues where the first one ended. Pictures are taken in random order with a fixed seed.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import numpy as np

from aidetect.detector.detector import Detector
from aidetect.detector.training.dataset import read_index
from aidetect.detector.training.scoring import Picture, pictures, score_examples

FORMATS = ("float32", "bfloat16")
COLUMNS = ("name", "label", "views", *FORMATS)
CHUNK = 32


def read(path: Path, views: str) -> dict[str, tuple[float, float]]:
    """Both logits of the pictures scored so far."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["views"] == views]
    return {row["name"]: (float(row["float32"]), float(row["bfloat16"])) for row in rows}


def score(detectors: list[Detector], chunk: list[Picture], path: Path, views: str) -> None:
    """Score pictures in both formats and append them to the file."""
    examples = [example for picture in chunk for example in picture]
    found = [{s.name: s for s in score_examples(d, examples, ["clean"])} for d in detectors]
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(COLUMNS)
        for name, scored in found[0].items():
            if name in found[1]:
                writer.writerow([name, scored.label, views, scored.logit, found[1][name].logit])


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--index", type=Path, action="append", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--views", default="standard")
    arguments = parser.parse_args()
    found = pictures([example for path in arguments.index for example in read_index(path)])
    random.Random(0).shuffle(found)
    found = found[: arguments.limit]
    detectors = [Detector.load(device=arguments.device, mode=arguments.views, precision=p) for p in FORMATS]
    known = read(arguments.output, arguments.views)
    todo = [picture for picture in found if picture[0].name not in known]
    for at in range(0, len(todo), CHUNK):
        score(detectors, todo[at : at + CHUNK], arguments.output, arguments.views)
    known = read(arguments.output, arguments.views)
    both = np.array([known[picture[0].name] for picture in found if picture[0].name in known])
    moved = both[:, 1] - both[:, 0]
    readings = [[detectors[0].reading(z) for z in column] for column in both.T]
    changed = np.array([a[1] != b[1] for a, b in zip(*readings, strict=True)])
    slope, intercept = detectors[0].calibration.slope, detectors[0].calibration.intercept
    limits = [detectors[0].thresholds.ai, detectors[0].thresholds.real]
    edges = [(np.log(p / (1 - p)) - intercept) / slope for p in limits]
    near = np.min([np.abs(both[:, 0] - edge) for edge in edges], axis=0)
    print(f"{len(both)} pictures, --views {arguments.views}, {' and '.join(FORMATS)} on {arguments.device}")
    print(f"logit moved by {moved.mean():+.3f} on average, standard deviation {moved.std():.3f}")
    print(f"largest move {np.abs(moved).max():.3f}; standard deviation of the logits {both[:, 0].std():.2f}")
    print(f"verdicts changed: {changed.sum()}, {(changed & (near < 0.2)).sum()} within 0.2 of a threshold")
    print(f"pictures within 0.2 of a threshold: {(near < 0.2).sum()}")


if __name__ == "__main__":
    main()
