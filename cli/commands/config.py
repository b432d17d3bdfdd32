"""``aidetect config``: the settings in effect and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..common import CONTEXT, CommandError, ExitCode, ends_quietly, say, table_or_json, utf8_output, visible
from ..settings import OWN_FILE, PROJECT_FILE, Settings, configurable, in_force

_Chain = list[tuple[str, click.Command]]


@click.command(context_settings=CONTEXT)
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@table_or_json
@click.pass_context
@ends_quietly
def config(context: click.Context, words: tuple[str, ...], format_: str) -> None:
    """Print the settings in effect and where they come from.

    Settings are read from the nearest aidetect.toml, or pyproject.toml with a table [tool.aidetect]. The
    search starts in the current folder and goes up to the root of the repository. The folders that are
    scanned do not count.

    Keys are option names without the leading dashes. A key at the top applies to every command that has the
    option. A key in a command's table applies to that command only. Options on the command line take
    precedence. Paths are relative to the folder of the file. The config command itself ignores the file.

    \b
    Example of aidetect.toml:
      views = "fast"
      exclude = ["thumbs"]
      [scan]
      fail-on = "ai"

    \b
    Exit codes:
      0    printed
      2    usage error, or an error in the file

    \b
    Examples:
      aidetect config
      aidetect config scan --format json
      aidetect --config ci.toml config scan
      aidetect --no-config scan ./folder
    """
    root = context.find_root()
    settings: Settings | None = root.obj
    chains = list(_below(_named([("", root.command)], words)))
    found: dict[str, dict[str, Any]] = {}
    wrong: dict[str, None] = {}
    for chain in chains:
        name = " ".join(name for name, _ in chain[1:])
        try:
            found[name] = _options(None if name == context.info_name else settings, chain)
        except CommandError as error:
            wrong[error.message] = None
    utf8_output()
    if format_ == "json":
        file = visible(str(settings.path)) if settings else None
        click.echo(json.dumps({"file": file, "commands": found}, indent=2, ensure_ascii=False))
    else:
        click.echo(_headline(settings, root.params["no_config"]))
        _print(settings, found)
    for message in wrong:
        say(f"aidetect: error: {message}")
    if wrong:
        raise SystemExit(int(ExitCode.USAGE))


def _headline(settings: Settings | None, off: bool) -> str:
    if settings:
        return f"configuration: {visible(str(settings.path))}"
    if off:
        return "configuration: none (--no-config)"
    return f"configuration: none ({OWN_FILE} or {PROJECT_FILE} with [tool.aidetect], from {_here()} upwards)"


def _here() -> str:
    try:
        return visible(str(Path.cwd()))
    except FileNotFoundError:
        return "here"


def _named(chain: _Chain, words: Sequence[str]) -> _Chain:
    """A chain of commands, extended by the subcommands with these names."""
    for word in words:
        group = chain[-1][1]
        command = group.get_command(click.Context(group), word) if isinstance(group, click.Group) else None
        if command is None:
            raise CommandError(f"no such command: {' '.join(words)} (see: aidetect -h)")
        chain = [*chain, (word, command)]
    return chain


def _below(chain: _Chain) -> Iterator[_Chain]:
    """The chain itself or, if it ends in a group, one chain for each command in that group."""
    group = chain[-1][1]
    if not isinstance(group, click.Group):
        yield chain
        return
    for name in group.list_commands(click.Context(group)):
        yield from _below(_named(chain, [name]))


def _options(settings: Settings | None, chain: _Chain) -> dict[str, dict[str, Any]]:
    """A command's options: key to value, source (``default`` or ``file``) and key in the file."""
    given = in_force(settings, chain) if settings else {}
    command = chain[-1][1]
    context = click.Context(command)
    found: dict[str, dict[str, Any]] = {}
    for key, option in configurable(command).items():
        setting = given.get(str(option.name))
        if settings is None or setting is None:
            value = option.to_info_dict()["default"]
            value = [] if value is None and option.multiple else value
            found[key] = {"value": _plain(value), "source": "default", "key": None}
            continue
        try:
            value = option.type_cast_value(context, setting.value)
        except click.BadParameter as error:
            raise settings.refused(setting.key, error, chain) from None
        found[key] = {"value": _plain(value), "source": "file", "key": setting.key}
    return found


def _plain(value: Any) -> Any:
    """A value as JSON data."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else visible(str(value))


def _print(settings: Settings | None, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    rows = [
        (
            name,
            key,
            _shown(entry["value"]),
            f"{settings.path.name}: {entry['key']}" if settings and entry["key"] else "default",
        )
        for name, values in found.items()
        for key, entry in values.items()
    ]
    widths = [max((len(row[n]) for row in rows), default=0) for n in (1, 2)]
    last = None
    for name, key, value, source in rows:
        if name != last:
            click.echo(f"\n{name}")
            last = name
        click.echo(f"  {key:<{widths[0]}}  {value:<{widths[1]}}  {source}")


def _shown(value: Any) -> str:
    return "-" if value is None else visible(json.dumps(value, ensure_ascii=False))
