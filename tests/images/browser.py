"""What a real browser shows of files: headless Chromium, by canvas and by a picture of the window."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_COLUMNS = 4
_BACKGROUND = (254, 1, 253)
_CANVAS = """<!doctype html><meta charset=utf-8><pre id=out>running</pre><script>
const files = %s, found = {};
async function look(name) {
  const image = new Image(), url = URL.createObjectURL(new Blob([Uint8Array.from(atob(files[name]),
    c => c.charCodeAt(0))]));
  await new Promise(done => { image.onload = image.onerror = done; image.src = url; });
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  let rows = 0;
  if (width && height) {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(image, 0, 0);
    const {data} = context.getImageData(0, 0, width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0, at = 4 * y * width + 3; x < width; x++, at += 4)
        if (data[at]) { rows++; break; }
    }
  }
  found[name] = [width, height, rows];
}
(async () => {
  for (const name in files) await look(name);
  document.getElementById('out').textContent = JSON.stringify(found);
})();
</script>"""


@dataclass(frozen=True)
class Shown:
    """What the browser makes of a file.

    Attributes:
        width, height: ``naturalWidth`` and ``naturalHeight``; zero for a file that it refuses.
        canvas: rows that are not transparent throughout, when drawn on a canvas.
        window: rows that are seen in a window (a truncated WebP is, though no canvas takes it).
    """

    width: int
    height: int
    canvas: int
    window: int

    @property
    def rows(self) -> int:
        """Rows that a person can see."""
        return max(self.canvas, self.window)


def shown(files: dict[str, bytes], browser: str, width: int, height: int) -> dict[str, Shown]:
    """What the browser shows of each file.

    Args:
        files: by name.
        browser: the program.
        width, height: at least those of the largest picture, in pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        canvas = _on_canvas(files, browser, Path(folder))
        window = _in_window(files, browser, Path(folder), width, height)
    return {name: Shown(*canvas[name], window[name]) for name in files}


def _run(browser: str, folder: Path, page: str, *flags: str) -> bytes:
    (folder / "page.html").write_text(page)
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *("--disable-background-networking", f"--user-data-dir={folder}/profile"),
        *("--virtual-time-budget=20000", *flags, (folder / "page.html").as_uri()),
    ]
    return subprocess.run(command, capture_output=True, timeout=180, check=True).stdout


def _on_canvas(files: dict[str, bytes], browser: str, folder: Path) -> dict[str, tuple[int, int, int]]:
    packed = {name: base64.b64encode(data).decode() for name, data in files.items()}
    page = _CANVAS % json.dumps(packed).replace("<", "\\u003c")
    out = _run(browser, folder, page, "--dump-dom").decode()
    text = re.search(r'<pre id="out">(.*?)</pre>', out, re.S)
    assert text, out[:500]
    found: dict[str, list[int]] = json.loads(unescape(text[1]))
    return {name: (width, height, rows) for name, (width, height, rows) in found.items()}


def _in_window(
    files: dict[str, bytes], browser: str, folder: Path, width: int, height: int
) -> dict[str, int]:
    parts = []
    for index, data in enumerate(files.values()):
        (folder / str(index)).write_bytes(data)
        left, top = index % _COLUMNS * width, index // _COLUMNS * height
        parts.append(
            f'<img src="{index}" decoding="sync" style="position:absolute;left:{left}px;top:{top}px">'
        )
    colour = f"rgb{_BACKGROUND}"
    style = f"<style>html{{background:{colour}}}img{{color:transparent}}</style>"
    picture = folder / "window.png"
    size = f"--window-size={_COLUMNS * width},{-(-len(files) // _COLUMNS) * height + 200}"
    _run(browser, folder, style + "".join(parts), f"--screenshot={picture}", size)
    seen = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
    found = {}
    for index, name in enumerate(files):
        left, top = index % _COLUMNS * width, index // _COLUMNS * height
        cell = seen[top : top + height, left : left + width]
        # More than the icon that stands for a broken picture is wide.
        found[name] = int(((cell != _BACKGROUND).any(axis=2).sum(axis=1) > width // 4).sum())
    return found
