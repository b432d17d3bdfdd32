"""Labelled pictures for training and evaluation, from folders or from an index file."""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AidetectError, InputError
from ..images.degrade import WAYS
from ..inputs.filters import IMAGE_SUFFIXES, WalkOptions
from ..inputs.walk import walk

# Numbers of copies that were degraded in one named way (see `degrade.WAYS`). Models store these numbers, so
# new ways must be added at the end.
DEGRADED = {name: 101 + place for place, name in enumerate(WAYS)}
REWORKED = 3  # number in an index for a copy that was reworked (see `rework`), not laundered


@dataclass(frozen=True)
class Example:
    """One labelled picture.

    Attributes:
        path: the picture's file, or the tar archive that holds it.
        member: name in the archive, or ``None``.
        label: 1 for AI-generated, 0 for real (made by a camera or by hand).
        generator: the generator, or what made a real picture.
        source: where it was collected; error rates are reported per source.
        group: the repository it comes from, else the source.
        content: coarse category, e.g. ``photo`` or ``art``.
        view: ``full`` for a whole file; ``tile`` for a native cut; ``whole`` for a reduced picture; ``end``
            for one of the reduced squares of a picture far from square (see `views.whole_views`).
        original: path of the picture (or of the one that a cut was made from) within its group, folder or
            index. It identifies pictures in the files of a model, which must not contain ``path``.
        copies: largest number of laundered copies that training makes of it; ``None`` for no own limit.
        laundered: if the file is a laundered copy already, its number, or `REWORKED` for a reworked one
            (training makes no other copies of it); else 0.
        also: numbers of further copies that training makes of it, from `DEGRADED`.
    """

    path: Path
    label: int
    generator: str
    source: str
    group: str
    content: str = "unknown"
    member: str | None = None
    view: str = "full"
    original: str = ""
    copies: int | None = None
    laundered: int = 0
    also: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Path, followed by the member's name if there is one."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def picture(self) -> str:
        """Identifier of the picture, the same for all its cuts and copies."""
        return f"{self.group}|{self.original or self.name}"

    @property
    def side(self) -> str:
        """The owner of a repository called ``owner/name``, else the group.

        Pictures of one side are never split between fitting and testing: repositories of one owner share
        cameras, styles and pipelines.
        """
        return owner(self.group, self.source)

    def wanted(self, copies: Sequence[int]) -> list[int]:
        """Which of the copies (0 is the clean one) are made of it.

        For a file that is a laundered copy already, its own number.
        """
        if self.laundered:
            return [self.laundered]
        return [*(copy for copy in copies if self.copies is None or copy <= self.copies), *self.also]


def owner(group: str, source: str) -> str:
    """The owner of a repository called ``owner/name``, else the group (see `Example.side`)."""
    return group if group == source else group.partition("/")[0]


class Reader:
    """Reads examples' bytes. The contents of each archive are listed only once."""

    def __init__(self) -> None:
        self._archives: dict[Path, dict[str, tuple[int, int]]] = {}

    def read(self, example: Example) -> bytes:
        """Bytes of an example.

        Raises:
            InputError: ``not_found``: the archive has no such member; ``unreadable``.
        """
        try:
            if example.member is None:
                return example.path.read_bytes()
            members = self._archives.get(example.path)
            if members is None:
                with tarfile.open(example.path) as archive:
                    members = {m.name: (m.offset_data, m.size) for m in archive if m.isfile()}
                self._archives[example.path] = members
            offset, size = members[example.member]
            with example.path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except KeyError:
            raise InputError("not_found", f"{example.path} has no {example.member}") from None
        except (OSError, tarfile.TarError) as error:
            raise InputError("unreadable", f"cannot read {example.name}: {error}") from None


_LABELS = {"ai": 1, "1": 1, "real": 0, "0": 0, "human": 0}


def read_index(path: Path) -> list[Example]:
    """Read an index: a CSV with ``label`` and either ``file`` or ``shard`` and ``member``.

    Paths are relative to the index. Optional columns: ``view, generator, source, repo, content, path``,
    ``copies`` and ``laundered`` as for `Example`, and ``also``, names of `degrade.WAYS` separated by spaces:
    training makes a copy degraded in each of these ways.

    Raises:
        AidetectError: the file cannot be read, or a row is incomplete.
    """
    examples = []
    for number, row in _rows(path, f"the index {path}"):
        label = _LABELS.get((row.get("label") or "").lower())
        file = row.get("shard") or row.get("file")
        if label is None or not file:
            raise AidetectError(f"{path}, line {number}: needs a label (ai or real) and a file")
        counts = {name: row.get(name) or "" for name in ("copies", "laundered")}
        for name, count in counts.items():
            if count and not count.isdecimal():
                raise AidetectError(f"{path}, line {number}: {name} is {count!r}, not a whole number")
        also = (row.get("also") or "").split()
        if wrong := set(also) - set(DEGRADED):
            raise AidetectError(f"{path}, line {number}: unknown way {min(wrong)!r} in column also")
        generator = row.get("generator") or ("unknown-ai" if label else "unknown-human")
        source = row.get("source") or row.get("repo") or generator
        examples.append(
            Example(
                path=path.parent / file,
                member=row.get("member") or None,
                label=label,
                generator=generator,
                source=source,
                group=row.get("repo") or source,
                content=row.get("content") or "unknown",
                view=row.get("view") or "full",
                original=row.get("path") or "/".join(filter(None, [_within(file), row.get("member")])),
                copies=int(counts["copies"]) if counts["copies"] else None,
                laundered=int(counts["laundered"] or 0),
                also=tuple(DEGRADED[name] for name in also),
            )
        )
    if not examples:
        raise AidetectError(f"the index {path} lists no pictures")
    return examples


def read_left_out(path: Path) -> set[str]:
    """Pictures that training leaves out: identifiers (see `Example.picture`).

    The file is a CSV with the columns ``repo`` (the group) and ``path`` (the original).

    Raises:
        AidetectError: the file cannot be read, or a row is incomplete.
    """
    found = set()
    for number, row in _rows(path, str(path)):
        if not row.get("repo") or not row.get("path"):
            raise AidetectError(f"{path}, line {number}: needs the columns repo and path")
        found.add(f"{row['repo']}|{row['path']}")
    return found


def _rows(path: Path, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, each with the number of its line.

    Args:
        name: what the file is called in the error.

    Raises:
        AidetectError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            yield from enumerate(csv.DictReader(stream), start=2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AidetectError(f"cannot read {name}: {error}") from None


def _within(file: str) -> str:
    """A path of an index in the form that may be published.

    For a path outside the index's folder that is the file name only.
    """
    path = Path(file)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def read_folder(folder: Path, label: int) -> list[Example]:
    """Pictures below a folder. Each first-level subfolder is a source and a group.

    Raises:
        AidetectError: the folder has no pictures.
    """
    examples = []
    blank = Example(folder, label, "unknown-ai" if label else "unknown-human", folder.name, folder.name)
    for file in walk(folder, WalkOptions(ignore=False)):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        parts = Path(os.path.relpath(file, folder)).parts
        source = f"{folder.name}/{parts[0]}" if len(parts) > 1 else folder.name
        generator = parts[0] if label and len(parts) > 1 else blank.generator
        within = "/".join(parts)
        examples.append(
            replace(blank, path=file, source=source, group=source, generator=generator, original=within)
        )
    if not examples:
        raise AidetectError(f"no pictures in {folder}")
    return examples
