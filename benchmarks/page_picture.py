"""Draws the picture of the server's page for the documentation.

    python benchmarks/page_picture.py docs/images/page.png

It starts a server, opens the page in Chromium, and gives it the demo pictures.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import demo_pictures
from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 1000
_FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split()


def screenshot(address: str, browser: str, pictures: list[Path]) -> bytes:
    """The page with the cards of some pictures, as PNG."""
    with sync_playwright() as started:
        window = started.chromium.launch(executable_path=browser, args=_FLAGS).new_page(
            viewport={"width": WIDTH, "height": HEIGHT}
        )
        window.goto(address)
        window.set_input_files("#files", pictures)
        window.wait_for_selector("#stop[hidden]", state="attached")
        window.mouse.click(5, 5)
        return bytes(window.screenshot())


def draw(path: Path, browser: str) -> None:
    """Start a server, and write the picture of its page with few colours, which makes a small file."""
    with tempfile.TemporaryDirectory() as folder:
        demo_pictures.write(Path(folder))
        command = ["aidetect", "serve", "--port", "0", "--no-cache"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stderr is not None
                found = filter(None, (re.search(r"ready at (\S+)", line) for line in server.stderr))
                address = next(found)[1]
                data = screenshot(address, browser, sorted(Path(folder).iterdir()))
            finally:
                server.terminate()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/page_picture.py FILE.png")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no chromium or google-chrome on the PATH")
    draw(Path(sys.argv[1]), chromium)
