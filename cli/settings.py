"""Configuration files: find them, read them, and turn them into option values."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .common import CommandError

OWN_FILE = "aidetect.toml"
PROJECT_FILE = "pyproject.toml"
_MAX_BYTES = 2**20

# Options that print and exit, and those that change or replace files: a person should type them.
_NOT_HERE = frozenset(
    """
    help version config no-config print-schema
    force in-place move overwrite update
    """.split()
)
# Options whose meaning differs from command to command.
_ONE_COMMAND = frozenset(["log", "output"])


@dataclass(frozen=True)
class Settings:
    """The content of a configuration file.

    Attributes:
        path: its path.
        table: its table of settings, as TOML data.
        prefix: the path of that table in the file, e.g. ``tool.aidetect.``.
    """

    path: Path
    table: dict[str, Any]
    prefix: str

    def error(self, key: str, message: str) -> CommandError:
        """A `CommandError` that names the file and the key."""
        return CommandError(f"{self.path}: {key}: {message}")

    def refused(
        self, key: str, error: click.BadParameter, commands: Sequence[tuple[str, click.Command]]
    ) -> CommandError:
        """A `CommandError` for a value that a command's option does not accept."""
        names = " ".join(["aidetect", *(name for name, _ in commands[1:])])
        return self.error(key, f"{error.message.rstrip('.')} (for `{names}`)")


@dataclass(frozen=True)
class Setting:
    """One value in a file: its full key, and the value for its option."""

    key: str
    value: Any


def load(given: Path | None, off: bool) -> Settings | None:
    """The settings in effect: those of a given file, else of the nearest file, if there is one.

    Raises:
        CommandError: the file cannot be read, or is no TOML.
    """
    if off and given:
        raise CommandError("--config and --no-config cannot be combined")
    if off:
        return None
    if given is None:
        with contextlib.suppress(FileNotFoundError):  # this folder has been deleted
            return find(Path.cwd())
        return None
    # Paths in the file are relative to its folder, whatever the current folder is later.
    path = Path.cwd() / given
    settings = _read(path)
    if settings is None:
        raise CommandError(f"{path} has no table [tool.aidetect]")
    return settings


def find(start: Path) -> Settings | None:
    """Settings of the nearest file in a folder or above it.

    The search ends at the root of the repository, the user's home or the root of the file system,
    whichever comes first. Within a folder ``aidetect.toml`` comes before ``pyproject.toml``, which
    counts only if it has a table ``[tool.aidetect]``.

    Raises:
        CommandError: the file cannot be read, or is no TOML.
    """
    home = None
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = Path(os.path.realpath(Path.home()))
    for folder in (start, *start.parents):
        for name in (OWN_FILE, PROJECT_FILE):
            if _is_file(folder / name) and (settings := _read(folder / name)):
                return settings
        if folder == home or os.access(folder / ".git", os.F_OK):
            break
    return None


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # missing, or in a folder without read permission
        return False


def _read(path: Path) -> Settings | None:
    """The settings in a file, or ``None`` for a ``pyproject.toml`` without any."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    project = path.name == PROJECT_FILE
    if project and b"aidetect" not in data:
        return None
    if len(data) > _MAX_BYTES:
        raise CommandError(f"{path}: over {_MAX_BYTES // 1024} KiB; this is not a configuration file")
    table = _parse(path, data)
    if not project:
        return Settings(path, table, "")
    tools = table.get("tool")
    ours = tools.get("aidetect") if isinstance(tools, dict) else None
    if ours is None:
        return None
    if not isinstance(ours, dict):
        raise CommandError(f"{path}: tool.aidetect: must be a table")
    return Settings(path, ours, "tool.aidetect.")


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{path}: line {line}: this is not UTF-8") from None
    except RecursionError:
        raise CommandError(f"{path}: nested too deeply") from None
    except ValueError as error:
        message, place = str(error), r" \(at (?:line (\d+), column \d+|end of document)\)$"
        if found := re.search(place, message):
            line = int(found[1] or data.rstrip().count(b"\n") + 1)
            message = f"line {line}: {message[: found.start()]}"
        raise CommandError(f"{path}: {message}") from None


# --- from keys to options -----------------------------------------------------------------------------


def options(command: click.Command) -> dict[str, tuple[click.Option, bool]]:
    """A command's options by long name, each with whether ``true`` turns it on."""
    return {
        name.removeprefix("--"): (option, on)
        for option in command.params
        if isinstance(option, click.Option)
        for names, on in ((option.opts, True), (option.secondary_opts, False))
        for name in names
        if name.startswith("--")
    }


def configurable(command: click.Command) -> dict[str, click.Option]:
    """The options that a file may set, by main key."""
    return {key: option for key, (option, on) in options(command).items() if on and key not in _NOT_HERE}


def chain(context: click.Context) -> list[tuple[str, click.Command]]:
    """The commands from the top one to a context's own, with their names."""
    above = chain(context.parent) if context.parent else []
    return [*above, (context.info_name or "", context.command)]


def in_force(settings: Settings, commands: Sequence[tuple[str, click.Command]]) -> dict[str, Setting]:
    """What a file sets for a command, by parameter name. The innermost table wins.

    Args:
        settings: the file's content.
        commands: the commands from the top one to the one to set, with their names.

    Raises:
        CommandError: a key is unknown or not allowed there, or a value has the wrong type.
    """
    found: dict[str, Setting] = {}
    table: Any = settings.table
    where = settings.prefix
    meant = options(commands[-1][1])
    for depth, (name, command) in enumerate(commands):
        if depth:
            table = table.get(name)
            where += f"{name}."
        if not isinstance(table, dict):  # missing, or an option with the same name as the command
            break
        here: dict[str, Setting] = {}
        for key, value in table.items():
            _check_key(settings, where, key, value, command, meant)
            if key in meant and not isinstance(value, dict):
                option, on = meant[key]
                if option.name in here:
                    raise settings.error(where + key, f"{here[option.name].key} sets the same option")
                try:
                    setting = Setting(where + key, _value(option, on, value, settings.path.parent))
                except ValueError as error:
                    raise settings.error(where + key, str(error)) from None
                here[str(option.name)] = setting
        found |= here
    return found


def default_map(settings: Settings, commands: Sequence[tuple[str, click.Command]]) -> dict[str, Any]:
    """Click's ``default_map`` for the last of these commands.

    Raises:
        CommandError: see `in_force`.
    """
    command = commands[-1][1]
    if isinstance(command, click.Group):
        return {
            name: default_map(settings, [*commands, (name, part)]) for name, part in _subcommands(command)
        }
    return {name: setting.value for name, setting in in_force(settings, commands).items()}


def located(settings: Settings | None, error: click.BadParameter) -> click.ClickException:
    """An error about a value, naming the file if the value came from there."""
    context, option = error.ctx, error.param
    if settings is None or context is None or option is None or option.name is None:
        return error
    if context.get_parameter_source(option.name) is not click.core.ParameterSource.DEFAULT_MAP:
        return error
    commands = chain(context)
    return settings.refused(in_force(settings, commands)[option.name].key, error, commands)


def _subcommands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command:
            yield name, command


def _keys(command: click.Command) -> Iterator[str]:
    """The keys of a command and its subcommands. A generator, because each command must be imported."""
    yield from options(command)
    if isinstance(command, click.Group):
        for _, part in _subcommands(command):
            yield from _keys(part)


def _check_key(
    settings: Settings, where: str, key: str, value: Any, command: click.Command, meant: Iterable[str]
) -> None:
    names = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
    if isinstance(value, dict):
        if key not in names:
            hint = _did_you_mean(key, names)
            raise settings.error(where + key, f"no such command{hint}")
    elif key in _NOT_HERE:
        raise settings.error(where + key, "can only be given on the command line")
    elif key in _ONE_COMMAND and where == settings.prefix:
        raise settings.error(
            where + key,
            f"put this into the table of one command, e.g. [{settings.prefix}scan]: its meaning "
            "differs between commands",
        )
    elif key not in meant and all(key != known for known in _keys(command)):
        if key in names:
            raise settings.error(where + key, f"this is a command and must be a table: [{where}{key}]")
        hint = _did_you_mean(key, sorted({*_keys(command), *names} - _NOT_HERE))
        raise settings.error(where + key, f"no such option{hint}")


def _did_you_mean(key: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


# --- values -------------------------------------------------------------------------------------------


def _value(option: click.Option, on: bool, value: Any, folder: Path) -> Any:
    """A value in the form that click accepts.

    Raises:
        ValueError: it has the wrong type.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value is on
    if option.multiple:
        if not isinstance(value, list):
            raise ValueError("must be a list, in [ ]")
        return tuple(_scalar(option, item, folder) for item in value)
    return _scalar(option, value, folder)


def _scalar(option: click.Option, value: Any, folder: Path) -> Any:
    kind = option.type
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(kind, click.types.IntParamType):
        if not number or isinstance(value, float):
            raise ValueError("must be a whole number")
        return value
    if isinstance(kind, click.types.FloatParamType):
        if not number:
            raise ValueError("must be a number")
        return value
    text = isinstance(kind, (click.Choice, click.Path, click.types.StringParamType))
    if not isinstance(value, str) and (text or not number):
        raise ValueError("must be a string" if text else "must be a string or a number")
    if "\0" in str(value):
        raise ValueError("must not contain a NUL character")
    return _placed(option, str(value), folder)


def _placed(option: click.Option, text: str, folder: Path) -> str:
    """A value. If it is a path, it is taken relative to the file's folder."""
    metavar = option.metavar or ""
    if isinstance(option.type, click.Path) or metavar == "LIST":
        return text if text == "-" or "://" in text else str(folder / text)
    if metavar == "NAME|PATH":  # the same test as in the detector
        is_path = text.startswith(".") or (os.sep in text and ":" not in text)
        return str(folder / text) if is_path else text
    if metavar.startswith("NAME=FILE"):
        name, sign, file = text.partition("=")
        return f"{name}{sign}{folder / file}" if file else text
    return text
