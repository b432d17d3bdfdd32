"""``aidetect cache``: show or clear the result cache."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from ..common import CONTEXT, ends_quietly, errors_for_people, say, table_or_json, visible


@click.group(context_settings=CONTEXT)
def cache() -> None:
    """Show or clear the result cache.

    The cache stores scores by the hash of the pixels, the model and the options. A second scan only reads
    and hashes the files, and an interrupted scan continues where it stopped. The cache holds hashes and
    scores, but no names and no images. It is in your cache folder, or in AIDETECT_CACHE_DIR if that is set.
    Several scans can use it at the same time. To bypass it, use `aidetect scan --no-cache`.

    \b
    Examples:
      aidetect cache info
      aidetect cache clear --older-than 90
    """


@cache.command()
@table_or_json
@ends_quietly
def info(format_: str) -> None:
    """Show where the cache is and what it contains."""
    from aidetect.detector.resultcache import default_path
    from aidetect.detector.resultcache import info as look

    with errors_for_people():
        found = look(default_path())
    if format_ == "json":
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{'path':<9} {visible(found['path'])}")
    click.echo(f"{'size':<9} {found['bytes'] / 2**20:.1f} MiB")
    click.echo(f"{'pictures':<9} {found['pictures']}")
    click.echo(f"{'files':<9} {found['files']}")
    for model, count in found["models"].items():
        click.echo(f"{'model':<9} {visible(model)} ({count} pictures)")
    for name in ("oldest", "newest"):
        if found[name] is not None:
            click.echo(f"{name:<9} {datetime.fromtimestamp(found[name], UTC):%Y-%m-%d %H:%M} UTC")


@cache.command()
@click.option(
    "--older-than", type=click.FloatRange(0), metavar="DAYS", help="Remove only scores older than this."
)
@ends_quietly
def clear(older_than: float | None) -> None:
    """Remove all scores, or only old ones."""
    from aidetect.detector.resultcache import clear as empty
    from aidetect.detector.resultcache import default_path

    with errors_for_people():
        removed = empty(default_path(), older_than)
    say(f"removed the scores of {removed} picture{'' if removed == 1 else 's'}")
