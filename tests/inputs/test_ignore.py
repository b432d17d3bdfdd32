"""Ignore files: the rules of gitignore, held against git itself, and files that are hostile or broken."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import encode, gradient, within
from hypothesis import given
from hypothesis import strategies as st

from aidetect.cli.main import main
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.filters import WalkOptions
from aidetect.detector.inputs.ignore import MAX_BYTES, NAME
from aidetect.detector.inputs.walk import walk

EVERYTHING = WalkOptions(hidden=True, all_files=True, exclude=(".git", ".gitignore", NAME))
ODD = "\udce9\udcff"  # bytes that are not UTF-8, as Python shows them in names

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def fill(folder: Path, names: Iterable[str]) -> Path:
    """Make files (and the folders they lie in) below a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def write(folder: Path, rules: str | bytes) -> None:
    """Give a folder rules: ours, and the same for git."""
    data = rules if isinstance(rules, bytes) else rules.encode("utf-8", "surrogateescape")
    for name in (NAME, ".gitignore"):
        (folder / name).write_bytes(data)


def ours(folder: Path, options: WalkOptions = EVERYTHING) -> list[str]:
    """What a walk finds, relative to the folder."""
    return sorted(os.path.relpath(path, folder) for path in walk(folder, options))


def of_git(folder: Path) -> list[str]:
    """What git finds."""
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=folder,
        env=os.environ | nothing,
        check=True,
        capture_output=True,
    ).stdout
    found = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    return sorted(name for name in found if Path(name).name not in (NAME, ".gitignore"))


# --- held against git ---------------------------------------------------------------------------------

TREE = [
    *(
        "a.png",
        "b.png",
        "c.jpg",
        "x y.png",
        "trailing ",
        "#hash.png",
        "!bang.png",
        "[ab].png",
        "back\\slash.png",
    ),
    *("*star.png", "tab\t", "a-b.png", "B.PNG", ".dot.png", "new\nline.png", "ends\n", "\nstarts.png"),
    *(f"{ODD}.png", f"{ODD}/a.png", "new\nfolder/a.png", "new\nfolder/x/b.png", "a/a/a.png", "a/b/a/c.jpg"),
    *("keep/a.png", "keep/b.png", "keep/deep/a.png", "keep/deep/c.jpg", "a/b/b.png", "sub/a.png"),
    *("sub/keep/a.png", "sub/deep/keep/a.png", "sub/deep/er/c.jpg", "sub/x y/a.png"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with files of all sorts of names, none of them tracked."""
    folder = fill(tmp_path_factory.mktemp("repository"), TREE)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


@pytest.fixture
def clean(repository: Path) -> Iterator[Path]:
    """The repository, its rules removed afterwards."""
    yield repository
    for name in (NAME, ".gitignore"):
        for path in list(repository.rglob(name)):
            path.unlink()


@needs_git
@pytest.mark.parametrize(
    "rules",
    [
        "*.png",
        "*.png\n!a.png",
        "!a.png\n*.png",
        "keep",
        "keep/",
        "/keep",
        "/keep/",
        "a.png/",
        "keep/\n!keep/a.png",
        "keep/*\n!keep/a.png",
        "keep/**\n!keep/a.png",
        "keep/**/a.png",
        "**/keep",
        "**/keep/**",
        "**",
        "**/",
        "/**",
        "/*\n!/sub/\n/sub/*\n!/sub/deep/",
        "*\n!*/\n!*.jpg",
        "sub/**/a.png",
        "a/**/c.jpg",
        "sub/*/a.png",
        "**/deep/**/*.jpg",
        "a*\n!a*/",
        "a\n!a/\n!a/**",
        "x y.png",
        "x*",
        "trailing ",
        "trailing\\ ",
        "trailing\\  ",
        "tab\t",
        "sub/x y/",
        "#hash.png",
        "\\#hash.png",
        "!bang.png",
        "\\!bang.png",
        "*.png\n!\\!bang.png",
        "\\[ab\\].png",
        "[ab].png",
        "[!a].png",
        "[^ab].png",
        "[a-b]?b.png",
        "[]a[].png",
        "back\\\\slash.png",
        "back\\slash.png",
        "\\*star.png",
        "*line*",
        "new?line.png",
        "new*/",
        "ends?",
        "*starts.png",
        f"{ODD}.png",
        f"{ODD}/",
        f"[{ODD}]?.png",
        "B.png",
        ".*",
        "",
        "!",
        "/",
        "//",
        "a//b",
        "ends\\",
        "[a",
        "[z-a].png",
        "[[:alpha:",
        "***",
        "***/a.png",
        "./a.png",
        "../a.png",
        "\n\n# note\n   \n*.jpg\n",
        "a.png\r\nsub/\r\n",
        b"\xef\xbb\xbfa.png\n",
        b"\xef\xbb\xbf# note\nb.png",
    ],
)
def test_a_rule_does_what_it_does_in_git(clean: Path, rules: str | bytes) -> None:
    write(clean, rules)
    assert ours(clean) == of_git(clean)


@needs_git
def test_rules_of_deeper_folders_come_first_as_in_git(clean: Path) -> None:
    write(clean, "*.png\n/sub/deep/keep/a.png\nkeep/deep/")
    write(clean / "sub", "!a.png\n/x y/")
    write(clean / "sub" / "deep", "/a.png\n/keep/\n!/keep/")
    write(clean / "keep" / "deep", "!*")  # its folder is ignored, so it is not read
    found = ours(clean)
    assert found == of_git(clean)
    assert "sub/deep/keep/a.png" in found
    assert "sub/x y/a.png" not in found
    assert "keep/deep/c.jpg" not in found


_ATOMS = ["a", "b", "keep", "sub", "deep", "png", ".", "*", "?", "[ab]", "[!a]", "[^k]", "[a-p]", " ", "\\ "]
_ATOMS += ["\\#", "\\!", "\\*", "\\\\", "#", "!", "-", "\t", ODD, "x"]
_PARTS = st.one_of(st.just("**"), st.lists(st.sampled_from(_ATOMS), min_size=1, max_size=4).map("".join))
_LINES = st.tuples(
    st.sampled_from(["", "!", "/", "!/"]),
    st.lists(_PARTS, min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "", "/", " ", "\r"]),
).map("".join)
_FILES = st.lists(_LINES, max_size=5).map("\n".join)


@needs_git
@given(top=_FILES, middle=_FILES, inner=_FILES)
def test_any_rules_do_what_they_do_in_git(repository: Path, top: str, middle: str, inner: str) -> None:
    write(repository, top)
    write(repository / "sub", middle)
    write(repository / "sub" / "deep", inner)
    try:
        assert ours(repository) == of_git(repository)
    finally:
        for folder in (".", "sub", "sub/deep"):
            for name in (NAME, ".gitignore"):
                (repository / folder / name).unlink()


def test_a_question_mark_stands_for_a_character_not_a_byte(tmp_path: Path) -> None:
    fill(tmp_path, ["\u00e9.png", "\N{GRINNING FACE}.jpg", "a.gif", "\u00e9\u00e9.png"])
    (tmp_path / NAME).write_text("?.png\n[!b].jpg\n[\u00e9a].gif", encoding="utf-8")
    assert ours(tmp_path) == ["\u00e9\u00e9.png"]


# --- where rules are looked for -----------------------------------------------------------------------


def test_what_was_named_is_taken_though_a_rule_matches(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    fill(tmp_path, ["pictures/a.png", "pictures/b.jpg"])
    (tmp_path / NAME).write_text("pictures/\n*.png\n")
    named = str(tmp_path / "pictures" / "a.png")
    assert [source.name for source in expand([named])] == [named]
    assert ours(tmp_path / "pictures") == ["b.jpg"]
    assert ours(tmp_path) == []


def test_rules_above_count_up_to_the_root_of_the_repository(tmp_path: Path) -> None:
    fill(tmp_path, ["outer/repository/mid/inner/a.png", "outer/repository/mid/inner/b.png"])
    inner = tmp_path / "outer" / "repository" / "mid" / "inner"
    (tmp_path / "outer" / NAME).write_text("*")
    (tmp_path / "outer" / "repository" / "mid" / NAME).write_text("/inner/a.png\n")
    assert ours(inner) == ["a.png", "b.png"]  # no repository: what strangers leave above has no say
    (tmp_path / "outer" / "repository" / ".git").write_text("gitdir: elsewhere\n")  # as in a worktree
    assert ours(inner) == ["b.png"]
    (inner / NAME).write_text("!a.png\nb.png")
    assert ours(inner) == ["a.png"]
    (inner / ".git").mkdir()
    (inner / NAME).unlink()
    assert ours(inner) == ["a.png", "b.png"]


def test_a_relative_or_linked_folder_finds_the_rules_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, ["r/.git/HEAD", "r/in/a.png", "r/in/b.png"])
    (tmp_path / "r" / NAME).write_text("/in/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "r" / "in")
    assert ours(tmp_path / "link") == ["b.png"]
    monkeypatch.chdir(tmp_path / "r" / "in")
    assert [str(path) for path in walk(Path())] == ["b.png"]
    assert [str(path) for path in walk(Path("../in"))] == ["../in/b.png"]


def test_ignored_folders_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["skip/a.png", "skip/deep/b.png", "take/c.png"])
    (tmp_path / NAME).write_text("skip")
    (tmp_path / "skip" / NAME).mkdir()  # would be an error if it were looked at
    entered: list[str] = []
    real = os.scandir

    def scandir(path: Path) -> Any:
        entered.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    failed: list[Path] = []
    found = [path.name for path in walk(tmp_path, on_error=lambda path, error: failed.append(path))]
    assert found == ["c.png"]
    assert entered == [tmp_path.name, "take"]
    assert failed == []


def test_a_folder_is_found_by_its_own_name_when_a_link_to_it_is_ignored(tmp_path: Path) -> None:
    fill(tmp_path, ["sub/a.png"])
    (tmp_path / "again").symlink_to("sub", target_is_directory=True)
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert ours(tmp_path) == ["again/a.png"]
    (tmp_path / NAME).write_text("again/\n")
    with within(5):
        assert ours(tmp_path) == ["sub/a.png"]


def test_without_rules_and_without_recursion(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png", "b.png", "sub/a.png"])
    (tmp_path / NAME).write_text("a.png")
    assert ours(tmp_path, WalkOptions(ignore=False)) == ["a.png", "b.png", "sub/a.png"]
    assert ours(tmp_path, WalkOptions(recursive=False)) == ["b.png"]
    assert ours(tmp_path, WalkOptions(include=("a.png",))) == []  # both must agree


def test_the_order_stays(tmp_path: Path) -> None:
    fill(tmp_path, ["c.png", "a.png", "b/z.png", "b/a.png", "d.png"])
    (tmp_path / NAME).write_text("d.png")
    assert [str(path.relative_to(tmp_path)) for path in walk(tmp_path)] == [
        "a.png",
        "b/a.png",
        "b/z.png",
        "c.png",
    ]


# --- broken and hostile files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nul", "utf-16", "large", "folder", "pipe", "forbidden"])
def test_a_file_that_cannot_be_used_is_told_and_hides_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, ["a.png", "sub/b.png"])
    path = tmp_path / "sub" / NAME
    if kind == "nul":
        path.write_bytes(b"b.png\n\0")
    elif kind == "utf-16":
        path.write_bytes("b.png\r\n".encode("utf-16"))
    elif kind == "large":
        path.write_bytes(b"b.png\n" * (MAX_BYTES // 6 + 1))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("b.png")
        opened = Path.open

        def forbid(self: Path, *args: Any, **options: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return opened(self, *args, **options)

        monkeypatch.setattr(Path, "open", forbid)
    with within(5):
        sources = list(expand([str(tmp_path)]))
    taken = [source.name for source in sources if source.kind == "file"]
    (error,) = [source for source in sources if source.kind == "error"]
    assert taken == [str(tmp_path / "a.png"), str(tmp_path / "sub" / "b.png")]
    assert error.name == str(path)
    assert error.error is not None
    assert error.error.kind == ("permission_denied" if kind == "forbidden" else "unreadable")


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("*a" * 60 + "b", "a" * 200),
        ("*[ab]?" * 40 + "c", "a" * 200),
        ("**/a/" * 12 + "b", "/".join(["a"] * 60)),
        ("[" * 4000, "a"),
        ("?" * 200_000, "a" * 200),
    ],
)
def test_hostile_rules_take_no_time(tmp_path: Path, rule: str, name: str) -> None:
    fill(tmp_path, [name])
    (tmp_path / NAME).write_text(f"{rule}\n" * 2)
    with within(5):
        assert ours(tmp_path) == [name]


def test_stars_still_find_every_place(tmp_path: Path) -> None:
    fill(tmp_path, ["abcabcx.png", "abcx.png", "ab-ab.png"])
    (tmp_path / NAME).write_text("*b*bc*x*g\n*a*-*.png")
    assert ours(tmp_path) == ["abcx.png"]


@given(rules=st.binary(max_size=60) | st.text("[]!^-\\:*?/ #a\udcff\x00", max_size=30))
def test_no_rules_break_a_walk(tmp_path: Path, rules: bytes | str) -> None:
    fill(tmp_path, ["a.png", "[a]/a\n.png"])
    write(tmp_path, rules)
    sources = list(expand([str(tmp_path)]))
    assert {source.kind for source in sources} <= {"file", "error"}
    errors = [source.name for source in sources if source.kind == "error"]
    assert errors in ([], [str(tmp_path / NAME)])


# --- the command --------------------------------------------------------------------------------------


def test_a_scan_leaves_out_what_the_rules_say(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    picture = encode(gradient(64, 48))
    for name in ("a.png", "thumbs/b.png", "thumbs/keep.png"):
        fill(folder, [name])
        (folder / name).write_bytes(picture)
    (folder / NAME).write_text("thumbs/*\n!keep.png\n")

    def scanned(*arguments: str) -> list[str]:
        words = [
            "scan",
            "--model",
            str(tiny_model_folder),
            "--device",
            "cpu",
            "--format",
            "csv",
            "--no-cache",
        ]
        result = CliRunner().invoke(main, [*words, *arguments])
        assert result.exit_code == 0, result.stderr
        return [Path(row.split(",")[0]).name for row in result.stdout.splitlines()[1:]]

    assert scanned(str(folder)) == ["a.png", "keep.png"]
    assert scanned(str(folder), "--no-ignore") == ["a.png", "b.png", "keep.png"]
    assert scanned(str(folder / "thumbs" / "b.png")) == ["b.png"]
