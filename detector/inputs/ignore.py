"""``.aidetectignore`` files: what a walk through folders leaves out, by the rules of gitignore."""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

NAME = ".aidetectignore"
MAX_BYTES = 2**18
_LONGEST = 4096  # longest line; no path is longer


@dataclass(frozen=True)
class _Rule:
    """One line of a file: a pattern for each name of a path, ``None`` for any number of folders (``**``)."""

    segments: tuple[re.Pattern[str] | None, ...]
    negated: bool
    folders_only: bool
    by_name: bool

    def matches(self, names: Sequence[str], is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return _match(self.segments, names[-1:] if self.by_name else names)


@dataclass(frozen=True)
class Rules:
    """The rules that apply in one folder.

    Attributes:
        path: names on the way to the folder from the topmost folder whose rules apply.
        levels: for each folder with rules, deepest first: the number of names on the way to it, and its
            rules, last one first. The first rule that matches decides, as in git.
    """

    path: tuple[str, ...] = ()
    levels: tuple[tuple[int, tuple[_Rule, ...]], ...] = ()

    def leave_out(self, name: str, is_folder: bool) -> bool:
        """Whether an entry of this folder is ignored."""
        if not self.levels:
            return False
        names = (*self.path, name)
        for depth, rules in self.levels:
            below = names[depth:]
            for rule in rules:
                if rule.matches(below, is_folder):
                    return not rule.negated
        return False

    def inside(self, name: str) -> Rules:
        """The rules for a subfolder, without those of its own file, which `read` adds."""
        return replace(self, path=(*self.path, name))

    def read(self, folder: Path, on_error: Callable[[Path, OSError], None]) -> Rules:
        """These rules and those of the file in this folder.

        A file that cannot be used is passed to ``on_error``, and its rules are skipped. So more is scanned,
        never less.
        """
        try:
            return self._and(_read(folder / NAME))
        except OSError as error:
            on_error(folder / NAME, error)
            return self

    def with_text(self, data: bytes) -> Rules:
        """These rules and those of a file with this content in this folder.

        Raises:
            OSError: it cannot be used.
        """
        return self._and(_rules(data))

    def _and(self, rules: tuple[_Rule, ...]) -> Rules:
        return replace(self, levels=((len(self.path), rules), *self.levels)) if rules else self


def above(folder: Path, on_error: Callable[[Path, OSError], None]) -> Rules:
    """Rules for a folder from the folders above it, up to the root of its repository (where ``.git`` is).

    Outside a repository there are none, because strangers may write to shared folders above. Rules that match
    the folder itself, or a folder above it, are not applied: a folder that is named is always scanned.
    """
    real = Path(os.path.realpath(folder))
    chain = [real, *real.parents]
    top = next((n for n, place in enumerate(chain) if os.access(place / ".git", os.F_OK)), 0)
    rules = Rules()
    for n in range(top, 0, -1):
        rules = rules.read(chain[n], on_error).inside(chain[n - 1].name)
    return rules


def _read(path: Path) -> tuple[_Rule, ...]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe might never end
            raise OSError(errno.EINVAL, "not a regular file; its rules are not used")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    return _rules(data)


def _rules(data: bytes) -> tuple[_Rule, ...]:
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"over {MAX_BYTES // 1024} KiB of rules; they are not used")
    if b"\0" in data:
        raise OSError(errno.EILSEQ, "not UTF-8 text; its rules are not used")
    # Bytes that are not UTF-8 become surrogates, as in file names.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    found = [_parse(line.removesuffix("\r")) for line in text.split("\n")]
    return tuple(rule for rule in reversed(found) if rule)


def _parse(line: str) -> _Rule | None:
    """A line's rule; ``None`` for comments, empty lines, and patterns that match nothing.

    A set that holds a slash, a backslash, a named class or a reversed range counts as matching nothing.
    """
    if line.startswith("#") or len(line) > _LONGEST:
        return None
    line = _without_spaces(line)
    glob = line.removeprefix("!")
    folders_only = glob.endswith("/")
    glob = glob.removesuffix("/")
    by_name = "/" not in glob
    parts = glob.removeprefix("/").split("/")
    if by_name and not glob.strip("*"):
        parts = ["*"] if glob else []
    elif _any_depth(parts[-1]):  # everything inside the folder, but not the folder itself
        parts.append("*")
    try:
        segments = tuple(None if _any_depth(part) else _compile(part) for part in parts)
    except (ValueError, re.error):
        return None
    return _Rule(segments, line.startswith("!"), folders_only, by_name) if segments else None


def _without_spaces(line: str) -> str:
    """A line without trailing spaces, except one after a backslash."""
    bare = line.rstrip(" ")
    escaped = (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
    return f"{bare} " if escaped and bare != line else bare


def _any_depth(part: str) -> bool:
    return len(part) > 1 and not part.strip("*")


_STAR = "[^/]*"
# An escaped character, a set (which may lack its end), or any other character.
_TOKEN = re.compile(r"\\.|\[[!^]?\]?[^\]]*\]?|.", re.DOTALL)


def _compile(glob: str) -> re.Pattern[str]:
    """The pattern for one name followed by a slash.

    Raises:
        ValueError, re.error: the pattern can match nothing.
    """
    from pathspec import GitIgnoreSpec

    if any(len(token) > 2 and ("\\" in token or "[:" in token) for token in _TOKEN.findall(glob)):
        raise ValueError("pathspec reads escapes and named classes in sets in another way than git")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about [[ and the like in sets
        (rule,) = GitIgnoreSpec.from_lines([f"/{glob}/"]).patterns
        if rule.regex is None:
            raise ValueError("no pattern")
        # Between two stars the first match is as good as any later one, so atomic groups are safe. Without
        # them a hostile *a*a*a*a*a*b would take practically forever.
        first, *others = rule.regex.pattern.split(_STAR)
        inner = "".join(f"(?>{_STAR}?{part})" for part in others[:-1])
        return re.compile(first + inner + "".join(_STAR + part for part in others[-1:]))


def _match(segments: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Whether segments match names. A segment matches one name, ``None`` any number of names."""
    at = name = 0
    again: tuple[int, int] | None = None
    while name < len(names):
        segment = segments[at] if at < len(segments) else _NOTHING
        if segment is None:
            at += 1
            again = at, name
        elif segment.fullmatch(f"{names[name]}/"):
            at += 1
            name += 1
        elif again:
            again = again[0], again[1] + 1
            at, name = again
        else:
            return False
    return at == len(segments)


_NOTHING = re.compile(r"(?!)")
