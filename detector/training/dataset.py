"""Labelled pictures for training and evaluation: from folders, or from an index that names them."""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AidetectError, InputError
from ..images.degrade import WAYS
from ..inputs.source import IMAGE_SUFFIXES, WalkOptions, walk

# Numbers of copies that were degraded in one named way (see `degrade.WAYS`); models keep them, so that new
# ways go to the end.
DEGRADED = {name: 101 + place for place, name in enumerate(WAYS)}
REWORKED = 3  # what an index calls a copy that was reworked (see `rework`) and not laundered


@dataclass(frozen=True)
class Example:
    """One labelled picture.

    Attributes:
        path: the picture's file, or the tar archive that holds it.
        member: name in the archive, or ``None``.
        label: 1 for AI-generated, 0 for camera or human made.
        generator: which generator, or what made a real picture.
        source: where it was collected; error rates are reported per source.
        group: the repository that it is of, else the source.
        content: coarse category, e.g. ``photo`` or ``art``.
        view: ``full`` for a whole file; ``tile`` for a native cut; ``whole`` for a reduced picture; ``end``
            for one of the reduced squares of a picture far from square (see `views.whole_views`).
        original: path of the picture (or of the one that a cut was made from) within its group, folder or
            index; it tells pictures apart in files that travel with a model, where ``path`` must not stand.
        copies: most laundered copies that training makes of it; ``None`` for as many as it makes of any.
        laundered: number of the laundered copy that it is already (no others are made of it), `REWORKED` for
            a reworked one; 0 for none.
        also: numbers of further copies that training makes of it, of `DEGRADED`.
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
        """Path, with the member's name behind it."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def picture(self) -> str:
        """What cuts and copies of one picture have in common, and no other picture."""
        return f"{self.group}|{self.original or self.name}"

    @property
    def side(self) -> str:
        """What must stay on one side of a split: the owner of a repository called ``owner/name``, whose
        repositories share cameras, styles and pipelines; else the group.
        """
        return self.group if self.group == self.source else self.group.partition("/")[0]

    def wanted(self, copies: Sequence[int]) -> list[int]:
        """Those of the copies (0 for the clean one) that are made of it; for one that is laundered already,
        the copy that it is.
        """
        if self.laundered:
            return [self.laundered]
        return [*(copy for copy in copies if self.copies is None or copy <= self.copies), *self.also]


class Reader:
    """Reads examples' bytes; keeps each archive open once."""

    def __init__(self) -> None:
        self._archives: dict[Path, dict[str, tuple[int, int]]] = {}

    def read(self, example: Example) -> bytes:
        """Bytes of an example.

        Raises:
            InputError: the file or member is not there.
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
    ``copies``, the most laundered copies that training makes of a row, and ``laundered``, the number of the
    laundered copy that the row's picture is already (`REWORKED` for one that was reworked), and ``also``,
    names of `degrade.WAYS`, with spaces between them, in which training degrades further copies.

    Raises:
        AidetectError: the file cannot be read or a row lacks what it needs.
    """
    examples = []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                label = _LABELS.get((row.get("label") or "").lower())
                file = row.get("shard") or row.get("file")
                if label is None or not file:
                    raise AidetectError(f"{path}, line {number}: needs label (ai|real) and file")
                counts = {name: row.get(name) or "" for name in ("copies", "laundered")}
                for name, count in counts.items():
                    if count and not count.isdecimal():
                        raise AidetectError(f"{path}, line {number}: {name} is {count!r}, not a whole number")
                also = (row.get("also") or "").split()
                if wrong := set(also) - set(DEGRADED):
                    raise AidetectError(f"{path}, line {number}: also names no way called {min(wrong)!r}")
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
                        original=row.get("path")
                        or "/".join(filter(None, [_within(file), row.get("member")])),
                        copies=int(counts["copies"]) if counts["copies"] else None,
                        laundered=int(counts["laundered"] or 0),
                        also=tuple(DEGRADED[name] for name in also),
                    )
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AidetectError(f"cannot read the index {path}: {error}") from None
    if not examples:
        raise AidetectError(f"the index {path} names no pictures")
    return examples


def _within(file: str) -> str:
    """A path of an index as others may see it: the name alone where it leads out of the index's folder."""
    path = Path(file)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def read_folder(folder: Path, label: int) -> list[Example]:
    """Pictures below a folder; each first-level subfolder is a source and a group of its own.

    Raises:
        AidetectError: there is no picture.
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
