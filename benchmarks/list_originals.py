"""An index for training of restored originals (see ../shared/tools/restore_originals.py).

    python benchmarks/list_originals.py --list ../shared/corpus/originals-2.csv --restored originals
    aidetect train --base aidetect-1 --index originals/index-train.csv --dtype bfloat16 -o my-model

Writes an index into the folder of restored pictures. A repository is often one series, so at most 60 reals of
one count, and 60 AI pictures of one generator there, in the order of their hashes (see ``--reals`` and
``--ai``). Of an eighth of them a laundered copy is made, of half of the reals and a quarter of the AI
pictures a smaller copy, and of an eighth of the reals and a twelfth of the AI pictures a rougher one (see
`aidetect.detector.images.degrade`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from aidetect.detector.images.degrade import ROUGHER, SMALLER

COLUMNS = "file label generator source repo content path copies also".split()
SMALL = {"real": 1 / 2, "ai": 1 / 4}
ROUGH = {"real": 3 / 2, "ai": 1}  # times the share asked for


def file_of(row: dict[str, str]) -> str:
    """Where `restore_originals.py` puts a picture, relative to its folder."""
    suffix = row["format"].replace("jpeg", "jpg").replace("mpo", "jpg")
    return f"{row['label']}/{row['source']}/{row['sha256'][:16]}.{suffix}"


def rows(
    listed: list[dict[str, str]], most: dict[str, int], laundered: float = 1 / 8, rough: float = 1 / 12
) -> list[dict[str, str]]:
    """Rows of the index, of the pictures of a list.

    Args:
        most: pictures of one series that count, by label.
        laundered: share of the pictures of which a laundered copy is made.
        rough: share of the AI pictures of which a rougher copy is made; of reals it is half as much again.
    """
    rank: Counter[tuple[str, str, str]] = Counter()
    found = []
    for row in sorted(listed, key=lambda row: row["sha256"]):
        label = row["label"]
        series = row["repo"], label, row["generator"] if label == "ai" else ""
        place = rank[series] / most[label]
        rank[series] += 1
        if place >= 1:
            continue
        chance = int(row["sha256"][:8], 16)
        also = []
        if place < SMALL[label]:
            also.append(list(SMALLER)[chance % len(SMALLER)])
        if place < rough * ROUGH[label]:
            also.append(list(ROUGHER)[chance // 7 % len(ROUGHER)])
        cells = {"file": file_of(row), "copies": str(int(place < laundered)), "also": " ".join(also)}
        found.append({**row, **cells})
    return found


def main() -> None:
    """Write the index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, required=True, help="list of originals, e.g. originals-2.csv")
    parser.add_argument("--restored", type=Path, required=True, help="folder of restored pictures")
    parser.add_argument("--reals", type=int, default=60, help="reals of one repository, at most")
    parser.add_argument("--ai", type=int, default=60, help="AI pictures of one generator there, at most")
    parser.add_argument("--laundered", type=float, default=1 / 8, help="share with a laundered copy")
    parser.add_argument(
        "--rough", type=float, default=1 / 12, help="share of AI pictures with a rougher copy"
    )
    parser.add_argument("--name", default="index-train.csv", help="of the index")
    arguments = parser.parse_args()
    with arguments.list.open(newline="", encoding="utf-8") as stream:
        listed = [row for row in csv.DictReader(stream) if (arguments.restored / file_of(row)).exists()]
    most = {"real": arguments.reals, "ai": arguments.ai}
    found = rows(listed, most, arguments.laundered, arguments.rough)
    with (arguments.restored / arguments.name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    print(f"{len(found)} pictures of {len(listed)} that were restored", file=sys.stderr)


if __name__ == "__main__":
    main()
