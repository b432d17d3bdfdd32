"""The house: imports run one way, and every folder with code is installed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from click.testing import CliRunner
from importlinter.cli import lint_imports_command

ROOT = Path(__file__).parents[1]


def check_imports() -> str:
    """What import-linter says of the table in ``pyproject.toml``."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return CliRunner().invoke(lint_imports_command, ["--no-cache"]).output
    finally:
        os.chdir(before)


def test_imports_run_one_way() -> None:
    assert "3 kept, 0 broken" in check_imports()


def test_every_folder_with_code_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent for top in ("cli", "detector", "weights") for path in (ROOT / top).rglob("*.py")}
    names = {".".join(["aidetect", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert set(settings["packages"]) == names


def test_the_linter_reads_the_code_of_this_checkout() -> None:
    import aidetect.detector

    assert Path(aidetect.detector.__file__).read_bytes() == (ROOT / "detector" / "__init__.py").read_bytes()
