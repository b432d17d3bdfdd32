"""Inputs and outputs that are more than files and folders: archives, object stores, long listings."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from aidetect.detector.clips.container import has_video
from aidetect.detector.errors import InputError
from aidetect.detector.inputs import archives, stores
from aidetect.detector.inputs.ahead import Ahead
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.fetch import FetchOptions
from aidetect.detector.inputs.filters import WalkOptions, is_clip_name
from aidetect.detector.inputs.selection import Selection, selected
from aidetect.detector.inputs.source import Source, file_error

from .common import CommandError, F, add_options

_TALKATIVE = "aiobotocore aiohttp asyncio azure botocore fsspec gcsfs google pypdf py7zr s3fs".split()
_AGO = re.compile(r"(\d{1,6})([hdw])")
_SECONDS = {"h": 3600, "d": 86400, "w": 604800}


class _Date(click.ParamType[str]):
    """A date or an age, as text that `_seconds` understands."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            _seconds(value)
        except (ValueError, OverflowError, OSError):
            examples = "2026-11-30, 2026-11-30T18:00, 12h, 7d or 2w"
            self.fail(f"{value!r} is no date or age such as {examples}", param, ctx)
        return str(value)


def _seconds(text: str) -> float:
    """A date, or how long ago, as seconds since the epoch.

    Raises:
        ValueError, OverflowError, OSError: it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    return datetime.fromisoformat(text).timestamp()


class OutputPath(click.Path):
    """A path of a file or a folder, or an address that fsspec knows."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A `Path`, or an address as text."""
        if isinstance(value, str) and stores.scheme_of(value):
            return value
        return super().convert(value, param, ctx)


def place_options(command: F) -> F:
    """Add ``--archives``, and what chooses from long listings."""
    options = [
        click.option(
            "--archives/--no-archives",
            default=False,
            show_default=True,
            help="In folders and buckets, enter archives and PDF files. Those that are named are always "
            "entered.",
        ),
        click.option(
            "--since",
            type=_Date(),
            metavar="DATE",
            help="Leave out what was changed before a date (2026-11-30, 2026-11-30T18:00) or longer ago than "
            "12h, 7d, 2w.",
        ),
        click.option(
            "--newer-than",
            type=click.Path(exists=True, path_type=Path),
            metavar="FILE",
            help="Leave out what was not changed after this file.",
        ),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only the first N images."),
        click.option(
            "--sample",
            type=click.IntRange(1),
            metavar="N",
            help="Take N images at random. All names are listed before the first image is scored.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of --sample."),
    ]
    return add_options(command, options)


class Inputs:
    """The sources of a command, listed ahead of the scoring.

    Args:
        names: inputs as given.
        walk: which files of folders, buckets and archives are taken.
        selection: which of them are scored.
        fetch: how addresses are read.
    """

    def __init__(
        self, names: Iterable[str], walk: WalkOptions, selection: Selection, fetch: FetchOptions
    ) -> None:
        given = set(names := list(names))
        decodable = has_video()
        self.not_entered = 0  # archives that were left out
        self.not_decoded = 0  # clips that were found and left out, for want of the extra

        def left_out(name: str) -> None:
            self.not_entered += 1

        def enter(sources: Iterable[Source]) -> Iterator[Source]:
            return archives.entered(sources, fetch, left_out)

        def known(source: Source) -> bool:
            if decodable or source.name in given or not is_clip_name(source.name):
                return True
            self.not_decoded += 1
            return False

        for name in _TALKATIVE:  # what is wrong is said in the records
            logging.getLogger(name).addHandler(logging.NullHandler())
        found = enter(expand(names, walk, fetch, left_out))
        self.ahead = Ahead(archives.loaded(selected(filter(known, found), selection, enter)))

    @property
    def hint(self) -> str:
        """What to say about archives and clips that were left out; empty if there were none."""
        said = []
        if self.not_entered:
            one = self.not_entered == 1
            what = "1 archive or PDF was" if one else f"{self.not_entered} archives or PDFs were"
            said.append(f"{what} not entered (--archives enters them)")
        if self.not_decoded:
            what = "1 clip was" if self.not_decoded == 1 else f"{self.not_decoded} clips were"
            said.append(f"{what} left out; to scan clips: pip install 'aidetect[video]'")
        return "; ".join(said)


def selection(options: dict[str, Any]) -> Selection:
    """What `place_options` say of the choice from long listings."""
    newer: Path | None = options["newer_than"]
    try:
        mtime = None if newer is None else newer.stat().st_mtime
    except OSError as error:
        raise CommandError(f"--newer-than {newer}: {file_error(error)}") from None
    since = None if options["since"] is None else _seconds(options["since"])
    return Selection(since, mtime, options["limit"], options["sample"], options["seed"])


def one_source(name: str, fetch: FetchOptions) -> Source:
    """The only source that an input names.

    Raises:
        InputError: it cannot be used, or is a folder or an archive.
    """
    source = next(expand([name], WalkOptions(recursive=False), fetch), None)
    if source is None or (source.kind in ("file", "remote") and not _is_named(name, source)):
        raise InputError("not_a_file", "this is a folder; give one image, or use aidetect scan")
    if source.kind == "archive":
        if source.member is None:
            text = "this is an archive; give one member as ARCHIVE!/MEMBER, or use aidetect scan"
            raise InputError("not_a_file", text)
        source = next(archives.loaded(archives.entered([source], fetch)))
    if source.error is not None:
        raise source.error
    return source


def _is_named(name: str, source: Source) -> bool:
    return name in (source.location, f"file://{source.location}", f"local://{source.location}")


@contextlib.contextmanager
def published(output: Path | str | None) -> Iterator[Path | None]:
    """A path to write to. What is given as an address is written there at the end, whole or not at all.

    Raises:
        CommandError: it cannot be written. The file is then kept, and the message says where.
    """
    if not isinstance(output, str):
        yield output
        return
    folder = Path(tempfile.mkdtemp(prefix="aidetect-"))
    path = folder / (output.rstrip("/").rpartition("/")[2] or "report")
    kept = False
    try:
        yield path
        if path.exists():
            base = output.rpartition("/")[0]
            try:
                for file in sorted(folder.iterdir(), key=lambda file: file == path):  # further pages first
                    stores.write(f"{base}/{file.name}", file)
            except InputError as error:
                kept = True
                raise CommandError(f"cannot write {output}: {error}; the report is kept as {path}") from None
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def check_output(output: Path | str | None) -> None:
    """Find out before the long work whether an output can be written.

    Raises:
        CommandError: it is a folder; or there is no such store or bucket, or no permission to use it.
    """
    if isinstance(output, Path) and output.is_dir():
        raise CommandError(f"cannot write {output}: this is a folder")
    try:
        if isinstance(output, str):
            stores.check_writable(output)
    except InputError as error:
        raise CommandError(f"cannot write {output}: {error}") from None
