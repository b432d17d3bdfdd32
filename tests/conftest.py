"""Fixtures and helpers shared by the tests. Every picture is drawn in code; none is fetched or shipped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image, ImageDraw

# In the background of a script SIGINT is ignored, by every child too; the tests of interruption need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.data_too_large,
    ],
)
hypothesis.settings.register_profile(
    "search", hypothesis.settings.get_profile("suite"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

LONGEST_TEST_SECONDS = 400
TINY_ARCHITECTURE = "aidetect-test-tiny"
TINY_SIZE, TINY_WIDTH, TINY_BLOCKS = 32, 64, 2


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A test that hangs fails instead (where the system can interrupt it)."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        # Not an Exception: the code under test must not catch it.
        pytest.fail(f"the test took over {LONGEST_TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the models or proxies of the person who runs it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.delenv("AIDETECT_MODELS", raising=False)
    monkeypatch.delenv("AIDETECT_CACHE_DIR", raising=False)
    monkeypatch.delenv("AIDETECT_PRECISION", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --precision, tests in this process compute in float32 on every CPU."""
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    start = time.perf_counter()
    yield
    took = time.perf_counter() - start
    assert took < seconds, f"took {took:.1f} s, over {seconds} s"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# --- pictures ---------------------------------------------------------------------------------------


def gradient(width: int = 40, height: int = 24) -> np.ndarray:
    """A smooth picture without symmetry: red to the right, green downwards, blue both."""
    x, y = np.linspace(0, 255, width), np.linspace(0, 200, height)
    red, green = np.meshgrid(x, y)
    return np.stack([red, green, (red + green) / 2], axis=2).astype(np.uint8)


def noise(width: int = 40, height: int = 24, seed: int = 0) -> np.ndarray:
    """Uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shapes(width: int = 160, height: int = 120, seed: int = 0) -> np.ndarray:
    """A gradient with random ellipses and lines on it."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(gradient(width, height))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        w, h = int(rng.integers(1, width)), int(rng.integers(1, height))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + w, y + h), fill=colour)
        draw.line((x, 0, w, height), fill=colour[::-1], width=2)
    return np.asarray(image)


def is_picture(rgb: np.ndarray) -> bool:
    """Whether these are RGB pixels, and not none."""
    return rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and min(rgb.shape) > 0


def encode(picture: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """A picture's file in any format Pillow (or pillow-heif) writes."""
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    if format == "JXL":
        import pillow_jxl  # noqa: F401  (it registers itself)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block that says only how to turn the picture."""
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def sha256(rgb: np.ndarray) -> str:
    """The hash that a record must show for these pixels."""
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG from its header's numbers and its unfiltered rows (each with its filter byte)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks right after its header."""
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments (marker's low byte, payload) at its start."""
    parts = [b"\xff" + bytes([m]) + struct.pack(">H", len(p) + 2) + p for m, p in segments]
    return data[:2] + b"".join(parts) + data[2:]


# --- a tiny model -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a tiny vision transformer that open_clip knows for this run."""
    import open_clip
    import torch

    torch.set_num_threads(1)
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": TINY_SIZE,
            "layers": TINY_BLOCKS,
            "width": TINY_WIDTH,
            "patch_size": 8,
            "head_width": 32,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    path = tmp_path_factory.mktemp("open-clip-configs") / f"{TINY_ARCHITECTURE}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return TINY_ARCHITECTURE


def write_tower(folder: Path, architecture: str, seed: int = 0) -> str:
    """Write a tower folder with random float32 weights; returns the SHA-256 of its weights' file."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from aidetect.detector.models.checksum import file_sha256

    torch.manual_seed(seed)
    visual = open_clip.create_model(architecture).visual
    folder.mkdir(parents=True)
    save_file(
        {k: v.detach().float().contiguous() for k, v in visual.state_dict().items()},
        folder / "tower.safetensors",
    )
    digest = file_sha256(folder / "tower.safetensors")
    card = {
        "name": folder.name,
        "architecture": architecture,
        "config": open_clip.get_model_config(architecture),
        "quick_gelu": False,
        "blocks": TINY_BLOCKS,
        "width": TINY_WIDTH,
        "weights": "tower.safetensors",
        "preprocess": {
            "size": TINY_SIZE,
            "mean": [0.48, 0.46, 0.41],
            "std": [0.27, 0.26, 0.28],
            "interpolation": "bicubic",
        },
        "files": {"tower.safetensors": digest},
    }
    (folder / "tower.json").write_text(json.dumps(card))
    return digest


def write_model(folder: Path, tower: dict[str, str], seed: int = 0) -> Path:
    """Write a model folder with a random probe on a tower; returns the folder."""
    from safetensors.numpy import save_file

    from aidetect.detector.models.checksum import file_sha256

    rng = np.random.default_rng(seed)
    length = TINY_BLOCKS * TINY_WIDTH
    folder.mkdir(parents=True)
    probe = {
        name: value.astype(np.float32)
        for kind in ("whole", "native")
        for name, value in (
            (f"{kind}.weight", rng.normal(0, 0.25, length)),
            (f"{kind}.bias", rng.normal(0, 0.25, 1)),
        )
    }
    save_file(probe, folder / "probe.safetensors")

    def mode(native: int, intercept: float) -> dict[str, Any]:
        return {
            "views": {"whole": True, "native": native},
            "calibration": {"share": 0.4, "slope": 1.5, "intercept": intercept},
            "thresholds": {"ai": 0.8, "real": 0.3},
            "error_rates": {"false_positive_rate": {"value": 0.01, "n": 100, "low": 0.002, "high": 0.05}},
        }

    card = {
        "schema": 1,
        "name": folder.name,
        "tower": tower,
        "probe": {"file": "probe.safetensors", "length": length},
        "modes": {"fast": mode(1, -0.1), "standard": mode(3, 0.1), "thorough": mode(5, 0.2)},
        "files": {"probe.safetensors": file_sha256(folder / "probe.safetensors")},
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1))
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_architecture: str) -> Path:
    """A complete model folder, its tower's folder beside it. Do not change it: take `model_copy`."""
    base = tmp_path_factory.mktemp("models")
    digest = write_tower(base / "tiny-tower", tiny_architecture)
    return write_model(base / "tiny", {"folder": "tiny-tower", "sha256": digest})


@pytest.fixture
def model_copy(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, its tower beside it, that a test may damage."""
    shutil.copytree(tiny_model_folder.parent, tmp_path / "models")
    return tmp_path / "models" / tiny_model_folder.name


@pytest.fixture
def tiny_detector(tiny_model_folder: Path) -> Any:
    """A detector on the CPU with the tiny model."""
    from aidetect.detector.detector import Detector

    return Detector.load(str(tiny_model_folder), "cpu", batch_size=8, workers=2)


# --- a server -----------------------------------------------------------------------------------------


@pytest.fixture
def start(tiny_model_folder: Path) -> Iterator[Any]:
    """Starts servers with the tiny model (`serving.Servers.start`). All end with the test."""
    from serving import Servers

    servers = Servers(tiny_model_folder)
    yield servers.start
    servers.stop()


@pytest.fixture
def running(start: Any) -> Any:
    """A server with the default settings (`serving.Running`)."""
    return start()
