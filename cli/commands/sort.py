"""``aidetect sort``: copy or move images into one folder per verdict."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aidetect.detector.errors import InputError
from aidetect.detector.models.checksum import file_sha256

from ..common import (
    CONTEXT,
    ExitCode,
    ends_quietly,
    errors_for_people,
    model_options,
    part_beside,
    progress_bar,
    say,
    utf8_output,
)
from ..files import (
    TABLE_HEAD,
    LocalFile,
    changed,
    detector_for,
    file_options,
    finish,
    local_files,
    make_folder,
    publish,
    raise_error,
    reason,
    scored,
    table_row,
    video_options,
)

_VERDICTS = ("ai", "uncertain", "real")


@click.command(context_settings=CONTEXT)
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option(
    "--into",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the subfolders ai, uncertain and real.",
)
@click.option("--move", is_flag=True, help="Move the files instead of copying them.")
@click.option(
    "--flat", is_flag=True, help="Put all files of a verdict into one folder, without their subfolders."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, but do nothing.")
@file_options
@video_options
@model_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def sort(inputs: tuple[str, ...], **options: Any) -> None:
    """Copy or move images and clips into DIR/ai, DIR/uncertain and DIR/real.

    Files keep their subfolders unless --flat is given. Files that cannot be read stay where they are. DIR
    may be inside a folder that is sorted: its three subfolders are skipped.

    No file is ever overwritten. If a file with the same name and the same bytes exists, nothing is done. If
    its bytes differ, the new file gets a number (photo-2.jpg).

    A copy appears under its name only after its bytes were compared. A moved file is removed from its old
    place only after that, so an interruption cannot lose it.

    \b
    Exit codes:
      0    done
      2    usage error
      3    some files could not be read or written
      4    no images found
      5    model missing or damaged
      130  interrupted

    \b
    Examples:
      aidetect sort ./inbox --into ./sorted --dry-run
      aidetect sort ./inbox --into ./sorted
      aidetect sort ./inbox --into ./inbox --move
    """
    into: Path = options["into"]
    from aidetect.detector.clips.container import has_video

    files = local_files(inputs, options, [into / verdict for verdict in _VERDICTS], has_video())
    if not files:
        say(f"aidetect: no images found outside the folders ai, uncertain and real in {into}")
        raise SystemExit(int(ExitCode.NOTHING))
    if not options["dry_run"]:
        make_folder(into)
    finish(_run(files, options))


def _run(files: list[LocalFile], options: dict[str, Any]) -> ExitCode:
    detector = detector_for(options)
    into, move = options["into"], options["move"]
    planned: dict[Path, str] | None = {} if options["dry_run"] else None
    counts: Counter[str] = Counter()
    utf8_output(newline="")
    click.echo(TABLE_HEAD)
    with errors_for_people(), progress_bar(len(files), options["quiet"]) as bar:
        try:
            for file, record in scored(detector, files, options):
                try:
                    raise_error(record)
                    below = Path(file.relative.name) if options["flat"] else file.relative
                    wanted = into / record.verdict / below
                    action, target = _place(file.path, wanted, record.file_sha256, move, planned)
                except (InputError, OSError) as error:
                    counts["errors"] += 1
                    say(f"aidetect: {record.input}: {reason(error)}")
                    click.echo(table_row(record, "error", f"  ({reason(error)})"))
                else:
                    counts[record.verdict] += 1
                    counts[action] += 1
                    same = "  (a file with the same bytes exists)" if action == "there" else ""
                    click.echo(table_row(record, action, f" -> {target}{same}"))
                bar.update()
        except KeyboardInterrupt:
            done = counts["errors"] + sum(counts[verdict] for verdict in _VERDICTS)
            say(f"aidetect: interrupted after {done} of {len(files)} images; the others are unchanged")
            return ExitCode.INTERRUPTED
    if not options["quiet"]:
        say(_summary(len(files), counts))
    return ExitCode.UNREADABLE if counts["errors"] else ExitCode.OK


def _summary(total: int, counts: Counter[str]) -> str:
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICTS)
    actions = {
        name: counts[name] for name in ("copied", "moved", "to copy", "to move", "there") if counts[name]
    }
    parts = [f"{count} {'there already' if name == 'there' else name}" for name, count in actions.items()]
    if counts["errors"]:
        parts.append(f"{counts['errors']} could not be read or written")
    return f"{total} image{'' if total == 1 else 's'}: {verdicts}; {', '.join(parts)}"


def _place(
    path: Path, wanted: Path, sha256: str, move: bool, planned: dict[Path, str] | None
) -> tuple[str, Path]:
    """Copy or move a file to the wanted name, or to a free one like it.

    Args:
        sha256: hash of the bytes that were scored. If the file has changed since, it is left alone.
        planned: with ``--dry-run``, the names given so far. Nothing is written then.

    Returns:
        What was done, and where the file is now.
    """
    if move and path.is_symlink():
        raise InputError("link", "symbolic links are not moved; give the file it points to")
    if planned is None:
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot create the folder {wanted.parent}: {reason(error)}"
            raise InputError("unwritable", text) from None
    for target in _names_like(wanted):
        if planned is not None and target in planned:
            if planned[target] == sha256:
                return "there", target
        elif os.path.lexists(target):
            if target.is_file() and file_sha256(target) == sha256:
                return "there", target
        elif planned is not None:
            planned[target] = sha256
            return "to move" if move else "to copy", target
        else:
            with contextlib.suppress(FileExistsError):  # another process just took the name
                (_move if move else _copy)(path, target, sha256)
                return "moved" if move else "copied", target
    raise AssertionError("there is always another number")


def _names_like(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _copy(path: Path, target: Path, sha256: str) -> None:
    """Copy a file with its times and mode. The target appears complete, with the bytes that were scored."""
    with part_beside(target) as part:
        digest = hashlib.sha256()
        with path.open("rb") as source, part.open("wb") as sink:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        if digest.hexdigest() != sha256:
            raise changed()
        shutil.copystat(path, part)
        if file_sha256(part) != sha256:
            raise InputError("unwritable", "the copy differs from the original and was deleted")
        publish(part, target)


def _move(path: Path, target: Path, sha256: str) -> None:
    """Move a file, never over another one: make a hard link or a copy, then remove the original."""
    if file_sha256(path) != sha256:
        raise changed()
    try:
        target.hardlink_to(path)
    except FileExistsError:
        raise
    except OSError:  # another device, or no hard links here
        _copy(path, target, sha256)
    try:
        path.unlink()
    except BaseException:
        if os.path.lexists(path):
            target.unlink()
        raise
