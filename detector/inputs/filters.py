"""Which names are taken of those that a folder, a bucket or an archive holds."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .ignore import Rules

IMAGE_SUFFIXES = frozenset(
    """
    .apng .avif .avifs .bmp .dib .gif .heic .heics .heif .heifs .hif .icb .ico .j2c .j2k .jfif .jif .jp2
    .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .pbm .pcx .pgm .png .pnm .ppm .psd .qoi .rgb .sgi .tga .tif .tiff .vda
    .webp .xbm .xpm
    """.split()
)
CLIP_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .qt .webm".split())
ARCHIVE_SUFFIXES = tuple(
    """
    .zip .cbz .tar .cbt .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz .tar.zst .tzst .7z .cb7 .pdf
    """.split()
)


@dataclass(frozen=True)
class WalkOptions:
    """Which files a walk through a folder, a bucket or an archive finds.

    Attributes:
        recursive: go into subfolders.
        hidden: include files and folders whose name begins with a dot.
        include: glob patterns; if any is given, a file must match one (by name or relative path).
        exclude: glob patterns of files and folders to leave out.
        all_files: include every regular file, not only those with an image's suffix.
        ignore: leave out what ``.aidetectignore`` files list, by the rules of gitignore. The files count in
            the folder, in its subfolders, and above it up to the root of its repository.
        clips: include files with a clip's suffix too.
        archives: enter files named like archives. One that is given by name is entered in any case.
    """

    recursive: bool = True
    hidden: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    all_files: bool = False
    ignore: bool = True
    clips: bool = False
    archives: bool = False


DEFAULT = WalkOptions()


@dataclass(frozen=True)
class Place:
    """A folder that is searched, or something like one.

    Attributes:
        options: which names are taken.
        rules: the ignore rules of this folder.
        prefix: what comes before a name in its relative path: empty, or folders with a slash at the end.
    """

    options: WalkOptions
    rules: Rules = field(default_factory=Rules)
    prefix: str = ""

    def inside(self, name: str, joint: str = "/") -> Place:
        """A subfolder, without the rules of its own file."""
        return Place(self.options, self.rules.inside(name), f"{self.prefix}{name}{joint}")

    def leaves_out(self, name: str, is_folder: bool) -> bool:
        """Whether an entry is hidden, excluded or ignored."""
        hidden = name.startswith(".") and name not in (".", "..")
        if hidden and not self.options.hidden:
            return True
        return _matches(f"{self.prefix}{name}", name, self.options.exclude) or self.rules.leave_out(
            name, is_folder
        )

    def wants(self, name: str) -> bool:
        """Whether a file that is not left out is taken as a picture or a clip."""
        if self.options.include:
            return _matches(f"{self.prefix}{name}", name, self.options.include)
        if self.options.all_files or PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            return True
        return self.options.clips and is_clip_name(name)


def is_clip_name(name: str) -> bool:
    """Whether a file is named like a clip."""
    return PurePosixPath(name).suffix.lower() in CLIP_SUFFIXES


def is_archive_name(name: str) -> bool:
    """Whether a file is named like an archive or a PDF."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


class Members:
    """Which members of an archive are taken: the rules of folders, applied to their whole paths.

    Args:
        place: the archive, as a folder.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        # Members of one folder mostly follow one another.
        self._folder = functools.lru_cache(64)(self._find_folder)

    def place_of(self, path: str) -> tuple[Place, str] | None:
        """The folder and the name of a member, or ``None`` if it is left out."""
        names = [name for name in path.split("/") if name not in ("", ".")]
        if not names or (len(names) > 1 and not self._place.options.recursive):
            return None
        place = self._folder(tuple(names[:-1]))
        if place is None or place.leaves_out(names[-1], False):
            return None
        return place, names[-1]

    def _find_folder(self, names: tuple[str, ...]) -> Place | None:
        place = self._place
        for name in names:
            if place.leaves_out(name, True):
                return None
            place = place.inside(name)
        return place


def _matches(relative: str, name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(relative, p) for p in patterns)
