"""Walking through folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import ignore
from .filters import DEFAULT, Place, WalkOptions, is_archive_name


@dataclass(frozen=True)
class Found:
    """A file that a walk found: its path, what the system says about it, and the folder it lies in."""

    path: Path
    status: os.stat_result | None
    place: Place
    archive: bool = False


def walk(
    folder: Path,
    options: WalkOptions = DEFAULT,
    on_error: Callable[[Path, OSError], None] = lambda path, error: None,
) -> Iterator[Path]:
    """Files below a folder, sorted by name. Each real folder is entered once.

    Symbolic links are followed; a loop ends where it would enter a folder again. Folders that cannot be read
    and ignore files that cannot be used are passed to ``on_error``.
    """
    return (found.path for found in search(folder, options, on_error))


def search(
    folder: Path,
    options: WalkOptions = DEFAULT,
    on_error: Callable[[Path, OSError], None] = lambda path, error: None,
    on_archive: Callable[[str], None] = lambda name: None,
) -> Iterator[Found]:
    """As `walk`, with what is known of each file.

    Args:
        folder: where to begin.
        options: which files are found.
        on_error: told of folders that cannot be read and ignore files that cannot be used.
        on_archive: told of archives that are left out because of `WalkOptions.archives`.
    """
    seen: set[tuple[int, int]] = set()

    def entries(directory: Path, place: Place) -> Iterator[tuple[Path, Place, os.DirEntry[str]]]:
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as scan:
                found = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            on_error(directory, error)
            return
        if options.ignore:
            place = replace(place, rules=place.rules.read(directory, on_error))
        yield from ((directory, place, entry) for entry in found)

    top = Place(options, ignore.above(folder, on_error) if options.ignore else ignore.Rules())
    # An explicit stack: folders may be nested more deeply than Python's recursion limit.
    stack = [entries(folder, top)]
    while stack:
        for directory, place, entry in stack[-1]:
            status: os.stat_result | None = None
            try:
                status = entry.stat()
                mode = status.st_mode
            except OSError:  # a dangling link, or a file deleted since the listing
                mode = stat.S_IFREG if entry.is_symlink() else 0
            if place.leaves_out(entry.name, stat.S_ISDIR(mode)):
                continue
            if stat.S_ISDIR(mode):
                if options.recursive:
                    stack.append(entries(directory / entry.name, place.inside(entry.name)))
                    break
            elif stat.S_ISREG(mode):
                archive = is_archive_name(entry.name)
                if archive and options.archives:
                    yield Found(directory / entry.name, status, place, archive=True)
                elif place.wants(entry.name):
                    yield Found(directory / entry.name, status, place)
                elif archive:
                    on_archive(str(directory / entry.name))
        else:
            stack.pop()
