"""What holds for every command: wrong usage, and interruption."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from aidetect.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan", "--bogus"], "no such option '--bogus'"),
        (["--bogus"], "no such option '--bogus' (help: aidetect -h)"),
        (["scna"], "no such command 'scna' (help: aidetect -h)"),
        (["models", "lits"], "no such command 'lits'"),
        (["scan", "--views", "all", "."], "'all' is not one of"),
        (["prove"], "missing argument 'FILE...' (help: aidetect prove -h)"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, words, prog_name="aidetect")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("aidetect: error: ")
    assert said in result.stderr


@pytest.mark.parametrize("words", [["prove", __file__], ["doctor"]])
def test_an_interrupted_command_ends_with_130(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"aidetect.cli.commands.{words[0]}.load_detector", interrupted)
    result = CliRunner().invoke(main, words, prog_name="aidetect")
    assert (result.exit_code, result.stderr) == (130, "aidetect: interrupted\n")
