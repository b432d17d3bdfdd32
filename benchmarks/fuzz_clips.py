"""Decode many damaged clips, and count what becomes of them.

    python benchmarks/fuzz_clips.py [--clips 2000] [--seed 0] [--keep folder]

Small clips of eight codings are drawn and damaged at random: cut, bytes changed, parts moved, doubled or
filled, numbers put to extremes. Their frames are read as a scan reads them. A clip counts as hung if it takes
longer than the bound of decoding and half as long again. A decoder that crashes ends its own process only;
these are counted too. `--keep` writes clips that hung, crashed or failed into a folder.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from drawnclips import KINDS, clip, pictures

from aidetect.detector.clips.reader import Bounds, stills
from aidetect.detector.clips.sampling import Sampling
from aidetect.detector.errors import InputError

BOUNDS = Bounds(seconds=20.0, pixels=4_000_000, memory=4 * 2**30)
SAMPLING = Sampling(2, 8)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000)


def originals() -> list[bytes]:
    """Clips of every kind; MP4 with the index at both ends and in fragments."""
    found = [clip(kind, pictures(3, 8, shots=2, width=96, height=64), rate=8) for kind in KINDS]
    for flags in ("faststart", "frag_keyframe+empty_moov"):
        drawn = pictures(3, 8, shots=2, width=96, height=64)
        found.append(
            clip("h264.mp4", drawn, rate=8, options={"g": "6"}, container_options={"movflags": flags})
        )
    found.append(clip("h264.mp4", pictures(1, 8, width=96, height=64), sound=True))
    return found


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to four kinds of damage, most of them where the container's tables are."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        size = len(found)
        at = chance.randrange(size) if chance.random() < 0.5 else min(size - 1, chance.randrange(4096))
        length = min(size - at, 1 + int(chance.paretovariate(0.5)))
        match chance.randrange(8):
            case 0:
                found = found[: max(64, at)]
            case 1:
                for _ in range(chance.randint(1, 40)):
                    found[chance.randrange(size)] ^= 1 << chance.randrange(8)
            case 2:
                found[at : at + length] = bytes(length)
            case 3:
                found[at : at + length] = chance.randbytes(length)
            case 4:
                other = chance.randrange(size)
                found[at:at] = found[other : other + length]
            case 5:
                del found[at : at + length]
            case 6:
                found[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES))
            case _:
                other = chance.randrange(size)
                found[at : at + length], found[other : other + length] = (
                    found[other : other + length],
                    found[at : at + length],
                )
    return bytes(found)


def outcome(data: bytes) -> tuple[str, float]:
    """What becomes of a clip, and in how many seconds."""
    start = time.monotonic()
    notes: list[str] = []
    try:
        count = len(list(stills(data, sampling=SAMPLING, bounds=BOUNDS, notes=notes)))
        slugs = sorted({note.partition(":")[0] for note in notes})
        stopped = any("stops its decoder" in note for note in notes)
        name = f"frames, {' and '.join(slugs)}" if slugs else "frames"
        name = "frames, decoder crashed" if stopped else name if count else "no frames and no error"
    except InputError as error:
        name = "decoder crashed" if "stops its decoder" in str(error) else f"error {error.kind}"
    except Exception as error:
        name = f"FAILED {type(error).__name__}: {error}"
    took = time.monotonic() - start
    return ("HUNG" if took > 1.5 * BOUNDS.seconds else name), took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="begin at this clip")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    sources = originals()

    def one(number: int) -> tuple[str, float]:
        chance = random.Random(options.seed * 1_000_000 + number)
        data = damaged(chance.choice(sources), chance)
        found = outcome(data)
        if options.keep and found[0].startswith(("HUNG", "FAILED", "decoder", "no frames")):
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number}.bin").write_bytes(data)
        return found

    counts: Counter[str] = Counter()
    slowest = 0.0
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for name, took in pool.map(one, range(options.skip, options.clips)):
            counts[name] += 1
            slowest = max(slowest, took)
    for name, count in counts.most_common():
        print(f"{count:6}  {name}")
    failed = sum(count for name, count in counts.items() if name.startswith(("HUNG", "FAILED")))
    print(f"{sum(counts.values())} clips, {failed} failed or hung; slowest {slowest:.1f} s")
    print(f"{time.monotonic() - start:.0f} s in all", file=sys.stderr)
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
