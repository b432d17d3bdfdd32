"""The ``aidetect`` command."""

from __future__ import annotations

import importlib
from typing import Any

import click

from aidetect.detector import version

from .common import CONTEXT

_COMMANDS = {
    "scan": "Score images: files, folders, addresses, standard input.",
    "prove": "Show that nothing but pixels moves a score.",
    "models": "List, show and verify the installed models.",
    "doctor": "Check this installation.",
    "train": "Fit a model on labelled pictures.",
    "evaluate": "Measure a model on labelled pictures.",
    "guards": "Show what a classifier could learn without looking at the making of a picture.",
}


class _Lazy(click.Group):
    """Imports a command's module when it is used, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"aidetect.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings=CONTEXT)
@click.version_option(version(), "--version", prog_name="aidetect")
def main(**_: Any) -> None:
    """Say how likely it is that images were made by a generative model.

    The score comes from pixels alone; nothing leaves this machine.

    \b
    Examples:
      aidetect scan ./folder
      aidetect scan photo.jpg --format json
      aidetect scan ./uploads --fail-on ai -q
    """
