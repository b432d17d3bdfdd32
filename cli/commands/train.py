"""``aidetect train``: train a model on labelled pictures."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    device_option,
    ends_quietly,
    errors_for_people,
    labelled,
    picture_options,
    progress_bar,
    say,
    visible,
)


@click.command(context_settings=CONTEXT)
@picture_options
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Model folder to write. Its name becomes the name of the model.",
)
@click.option(
    "--base",
    metavar="NAME|PATH",
    help="Extend this model: your pictures are added to its training features.",
)
@click.option(
    "--without",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Pictures to leave out, also of the base: a CSV file with the columns repo and path.",
)
@click.option(
    "--tower",
    metavar="NAME|PATH",
    help="Image tower: a folder, or ARCHITECTURE:TAG from open_clip.  [default: clip-vit-b-16-openai, or the "
    "tower of --base]",
)
@click.option(
    "--cache",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Feature cache. An interrupted run continues from it.  [default: in your cache folder]",
)
@click.option(
    "--copies",
    type=click.IntRange(0, 20),
    default=1,
    show_default=True,
    metavar="N",
    help="Laundered copies per picture, in addition to the clean one.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 20),
    default=None,
    metavar="N",
    help="Cross-validation folds; no group is split between folds.  [default: 5]",
)
@device_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Number format of the tower. bfloat16 is over twice as fast on CPUs that support it.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=16,
    show_default=True,
    metavar="N",
    help="Views per forward pass.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    metavar="N",
    help="Threads that read and decode pictures.",
)
@click.option(
    "--extendable",
    is_flag=True,
    help="Store the training features in the model so that --base can extend it (about 60 MiB for 10,000 "
    "pictures).",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no messages.")
@ends_quietly
def train(
    output: Path,
    tower: str | None,
    cache: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on labelled pictures.

    Each picture also gets laundered copies: scaled, cropped, blurred, made noisy or re-encoded, as pictures
    on the web often are. The features of all pictures and copies are computed once and cached. Probes are
    fitted on them, calibrated, and given thresholds. Error rates are measured by cross-validation on
    held-out groups: repositories if the index names them, else sources or subfolders. The result is a model
    folder for `aidetect scan --model`.

    \b
    Exit codes:
      0    trained
      2    usage error
      4    no picture could be read
      5    model or tower missing or damaged

    \b
    Examples:
      aidetect train --ai ./generated --real ./photos -o ./my-model
      aidetect train --index corpus/index.csv -o ./my-model --dtype bfloat16
      aidetect train --base aidetect-4 --ai ./new-generator -o ./my-model
      aidetect train --ai ./generated --real ./photos --extendable -o ./my-model
    """
    if options["base"] and tower:
        raise CommandError("--base and --tower cannot be combined: the base model has its own tower")
    if options["base"] and not (options["index"] or options["ai"] or options["real"]):
        raise CommandError("give pictures to add, with --ai, --real or --index")
    if not options["base"] and not options["index"] and not (options["ai"] and options["real"]):
        raise CommandError("give --index, or both --ai and --real")
    with errors_for_people():
        examples = labelled(options)
        _train(examples, output, tower, cache or _default_cache(), quiet, options)


def _default_cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("aidetect")) / "features.sqlite"


def _train(
    examples: list[Any],
    output: Path,
    tower_name: str | None,
    cache_path: Path,
    quiet: bool,
    options: dict[str, Any],
) -> None:
    import torch

    from aidetect.detector.audit.selftest import add_selftest
    from aidetect.detector.models.device import choose
    from aidetect.detector.models.model import load_card_tower, tower_reference
    from aidetect.detector.training.base import COMPONENTS, Joined, write_base
    from aidetect.detector.training.crossfit import in_fit
    from aidetect.detector.training.dataset import read_left_out
    from aidetect.detector.training.features import FeatureCache, extract, wanted
    from aidetect.detector.training.modelfolder import write_model
    from aidetect.detector.training.recipe import Recipe
    from aidetect.detector.training.train import fit_model

    start = time.monotonic()
    base, base_card, given = _base(options["base"]) if options["base"] else (None, None, {})
    if options["without"]:
        left_out = read_left_out(options["without"])
        examples = [example for example in examples if example.picture not in left_out]
        base = base and base.without(left_out)
    if base_card is not None:
        reference = base_card.data["tower"]
    else:
        reference = tower_reference(tower_name or "clip-vit-b-16-openai")
    tower = load_card_tower(reference, output.parent)
    device = choose(options["device"])
    tower.to(torch.device(device.name), getattr(torch, options["dtype"]))
    cache = FeatureCache(cache_path)
    copies = range(options["copies"] + 1)
    unreadable: list[str] = []

    def note(example: Any, error: Exception) -> None:
        unreadable.append(example.name)
        say(f"aidetect: {visible(example.name)}: {error}")

    # Of pictures that the base has, only copies that it does not have are added.
    known = {(base.examples[s.example].picture, s.copy) for s in base.samples} if base else set()
    with progress_bar(len(wanted(examples, copies, known)), quiet, " copies") as bar:

        def advance(done: int) -> None:
            bar.update(done - bar.n)

        samples = extract(
            examples,
            copies,
            tower,
            cache,
            known=known,
            batch_size=options["batch_size"],
            workers=options["workers"],
            on_progress=advance,
            on_error=note,
        )

    def tell(text: str) -> None:
        if not quiet:
            say(f"aidetect: {text}")

    if len(unreadable) == len(examples):
        raise CommandError("no picture could be read", ExitCode.NOTHING)
    vectors: Any = cache
    added = len({sample.example for sample in samples})
    if base is not None:
        samples = [*base.samples, *(replace(s, example=s.example + len(base.examples)) for s in samples)]
        examples = [*base.examples, *examples]
        vectors = Joined(base, cache)
    if options["folds"] is not None:
        given["folds"] = options["folds"]
    recipe = Recipe(**given)
    fitted = fit_model(examples, samples, vectors, tower, recipe, tell)
    details = {**fitted.details, "dtype": options["dtype"], "unreadable": len(unreadable)}
    if base is not None:
        details["base"] = {"name": options["base"], "views": len(base.samples), "examples_added": added}

    def ship(path: Path) -> None:
        tell("reducing the training features")
        # Views that were only measured stay out: they make up a third.
        kept = in_fit(samples, examples, recipe.crops)
        shipped = [sample for sample, used in zip(samples, kept, strict=True) if used]
        write_base(path, examples, shipped, vectors, fitted.used, COMPONENTS)

    whole = {**reference, "sha256": tower.sha256}
    card = write_model(output, fitted, whole, details, ship if options["extendable"] else None, base_card)
    tell("scoring the self-test picture")
    add_selftest(output)
    cache.close()
    click.echo(
        json.dumps(
            {
                "card": visible(str(card)),
                "seconds": round(time.monotonic() - start),
                "modes": {name: mode["error_rates"] for name, mode in fitted.modes.items()},
            },
            indent=2,
        )
    )


def _base(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """An installed model's training features (with hashes checked), its card, and the entries of its recipe
    that say which features it kept.
    """
    from aidetect.detector.errors import ModelError
    from aidetect.detector.models.model import read_model_card, verify_model
    from aidetect.detector.training.base import FILE, read_base

    card = read_model_card(name)
    if FILE not in card.data["files"]:
        raise ModelError(f"model {card.name} contains no training features, so it cannot be extended")
    verify_model(card)
    try:
        recipe = card.data["recipe"]
        kept = {name: tuple(recipe[name]) for name in ("class_blocks", "mean_blocks")}
    except KeyError as error:
        raise ModelError(f"the card of {card.name} lacks {error}, so it cannot be extended") from None
    return read_base(card.folder / FILE), card, kept
