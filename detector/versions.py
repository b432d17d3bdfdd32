"""Versions of this tool and of its libraries."""

from __future__ import annotations

import platform


def version() -> str:
    """The installed version of aidetect."""
    from importlib.metadata import version as installed

    return installed("aidetect")


def library_versions() -> dict[str, str]:
    """Versions of all libraries that can change the last digits of a score."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from PIL import features

    versions = {"python": platform.python_version()}
    for name in (
        "torch",
        "open_clip_torch",
        "torchvision",
        "numpy",
        "pillow",
        "pillow-heif",
        "safetensors",
        "av",
    ):
        try:
            versions[name] = installed(name)
        except PackageNotFoundError:
            continue
    for codec in ("jpg", "libjpeg_turbo", "webp", "avif", "libtiff", "zlib"):
        found = features.version(codec)
        if found:
            versions[f"lib:{codec}"] = found
    return versions


def tool() -> dict[str, str]:
    """Name and version of this tool."""
    return {"name": "aidetect", "version": version()}
