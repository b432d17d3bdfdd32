"""Inputs as given become sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from .filters import DEFAULT, WalkOptions
from .source import Source, file_error
from .walk import walk

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def expand(inputs: Iterable[str], options: WalkOptions = DEFAULT) -> Iterator[Source]:
    """Turn inputs as given into sources, in order.

    Args:
        inputs: paths of files or folders, http(s) URLs, ``-`` for standard input.
        options: which files of folders are included.

    Yields:
        Sources. An input that cannot be used gives a source of kind ``error``, never an exception.
    """
    for name in inputs:
        if name == "-":
            yield Source(name, "stdin")
        elif not name:
            yield Source(name, "error", InputError("not_found", "the name is empty"))
        elif (scheme := _SCHEME.match(name)) and not _exists(name):
            if scheme[1].lower() in ("http", "https"):
                yield Source(name, "url")
            else:
                error = InputError(
                    "unsupported_scheme", f"{scheme[1]}:// is not supported; use a path or an http(s) URL"
                )
                yield Source(name, "error", error)
        else:
            yield from _expand_path(name, options)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # e.g. a URL longer than a path may be
        return False


def _expand_path(name: str, options: WalkOptions) -> Iterator[Source]:
    try:
        is_folder = Path(name).is_dir()
    except (OSError, ValueError) as error:
        yield Source(name, "error", InputError("not_found", f"not a valid path: {error}"))
        return
    if not is_folder:
        yield Source(name, "file")
        return
    failed: list[Source] = []

    def note(path: Path, error: OSError) -> None:
        failed.append(Source(str(path), "error", file_error(error)))

    for path in walk(Path(name), options, note):
        yield from failed
        failed.clear()
        yield Source(str(path), "file")
    yield from failed
