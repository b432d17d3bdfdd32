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
            reason = error.strerror or error
            raise ModelError(f"model file {path} cannot be read ({reason}); reinstall it") from None
        if found != sha256:
            raise ModelError(
                f"model file {path} does not match its card (SHA-256 {found[:12]}..., expected "
                f"{sha256[:12]}...): it is damaged or altered; reinstall it"
            )
