"""Configuration files: found, checked, applied below the command line, and shown."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from conftest import encode, gradient, noise, within
from hypothesis import given
from hypothesis import strategies as st

from aidetect.cli import settings as module
from aidetect.cli.common import CommandError
from aidetect.cli.main import main
from aidetect.cli.settings import find, load

Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository to be in; nothing above it is looked at."""
    folder = tmp_path / "place"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(place: Path) -> Run:
    """Run ``aidetect`` in the repository."""

    def call(*words: object, config: str | None = None) -> Result:
        if config is not None:
            (place / "aidetect.toml").write_text(config, encoding="utf-8")
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


def shown(result: Result, command: str = "scan") -> dict[str, Any]:
    """Values of a command's options, from ``aidetect config --format json``."""
    assert result.exit_code == 0, result.stderr
    return {key: entry["value"] for key, entry in json.loads(result.stdout)["commands"][command].items()}


def refused(result: Result) -> str:
    """The one line that a run ended with."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("aidetect: error: ")
    return line


# --- which file ---------------------------------------------------------------------------------------


def views(folder: Path) -> Any:
    """What the file found from a folder says of ``views``."""
    settings = find(folder)
    return settings and settings.table.get("views")


def test_the_nearest_file_is_taken_and_in_one_folder_our_own(place: Path) -> None:
    deep = place / "a" / "b"
    deep.mkdir(parents=True)
    assert find(deep) is None
    (place / "pyproject.toml").write_text('[tool.aidetect]\nviews = "far"')
    assert views(deep) == "far"
    (place / "a" / "pyproject.toml").write_text('[tool.other]\nname = "aidetect"')  # no table: passed over
    assert views(deep) == "far"
    (place / "a" / "pyproject.toml").write_text('tool = {aidetect = {views = "near"}}')
    assert views(deep) == "near"
    (place / "a" / "aidetect.toml").write_text('views = "own"')
    assert views(deep) == "own"
    (deep / "aidetect.toml").write_text("")  # a file that sets nothing ends the search too
    assert views(deep) is None
    assert views(place) == "far"


@pytest.mark.parametrize("end", [".git", "home"])
def test_the_search_ends_at_the_repository_and_at_home(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "end" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "aidetect.toml").write_text('views = "beyond"')
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    assert views(inner) == "beyond"
    if end == "home":
        monkeypatch.setenv("HOME", str(tmp_path / "end"))
    else:
        (tmp_path / "end" / ".git").write_text("gitdir: of a worktree")
    assert views(inner) is None
    (tmp_path / "end" / "aidetect.toml").write_text('views = "last"')
    assert views(inner) == "last"


def test_the_search_needs_no_home_and_no_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    (place / "aidetect.toml").write_text('views = "fast"')
    assert views(place) == "fast"
    gone = place / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(None, False) is None


def test_what_is_no_file_is_passed_over(place: Path) -> None:
    (place / "aidetect.toml").mkdir()
    os.mkfifo(place / "pyproject.toml")
    with within(5):
        assert find(place) is None


def test_a_scanned_folder_has_no_say(run: Run, place: Path) -> None:
    (place / "uploads").mkdir()
    (place / "uploads" / "aidetect.toml").write_text("exit-zero = true")
    assert run("scan", "uploads").exit_code == 4
    (place / "aidetect.toml").write_text("exit-zero = true")
    assert run("scan", "uploads").exit_code == 0


def test_a_given_file_and_none(run: Run, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('views = "thorough"\nmodel = "./m"')
    near = 'views = "fast"'
    assert shown(run("config", "scan", "--format", "json", config=near))["views"] == "fast"
    given = shown(run("--config", "../other.toml", "config", "scan", "--format", "json"))
    assert (given["views"], given["model"]) == ("thorough", str(place / ".." / "m"))
    assert shown(run("--no-config", "config", "scan", "--format", "json"))["views"] == "standard"
    assert "--no-config" in refused(run("--no-config", "--config", other, "scan", "."))
    assert "cannot read" in refused(run("--config", tmp_path / "none.toml", "scan", "."))
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]")
    assert "[tool.aidetect]" in refused(run("--config", tmp_path / "pyproject.toml", "scan", "."))
    assert "is a directory" in run("--config", tmp_path, "scan", ".").stderr


# --- what it sets -------------------------------------------------------------------------------------


def test_values_hold_for_all_commands_or_for_one(run: Run) -> None:
    config = """
        views = "fast"
        exclude = ["thumbs", "*.bak"]
        recursive = false
        max-pixels = 50
        [scan]
        views = "thorough"
        fail-on = 0.8
        [baseline]
        quiet = true
        [baseline.create]
        device = "cpu"
    """
    found = json.loads(run("config", "--format", "json", config=config).stdout)["commands"]
    assert found["scan"]["views"] == {"value": "thorough", "source": "file", "key": "scan.views"}
    assert found["prove"]["views"] == {"value": "fast", "source": "file", "key": "views"}
    assert found["scan"]["exclude"]["value"] == ["thumbs", "*.bak"]
    assert found["scan"]["recursive"]["value"] is False
    assert found["scan"]["max-pixels"]["value"] == 50
    assert found["scan"]["fail-on"]["value"] == 0.8
    assert found["scan"]["quiet"] == {"value": False, "source": "default", "key": None}
    assert found["baseline create"]["quiet"]["key"] == "baseline.quiet"
    assert found["baseline create"]["device"]["key"] == "baseline.create.device"
    assert found["baseline create"]["views"]["value"] == "fast"


def test_project_files_name_their_table(run: Run, place: Path) -> None:
    (place / "pyproject.toml").write_text(
        '\ufeff[project]\nname = "x"\n[tool.aidetect.scan]\r\nonly = ["ai"]\n', encoding="utf-8"
    )
    found = json.loads(run("config", "scan", "--format", "json").stdout)
    assert found["file"] == str(place / "pyproject.toml")
    assert found["commands"]["scan"]["only"] == {
        "value": ["ai"],
        "source": "file",
        "key": "tool.aidetect.scan.only",
    }


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ("recursive = false", False),
        ("recursive = true", True),
        ("no-recursive = true", False),
        ("no-recursive = false", True),
        ("no-recursive = true\n[scan]\nrecursive = true", True),
    ],
)
def test_both_names_of_a_pair_can_be_set(run: Run, config: str, value: bool) -> None:
    assert shown(run("config", "scan", "--format", "json", config=config))["recursive"] is value


def test_paths_are_seen_from_the_file(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "base.json").write_text("{}")
    for name in ("a", "inner"):
        (place / name).mkdir()
    config = """
        model = "./models/mine"
        ai = ["a"]
        [scan]
        output = "out/r.csv"
        log = "/var/log/audit.jsonl"
        baseline = "base.json"
        from = ["list.txt", "-"]
        [train]
        tower = "hf-hub:some/tower"
        [evaluate]
        model = "aidetect-4"
        scores = ["other=scores/o.csv"]
    """
    (place / "aidetect.toml").write_text(config)
    monkeypatch.chdir(place / "inner")
    found = json.loads(run("config", "--format", "json").stdout)["commands"]

    def value(command: str, key: str) -> Any:
        return found[command][key]["value"]

    assert value("scan", "model") == str(place / "models" / "mine")
    assert value("scan", "output") == str(place / "out" / "r.csv")
    assert value("scan", "log") == "/var/log/audit.jsonl"
    assert value("scan", "baseline") == str(place / "base.json")
    assert value("scan", "from") == [str(place / "list.txt"), "-"]
    assert value("train", "ai") == [str(place / "a")]
    assert value("train", "tower") == "hf-hub:some/tower"
    assert value("evaluate", "model") == "aidetect-4"
    assert value("evaluate", "scores") == [f"other={place / 'scores' / 'o.csv'}"]


@pytest.fixture
def pictures(place: Path) -> Path:
    folder = place / "pictures"
    for name, data in (
        ("a.png", gradient(64, 48)),
        ("thumbs/b.png", noise(48, 64)),
        (".c.png", noise(40, 40)),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(data))
    return folder


def test_a_scan_does_what_the_file_says_and_flags_win(
    run: Run, pictures: Path, tiny_model_folder: Path
) -> None:
    config = f"""
        model = {json.dumps(str(tiny_model_folder))}
        device = "cpu"
        hidden = true
        exclude = ["thumbs"]
        [scan]
        format = "csv"
        quiet = true
        no-cache = true
        fail-on = 0.0
    """

    def scan(*words: str) -> tuple[list[str], Result]:
        result = run("scan", "pictures", *words)
        rows = csv.DictReader(result.stdout_bytes.decode().splitlines())
        return [os.path.relpath(row["input"], "pictures") for row in rows], result

    (pictures.parent / "aidetect.toml").write_text(config)
    names, result = scan()
    assert (names, result.exit_code, result.stderr) == ([".c.png", "a.png"], 1, "")
    names, _ = scan("--exclude", "a.png")  # given values take the place of all those in the file
    assert names == [".c.png", "thumbs/b.png"]
    names, result = scan("--fail-on", "1.0", "--no-recursive")
    assert (names, result.exit_code) == ([".c.png", "a.png"], 0)
    result = run("scan", "pictures", "--format", "jsonl")
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 2
    result = run("--no-config", "scan", "pictures", "--model", tiny_model_folder, "--no-cache")
    assert result.stdout.count("%") == 2
    assert "2 images" in result.stderr


def test_help_shows_the_values_of_the_file(run: Run) -> None:
    text = " ".join(run("scan", "--help", config='views = "thorough"').stdout.split())
    assert "slower and more accurate. [default: thorough]" in text


def _sample(option: click.Option, place: Path) -> Any:
    """A value, other than the default, that a file may give an option."""
    kind = option.type
    if option.is_flag:
        return not option.to_info_dict()["default"]
    value: Any = "text"
    if isinstance(kind, click.Choice):
        value = kind.choices[-1]
    elif isinstance(kind, click.types.IntParamType):
        value = 7
    elif isinstance(kind, click.types.FloatParamType):
        value = 0.25 if getattr(kind, "max", None) == 1 else 7.5
    elif isinstance(kind, click.Path):
        value = str(place / "file" if kind.file_okay else place / "folder")
    elif kind.name == "CIDR":
        value = "10.0.0.0/8"
    elif kind.name == "DATE":
        value = "2026-11-30"
    elif kind.name == "N|MIN:MAX":
        value = "2:8"
    elif not isinstance(kind, click.types.StringParamType):
        value = "ai"
    if option.metavar == "LIST":
        value = "-"
    return [value] if option.multiple else value


def _leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            part = command.get_command(click.Context(command), name)
            assert part is not None
            yield from _leaves(part, (*words, name))
    else:
        yield words, command


def test_every_option_of_every_command_can_be_set(run: Run, place: Path) -> None:
    (place / "file").touch()
    (place / "folder").mkdir()
    checked = 0
    for words, command in _leaves(main):
        if words == ("config",):
            continue
        wanted = {key: _sample(option, place) for key, option in module.configurable(command).items()}
        config = f"[{'.'.join(words)}]\n"
        config += "".join(f"{key} = {json.dumps(value)}\n" for key, value in wanted.items())
        result = run("config", *words, "--format", "json", config=config)
        assert shown(result, " ".join(words)) == wanted
        checked += len(wanted)
    assert checked > 100


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ("fial-on = 'ai'", ["aidetect.toml: fial-on: ", "did you mean fail-on?"]),
        ("fail_on = 'ai'", ["fail_on: ", "did you mean fail-on?"]),
        ("[scan]\nveiws = 'fast'", ["scan.veiws: ", "did you mean views?"]),
        ("[scna]\nviews = 'fast'", ["scna: ", "no such command", "did you mean scan?"]),
        ("[scan.views]\nx = 1", ["scan.views: ", "no such command"]),
        ("[scan]\nin-place = true", ["scan.in-place: ", "can only be given on the command line"]),
        ("[scan]\ndtype = 'float32'", ["scan.dtype: no such option"]),
        ("zzzzzzzz = 1", ["zzzzzzzz: no such option"]),
        ("scan = true", ["scan: this is a command and must be a table: [scan]"]),
        ("print-schema = true", ["print-schema: ", "can only be given on the command line"]),
        ("help = true", ["help: ", "can only be given on the command line"]),
        ("[scan]\nconfig = 'x'", ["scan.config: ", "can only be given on the command line"]),
        ("version = '1'", ["version: ", "can only be given on the command line"]),
        ("[tag]\nforce = true", ["nothing"]),
        ("output = 'r.csv'", ["output: ", "[scan]"]),
        ("log = 'r.csv'", ["log: ", "[scan]"]),
        ("quiet = 'yes'", ["quiet: must be true or false"]),
        ("quiet = 1", ["quiet: must be true or false"]),
        ("frames = '8'", ["frames: must be a whole number"]),
        ("frames = 8.5", ["frames: must be a whole number"]),
        ("frames = true", ["frames: must be a whole number"]),
        ("frames = 0", ["frames: 0 is not in the range", "aidetect scan"]),
        ("max-pixels = '2'", ["max-pixels: must be a number"]),
        ("max-pixels = nan", ["max-pixels: must be a finite number"]),
        ("max-pixels = inf", ["max-pixels: must be a finite number"]),
        ("max-pixels = -1", ["max-pixels: -1", "range"]),
        ("views = 'fats'", ["views: 'fats' is not one of"]),
        ("views = 3", ["views: must be a string"]),
        ("views = ['fast']", ["views: must be a string"]),
        ("exclude = 'thumbs'", ["exclude: must be a list"]),
        ("exclude = ['thumbs', 3]", ["exclude: must be a string"]),
        ("exclude = [['thumbs']]", ["exclude: must be a string"]),
        ("only = ['ai', 'none']", ["only: 'none' is not one of"]),
        ("fail-on = true", ["fail-on: must be a string or a number"]),
        ("fail-on = 1.5", ["fail-on: 1.5 is not between 0 and 1"]),
        ("fail-on = 'mostly'", ["fail-on: 'mostly' is not"]),
        ("fail-on = 2020-01-01", ["fail-on: must be a string or a number"]),
        ("model = 2020-01-01", ["model: must be a string"]),
        ("baseline = 'none.json'", ["baseline: ", "does not exist"]),
        ('baseline = "a\\u0000b"', ["baseline: must not contain a NUL"]),
        ("recursive = true\nno-recursive = true", ["no-recursive: recursive sets the same option"]),
        ('"new\\nline\\u001b[31m" = 1', ["new line\\x1b[31m: no such option"]),
        ("views = 'fast'\nviews = 'fast'", ["aidetect.toml: line 2: "]),
        ("\n\nviews == 'fast'", ["aidetect.toml: line 3: "]),
        ("exclude = ['a',\n\n'b'\n", ["aidetect.toml: line 3: "]),
        ("x = " + "[" * 5000, ["aidetect.toml: "]),
        ("x = " + "9" * 5000, ["aidetect.toml: "]),
        ("#" * (2**20 + 1), ["aidetect.toml: over 1024 KiB"]),
    ],
)
def test_an_error_is_one_line_with_file_and_key(run: Run, config: str, parts: list[str]) -> None:
    result = run("scan", ".", config=config)
    if parts == ["nothing"]:  # of no concern for this command; `aidetect config` tells
        assert result.exit_code == 4
        result = run("config", "tag")
        assert result.exit_code == 2
        assert "tag.force: " in result.stderr
        return
    line = refused(result)
    assert "aidetect.toml" in line
    for part in parts:
        assert part in line, line


def test_other_encodings_are_refused_with_a_line(run: Run, place: Path) -> None:
    (place / "aidetect.toml").write_bytes(b"# one\nviews = '\xff'\n")
    assert "aidetect.toml: line 2: this is not UTF-8" in refused(run("scan", "."))


def test_a_file_that_may_not_be_read_is_an_error(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "aidetect.toml").write_text("")
    opened = Path.open

    def forbid(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "aidetect.toml":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", forbid)
    assert "aidetect.toml: Permission denied" in refused(run("scan", "."))


def test_a_broken_project_file_without_settings_is_skipped(run: Run, place: Path) -> None:
    (place / "pyproject.toml").write_text("[project\n")
    assert run("scan", ".").exit_code == 4
    (place / "pyproject.toml").write_text("[tool.aidetect\n")
    assert "pyproject.toml: line 1: " in refused(run("scan", "."))
    (place / "pyproject.toml").write_text("tool.aidetect = 3")
    assert "tool.aidetect: must be a table" in refused(run("scan", "."))
    (place / "pyproject.toml").write_text("tool = 'aidetect'")
    assert run("scan", ".").exit_code == 4


def test_errors_of_options_on_the_command_line_do_not_name_the_file(run: Run) -> None:
    result = run("scan", "--views", "fats", ".", config="frames = 3")
    assert result.exit_code == 2
    assert "invalid value for '--views'" in result.stderr
    assert "aidetect.toml" not in result.stderr
    assert "no such command 'scna'" in run("scna", config="nonsense = 1").stderr


def test_a_value_that_a_later_check_refuses_is_located_too(run: Run) -> None:
    line = refused(run("evaluate", "--ai", ".", config="[evaluate]\nscores = ['a.csv']"))
    assert "aidetect.toml: evaluate.scores: " in line


def test_a_value_that_only_another_command_refuses_does_no_harm(run: Run) -> None:
    config = 'format = "csv"'
    assert run("scan", ".", config=config).exit_code == 4
    assert "format: 'csv' is not one of" in refused(run("prove", "x.png"))
    result = run("config", "--format", "json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)["commands"]
    assert found["scan"]["format"]["value"] == "csv"
    assert found["config"]["format"]["source"] == "default"
    assert "prove" not in found
    assert any("aidetect prove" in line for line in result.stderr.splitlines())


def test_help_can_be_had_though_the_file_is_broken(run: Run) -> None:
    result = run("scan", "--help", config="views = ")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "line 1" in result.stderr
    assert run("--help").stderr == ""
    assert run("--version").exit_code == 0
    refused(run("scan", "--", "--help"))
    refused(run("config"))
    assert run("--no-config", "scan", ".").exit_code == 4


def test_completion_does_not_mind_a_broken_file(place: Path) -> None:
    (place / "aidetect.toml").write_text("views = ")
    completer = ShellComplete(main, {}, "aidetect", "_AIDETECT_COMPLETE")
    assert [item.value for item in completer.get_completions(["scan"], "--fail")] == ["--fail-on"]


_WORDS = st.sampled_from(
    ["views", "scan", "exclude", "fail-on", "tool", "recursive", "no-recursive", "models"]
)
_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["fast", "ai"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


@given(table=st.dictionaries(_WORDS | st.text(max_size=4), _VALUES, max_size=4))
def test_any_table_is_taken_or_refused_in_one_line(run: Run, table: dict[str, Any]) -> None:
    config = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in table.items())
    result = run("scan", ".", config=config)
    assert result.exit_code in (0, 2, 4)
    if result.exit_code == 2:
        refused(result)


@given(data=st.binary(max_size=80) | st.text("[]=\"'#\n.a1-{},", max_size=40).map(str.encode))
def test_any_bytes_are_taken_or_refused(place: Path, data: bytes) -> None:
    (place / "aidetect.toml").write_bytes(data)
    try:
        found = find(place)
    except CommandError as error:
        assert error.exit_code == 2
        assert "\n" not in error.message
    else:
        assert found is not None


# --- the command --------------------------------------------------------------------------------------


def test_config_as_a_table(run: Run, place: Path) -> None:
    result = run("config", "scan", config='views = "fast"\n[scan]\nexclude = ["=cmd", "\\u001b[31m"]')
    rows = result.stdout.splitlines()
    assert rows[0] == f"configuration: {place / 'aidetect.toml'}"
    assert rows[2] == "scan"
    by_key = {row.split()[0]: row.split()[1:] for row in rows[3:]}
    assert by_key["views"] == ['"fast"', "aidetect.toml:", "views"]
    assert by_key["device"] == ['"auto"', "default"]
    assert by_key["exclude"][-2:] == ["aidetect.toml:", "scan.exclude"]
    assert by_key["batch-size"] == ["-", "default"]
    assert "print-schema" not in by_key
    assert "\x1b" not in result.stdout
    assert len({row.rindex("default") for row in rows if row.endswith("  default")}) == 1


def test_config_says_when_there_is_no_file(run: Run, place: Path) -> None:
    first = run("config").stdout.splitlines()[0]
    assert first.startswith("configuration: none (")
    assert str(place) in first
    assert run("--no-config", "config").stdout.splitlines()[0] == "configuration: none (--no-config)"
    assert json.loads(run("config", "--format", "json").stdout)["file"] is None


def test_config_of_some_commands(run: Run) -> None:
    assert list(json.loads(run("config", "baseline", "--format", "json").stdout)["commands"]) == [
        "baseline create",
        "baseline show",
    ]
    assert list(json.loads(run("config", "baseline", "show", "--format", "json").stdout)["commands"]) == [
        "baseline show"
    ]
    assert "no such command: scna" in refused(run("config", "scna"))
    assert "no such command: scan views" in refused(run("config", "scan", "views"))


def test_each_error_is_said_once(run: Run) -> None:
    result = run("config", config="nonsense = 1")
    assert result.exit_code == 2
    assert result.stderr.count("nonsense") == 1


def test_names_that_are_not_utf8_are_harmless(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = place / os.fsdecode(b"od\xffd\n")
    odd.mkdir()
    (odd / "aidetect.toml").write_text('model = "./m"')
    monkeypatch.chdir(odd)
    first = run("config").stdout.splitlines()[0]
    assert first.endswith("od\\xffd\\n/aidetect.toml")
    assert json.loads(run("config", "scan", "--format", "json").stdout)["file"].endswith("\\n/aidetect.toml")


def test_help_imports_nothing_for_a_configuration(place: Path) -> None:
    (place / "aidetect.toml").write_text('views = "fast"')
    code = (
        "import sys\nfrom aidetect.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'tomllib', 'difflib', 'pathspec', 'torch', 'aidetect.cli.commands.scan'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=place)
