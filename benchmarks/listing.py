"""What a long listing costs: seconds to the first score, seconds for all names, memory.

    python benchmarks/listing.py [--names 1000000] [--folder 1000] [--model PATH]

A file system of fsspec is made up, with so many names in folders of so many (`--folder 0`: in one folder).
Each name is a small picture. The model is loaded and the first pictures are scored while names are listed,
as the command does; the others are only listed.
"""

from __future__ import annotations

import argparse
import io
import math
import resource
import time
from typing import Any

import fsspec
from PIL import Image


def made_up(names: int, folder: int) -> type[fsspec.AbstractFileSystem]:
    """A file system of so many names in folders of so many, under ``/all``."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "PNG")

    class MadeUp(fsspec.AbstractFileSystem):
        protocol = "madeup"

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "type": "directory", "size": 0}

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
            if path == "all" and folder:
                folders = range(math.ceil(names / folder))
                return [{"name": f"all/{n:07}", "type": "directory", "size": 0} for n in folders]
            start = int(path.partition("/")[2] or 0) * folder
            numbers = range(start, min(start + (folder or names), names))
            return [
                {"name": f"{path}/{n:07}.png", "type": "file", "size": 1000, "mtime": 0.0} for n in numbers
            ]

        def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
            return buffer.getvalue()

    return MadeUp


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--folder", type=int, default=1000)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    start = time.perf_counter()
    fsspec.register_implementation("madeup", made_up(arguments.names, arguments.folder))
    from aidetect.cli.places import Inputs
    from aidetect.detector.inputs.fetch import LIMITS
    from aidetect.detector.inputs.filters import WalkOptions
    from aidetect.detector.inputs.selection import Selection

    sources = Inputs(["madeup://all"], WalkOptions(), Selection(), LIMITS).ahead
    assert sources.any()
    listed = time.perf_counter() - start
    from aidetect.detector.detector import Detector

    options = [arguments.model] if arguments.model else []
    stream = Detector.load(*options).stream(sources)
    record = next(stream)
    assert record.status == "ok", record.error
    first = time.perf_counter() - start
    before = peak_mib()
    begun = time.perf_counter()
    for _ in sources:
        pass
    seconds = time.perf_counter() - begun
    print(f"{sources.listed:,} names in folders of {arguments.folder or arguments.names:,}")
    print(f"first name after {listed:.1f} s, first score after {first:.1f} s")
    print(f"the other names in {seconds:.1f} s; peak memory {peak_mib():.0f} MiB")
    print(f"of this, the model and the first pictures: {before:.0f} MiB")


if __name__ == "__main__":
    main()
