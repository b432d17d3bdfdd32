"""The ``aidetect`` command."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from aidetect.detector import version

from . import settings
from .common import CONTEXT, CommandError, say

_COMMANDS = {
    "scan": "Score images: files, folders, addresses, standard input.",
    "explain": "Show where in an image the evidence lies, and how firm it is.",
    "prove": "Show that nothing but pixels moves a score.",
    "verify": "Check a report by scoring again, or an audit log by its chain.",
    "tag": "Write a provenance tag into copies of AI-generated images.",
    "sort": "Copy or move images into folders by verdict.",
    "baseline": "Accept findings, so that they no longer fail a scan.",
    "cache": "Show or empty the cache of results.",
    "config": "Print the configuration in force, and where it comes from.",
    "models": "List, show and verify the installed models.",
    "doctor": "Check this installation.",
    "train": "Fit a model on labelled pictures.",
    "evaluate": "Measure a model on labelled pictures.",
    "guards": "Show what a classifier could learn without looking at the making of a picture.",
}


class _Lazy(click.Group):
    """Imports a command's module when it is used, so that ``--help`` is quick; configures it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"aidetect.cli.commands.{name}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or command is None or ctx.resilient_parsing:
            return name, command, rest
        try:
            ctx.obj = settings.load(ctx.params["config"], ctx.params["no_config"])
            if ctx.obj and name != "config":
                ctx.default_map = {name: settings.default_map(ctx.obj, [("", self), (name, command)])}
        except CommandError as error:
            words = rest[: rest.index("--")] if "--" in rest else rest
            if not set(words) & set(CONTEXT["help_option_names"]):
                raise
            say(f"aidetect: {error.message}")  # help must be had all the same
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.BadParameter as error:
            raise settings.located(ctx.obj, error) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings=CONTEXT)
@click.version_option(version(), "--version", prog_name="aidetect")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration file to use.  [default: the nearest one; see `aidetect config -h`]",
)
@click.option("--no-config", is_flag=True, help="Use no configuration file.")
def main(**_: Any) -> None:
    """Say how likely it is that images were made by a generative model.

    The score comes from pixels alone; nothing leaves this machine.

    \b
    Examples:
      aidetect scan ./folder
      aidetect scan photo.jpg --format json
      aidetect scan ./uploads --fail-on ai -q
    """
    from aidetect.detector.models.memory import keep_freed  # brings ctypes, which help can do without

    keep_freed()
