"""More pictures for training, from the originals that the corpus was drawn from.

    python benchmarks/originals.py --corpus ../shared/corpus --mirrors ../.mirror -o originals
    aidetect train --index originals/index.csv -o my-model

The corpus holds a reduced whole picture of about half of its pictures, and no cut of the originals that it
left out. This makes whole views of all originals to be had, exactly as a scan makes them of a file, and tiles
by the corpus's own rules, as many as the mode `standard` looks at; its index names these, the corpus's tiles,
and the corpus's whole pictures where the original is not to be had. A whole view is the centred square at 224
pixels (bicubic), saved as JPEG quality 90 with 4:2:0; of a picture far from square there are the squares at
its ends too. A tile is 256 pixels square, at native resolution, on the 16-pixel grid; there are three of a
picture, each from another place. Bars, captions and pages around a picture are left out of all of these. Of
lossless originals four in five pass through a JPEG of random quality first. Laundered cuts are made of the
original after a random history at full size, as files have one in life: laundering a small cut is harsher.
They stand in the index as laundered already. So do cuts of originals that were reworked (sharpened, tinted,
enlarged, turned ...): the centred square and two tiles, of as many AI pictures as real ones.

The first 3,000 to be laundered are originals that the corpus left out; then any. In each choice, large
repositories count by the square root of their size.

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
from aidetect.detector.images.margins import content_box
from aidetect.detector.images.pixels import Pixels, decode
from aidetect.detector.images.rework import rework
from aidetect.detector.images.views import cut as cut_out
from aidetect.detector.images.views import spread_places, whole_view
from aidetect.detector.training.dataset import REWORKED
from aidetect.detector.training.features import WHOLE_JPEG, copy_of, random_source

Row = dict[str, str]
COLUMNS = tuple("file member view label generator source content repo path copies laundered".split())
SHORT, TILE, GRID = 224, 256, 16
TILES = ("tile", "tile-2", "tile-3")
ENDS = ("end", "end-2", "end-3")
FIRST = 3000  # of the originals that the corpus left out, laundered before any other
# Prefixes of names of cuts, and what an index calls such copies; 1 is the laundered small cut.
CLEAN, LAUNDERED, CHANGED = "", "laundered-", "reworked-"
COPIES = {CLEAN: 0, LAUNDERED: 2, CHANGED: REWORKED}
CUTS = tuple(prefix + name for prefix in COPIES for name in ("whole", *ENDS, *TILES))
# Labelled AI, but screenshots of a program: the ones among all pictures of their repository, by eye.
_COMFY = "comfyanonymous/ComfyUI_examples"
MISLABELLED = {
    (_COMFY, f"{name}.png")
    for name in (
        "2_pass_txt2img/hiresfix_latent_workflow",
        "area_composition/workflow_night_evening_day_morning",
        "gligen/gligen_textbox_example",
        "hypernetworks/hypernetwork_example",
        "img2img/img2img_workflow",
        "model_merging/model_merging_3_checkpoints",
        "model_merging/model_merging_basic",
        "model_merging/model_merging_cosxl",
        "model_merging/model_merging_inpaint",
        "model_merging/model_merging_lora",
        "sdxl/sdxl_revision_text_prompts",
        "textual_inversion_embeddings/embedding_example",
        "unclip/unclip_example",
        "unclip/unclip_example_multiple",
    )
}


def reduced(rgb: np.ndarray, place: float = 0.5) -> bytes:
    """The whole view of a picture, or of another square of it, as the JPEG file that ends it."""
    out = io.BytesIO()
    square = Image.fromarray(whole_view(rgb, SHORT, place=place).rgb)
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
    """The named cuts of an original that there are, by the names in `CUTS`; the whole view last of a copy's.

    Raises:
        InputError, OSError, ValueError, SyntaxError: the original cannot be read.
    """
    pixels = next(decode(data, frames=1, strict=True))
    for prefix in COPIES:
        wanted = [name for name in names if prefix_of(name) == prefix]
        if not wanted:
            continue
        rgb, rng = copied(pixels, prefix)
        rgb = cut_out(rgb, content_box(rgb))
        for name, place in ends(*rgb.shape[:2]):
            if prefix + name in wanted:
                yield prefix + name, reduced(rgb, place)
        for name in TILES:
            cut = tile(rgb, rng)  # cut whether wanted or not: each has its own place
            if prefix + name in wanted:
                yield prefix + name, cut
        if prefix + "whole" in wanted:
            yield prefix + "whole", reduced(rgb)


def copied(pixels: Pixels, prefix: str) -> tuple[np.ndarray, np.random.Generator]:
    """An original as it is, laundered or reworked, and the random source of its cuts."""
    if prefix == CHANGED:
        rng = random_source(pixels.key, REWORKED)
        return rework(pixels.rgb, rng), rng
    return copy_of(pixels, "full", int(prefix == LAUNDERED))


def ends(height: int, width: int) -> list[tuple[str, float]]:
    """Names and places of the squares that stand for the centred one; none for a picture near to square."""
    places = spread_places(height, width)
    return list(zip(ENDS, places, strict=False)) if len(places) > 1 else []


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


def table(path: Path) -> list[Row]:
    """Rows of a table of the corpus, without the mislabelled ones."""
    with path.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if original(row) not in MISLABELLED]


def view_of(name: str) -> str:
    """View (see `dataset.Example`) of a cut, by its name."""
    return name.removeprefix(prefix_of(name)).split("-")[0]


def prefix_of(name: str) -> str:
    """Which of the `COPIES` a cut is of, by its name."""
    return next((prefix for prefix in (LAUNDERED, CHANGED) if name.startswith(prefix)), CLEAN)


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
    there: list[Row], index: list[Row], clean: int, laundered: int, reworked: int
) -> dict[str, list[str]]:
    """Names of the cuts wanted of each original, by its SHA-256.

    Args:
        there: originals that are at hand.
        index: rows of the corpus.
        clean, laundered, reworked: originals of which such cuts are made, at most so many.
    """
    used = {original(row) for row in index}
    tiled = {original(row) for row in index if row["view"] == "tile"}
    any_of_them = in_order(there)
    first = in_order([row for row in there if original(row) not in used])[:FIRST]
    other = [row for row in any_of_them if row not in first]
    wanted: dict[str, list[str]] = {}
    for prefix, rows in ((CLEAN, any_of_them[:clean]), (LAUNDERED, (first + other)[:laundered])):
        for row in rows:
            names = ["whole", *ENDS]  # ends where there are such
            # The corpus's tile is the first of three, where it has one.
            names += TILES if prefix or original(row) not in tiled else TILES[1:]
            wanted.setdefault(row["sha256"], []).extend(prefix + name for name in names)
    for label in ("ai", "real"):
        for row in in_order([row for row in there if row["label"] == label])[: reworked // 2]:
            names = ["whole", *TILES[:2]]
            wanted.setdefault(row["sha256"], []).extend(CHANGED + name for name in names)
    return wanted


def main() -> None:
    """Make the pictures and their index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder of index.csv and originals.csv")
    parser.add_argument("--mirrors", type=Path, required=True, help="folder of git mirrors")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--clean", type=int, default=20000, help="cut at most so many as they are")
    parser.add_argument("--laundered", type=int, default=9000, help="cut at most so many laundered")
    parser.add_argument("--reworked", type=int, default=2700, help="cut at most so many reworked")
    arguments = parser.parse_args()

    index, listed = (table(arguments.corpus / name) for name in ("index.csv", "originals.csv"))
    there = [row for row, _ in found(arguments.mirrors, listed)]
    wanted = chosen(there, index, arguments.clean, arguments.laundered, arguments.reworked)

    def path(row: Row, name: str) -> Path:
        suffix = "webp" if view_of(name) == "tile" else "jpg"
        return arguments.output / name / f"{row['sha256'][:16]}.{suffix}"

    for name in CUTS:
        (arguments.output / name).mkdir(parents=True, exist_ok=True)

    def unmade(row: Row) -> list[str]:
        """Cuts wanted of those copies whose whole view, which is written last, is not there yet."""
        made = {prefix for prefix in COPIES if path(row, prefix + "whole").exists()}
        return [name for name in wanted.get(row["sha256"], []) if prefix_of(name) not in made]

    for row, data in found(arguments.mirrors, [row for row in there if unmade(row)]):
        try:
            for name, cut in cuts(data, unmade(row)):
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
                    laundered = COPIES[prefix_of(name)]
                    file = path(row, name).relative_to(arguments.output)
                    cell = {"file": file, "view": view_of(name), "copies": "0", "laundered": str(laundered)}
                    writer.writerow({**row, **cell})
    print(f"{len(there)} originals found, of {len(listed)} to look for", file=sys.stderr)


if __name__ == "__main__":
    main()
