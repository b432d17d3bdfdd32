"""The hook for pre-commit: its manifest, and the command that it runs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise

from aidetect.cli.main import main

MANIFEST = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"


@pytest.fixture
def hook() -> dict[str, Any]:
    """The one hook that the manifest offers."""
    (found,) = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return dict(found)


@pytest.fixture
def run(
    hook: dict[str, Any], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Run the hook's command on files as pre-commit does: entry, args, then names from the root."""
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")

    def call(*names: str, args: list[str] | None = None) -> Result:
        program, command, *options = shlex.split(hook["entry"])
        assert (program, command) == ("aidetect", "scan")
        model = ["--model", str(tiny_model_folder), "--device", "cpu"]
        given = hook["args"] if args is None else args
        return CliRunner().invoke(main, [command, *model, *options, *given, *names])

    return call


def test_the_manifest_is_what_pre_commit_takes() -> None:
    program = shutil.which("pre-commit")
    assert program is not None
    result = subprocess.run([program, "validate-manifest", str(MANIFEST)], capture_output=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_hook_asks_for_images_and_for_one_process(hook: dict[str, Any]) -> None:
    assert (hook["id"], hook["language"], hook["types"]) == ("aidetect", "python", ["image"])
    assert hook["require_serial"] is True
    # identify, which names the types, counts SVG among images.
    assert hook["exclude_types"] == ["svg"]
    assert "--fail-on ai" in hook["entry"]
    assert hook["args"] == ["--"]


def test_the_command_fails_exactly_when_there_is_something_to_fail_on(run: Any) -> None:
    Path("a.png").write_bytes(encode(gradient()))
    Path("b.png").write_bytes(encode(noise()))
    Path("broken.png").write_text("no picture")
    assert run("a.png", "b.png", args=["--fail-on", "0", "--"]).exit_code == 1
    passed = run("a.png", "b.png", args=["--fail-on", "1", "--"])
    assert (passed.exit_code, passed.stderr) == (0, "")
    broken = run("a.png", "broken.png", args=["--fail-on", "1", "--"])
    assert broken.exit_code == 3
    assert "broken.png" in broken.stderr


@pytest.mark.parametrize(
    ("ai", "real", "code", "shown"), [(0.0, 0.0, 1, "ai"), (1.0, 0.0, 0, "uncertain"), (1.0, 1.0, 0, None)]
)
def test_verdicts_and_what_is_shown_of_them(
    run: Any, model_copy: Path, ai: float, real: float, code: int, shown: str | None
) -> None:
    """With thresholds that make every image ai, uncertain or real."""
    card = json.loads((model_copy / "model.json").read_text())
    card["modes"]["standard"]["thresholds"] = {"ai": ai, "real": real}
    (model_copy / "model.json").write_text(json.dumps(card))
    Path("a.png").write_bytes(encode(gradient()))
    result = run("a.png", args=["--model", str(model_copy), "--"])
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["AI", "verdict", "size", "format", "image"]
    assert [row.split()[1] for row in rows] == ([shown] if shown else [])
    assert (result.exit_code, result.stderr) == (code, "")


@pytest.mark.parametrize("name", ["--output=x.png", "-o.png", "--fail-on=1.png", "--exit-zero.png", "-.png"])
def test_no_name_is_taken_for_an_option(run: Any, name: str) -> None:
    Path(name).write_bytes(encode(gradient()))
    result = run(name, args=["--fail-on", "0", "--"])
    assert result.exit_code == 1, result.output
    assert [path.name for path in Path.cwd().iterdir()] == [name]
