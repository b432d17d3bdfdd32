"""``aidetect scan --engine ray``: its options, and how a run on a cluster is told."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from aidetect.detector.inputs.fetch import FetchOptions

from .common import CommandError, ExitCode, F, add_options, errors_for_people, say
from .files import detector_options, walk_options
from .places import selection
from .tally import Tally

# Options of a scan that have no meaning where records go straight into parts.
_NOT_HERE = {
    "log": "--log",
    "only": "--only (use `aidetect report OUT --only ...`)",
    "trust_list": "--trust-list",
}


class _Actors(click.ParamType[str]):
    """A number or a span of numbers, as text that `_span` understands."""

    name = "N|MIN:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            least, most = _span(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor MIN:MAX", param, ctx)
        if not 1 <= least <= most:
            self.fail(f"{value!r}: numbers are from 1 on, the smaller first", param, ctx)
        return str(value)


def _span(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    return int(least), int(most or least)


def cluster_options(command: F) -> F:
    """Add ``--engine --ray-address --actors --gpus-per-actor --part-images --resume --dedupe``."""
    options = [
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where to compute. `ray` spreads the scan over a Ray cluster and writes a folder of Parquet "
            "parts (-o).",
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            default=None,
            help="With --engine ray: the cluster, e.g. auto.  [default: RAY_ADDRESS, else a new one on "
            "this machine]",
        ),
        click.option(
            "--actors",
            type=_Actors(),
            default=None,
            help="With --engine ray: processes that hold the model.  [default: up to one per core, or as "
            "many as the GPUs allow]",
        ),
        click.option(
            "--gpus-per-actor",
            type=click.FloatRange(0, 64),
            default=0.0,
            metavar="N",
            help="With --engine ray: GPUs of each, e.g. 0.5.  [default: 0]",
        ),
        click.option(
            "--part-images",
            type=click.IntRange(1),
            default=1000,
            show_default=True,
            metavar="N",
            help="With --engine ray: images in a part, at least. What is not yet in a part is lost with the "
            "command.",
        ),
        click.option(
            "--resume",
            is_flag=True,
            help="With --engine ray: continue the run in the folder -o. What its parts hold is not done "
            "again.",
        ),
        click.option(
            "--dedupe",
            is_flag=True,
            help="With --engine ray: score pictures with equal pixels once. Everything is read twice.",
        ),
    ]
    return add_options(command, options)


def scan_on_ray(names: list[str], fetch: FetchOptions, options: dict[str, Any]) -> ExitCode:
    """Run a scan on a cluster.

    Raises:
        CommandError: an option does not go with it, or the cluster or the model cannot be used.
    """
    output = options["output"]
    if output is None:
        raise CommandError("--engine ray writes a folder of Parquet parts: give it with -o")
    if options["format_"] not in (None, "parquet") or options["sort"] != "input":
        raise CommandError("--engine ray writes Parquet, unsorted; use `aidetect report` for the rest")
    if "-" in names:
        raise CommandError("standard input cannot be read with --engine ray")
    for name, text in _NOT_HERE.items():
        if options[name]:
            raise CommandError(f"{text} does not go with --engine ray")
    with errors_for_people():
        return _run(names, fetch, str(output), options)


def _run(names: list[str], fetch: FetchOptions, output: str, options: dict[str, Any]) -> ExitCode:
    from aidetect.detector.cluster import run
    from aidetect.detector.cluster.parts import Parts
    from aidetect.detector.cluster.workers import Choice

    started, clock = datetime.now(UTC), time.monotonic()
    bars = sys.stderr.isatty() and not options["quiet"]
    cluster = run.Cluster(
        options["ray_address"],
        _span(options["actors"]) if options["actors"] else None,
        options["gpus_per_actor"],
        options["part_images"],
        options["dedupe"],
        bars,
    )
    settings = _settings(options)
    choice = Choice(walk_options(options, clips=True), selection(options), fetch)
    parts = Parts(output)
    parts.check(options["resume"])  # before all the rest is started
    with run.connected(cluster):
        description = run.described(settings, cluster, started, shlex.join(["aidetect", *sys.argv[1:]]))
        asked_for = {"stability": settings.extras.stability, "evidence": settings.extras.evidence}
        done = parts.begin(description.head, asked_for, options["resume"])
        if len(done) and not options["quiet"]:
            say(f"aidetect: {len(done)} images are done already")

        def tell(written: int) -> None:
            seconds = time.monotonic() - clock
            rate = (written - len(done)) / seconds
            say(f"aidetect: {written} images written after {seconds / 60:.0f} min ({rate:.1f} a second)")

        try:
            if bars or options["quiet"]:
                run.scan(names, choice, settings, description, cluster, parts, done)
            else:
                with run.reporting(parts, tell):
                    run.scan(names, choice, settings, description, cluster, parts, done)
        except KeyboardInterrupt:
            say(f"aidetect: interrupted; continue with --resume -o {output}")
            return ExitCode.INTERRUPTED
    tally = Tally(options["fail_on"], *parts.finish(options["fail_on"], description.head))
    if not options["quiet"]:
        model = description.head["model"]
        seconds = time.monotonic() - clock
        say(tally.summary(seconds, "a Ray cluster", model["name"], model["error_rates"]))
    code = tally.exit_code()
    if code == ExitCode.NOTHING:
        say("aidetect: no images found (see --all-files, --hidden, --include)")
    return ExitCode.OK if options["exit_zero"] else code


def _settings(options: dict[str, Any]) -> Any:
    from aidetect.detector.audit.baseline import read_baseline
    from aidetect.detector.clips.sampling import DEFAULT
    from aidetect.detector.cluster.workers import Settings
    from aidetect.detector.images.pixels import DEFAULT_FRAMES, DEFAULT_MAX_PIXELS
    from aidetect.detector.pending import Extras

    model = options["model"]
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())  # the workers have another working directory
    device = options["device"]
    if device == "auto":
        device = "cuda" if options["gpus_per_actor"] else "cpu"
    accepted = read_baseline(options["baseline"]) if options["baseline"] else {}
    given = detector_options(options)
    return Settings(
        model=model,
        device=device,
        precision=options["precision"],
        mode=options["mode"],
        batch_size=given["batch_size"],
        max_pixels=given["max_pixels"] or DEFAULT_MAX_PIXELS,
        frames=given["frames"] or DEFAULT_FRAMES,
        strict=bool(given["strict"]),
        sampling=given["sampling"] or DEFAULT,
        extras=Extras(stability=options["stability"], evidence=options["evidence"]),
        accepted={name: {"reason": one.reason, "date": one.date} for name, one in accepted.items()},
    )
