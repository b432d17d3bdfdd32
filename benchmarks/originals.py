"""More pictures for training, from the originals that the corpus was drawn from.

    python benchmarks/originals.py --corpus ../shared/corpus --mirrors ../.mirror -o originals
    aidetect train --index ../shared/corpus/index.csv --index originals/index.csv -o my-model

The corpus holds a reduced whole picture of about half of its pictures, and no cut of the originals that it
left out. This makes cuts of both by the corpus's own rules. A whole picture is reduced to a short side of 224
(bicubic), its long side cut at 358 around the centre, and saved as JPEG quality 90 with 4:2:0. A tile is 256
pixels square, at native resolution, on the 16-pixel grid; of lossless originals four in five pass through a
JPEG of random quality. Laundered cuts are made of the original after a random history at full size, as files
have one in life: laundering a small cut is harsher. They stand in the index as laundered already.

Whole pictures come first of originals of which the corpus holds a tile alone; tiles and laundered cuts are
of originals that the corpus left out. In each, large repositories count by the square root of their size.
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
    """The named cuts of an original: ``whole``, ``tile``, ``laundered-whole``, ``laundered-tile``.

    Raises:
        InputError, OSError, ValueError, SyntaxError: the original cannot be read.
    """
    if "whole" in names:
        yield "whole", reduced(opened(data))
    if names == ["whole"]:
        return
    pixels = next(decode(data, frames=1))
    if "tile" in names:
        yield "tile", tile(*copy_of(pixels, "full", 0))
    if "laundered-whole" in names or "laundered-tile" in names:
        rgb, rng = copy_of(pixels, "full", 1)
        yield "laundered-whole", reduced(Image.fromarray(rgb))
        yield "laundered-tile", tile(rgb, rng)


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
    parser.add_argument("--laundered", type=int, default=3000, help="launder at most so many, whole and tile")
    arguments = parser.parse_args()

    with (arguments.corpus / "index.csv").open(newline="") as stream:
        index = list(csv.DictReader(stream))
    with (arguments.corpus / "originals.csv").open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    whole = {(row["repo"], row["path"]) for row in index if row["view"] == "whole"}
    drawn = {(row["repo"], row["path"]) for row in index if row["view"] == "tile"}
    lacking = [row for row in listed if (row["repo"], row["path"]) not in whole]
    there = [row for row, _ in found(arguments.mirrors, lacking)]
    left_out = in_order([row for row in there if (row["repo"], row["path"]) not in drawn], set())
    wanted: dict[str, list[str]] = {}
    for names, rows in (
        (("whole",), in_order(there, drawn)[: arguments.whole]),
        (("tile",), left_out[: arguments.tiles]),
        (("laundered-whole", "laundered-tile"), left_out[: arguments.laundered]),
    ):
        for row in rows:
            wanted.setdefault(row["sha256"], []).extend(names)

    def path(row: Row, name: str) -> Path:
        suffix = "jpg" if name.endswith("whole") else "webp"
        return arguments.output / name / f"{row['sha256'][:16]}.{suffix}"

    for name in ("whole", "tile", "laundered-whole", "laundered-tile"):
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
                    laundered, view = name.startswith("laundered-"), name.removeprefix("laundered-")
                    file = path(row, name).relative_to(arguments.output)
                    cell = {"file": file, "view": view, "copies": "0", "laundered": str(int(laundered))}
                    writer.writerow({**row, **cell})
    print(f"{len(there)} originals found, of {len(listed) - len(whole)} to look for", file=sys.stderr)


if __name__ == "__main__":
    main()
