"""Print, as a Markdown table, what Chromium shows of damaged files and what is judged of them.

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
    except InputError as error:
        return f"error: {error.kind}"
    if len(found) > 1:
        return f"{len(found)} frames, {found[-1].height} rows of the last"
    step = damage.WIDTH // found[0].width
    return f"{found[0].height} rows" + (f" at 1/{step} of the size" if step > 1 else "")


def main() -> None:
    """Print the table."""
    assert browser.BROWSER, "no chromium or google-chrome on the PATH"
    files = damage.damaged_files()
    shown = browser.shown(files, browser.BROWSER, damage.WIDTH, damage.HEIGHT)
    print(f"| file ({damage.WIDTH}x{damage.HEIGHT}) | Chromium shows | aidetect judges |")
    print("|---|---|---|")
    for name, data in files.items():
        seen = shown[name]
        rows = f"{seen.rows} rows" if seen.rows else "nothing"
        print(f"| {name} | {rows if seen.width else 'a broken image'} | {judged(data)} |")


if __name__ == "__main__":
    main()
