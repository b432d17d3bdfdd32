"""``aidetect doctor``: check this installation."""

from __future__ import annotations

from typing import Any

import click

from ..common import (
    CONTEXT,
    CommandError,
    ExitCode,
    ends_quietly,
    errors_for_people,
    load_detector,
    model_options,
    visible,
)


@click.command(context_settings=CONTEXT)
@model_options
@ends_quietly
def doctor(model: str | None, device: str, mode: str, **options: Any) -> None:
    """Check this installation.

    Prints the versions, the device and why it was chosen, its speed, and checks the hashes of the model
    files. The self-test scores an image drawn in code and compares its logit with the one in the model card.

    \b
    Exit codes:
      0    everything works
      2    usage error
      5    model missing or damaged, or the self-test failed

    \b
    Examples:
      aidetect doctor
      aidetect doctor --device cuda
      aidetect doctor --model ./my-model
    """
    from aidetect.detector import version
    from aidetect.detector.audit.selftest import run
    from aidetect.detector.images.pixels import has_heif
    from aidetect.detector.models.device import cpu_bfloat16
    from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card, verify_model
    from aidetect.detector.versions import library_versions

    click.echo(f"aidetect     {version()}")
    for name, number in library_versions().items():
        click.echo(f"{name:<12} {number}")
    click.echo(f"{'HEIC':<12} {'yes' if has_heif() else 'no (pip install aidetect[heif])'}")
    detector = load_detector(model, device, mode, **options)
    click.echo(f"{'device':<12} {detector.device.name}, {detector.device.dtype_name} ({detector.device.why})")
    if detector.device.name == "cpu":
        click.echo(f"{'bfloat16':<12} {cpu_bfloat16() or 'not fast on this CPU'}")
    speed = detector.model.tower.views_per_second(detector.batch_size)
    click.echo(f"{'speed':<12} {speed:.1f} views a second")
    with errors_for_people():
        for path, sha256 in verify_model(read_model_card(model or DEFAULT_MODEL)):
            click.echo(f"{'hash ok':<12} {sha256[:16]}  {visible(str(path))}")
        result = run(detector)
    if result is None:
        click.echo(f"{'self-test':<12} skipped: the model card has no expected logit for --views {mode}")
        return
    text = f"logit {result.found:+.5f}, expected {result.expected:+.5f} within {result.tolerance:g}"
    click.echo(f"{'self-test':<12} {'ok' if result.passed else 'FAILED'}: {text}")
    if not result.passed:
        raise CommandError(
            "the self-test failed: this machine computes other scores than the model card states; "
            "try --device cpu, and report the lines above",
            ExitCode.MODEL,
        )
