"""The pictures of the examples in README and docs, made by code alone.

    python benchmarks/demo_pictures.py folder

Landscapes are drawn by plain code. Abstract pictures come from a convolutional network with random weights:
it is built like a generator, but was never trained. A file that is no picture, and files with metadata for
the examples of evidence, complete the set. A clip is coded from two of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, PngImagePlugin

MAKE, MODEL = 271, 272  # tags of EXIF


def clouds(width: int, height: int, steepness: float, rng: np.random.Generator) -> np.ndarray:
    """Noise whose spectrum falls with frequency, ``[height, width]``, 0 to 1."""
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    distance[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / distance**steepness).real
    return np.asarray((noise - noise.min()) / np.ptp(noise))


def landscape(width: int, height: int, seed: int) -> Image.Image:
    """A sky with clouds above five rows of hills."""
    rng = np.random.default_rng(seed)
    down = np.linspace(0, 1, height)[:, None, None]
    picture = rng.uniform(80, 255, 3) * (1 - down) + rng.uniform(120, 255, 3) * down
    picture = picture + 90 * (clouds(width, height, 1.3, rng)[:, :, None] - 0.5)
    across = np.linspace(0, 2 * np.pi, width)
    for row in range(5):
        waves = (
            np.sin(across * rng.uniform(0.5, 2) * (n + 1) + rng.uniform(0, 7)) / (n + 1) for n in range(6)
        )
        edge = height * (0.4 + 0.12 * row) + height * (0.09 - 0.01 * row) * sum(waves)
        ground = rng.uniform(20, 140, 3) * (1 - 0.1 * row) + 150 * (
            clouds(width, height, 0.85, rng)[:, :, None] - 0.5
        )
        below = np.arange(height)[:, None] > edge[None, :]
        picture = np.where(below[:, :, None], ground, picture)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def convolve(layer: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution of ``[height, width, channels]`` with zeros around it."""
    height, width, _ = layer.shape
    padded = np.pad(layer, ((1, 1), (1, 1), (0, 0)))
    shifted = ((y, x, padded[y : y + height, x : x + width]) for y in range(3) for x in range(3))
    return np.asarray(sum(part @ weights[y, x] for y, x, part in shifted))


def abstract(size: int, seed: int, channels: int = 24) -> Image.Image:
    """What a generator network with random weights makes of random numbers: 4 x 4 pixels, doubled and
    convolved until they are `size`.
    """
    rng = np.random.default_rng(seed)
    layer = rng.normal(size=(4, 4, channels))
    while len(layer) < size:
        layer = layer.repeat(2, axis=0).repeat(2, axis=1)
        layer = convolve(layer, rng.normal(size=(3, 3, channels, channels)))
        layer = (layer - layer.mean((0, 1))) / layer.std((0, 1))
        layer = np.where(layer > 0, layer, 0.2 * layer)
    colours = np.tanh(layer @ rng.normal(size=(channels, 3)) * 1.5 / np.sqrt(channels))
    return Image.fromarray((127.5 + 127.5 * colours).astype(np.uint8))


def pattern(size: int, seed: int, depth: int = 6, width: int = 24) -> Image.Image:
    """What a network with random weights makes of each pixel's place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-2 : 2 : size * 1j, -2 : 2 : size * 1j]
    layer = np.stack([x, y, np.hypot(x, y), np.ones_like(x)], axis=2)
    for _ in range(depth):
        layer = np.tanh(layer @ rng.normal(0, 4.1 / np.sqrt(layer.shape[2]), (layer.shape[2], width)))
    colours = 1 / (1 + np.exp(-layer @ rng.normal(0, 3.6 / np.sqrt(width), (width, 3))))
    return Image.fromarray((255 * colours).astype(np.uint8))


def write(folder: Path) -> None:
    """Write all pictures into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    abstract(256, 6).save(folder / "abstract-1.png")
    abstract(256, 5).save(folder / "abstract-2.jpg", quality=95)
    landscape(320, 240, 3).save(folder / "hills.jpg", quality=92)
    landscape(240, 320, 8).save(folder / "valley.png")
    pattern(256, 0).save(folder / "pattern.webp", lossless=True)
    (folder / "broken.png").write_text("<!doctype html><title>404 Not Found</title>")


def write_clip(folder: Path) -> None:
    """Write a clip of two shots, a landscape and an abstract picture, into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(folder / "hills.mp4", "w") as output:
        stream = output.add_stream("libx264", rate=8, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for shot in (landscape(480, 240, 3), abstract(512, 6)):
            picture = np.asarray(shot)
            for number in range(24):
                part = np.ascontiguousarray(picture[:240, 4 * number : 4 * number + 320])
                output.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        output.mux(stream.encode(None))


def write_claims(folder: Path) -> None:
    """Write pictures whose metadata claim something, into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = Image.Exif()
    camera[MAKE], camera[MODEL] = "Canon", "Canon EOS R5"
    abstract(256, 6).save(folder / "camera.jpg", quality=95, exif=camera)
    settings = PngImagePlugin.PngInfo()
    settings.add_text(
        "parameters", "hills at dawn\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 320x240"
    )
    landscape(320, 240, 3).save(folder / "prompt.png", pnginfo=settings)
    landscape(240, 320, 8).save(folder / "silent.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/demo_pictures.py FOLDER")
    write(Path(sys.argv[1]))
