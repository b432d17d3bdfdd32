"""Print, as Markdown tables, how many rows Chromium shows of damaged files, and how many are judged.

python tests/images/browser_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import browser
import damage

from aidetect.detector.errors import InputError
from aidetect.detector.images.pixels import decode


def judged(data: bytes) -> str:
    """The part of a file that is judged."""
    notes: list[str] = []
    try:
        found = list(decode(data, notes=notes))
    except InputError:
        return "error"
    if len(found) > 1:
        return f"{len(found)} frames, {found[-1].height} of the last"
    step = damage.WIDTH // found[0].width
    return f"{found[0].height}" + (f" at 1/{step} size" if step > 1 else "")


def cell(data: bytes, seen: browser.Shown) -> str:
    """Rows that the browser shows, and rows that are judged."""
    return f"{seen.rows if seen.width else 'refused'} / {judged(data)}"


def main() -> None:
    """Print two tables: of cut files, and of files damaged otherwise."""
    assert browser.BROWSER, "no chromium or google-chrome on the PATH"
    files = damage.damaged_files()
    shown = browser.shown(files, browser.BROWSER, damage.WIDTH, damage.HEIGHT)
    ends = [f"{cut} bytes off" for cut in damage.CUTS] + [f"{share:.0%} kept" for share in damage.SHARES]
    cut = {f"{kind}, {end}" for kind in damage.whole_files() for end in ends}
    print(f"| {damage.WIDTH}x{damage.HEIGHT} | {' | '.join(ends)} |")
    print(f"|---{'|---' * len(ends)}|")
    for kind in damage.whole_files():
        cells = (cell(files[f"{kind}, {end}"], shown[f"{kind}, {end}"]) for end in ends)
        print(f"| {kind} | {' | '.join(cells)} |")
    print("\n| damaged otherwise | Chromium / aidetect |\n|---|---|")
    for name in files:
        if name not in cut:
            print(f"| {name} | {cell(files[name], shown[name])} |")


if __name__ == "__main__":
    main()
