"""``aidetect models``: list, show and verify models."""

from __future__ import annotations

import json

import click

from aidetect.detector.errors import ModelError

from ..common import CONTEXT, CommandError, ExitCode, ends_quietly, errors_for_people, say, visible


@click.group(context_settings=CONTEXT)
def models() -> None:
    """List, show and verify the installed models.

    A model is a folder with a card (model.json). Models are searched for in the folders listed in the
    environment variable AIDETECT_MODELS, in your data folder, and in the package.

    \b
    Examples:
      aidetect models list
      aidetect models verify
      aidetect scan ./folder --model ./my-model
    """


@models.command("list")
@ends_quietly
def list_() -> None:
    """List the installed models. The default is marked *."""
    from aidetect.detector.models.model import DEFAULT_MODEL, find_cards, read_model_card

    found = False
    for folder in find_cards():
        try:
            card = read_model_card(str(folder.resolve()))
        except ModelError as error:
            say(f"aidetect: {error}")
            continue
        found = True
        mark = "*" if card.name == DEFAULT_MODEL else " "
        date = card.data.get("date", "undated")
        click.echo(f"{mark} {card.name}  {date}  {visible(str(folder))}")
    if not found:
        say("aidetect: no model is installed")
        raise SystemExit(int(ExitCode.MODEL))


@models.command()
@click.argument("name", required=False, metavar="[NAME|PATH]")
@ends_quietly
def show(name: str | None) -> None:
    """Print a model card as JSON."""
    from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card

    with errors_for_people():
        card = read_model_card(name or DEFAULT_MODEL)
    click.echo(json.dumps(card.data, indent=2, ensure_ascii=False))


@models.command()
@click.argument("name", required=False, metavar="[NAME|PATH]")
@ends_quietly
def card(name: str | None) -> None:
    """Print a readable model card (Markdown).

    It says what the model consists of and how often it is wrong.
    """
    from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card
    from aidetect.detector.training.modelcard import FILE

    with errors_for_people():
        folder = read_model_card(name or DEFAULT_MODEL).folder
    try:
        click.echo((folder / FILE).read_text(encoding="utf-8"), nl=False)
    except OSError:
        raise CommandError(f"this model has no {FILE}; try: aidetect models show") from None


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@ends_quietly
def verify(names: tuple[str, ...]) -> None:
    """Check model files against the hashes in the card.

    Checks all installed models unless some are named. Exits with code 5 if a file is missing or differs.
    """
    from aidetect.detector.models.model import find_cards, read_model_card, verify_model

    targets = list(names) or [str(folder.resolve()) for folder in find_cards()]
    failed = not targets
    if failed:
        say("aidetect: no model is installed")
    for name in targets:
        try:
            card = read_model_card(name)
            for path, sha256 in verify_model(card):
                click.echo(f"ok  {sha256}  {visible(str(path))}")
        except ModelError as error:
            failed = True
            say(f"aidetect: error: {error}")
    if failed:
        raise SystemExit(int(ExitCode.MODEL))
