"""What a command loads: nothing that it does not need, since imports are most of the time of a short run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import encode, gradient

CODE = """
import json, sys
from aidetect.cli.main import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
with open(sys.argv[1], "w") as stream:
    json.dump(sorted(sys.modules), stream)
"""
HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "rich",
    "httpx",
    "open_clip",
    "torchvision",
    "jinja2",
    "safetensors",
    "c2pa",
    "fsspec",
    "py7zr",
    "pypdf",
}


def loaded(tmp_path: Path, *words: str, **environment: str) -> set[str]:
    out = tmp_path / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(out), *words],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(out.read_text()))


@pytest.mark.parametrize(
    "words", [["--help"], ["scan", "--help"], ["tag", "--help"], ["serve", "--help"], ["cache", "info"]]
)
def test_help_and_the_cache_load_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    found = loaded(tmp_path, *words)
    assert "aidetect.cli.main" in found
    assert not found & HEAVY


def test_a_scan_loads_torch_but_not_what_it_does_not_need(tmp_path: Path, tiny_model_folder: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(gradient()))
    found = loaded(tmp_path, "scan", "a.png", "--model", str(tiny_model_folder), "-q")
    assert {"torch", "numpy", "PIL"} <= found
    unneeded = {"open_clip", "torchvision", "torch._dynamo", "torch._inductor", "httpx", "rich", "jinja2"}
    unneeded |= {"s3fs", "aiohttp", "py7zr", "pypdf"}
    assert not found & {*unneeded, "c2pa", "matplotlib"}
    assert not [
        name for name in found if name.startswith(("aidetect.detector.training", "aidetect.cli.server"))
    ]
