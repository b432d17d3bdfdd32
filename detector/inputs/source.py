"""Sources: where bytes come from. Files, folders, lists, standard input and http(s) URLs."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import InputError
from . import ignore

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = frozenset(
    """
    .apng .avif .avifs .bmp .dib .gif .heic .heics .heif .heifs .hif .icb .ico .j2c .j2k .jfif .jif .jp2
    .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .pbm .pcx .pgm .png .pnm .ppm .psd .qoi .rgb .sgi .tga .tif .tiff .vda
    .webp .xbm .xpm
    """.split()
)
CLIP_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .qt .webm".split())
MAX_FILE_BYTES = 2**30
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """One input to score.

    Attributes:
        name: the input as given or found: a path, a URL, or ``-``. A path whose bytes are not UTF-8 has
            surrogate escapes, as in Python's file functions.
        kind: ``file``, ``url``, ``stdin``, ``memory`` (see ``payload``), or ``error`` for an input that
            cannot be used.
        error: the reason, if ``kind`` is ``error``.
        payload: encoded bytes or an RGB array, if ``kind`` is ``memory``.
    """

    name: str
    kind: str
    error: InputError | None = None
    payload: bytes | np.ndarray | None = None


@dataclass(frozen=True)
class WalkOptions:
    """Which files a walk through a folder finds.

    Attributes:
        recursive: go into subfolders.
        hidden: include files and folders whose name begins with a dot.
        include: glob patterns; if any is given, a file must match one (by name or relative path).
        exclude: glob patterns of files and folders to leave out.
        all_files: include every regular file, not only those with an image's suffix.
        clips: include files with a clip's suffix too.
        ignore: leave out what ``.aidetectignore`` files list, by the rules of gitignore. The files count in
            the folder, in its subfolders, and above it up to the root of its repository.
    """

    recursive: bool = True
    hidden: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    all_files: bool = False
    clips: bool = False
    ignore: bool = True


def walk(
    folder: Path,
    options: WalkOptions = WalkOptions(),
    on_error: Callable[[Path, OSError], None] = lambda path, error: None,
) -> Iterator[Path]:
    """Files below a folder, sorted by name. Each real folder is entered once.

    Symbolic links are followed; a loop ends where it would enter a folder again. Folders that cannot be read
    and ignore files that cannot be used are passed to ``on_error``.
    """
    seen: set[tuple[int, int]] = set()

    def entries(
        directory: Path, prefix: str, rules: ignore.Rules
    ) -> Iterator[tuple[Path, str, ignore.Rules, os.DirEntry[str]]]:
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
            rules = rules.read(directory, on_error)
        yield from ((directory, prefix, rules, entry) for entry in found)

    # An explicit stack: folders may be nested more deeply than Python's recursion limit.
    stack = [entries(folder, "", ignore.above(folder, on_error) if options.ignore else ignore.Rules())]
    while stack:
        for directory, prefix, rules, entry in stack[-1]:
            relative = f"{prefix}{entry.name}"
            if entry.name.startswith(".") and not options.hidden:
                continue
            if _matches(relative, entry.name, options.exclude):
                continue
            try:
                mode = entry.stat().st_mode
            except OSError:  # a dangling link, or a file deleted since the listing
                mode = stat.S_IFREG if entry.is_symlink() else 0
            if rules.leave_out(entry.name, stat.S_ISDIR(mode)):
                continue
            if stat.S_ISDIR(mode):
                if options.recursive:
                    stack.append(entries(directory / entry.name, f"{relative}/", rules.inside(entry.name)))
                    break
            elif stat.S_ISREG(mode):
                suffix = Path(entry.name).suffix.lower()
                by_name = options.all_files or suffix in IMAGE_SUFFIXES
                by_name = by_name or (options.clips and suffix in CLIP_SUFFIXES)
                if options.include:
                    by_name = _matches(relative, entry.name, options.include)
                if by_name:
                    yield directory / entry.name
        else:
            stack.pop()


def _matches(relative: str, name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(relative, p) for p in patterns)


def expand(inputs: Iterable[str], options: WalkOptions = WalkOptions()) -> Iterator[Source]:
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


def read_list(stream: BinaryIO, null_separated: bool = False) -> list[str]:
    """Names from a list, one per line (or separated by NUL). Empty ones are skipped."""
    data = stream.read()
    names = data.split(b"\0") if null_separated else data.splitlines()
    return [os.fsdecode(name) for name in names if name]


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """A file's bytes.

    Raises:
        InputError: ``not_found``, ``permission_denied``, ``too_large``, ``unreadable``.
    """
    try:
        with path.open("rb") as stream:
            return read_stream(stream, limit)
    except ValueError as error:  # a NUL in the name
        raise InputError("not_found", f"not a valid path: {error}") from None
    except OSError as error:
        raise file_error(error) from None


def file_digest(path: Path, limit: int) -> tuple[str, int]:
    """A file's SHA-256 (hex) and its size in bytes, without holding it in memory.

    Raises:
        InputError: as for `read_file`.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise InputError("too_large", f"more than {limit / 2**20:.0f} MiB of data")
            return hashlib.file_digest(stream, "sha256").hexdigest(), size
    except OSError as error:
        raise file_error(error) from None


def read_stream(stream: BinaryIO, limit: int = MAX_FILE_BYTES) -> bytes:
    """A stream's bytes.

    Args:
        stream: where to read from, to its end.
        limit: largest number of bytes.

    Raises:
        InputError: ``too_large`` when the stream has more than ``limit`` bytes.
    """
    chunks: list[bytes] = []
    total = 0
    while chunk := stream.read(1 << 20):
        total += len(chunk)
        if total > limit:
            raise InputError("too_large", f"more than {limit / 2**20:.0f} MiB of data")
        chunks.append(chunk)
    return b"".join(chunks)


def file_error(error: OSError) -> InputError:
    """An error of the operating system as an `InputError`."""
    kinds: Sequence[tuple[type[OSError], str, str]] = (
        (FileNotFoundError, "not_found", "no such file or folder"),
        (PermissionError, "permission_denied", "permission denied"),
        (IsADirectoryError, "not_a_file", "this is a folder"),
    )
    for kind, slug, text in kinds:
        if isinstance(error, kind):
            return InputError(slug, text)
    return InputError("unreadable", error.strerror or str(error))
