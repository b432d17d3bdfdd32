"""``aidetect tag``: write a provenance tag into copies of images, or into the images themselves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aidetect.detector.errors import InputError
from aidetect.detector.inputs.source import Source, read_file

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    ends_quietly,
    errors_for_people,
    model_options,
    part_beside,
    progress_bar,
    say,
    table_or_json,
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
)

if TYPE_CHECKING:
    from aidetect.detector.evidence.provenance import Tagged
    from aidetect.detector.record import Record


@click.command(context_settings=CONTEXT)
@click.argument("inputs", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the tagged copies. Files keep their subfolders.",
)
@click.option("--in-place", is_flag=True, help="Tag the files themselves instead of copies.")
@click.option(
    "--at-least",
    type=click.Choice(["ai", "uncertain"]),
    default="ai",
    show_default=True,
    help="Lowest verdict that is tagged.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files in DIR.")
@click.option(
    "--force", is_flag=True, help="Tag files with a C2PA manifest too. This breaks their signature."
)
@file_options
@model_options
@table_or_json
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@ends_quietly
def tag(inputs: tuple[str, ...], **options: Any) -> None:
    """Tag AI-generated images as such in their metadata.

    The tag is XMP. It sets the IPTC property DigitalSourceType to trainedAlgorithmicMedia, and adds the
    tool, model, probability, verdict and date in aidetect's own namespace. With --at-least
    uncertain, images with the verdict `uncertain` get only the latter.

    In JPEG, PNG and WebP files the tag is embedded. The image data is copied byte for byte, the pixels are
    compared before the file appears, and other metadata is kept. All other formats get a sidecar file,
    NAME.EXT.xmp. So do files with a C2PA manifest and JPEGs with an index of several pictures. Clips are
    not tagged.

    With --in-place a file is replaced in one step. Its mode is kept and its modification time is updated.
    Files that already have the same tag are not changed.

    \b
    Exit codes:
      0    done
      2    usage error
      3    some files could not be read or tagged
      4    no images found
      5    model missing or damaged
      130  interrupted

    \b
    Examples:
      aidetect tag ./folder -o ./tagged
      aidetect tag a.jpg b.png --in-place
      exiftool -G1 -XMP:all ./tagged/a.jpg
    """
    output: Path | None = options["output"]
    if (output is None) != options["in_place"]:
        raise CommandError("give either -o DIR or --in-place")
    if options["overwrite"] and output is None:
        raise CommandError("--overwrite needs -o DIR")
    files = [_no_clip(file) for file in local_files(inputs, options, [] if output is None else [output])]
    if not files:
        where = "" if output is None else f" outside {output}"
        say(f"aidetect: no images found{where}")
        raise SystemExit(int(ExitCode.NOTHING))
    if output is not None:
        make_folder(output)
    finish(_run(files, options))


def _no_clip(file: LocalFile) -> LocalFile:
    """A file; one that is an error if it is a clip, which is then not scored."""
    from aidetect.detector.clips.container import container_of

    if file.source.kind != "file" or not container_of(file.path):
        return file
    error = InputError("unsupported", "this is a clip; tag writes labels into pictures only")
    return LocalFile(Source(file.source.name, "error", error), file.relative)


@dataclass
class _Row:
    """The outcome for one file: the action, the tagged image, and its sidecar."""

    action: str
    output: Path | None = None
    sidecar: Path | None = None
    note: str = ""
    error: str | None = None


def _run(files: list[LocalFile], options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.versions import tool

    tagger = _Tagger(detector_for(options), options)
    counts: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    table = options["format_"] == "table"
    interrupted = False
    utf8_output(newline="")
    if table:
        click.echo(TABLE_HEAD)
    with errors_for_people(), progress_bar(len(files), options["quiet"]) as bar:
        try:
            for file, record in scored(tagger.detector, files, options):
                try:
                    row = tagger.tag(file, record)
                except (InputError, OSError) as error:
                    row = _Row("error", error=reason(error))
                    say(f"aidetect: {record.input}: {row.error}")
                counts[row.action] += 1
                if table:
                    click.echo(table_row(record, row.action, _where(row, file)))
                else:
                    results.append(_json_row(record, row))
                bar.update()
        except KeyboardInterrupt:
            interrupted = True
    if not table:
        report = {"tool": tool(), "model": tagger.model, "images": results, "interrupted": interrupted}
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    if interrupted:
        say(f"aidetect: interrupted after {counts.total()} of {len(files)} images; the others are unchanged")
        return ExitCode.INTERRUPTED
    if not options["quiet"]:
        say(_summary(len(files), counts))
    return ExitCode.UNREADABLE if counts["error"] else ExitCode.OK


def _where(row: _Row, file: LocalFile) -> str:
    place = row.sidecar or row.output
    arrow = f" -> {place}" if place not in (None, file.path) else ""
    note = row.error or row.note
    return f"{arrow}  ({note})" if note else arrow


def _json_row(record: Record, row: _Row) -> dict[str, Any]:
    from aidetect.detector.record import printable, raw_name

    return {
        "input": printable(record.input),
        "input_base64": raw_name(record.input),
        "verdict": record.verdict,
        "probability": record.probability,
        "action": "none" if row.action == "-" else row.action,
        "output": None if row.output is None else printable(str(row.output)),
        "sidecar": None if row.sidecar is None else printable(str(row.sidecar)),
        "note": row.note or None,
        "error": row.error,
    }


def _summary(total: int, counts: Counter[str]) -> str:
    words = {
        "tagged": "tagged",
        "sidecar": "tagged in a sidecar",
        "there": "tagged already",
        "-": "left alone",
        "error": "could not be read or tagged",
    }
    parts = [f"{counts[action]} {text}" for action, text in words.items() if counts[action]]
    return f"{total} image{'' if total == 1 else 's'}: {', '.join(parts)}"


class _Tagger:
    """Tags files one after the other.

    Attributes:
        detector: scores the images.
        model: how a report names its model.
    """

    def __init__(self, detector: Any, options: dict[str, Any]) -> None:
        card = detector.model.card
        self.detector = detector
        self.model = {"name": card.name, "card_sha256": card.sha256, "views": detector.mode}
        self._folder: Path | None = options["output"]
        self._overwrite: bool = options["overwrite"]
        self._force: bool = options["force"]
        self._verdicts = ("ai", "uncertain") if options["at_least"] == "uncertain" else ("ai",)
        self._done: set[Path] = set()

    def tag(self, file: LocalFile, record: Record) -> _Row:
        """Tag a file if its verdict calls for it.

        Raises:
            InputError, OSError: it cannot be tagged. The file and the output folder are unchanged then.
        """
        raise_error(record)
        if record.verdict not in self._verdicts:
            return _Row("-")
        target = file.path if self._folder is None else self._folder / file.relative
        if self._folder is None and target.is_symlink():  # replace the file it points to, not the link
            target = Path(os.path.realpath(target))
        place = Path(os.path.realpath(target))
        if place in self._done:
            if self._folder is None:
                return _Row("there", target, note="the same file as one above")
            raise InputError("exists", f"{target} has just been written from another file")
        data = read_file(file.path)
        if hashlib.sha256(data).hexdigest() != record.file_sha256:
            raise changed()
        row = (
            self._copy(file.path, target, data, record)
            if self._folder
            else self._change(target, data, record)
        )
        self._done.add(place)
        return row

    def _change(self, path: Path, data: bytes, record: Record) -> _Row:
        tagged = self._tagged(path, data, record)
        sidecar = None if tagged.sidecar is None else _beside(path)
        if not tagged.changed:
            return _Row("there", path, sidecar, tagged.note)
        if sidecar is not None and tagged.sidecar is not None:
            _write(tagged.sidecar, sidecar, path, overwrite=True)
            return _Row("sidecar", path, sidecar, tagged.note)
        if not os.access(path, os.W_OK):
            raise InputError("permission_denied", "the file is write-protected")
        _write(tagged.data, path, path, overwrite=True, check=self._same_pixels_as(data))
        return _Row("tagged", path, None, tagged.note)

    def _copy(self, path: Path, target: Path, data: bytes, record: Record) -> _Row:
        tagged = self._tagged(path, data, record)
        sidecar = None if tagged.sidecar is None else _beside(target)
        taken = [name for name in (target, sidecar) if name is not None and os.path.lexists(name)]
        if taken and not self._overwrite:
            if target.is_file() and self._is_there(target, data, record):
                return _Row("there", target, sidecar, tagged.note)
            raise InputError("exists", f"{taken[0]} exists (see --overwrite)")
        target.parent.mkdir(parents=True, exist_ok=True)
        if sidecar is not None and tagged.sidecar is not None:
            _write(tagged.sidecar, sidecar, path, self._overwrite)
        try:
            _write(tagged.data, target, path, self._overwrite, self._same_pixels_as(data))
        except BaseException:
            if sidecar is not None and sidecar not in taken:
                sidecar.unlink()
            raise
        return _Row("sidecar" if sidecar else "tagged", target, sidecar, tagged.note)

    def _tagged(self, path: Path, data: bytes, record: Record) -> Tagged:
        from aidetect.detector.evidence import provenance

        model = self.model
        wanted = provenance.statement(
            record, model["name"], model["card_sha256"], model["views"], datetime.now(UTC)
        )
        sidecar = _beside(path)
        there = read_file(sidecar) if os.path.lexists(sidecar) else None
        tagged = provenance.tag(data, str(record.format), wanted, there, force=self._force)
        if tagged.sealed and tagged.note:
            say(f"aidetect: {record.input}: {tagged.note}")
        return tagged

    def _is_there(self, target: Path, data: bytes, record: Record) -> bool:
        try:
            there = read_file(target)
            return not self._tagged(target, there, record).changed and self._same_pixels_as(data)(there)
        except InputError:
            return False

    def _same_pixels_as(self, before: bytes) -> Callable[[bytes], bool]:
        from aidetect.detector.evidence.provenance import same_pixels

        limits = {"max_pixels": self.detector.max_pixels, "frames": self.detector.frames}
        return lambda after: after == before or same_pixels(before, after, **limits)


def _beside(path: Path) -> Path:
    """The path of an image's sidecar."""
    return path.with_name(f"{path.name}.xmp")


def _write(
    data: bytes,
    target: Path,
    like: Path,
    overwrite: bool,
    check: Callable[[bytes], bool] = lambda written: True,
) -> None:
    """Write a file that appears complete and checked, or not at all.

    Args:
        like: the file whose mode it gets, and whose owner if it replaces that file.
        check: whether the file may appear, given the bytes read back.
    """
    with part_beside(target) as part:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        written = read_file(part)
        if written != data or not check(written):
            raise InputError("pixels_changed", "the pixels would change; nothing was written")
        if like == target:
            with contextlib.suppress(OSError, AttributeError):  # we may not change the owner
                status = like.stat()
                os.chown(part, status.st_uid, status.st_gid)
        shutil.copystat(like, part)
        os.utime(part)
        publish(part, target, overwrite)
