"""The ``aidetect`` command."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aidetect.detector import version

from . import settings
from .common import CONTEXT, CommandError, ExitCode, say

_COMMANDS = {
    "scan": "Score images and report which are likely AI-generated.",
    "report": "Write a stored report in another format, or sum it up.",
    "explain": "Explain the score of one image.",
    "prove": "Show that only the pixels affect a score.",
    "verify": "Check a report by scoring its images again, or check an audit log.",
    "tag": "Tag AI-generated images as such in their metadata.",
    "sort": "Copy or move images into one folder per verdict.",
    "baseline": "Accept findings so that they no longer fail a scan.",
    "serve": "Serve the cloud API and a page in the browser.",
    "cache": "Show or clear the result cache.",
    "config": "Print the settings in effect and where they come from.",
    "models": "List, show and verify the installed models.",
    "doctor": "Check this installation.",
    "train": "Train a model on labelled pictures.",
    "evaluate": "Measure the accuracy of a model on labelled pictures.",
    "guards": "Check labelled pictures for shortcuts that a classifier could learn.",
}


class _Lazy(click.Group):
    """Imports a command's module only when needed, to keep ``--help`` fast, and applies the settings."""

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
            say(f"aidetect: {error.message}")  # help is shown all the same
        return name, command, rest

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            try:
                return super().invoke(ctx)
            except click.BadParameter as error:
                raise settings.located(ctx.obj, error) from None
            except KeyboardInterrupt:
                say("aidetect: interrupted")
                ctx.exit(ExitCode.INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Say in one line what is wrong with a command line, and where its help is; click takes four."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "aidetect"
        message = error.format_message().rstrip(".")
        raise CommandError(f"{message[:1].lower()}{message[1:]} (help: {path} -h)") from None


@click.command(cls=_Lazy, context_settings=CONTEXT)
@click.version_option(version(), "--version", prog_name="aidetect")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration file.  [default: the nearest one; see `aidetect config -h`]",
)
@click.option("--no-config", is_flag=True, help="Ignore configuration files.")
def main(**_: Any) -> None:
    """Estimate how likely images are to be AI-generated.

    The score depends on the pixels alone. No image leaves this machine.

    \b
    Examples:
      aidetect scan ./folder
      aidetect scan photo.jpg --format json
      aidetect scan ./uploads --fail-on ai -q
    """
    from aidetect.detector.models.memory import keep_freed  # imports ctypes, which help does not need
    from aidetect.detector.resources import wait_asleep

    keep_freed()
    wait_asleep()


def run() -> None:
    """Run the command, and end the process with its exit code.

    A process that has loaded torch ends at once: taking the interpreter down would take longer than scoring
    a picture, and everything is written by then.
    """
    try:
        main()
    except SystemExit as end:
        if "torch" not in sys.modules or not isinstance(end.code, int | None):
            raise
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(end.code or 0)
