"""SHA-256 of files, and checking a folder against the hashes in its card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ..errors import ModelError


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Check that every listed file exists and has the listed SHA-256.

    Raises:
        ModelError: a file is missing or differs.
    """
    for name, sha256 in expected.items():
        path = folder / name
        try:
            found = file_sha256(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        _check(path, found, sha256)


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"model file {path} cannot be read ({error.strerror or error}); reinstall it")


def _check(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ModelError(
            f"model file {path} does not match its card (SHA-256 {found[:12]}..., expected "
            f"{expected[:12]}...): it is damaged or altered; reinstall it"
        )
