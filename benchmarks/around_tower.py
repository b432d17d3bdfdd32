"""CPU time of what a scan does besides the tower, step by step.

    python benchmarks/around_tower.py [FOLDER] [--count 200] [--views standard] [--no-tower]

Without a FOLDER it draws its own pictures of 1 to 12 megapixels: photographs (gradients, edges, noise),
screenshots, pictures with bars and pictures on a page, as JPEG, PNG and WebP. Steps run one after the other
in one thread. The tower runs with torch's threads; their CPU time counts.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

T = TypeVar("T")
SIZES = [(1216, 832), (1920, 1080), (1536, 2048), (3000, 2000), (4000, 3000), (1080, 2340), (2560, 2560)]
FORMATS = ["JPEG", "JPEG", "JPEG", "PNG", "WEBP"]
KINDS = ["photo", "photo", "photo", "screenshot", "bars", "page"]


def photo(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Soft colours, some edges, and the noise of a sensor."""
    soft = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    draw = ImageDraw.Draw(soft)
    for _ in range(60):
        x, y, side = (int(rng.integers(n)) for n in (width, height, width // 6))
        draw.ellipse((x, y, x + side, y + side), fill=tuple(int(c) for c in rng.integers(0, 256, 3)))
    tile = rng.integers(0, 13, (512, 512, 3), dtype=np.uint8)
    noise = np.tile(tile, (-(-height // 512), -(-width // 512), 1))[:height, :width]
    return Image.fromarray(np.minimum(np.asarray(soft), 243) + noise)


def screenshot(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Panels and lines of text."""
    image = Image.new("RGB", (width, height), (250, 250, 252))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 5, height), fill=(40, 44, 52))
    font = ImageFont.load_default(20)
    for y in range(40, height - 30, 30):
        text = "".join(chr(int(c)) for c in rng.integers(97, 123, int(rng.integers(20, 90))))
        draw.text((width // 5 + 30, y), text, (30, 30, 30), font)
    return image


def barred(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A photograph between black bars."""
    image = Image.new("RGB", (width, height))
    image.paste(photo(rng, width, height - height // 4), (0, height // 8))
    return image


def page(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A photograph on a plain page with some text."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste(photo(rng, width * 2 // 3, height * 2 // 3), (width // 8, height // 8))
    draw = ImageDraw.Draw(image)
    draw.text((width // 8, height * 5 // 6), "what people say of it", (0, 0, 0), ImageFont.load_default(24))
    return image


def draw_all(folder: Path, count: int) -> None:
    """Draw the pictures that are not there yet."""
    draws = {"photo": photo, "screenshot": screenshot, "bars": barred, "page": page}
    for i in range(count):
        kind, format, size = KINDS[i % 6], FORMATS[i // 6 % 5], SIZES[i % 7]
        path = folder / f"{i:03}-{kind}.{format.lower()}"
        if not path.exists():
            options = {"JPEG": {"quality": 70 + i % 26}, "PNG": {}, "WEBP": {"quality": 80, "method": 0}}
            draws[kind](np.random.default_rng(i), *size).save(path, format, **options[format])


class Clock:
    """CPU seconds of this process by step."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def __call__(self, step: str, work: Callable[..., T], *arguments: object, **options: object) -> T:
        """Do the work and add what it took to the step."""
        start = time.process_time()
        try:
            return work(*arguments, **options)
        finally:
            self.seconds[step] += time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--views", default="standard", choices=["fast", "standard", "thorough"])
    parser.add_argument("--no-tower", action="store_true", help="leave the tower out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        draw_all(folder, arguments.count if arguments.folder is None or not any(folder.iterdir()) else 0)
        measure(sorted(p for p in folder.iterdir() if p.is_file())[: arguments.count], arguments)


def measure(paths: list[Path], arguments: argparse.Namespace) -> None:
    """Run all steps on all pictures and print the table."""
    from aidetect.detector.detector import Detector
    from aidetect.detector.images import views
    from aidetect.detector.images.pixels import decode, from_array, size
    from aidetect.detector.inputs.fetch import Fetcher, FetchOptions
    from aidetect.detector.inputs.source import Source, read_file
    from aidetect.detector.models.memory import keep_freed
    from aidetect.detector.pending import Extras
    from aidetect.detector.prepare import Preparer

    keep_freed()  # as the command does
    detector = Detector.load(device="cpu", mode=arguments.views)
    plan, clock, all_views, pixels = detector.plan, Clock(), 0, 0
    with Fetcher(FetchOptions()) as fetcher:
        how = (plan, detector.thresholds, detector.max_pixels, detector.frames, fetcher, None, None, Extras())
        preparer = Preparer(*how)
        preparer.prepare(Source(str(paths[0]), "file"))  # loads the decoders
        for path in paths:
            prepared = clock("all of these", preparer.prepare, Source(str(path), "file"))
            data = clock("read", read_file, path)
            clock("hash the file", lambda data=data: hashlib.sha256(data).hexdigest())
            clock("read the header", size, data)
            found = clock("decode, hash the pixels", lambda data=data: next(decode(data)))
            clock("  of which: hash", from_array, found.rgb)
            box = clock("find bars and pages", views.looked_at, found.rgb, plan)
            clock("make views", views.make_views, found.rgb, plan, box)
            clock("  of which: whole views", views.whole_views, found.rgb, plan, box)
            clock("thumbnail (HTML only)", views.thumbnail, found.rgb, 160)
            stack = np.stack([view.rgb for frame in prepared.frames for view in frame.views])
            all_views += len(stack)
            pixels += found.width * found.height
    each = {step: 1000 * seconds / len(paths) for step, seconds in clock.seconds.items()}
    tower = float("nan") if arguments.no_tower else tower_ms(detector, stack) * all_views / len(paths)
    print(f"{len(paths)} pictures, {pixels / len(paths) / 1e6:.1f} megapixels and ", end="")
    print(f"{all_views / len(paths):.1f} views each; CPU ms a picture:")
    known = ["read", "hash the file", "read the header", "decode, hash the pixels", "find bars and pages"]
    each["cautions and the rest"] = each["all of these"] - sum(each[s] for s in [*known, "make views"])
    order = [*known[:4], "  of which: hash", known[4], "make views", "  of which: whole views"]
    for step in [*order, "cautions and the rest", "all of these", "thumbnail (HTML only)"]:
        print(f"{step:26}{each[step]:8.1f}")
    print(f"{'tower':26}{tower:8.1f}")
    print(f"share of what is not the tower: {each['all of these'] / (each['all of these'] + tower):.1%}")


def tower_ms(detector: object, stack: np.ndarray, batches: int = 6) -> float:
    """CPU milliseconds of the tower and the probes for one view, in batches as the command makes them."""
    from aidetect.detector.images.views import View
    from aidetect.detector.pending import Result

    size = detector.batch_size
    views = [View("whole" if i % 2 else "native", (0, 0, 1, 1), stack[i % len(stack)]) for i in range(size)]

    def batch() -> None:
        detector._run([(Result([view.kind], [view.box]), view) for view in views])

    batch()
    start = time.process_time()
    for _ in range(batches):
        batch()
    return 1000 * (time.process_time() - start) / (batches * size)


if __name__ == "__main__":
    main()
