"""Pictures of an index that another owner's repository has too, as CSV for `aidetect train --without`.

    python benchmarks/same_pictures.py originals/new.csv originals/old.csv > same.csv

A picture that is in two repositories could be fitted in one and measured in the other. The one whose
repository and path come first stays. Two pictures count as the same if their difference hashes (16 x 16)
differ in at most 14 of 256 bits and their colours, reduced to 32 x 32, correlate by more than 0.97. Flat
pictures have no meaningful hash and are left alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aidetect.detector.training.dataset import Example, read_index

BITS, CORRELATION, FLAT = 14, 0.97, 8


def looks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The difference hash of a picture, ``uint64 [4]``, and its colours, ``float32 [32 * 32 * 3]``."""
    with Image.open(path) as opened:
        opened.draft("RGB", (256, 256))
        rgba = opened.convert("RGBA")
    rgba.thumbnail((256, 256), Image.Resampling.BILINEAR, reducing_gap=2.0)
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    rgb = white.convert("RGB")
    grey = np.asarray(rgb.convert("L").resize((17, 16), Image.Resampling.BILINEAR)).astype(int)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    colours = np.asarray(rgb.resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    return bits.ravel().view(np.uint64), colours.ravel()


def same(owners: Sequence[str], hashes: np.ndarray, colours: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of places: a picture that an earlier one of another owner equals, and that earlier one.

    Args:
        hashes, colours: of each picture (see `looks`), ``[n, 4]`` and ``[n, 3072]``.
    """
    centred = colours - colours.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1))
    gone: set[int] = set()
    for one in np.flatnonzero(spread > FLAT):
        if one in gone:
            continue
        differ = (hashes[one + 1 :] ^ hashes[one]).view(np.uint8)
        apart = np.unpackbits(differ, axis=1).sum(axis=1)
        for other in np.flatnonzero(apart <= BITS) + one + 1:
            if owners[one] == owners[other] or other in gone or spread[other] <= FLAT:
                continue
            alike = float((centred[one] * centred[other]).mean() / (spread[one] * spread[other]))
            if alike > CORRELATION:
                gone.add(int(other))
                yield int(other), int(one)


def main() -> None:
    """Print the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("index", type=Path, nargs="+")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    listed = [example for path in arguments.index for example in read_index(path)]
    found: list[Example] = []
    hashes, colours = [], []
    for example in sorted(listed, key=lambda example: (example.group, example.original)):
        try:
            bits, rgb = looks(example.path)
        except (OSError, SyntaxError, ValueError) as error:
            print(f"{example.path}: {error}", file=sys.stderr)
            continue
        found.append(example)
        hashes.append(bits)
        colours.append(rgb)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("repo", "path", "label", "reason"))
    owners = [example.side for example in found]
    for other, one in same(owners, np.array(hashes), np.array(colours)):
        reason = f"the same picture as {found[one].group}/{found[one].original}"
        label = "ai" if found[other].label else "real"
        writer.writerow((found[other].group, found[other].original, label, reason))


if __name__ == "__main__":
    main()
