"""README and docs: every command runs and prints what is shown, or is marked as an example; numbers are the
shipped model's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import update_docs  # noqa: E402
from update_docs import Block, alike, blocks, pages, undocumented  # noqa: E402


@pytest.fixture(scope="module")
def sessions() -> Iterator[Any]:
    """A function that opens a session for a page; all share the loaded model."""
    with update_docs.sessions(shared=True) as new:
        yield new


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_a_page_says_what_commands_print(page: Path, sessions: Any) -> None:
    if not shutil.which("exiftool") and "$ exiftool" in page.read_text(encoding="utf-8"):
        pytest.skip("exiftool is not installed")
    assert update_docs.check(page, sessions()) == []


def test_the_picture_shows_what_a_scan_prints(sessions: Any) -> None:
    assert update_docs.check_picture(sessions()) == []


def test_most_commands_are_run() -> None:
    found = [block for page in pages() for block in blocks(page)]
    assert sum(not block.example for block in found) >= 25
    assert {block.info for block in found} == {"console", "sh", "python"}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for attribute in ('src="http', '<link rel="stylesheet" href="http', "@import", "fonts.googleapis"):
            assert attribute not in text, (page.name, attribute)


# --- the mechanism itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("(13.6 s on cpu, model m)", "(0.2 s on cpu, model m)"),
        ("2 ai (1.0 s on cpu)", "2 ai, 5 from the cache (1.1 s on cpu)"),
        (" 98.6%  ai   a.png", " 98.9%  ai   a.png"),
        (" <0.1%  real  a.png", "  0.1%  real  a.png"),
        ("logit +4.2976 (0x1.130c3739e8436p+2)", "logit +4.2990 (0x1.131p+2)"),
        ("pixels 738ad13eb6dd9278", "pixels 0123456789abcdef"),
        ('"ai_generated": 5.8e-05', '"ai_generated": 0.000057'),
        ("accepted 2026-11-29", "accepted 2027-01-02"),
    ],
)
def test_what_varies_is_alike(shown: str, printed: str) -> None:
    assert alike(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (" 98.6%  ai   a.png", " 98.6%  real a.png"),
        (" 98.6%  ai   a.png", " 93.1%  ai   a.png"),
        ("logit +4.29", "logit -4.29"),
        ("2 ai, 1 uncertain", "3 ai, 1 uncertain"),
        ("exit 1", "exit 0"),
        ("about 1.0% of real images", "about 5.0% of real images"),
        ("one line", "one line\nand another"),
        ("1.5 views", "1.5% views"),
        ("a 1.5 b", "a b 1.5 c"),
    ],
)
def test_what_matters_is_not_alike(shown: str, printed: str) -> None:
    assert not alike(shown, printed)


@pytest.mark.parametrize(
    "command",
    [
        "aidetect scan --colour folder",
        "find . | aidetect scan --from - --nul",
        "aidetect baseline make folder",
        "aidetect look folder",
        "cd x && aidetect sort folder --to y",
    ],
)
def test_a_wrong_option_or_command_is_found(command: str) -> None:
    assert undocumented(command)


def test_a_wrong_output_is_found_and_mended(tmp_path: Path, monkeypatch: Any, sessions: Any) -> None:
    monkeypatch.setattr(update_docs, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    first = '```console\n$ echo one\ntwo\n$ false; echo "exit $?"\n```\n'
    text = f"# Page\n\n{first}\n```console\n$ echo three\n```\n"
    page.write_text(text, encoding="utf-8")
    assert len(update_docs.check(page, sessions())) == 3
    assert update_docs.update(page, sessions()) == []
    assert page.read_text(encoding="utf-8") == text.replace("two", "one").replace(
        '$?"\n', '$?"\nexit 1\n'
    ).replace("echo three\n", "echo three\nthree\n")
    assert update_docs.check(page, sessions()) == []


def test_an_example_is_not_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- example: why -->\n```sh\nrm x\n```\n\n```sh\naidetect scan \\\n  x\n```\n", encoding="utf-8"
    )
    first, second = blocks(page)
    assert first == Block(page, 3, "sh", ("rm x",), True)
    assert (second.example, second.commands()) == (False, [("aidetect scan    x", [])])


def test_generated_parts_are_made_anew() -> None:
    text = "a\n<!-- generated: measured -->\nold\n<!-- end -->\nb\n"
    new = update_docs.regenerated(text)
    assert "old" not in new
    assert update_docs.regenerated(new) == new
