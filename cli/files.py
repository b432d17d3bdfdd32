"""Input files: the options that select them. Output files: how they get their names."""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aidetect.detector.errors import InputError
from aidetect.detector.inputs import stores
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.filters import WalkOptions
from aidetect.detector.inputs.source import Source, file_error

from .common import CommandError, ExitCode, F, add_options, load_detector, result_cache, visible

if TYPE_CHECKING:
    from aidetect.detector.clips.sampling import Sampling


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number", ctx, param)
    return value


max_pixels_option = click.option(
    "--max-pixels",
    type=click.FloatRange(1e-6),
    default=200.0,
    show_default=True,
    callback=_finite,
    metavar="MEGAPIXELS",
    help="Refuse images with more megapixels than this, before decoding them.",
)


frames_option = click.option(
    "--frames",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    metavar="N",
    help="Score at most this many frames of an animation.",
)


def video_options(command: F) -> F:
    """Add ``--video-fps --video-frames``."""
    options = [
        click.option(
            "--video-fps",
            type=click.FloatRange(0, 1000, min_open=True),
            default=1.0,
            show_default=True,
            callback=_finite,
            metavar="FPS",
            help="Score so many frames a second of a clip.",
        ),
        click.option(
            "--video-frames",
            type=click.IntRange(1, 1000),
            default=64,
            show_default=True,
            metavar="N",
            help="Score at most this many frames of a clip, evenly spaced.",
        ),
    ]
    return add_options(command, options)


strict_option = click.option(
    "--strict",
    is_flag=True,
    help="Refuse truncated and damaged files.  [default: judge what can be decoded]",
)
no_cache_option = click.option("--no-cache", is_flag=True, help="Do not read or write the result cache.")


def file_options(command: F) -> F:
    """Add the options that select files, and ``--max-pixels --strict --no-cache``."""
    options = [
        click.option(
            "--recursive/--no-recursive", default=True, show_default=True, help="Include subfolders."
        ),
        click.option(
            "--include",
            multiple=True,
            metavar="GLOB",
            help="In folders, take only files that match this pattern (repeatable).",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="In folders, skip files and folders that match this pattern (repeatable).",
        ),
        click.option("--hidden", is_flag=True, help="In folders, include hidden files and folders."),
        click.option("--all-files", is_flag=True, help="In folders, try every file, whatever its extension."),
        click.option("--no-ignore", is_flag=True, help="In folders, do not apply .aidetectignore files."),
        no_cache_option,
        max_pixels_option,
        strict_option,
    ]
    return add_options(command, options)


def walk_options(options: dict[str, Any], clips: bool = False) -> WalkOptions:
    """How `file_options` say that folders are searched, and whether clips are looked for too."""
    return WalkOptions(
        recursive=options["recursive"],
        hidden=options["hidden"],
        include=options["include"],
        exclude=options["exclude"],
        all_files=options["all_files"],
        clips=clips,
        ignore=not options["no_ignore"],
        archives=options.get("archives", False),
    )


@dataclass(frozen=True)
class LocalFile:
    """A file that was selected.

    Attributes:
        source: what to score.
        relative: its path relative to the folder that was given, or just its name if the file itself was.
    """

    source: Source
    relative: Path

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self.source.name)


def local_files(
    inputs: Iterable[str], options: dict[str, Any], left_out: Iterable[Path] = (), clips: bool = False
) -> list[LocalFile]:
    """The files that inputs and `file_options` select, each once, without those in ``left_out`` folders.

    Args:
        inputs: files and folders.
        options: those of the command.
        left_out: folders.
        clips: whether clips in folders count.

    Raises:
        CommandError: an input is an address, an archive, or standard input.
    """
    walk = walk_options(options, clips)
    closed = [Path(os.path.realpath(folder)) for folder in left_out]
    found: dict[Path, LocalFile] = {}
    for name in inputs:
        if stores.scheme_of(name) and not os.path.lexists(name):
            raise CommandError(f"{name}: this command takes only files and folders")
        for source in expand([name], walk):
            if source.kind == "stdin":
                raise CommandError(f"{name}: this command takes only files and folders")
            if source.kind == "archive":
                text = "this is an archive, and this command takes only files and folders; unpack it first"
                raise CommandError(f"{source.name}: {text}")
            path = Path(source.name)
            place = Path(os.path.realpath(path.parent)) / path.name
            if any(place.is_relative_to(folder) for folder in closed):
                continue
            below = source.kind == "file" and Path(name).is_dir()
            relative = path.relative_to(name) if below else Path(path.name)
            found.setdefault(place, LocalFile(_regular(source), relative))
    return list(found.values())


def _regular(source: Source) -> Source:
    with contextlib.suppress(OSError):  # reading it will report what is wrong
        if source.kind == "file" and not stat.S_ISREG(Path(source.name).stat().st_mode):
            return Source(source.name, "error", InputError("not_a_file", "this is not a regular file"))
    return source


def detector_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `Detector` takes besides model, device and mode, as far as a command has it."""
    megapixels = options.get("max_pixels")
    return {
        "batch_size": options["batch_size"],
        "workers": options["workers"],
        "max_pixels": None if megapixels is None else int(megapixels * 1e6),
        "frames": options.get("frames"),
        "strict": options.get("strict"),
        "sampling": _sampling(options),
    }


def _sampling(options: dict[str, Any]) -> Sampling | None:
    if "video_fps" not in options:
        return None
    from aidetect.detector.clips.sampling import Sampling

    return Sampling(options["video_fps"], options["video_frames"])


def detector_for(options: dict[str, Any]) -> Any:
    """The detector for `model_options`, and ``--max-pixels --frames --strict`` if the command has them."""
    return load_detector(
        options["model"],
        options["device"],
        options["mode"],
        precision=options["precision"],
        **detector_options(options),
    )


def scored(detector: Any, files: list[LocalFile], options: dict[str, Any]) -> Iterator[tuple[LocalFile, Any]]:
    """Files with their records, in order."""
    with result_cache(detector, not options["no_cache"]) as cache:
        stream = detector.stream([file.source for file in files], cache=cache)
        with contextlib.closing(stream):
            yield from zip(files, stream, strict=True)


def raise_error(record: Any) -> None:
    """Raise the error of a record that has one.

    Raises:
        InputError: the image could not be read or decoded.
    """
    if record.error:
        raise InputError(record.error["type"], record.error["message"])


TABLE_HEAD = f"{'AI':>6}  {'verdict':<9}  {'action':<7}  image"


def table_row(record: Any, action: str, rest: str) -> str:
    """A row of the table: score, action, name, and the rest."""
    from .formats.writers import percent

    probability = "-" if record.probability is None else percent(record.probability)
    name = visible(f"{record.input}{rest}")
    return f"{probability:>6}  {record.verdict or '-':<9}  {action:<7}  {name}"


def finish(code: ExitCode) -> None:
    """End the command with an exit code."""
    sys.stdout.flush()
    if code == ExitCode.INTERRUPTED:  # at once: a reading thread may hang on a pipe or a dead mount
        os._exit(int(code))
    raise SystemExit(int(code))


def reason(error: InputError | OSError) -> str:
    """An error as a message."""
    return str(file_error(error) if isinstance(error, OSError) else error)


def changed() -> InputError:
    """The error for a file whose bytes are no longer those that were scored."""
    return InputError("changed", "the file changed after it was scored")


def make_folder(path: Path) -> None:
    """Create an output folder if it does not exist.

    Raises:
        CommandError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot create the folder {path}: {reason(error)}") from None


def publish(part: Path, target: Path, overwrite: bool = False) -> None:
    """Give a complete file its name in one step.

    Raises:
        FileExistsError: the name is taken and ``overwrite`` is false.
    """
    if overwrite:
        part.replace(target)
    else:
        try:
            target.hardlink_to(part)  # unlike a rename, fails if the name is taken
        except FileExistsError:
            raise
        except OSError:  # no hard links here
            if os.path.lexists(target):
                raise FileExistsError(f"{target} exists") from None
            part.replace(target)
    with contextlib.suppress(OSError):  # not possible on every system
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
