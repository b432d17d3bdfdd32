"""More pictures for training, from the originals that the corpus was drawn from.

    python benchmarks/originals.py --corpus ../shared/corpus --mirrors ../.mirror -o originals
    aidetect train --index originals/index.csv -o my-model

The corpus holds a reduced whole picture of about half of its pictures, and no cut of the originals that it
left out. This makes whole views of all originals to be had, exactly as a scan makes them of a file, and tiles
by the corpus's own rules; its index names these, the corpus's tiles, and the corpus's whole pictures where
the original is not to be had. A whole view is the centred square at 224 pixels (bicubic), saved as JPEG
quality 90 with 4:2:0. A tile is 256 pixels square, at native resolution, on the 16-pixel grid; a second one
is from another place of the same picture. Of lossless originals four in five pass through a JPEG of random
quality first. Laundered cuts are made of the original after a random history at full size, as files have one
in life: laundering a small cut is harsher. They stand in the index as laundered already.

Tiles are of originals that the corpus left out, and so are the first 3,000 to be laundered; then any. In each
choice, large repositories count by the square root of their size.

Mirrors are git directories named OWNER+NAME/repo; an original is used when its SHA-256 is the one that
`originals.csv` states. The pictures are for training and measuring, never for committing.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from aidetect.detector.errors import InputError
from aidetect.detector.features import WHOLE_JPEG, copy_of
from aidetect.detector.pixels import decode
from aidetect.detector.views import whole_view

Row = dict[str, str]
COLUMNS = tuple("file member view label generator source content repo path copies laundered".split())
SHORT, TILE, GRID = 224, 256, 16
TILES = ("tile", "tile-2")
LAUNDERED = ("laundered-whole", *(f"laundered-{name}" for name in TILES))
CUTS = ("whole", *TILES, *LAUNDERED)
FIRST = 3000  # of the originals that the corpus left out, laundered before any other
FILE_COPY = 2  # copy 1 is the laundered small cut


def reduced(rgb: np.ndarray) -> bytes:
    """The whole view of a picture, as the JPEG file that ends it."""
    out = io.BytesIO()
    square = Image.fromarray(whole_view(rgb, SHORT).rgb)
    square.save(out, "JPEG", quality=WHOLE_JPEG, subsampling=2)
    return out.getvalue()


def tile(rgb: np.ndarray, rng: np.random.Generator) -> bytes:
    """A tile at native resolution from anywhere in the picture, as a lossless WebP file."""
    top, left = (int(rng.integers(0, max(1, side - TILE + 1))) // GRID * GRID for side in rgb.shape[:2])
    out = io.BytesIO()
    cut = np.ascontiguousarray(rgb[top : top + TILE, left : left + TILE])
    Image.fromarray(cut).save(out, "WEBP", lossless=True, method=1)
    return out.getvalue()


def cuts(data: bytes, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The named cuts of an original, by the names in `CUTS`.

    Raises:
        InputError, OSError, ValueError, SyntaxError: the original cannot be read.
    """
    pixels = next(decode(data, frames=1))
    if {"whole", *TILES} & set(names):
        rgb, rng = copy_of(pixels, "full", 0)
        if "whole" in names:
            yield "whole", reduced(rgb)
        yield from tiles(rgb, rng, "", names)
    if set(LAUNDERED) & set(names):
        rgb, rng = copy_of(pixels, "full", 1)
        if "laundered-whole" in names:
            yield "laundered-whole", reduced(rgb)
        yield from tiles(rgb, rng, "laundered-", names)


def tiles(
    rgb: np.ndarray, rng: np.random.Generator, prefix: str, names: list[str]
) -> Iterator[tuple[str, bytes]]:
    """The wanted ones of a copy's tiles, whose names begin with ``prefix``; each has its own place."""
    for name in TILES:
        cut = tile(rgb, rng)
        if prefix + name in names:
            yield prefix + name, cut


def found(mirrors: Path, rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
    """Originals that the mirrors hold unaltered."""
    by_repo: dict[str, list[Row]] = {}
    for row in rows:
        by_repo.setdefault(row["repo"], []).append(row)
    for repo, wanted in sorted(by_repo.items()):
        mirror = mirrors / repo.replace("/", "+") / "repo"
        if not mirror.is_dir():
            continue
        folder = mirror / ".git" if (mirror / ".git").exists() else mirror
        command = ["git", "-C", str(folder), "cat-file", "--batch"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as git:
            assert git.stdin and git.stdout
            for row in wanted:
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


def original(row: Row) -> tuple[str, str]:
    """Which original a row is of: its repository, and its path there."""
    return row["repo"], row["path"]


def in_order(rows: list[Row]) -> list[Row]:
    """Rows so that any beginning is a fair choice: by rank over root of group size."""
    size = Counter((row["label"], row["repo"]) for row in rows)
    rank: Counter[tuple[str, str]] = Counter()
    keyed = []
    for row in sorted(rows, key=lambda r: r["sha256"]):
        group = row["label"], row["repo"]
        rank[group] += 1
        keyed.append(((rank[group] / size[group] ** 0.5, row["sha256"]), row))
    return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


def chosen(
    there: list[Row], index: list[Row], whole: int, tiles: int, second: int, laundered: int
) -> dict[str, list[str]]:
    """Names of the cuts wanted of each original, by its SHA-256.

    Args:
        there: originals that are at hand.
        index: rows of the corpus.
        whole, tiles, second, laundered: at most so many of each.
    """
    used = {original(row) for row in index}
    any_of_them = in_order(there)
    left_out = in_order([row for row in there if original(row) not in used])
    tiled = {original(row) for row in index if row["view"] == "tile"}
    tiled |= {original(row) for row in left_out[:tiles]}
    first = left_out[:FIRST]
    other = [row for row in any_of_them if row not in first]
    wanted: dict[str, list[str]] = {}
    for names, rows in (
        (["whole"], any_of_them[:whole]),
        (["tile"], left_out[:tiles]),
        (["tile-2"], in_order([row for row in there if original(row) in tiled])[:second]),
        (list(LAUNDERED), (first + other)[:laundered]),
    ):
        for row in rows:
            wanted.setdefault(row["sha256"], []).extend(names)
    return wanted


def main() -> None:
    """Make the pictures and their index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder of index.csv and originals.csv")
    parser.add_argument("--mirrors", type=Path, required=True, help="folder of git mirrors")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--whole", type=int, default=20000, help="at most so many whole pictures")
    parser.add_argument("--tiles", type=int, default=5000, help="at most so many tiles")
    parser.add_argument("--second", type=int, default=8000, help="at most so many second tiles")
    parser.add_argument("--laundered", type=int, default=9000, help="launder at most so many, for three cuts")
    arguments = parser.parse_args()

    with (arguments.corpus / "index.csv").open(newline="") as stream:
        index = list(csv.DictReader(stream))
    with (arguments.corpus / "originals.csv").open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    there = [row for row, _ in found(arguments.mirrors, listed)]
    wanted = chosen(there, index, arguments.whole, arguments.tiles, arguments.second, arguments.laundered)

    def path(row: Row, name: str) -> Path:
        suffix = "jpg" if name in ("whole", "laundered-whole") else "webp"
        return arguments.output / name / f"{row['sha256'][:16]}.{suffix}"

    for name in CUTS:
        (arguments.output / name).mkdir(parents=True, exist_ok=True)
    unmade = [r for r in there if any(not path(r, name).exists() for name in wanted.get(r["sha256"], []))]
    for row, data in found(arguments.mirrors, unmade):
        names = [name for name in wanted[row["sha256"]] if not path(row, name).exists()]
        try:
            for name, cut in cuts(data, names):
                path(row, name).write_bytes(cut)
        except (InputError, OSError, ValueError, SyntaxError) as error:
            print(f"{row['repo']}: {row['path']}: {error}", file=sys.stderr)
    with (arguments.output / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        at_hand = {original(row) for row in there}
        for row in index:
            if row["view"] == "tile" or original(row) not in at_hand:
                shard = os.path.relpath(arguments.corpus / row["shard"], arguments.output)
                copies = "1" if row["view"] == "tile" else "0"
                writer.writerow({**row, "file": shard, "copies": copies})
        for row in there:
            for name in wanted.get(row["sha256"], []):
                if path(row, name).exists():
                    view = "whole" if name in ("whole", "laundered-whole") else "tile"
                    laundered = FILE_COPY if name in LAUNDERED else 0
                    file = path(row, name).relative_to(arguments.output)
                    cell = {"file": file, "view": view, "copies": "0", "laundered": str(laundered)}
                    writer.writerow({**row, **cell})
    print(f"{len(there)} originals found, of {len(listed)} to look for", file=sys.stderr)


if __name__ == "__main__":
    main()
