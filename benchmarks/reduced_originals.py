"""More reduced whole pictures for training, from the originals that the corpus was drawn from.

    python benchmarks/reduced_originals.py --corpus ../shared/corpus --mirrors ../.mirror -o originals \\
        --limit 4000
    aidetect train --index ../shared/corpus/index.csv --index originals/index.csv -o my-model

The corpus holds a reduced whole picture of about half of its pictures, and none of the originals not
drawn at all. This makes both, as the corpus made its own: short side 224 (bicubic), long side cut at 358
around the centre, JPEG quality 90 with 4:2:0. First come the pictures of which the corpus holds a native cut
alone, then the others; in both, large repositories count by the square root of their size. Mirrors are
git directories named OWNER+NAME/repo; an original is used when its SHA-256 is the one that `originals.csv`
states. The pictures are for training and measuring, never for committing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

Row = dict[str, str]
COLUMNS = ["file", "view", "label", "generator", "source", "content", "repo", "path", "copies"]
SHORT, LONG, QUALITY = 224, 358, 90


def reduced(data: bytes) -> bytes:
    """The reduced whole picture of an original, as JPEG.

    Raises:
        OSError, ValueError, SyntaxError: Pillow cannot read the original.
    """
    with Image.open(io.BytesIO(data)) as opened:
        if opened.format == "JPEG" and min(opened.size) >= 1200:
            opened.draft("RGB", (opened.width // 2, opened.height // 2))
        image = opened.convert("RGB")
    scale = SHORT / min(image.size)
    width, height = (max(SHORT, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = max(0, (width - LONG) // 2), max(0, (height - LONG) // 2)
    image = image.crop((left, top, left + min(width, LONG), top + min(height, LONG)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=2)
    return out.getvalue()


def originals(mirror: Path, rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
    """Originals of one repository that its mirror holds unaltered."""
    folder = mirror / ".git" if (mirror / ".git").exists() else mirror
    command = ["git", "-C", str(folder), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as git:
        assert git.stdin and git.stdout
        for row in rows:
            for commit in (row["commit"], "HEAD"):
                git.stdin.write(f"{commit}:{row['path']}\n".encode())
                git.stdin.flush()
                head = git.stdout.readline().split()
                if len(head) != 3 or not head[2].isdigit():
                    continue
                data = git.stdout.read(int(head[2]))
                git.stdout.read(1)
                if hashlib.sha256(data).hexdigest() == row["sha256"]:
                    yield row, data
                    break
        git.stdin.close()


def in_order(rows: list[Row], first: set[tuple[str, str]]) -> list[Row]:
    """Rows so that any beginning is a fair choice: ``first`` first, then by rank over root of group size."""
    size = Counter((row["label"], row["repo"]) for row in rows)
    rank: Counter[tuple[str, str]] = Counter()
    keyed = []
    for row in sorted(rows, key=lambda r: r["sha256"]):
        group = row["label"], row["repo"]
        rank[group] += 1
        later = (row["repo"], row["path"]) not in first
        keyed.append(((later, rank[group] / size[group] ** 0.5, row["sha256"]), row))
    return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


def main() -> None:
    """Make the pictures and their index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder of index.csv and originals.csv")
    parser.add_argument("--mirrors", type=Path, required=True, help="folder of git mirrors")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--limit", type=int, default=4000, help="how many pictures the index names")
    arguments = parser.parse_args()

    with (arguments.corpus / "index.csv").open(newline="") as stream:
        index = list(csv.DictReader(stream))
    with (arguments.corpus / "originals.csv").open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    whole = {(row["repo"], row["path"]) for row in index if row["view"] == "whole"}
    tiles = {(row["repo"], row["path"]) for row in index if row["view"] == "tile"}
    by_repo: dict[str, list[Row]] = {}
    for row in listed:
        if (row["repo"], row["path"]) not in whole:
            by_repo.setdefault(row["repo"], []).append(row)
    arguments.output.mkdir(parents=True, exist_ok=True)
    made = []
    for repo, rows in sorted(by_repo.items()):
        mirror = arguments.mirrors / repo.replace("/", "+") / "repo"
        if not mirror.is_dir():
            continue
        for row, data in originals(mirror, rows):
            path = arguments.output / f"{row['sha256'][:16]}.jpg"
            if not path.exists():
                try:
                    path.write_bytes(reduced(data))
                except (OSError, ValueError, SyntaxError) as error:
                    print(f"{repo}: {row['path']}: {error}", file=sys.stderr)
                    continue
            made.append(row)
    chosen = in_order(made, tiles)[: arguments.limit]
    with (arguments.output / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in chosen:
            writer.writerow({**row, "file": f"{row['sha256'][:16]}.jpg", "view": "whole", "copies": "0"})
    print(
        f"{len(chosen)} of {len(made)} pictures found, {sum(map(len, by_repo.values()))} listed",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
