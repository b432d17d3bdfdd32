"""More pictures for training, from the originals that the corpus was drawn from.

    python benchmarks/originals.py --corpus ../shared/corpus --mirrors ../.mirror -o originals
    aidetect train --index ../shared/corpus/index.csv --index originals/index.csv -o my-model

The corpus holds a reduced whole picture of about half of its pictures, and no cut of the originals that it
left out. This makes cuts of both by the corpus's own rules. A whole picture is reduced to a short side of 224
(bicubic), its long side cut at 358 around the centre, and saved as JPEG quality 90 with 4:2:0. A tile is 256
pixels square, at native resolution, on the 16-pixel grid; of lossless originals four in five pass through a
JPEG of random quality. A second tile is from another place of the same picture, so that `standard`, which
looks at two crops, can be measured. Laundered cuts are made of the original after a random history at full
size, as files have one in life: laundering a small cut is harsher. They stand in the index as laundered
already.

Whole pictures come first of originals of which the corpus holds a tile alone; tiles are of originals that
the corpus left out, and so are the first 3,000 to be laundered; then any. In each, large repositories count
by the square root of their size.

Mirrors are git directories named OWNER+NAME/repo; an original is used when its SHA-256 is the one that
`originals.csv` states. The pictures are for training and measuring, never for committing.
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

import numpy as np
from PIL import Image

from aidetect.detector.errors import InputError
from aidetect.detector.features import copy_of
from aidetect.detector.pixels import decode

Row = dict[str, str]
COLUMNS = ("file", "view", "label", "generator", "source", "content", "repo", "path", "copies", "laundered")
SHORT, LONG, QUALITY, TILE, GRID = 224, 358, 90, 256, 16
LAUNDERED = ("laundered-whole", "laundered-tile", "laundered-tile-2")
CUTS = ("whole", "tile", "tile-2", *LAUNDERED)
FIRST = 3000  # of the originals that the corpus left out, laundered before any other
FILE_COPY = 2  # copy 1 is the laundered small cut


def opened(data: bytes) -> Image.Image:
    """An original that is to be reduced; a large JPEG is decoded at half size.

    Raises:
        OSError, ValueError, SyntaxError: Pillow cannot read it.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "JPEG" and min(image.size) >= 1200:
            image.draft("RGB", (image.width // 2, image.height // 2))
        return image.convert("RGB")


def reduced(image: Image.Image) -> bytes:
    """The reduced whole picture, as a JPEG file."""
    scale = SHORT / min(image.size)
    width, height = (max(SHORT, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = max(0, (width - LONG) // 2), max(0, (height - LONG) // 2)
    image = image.crop((left, top, left + min(width, LONG), top + min(height, LONG)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=2)
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
    if "whole" in names:
        yield "whole", reduced(opened(data))
    if names == ["whole"]:
        return
    pixels = next(decode(data, frames=1))
    if {"tile", "tile-2"} & set(names):
        yield from tiles(*copy_of(pixels, "full", 0), "tile", names)
    if set(LAUNDERED) & set(names):
        rgb, rng = copy_of(pixels, "full", 1)
        if "laundered-whole" in names:
            yield "laundered-whole", reduced(Image.fromarray(rgb))
        yield from tiles(rgb, rng, "laundered-tile", names)


def tiles(
    rgb: np.ndarray, rng: np.random.Generator, first: str, names: list[str]
) -> Iterator[tuple[str, bytes]]:
    """The wanted ones of two tiles, ``first`` and the one named so with ``-2``; each has its own place."""
    for name in (first, f"{first}-2"):
        cut = tile(rgb, rng)
        if name in names:
            yield name, cut


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


def chosen(
    there: list[Row], index: list[Row], whole: int, tiles: int, second: int, laundered: int
) -> dict[str, list[str]]:
    """Names of the cuts wanted of each original, by its SHA-256.

    Args:
        there: originals that are at hand.
        index: rows of the corpus.
        whole, tiles, second, laundered: at most so many of each.
    """
    held: dict[str, set[tuple[str, str]]] = {"whole": set(), "tile": set()}
    for row in index:
        held[row["view"]].add((row["repo"], row["path"]))
    lacking = [row for row in there if (row["repo"], row["path"]) not in held["whole"]]
    left_out = in_order([row for row in lacking if (row["repo"], row["path"]) not in held["tile"]], set())
    tiled = held["tile"] | {(row["repo"], row["path"]) for row in left_out[:tiles]}
    first = left_out[:FIRST]
    other = [row for row in in_order(there, set()) if row not in first]
    wanted: dict[str, list[str]] = {}
    for names, rows in (
        (["whole"], in_order(lacking, held["tile"])[:whole]),
        (["tile"], left_out[:tiles]),
        (["tile-2"], in_order([row for row in there if (row["repo"], row["path"]) in tiled], set())[:second]),
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
