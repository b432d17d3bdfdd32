"""``aidetect cache``: show or empty the cache of results."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from ..common import CONTEXT, ends_quietly, errors_for_people, say, table_or_json, visible


@click.group(context_settings=CONTEXT)
def cache() -> None:
    """Show or empty the cache of results.

    Scores are kept by the hash of the pixels, the model and the options, so that a second scan only
    reads and hashes, and an interrupted scan goes on where it was. The cache holds hashes and scores,
    no names and no pictures. It lies in the user's cache folder, or in AIDETECT_CACHE_DIR. It is safe to
    use by several scans at once. `aidetect scan --no-cache` neither reads nor writes it.

    \b
    Examples:
      aidetect cache info
      aidetect cache clear --older-than 90
    """


@cache.command()
@table_or_json
@ends_quietly
def info(format_: str) -> None:
    """Say where the cache is and what it holds."""
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
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Keep what is younger.")
@ends_quietly
def clear(older_than: float | None) -> None:
    """Empty the cache, or remove what is old."""
    from aidetect.detector.resultcache import clear as empty
    from aidetect.detector.resultcache import default_path

    with errors_for_people():
        removed = empty(default_path(), older_than)
    say(f"removed the scores of {removed} picture{'' if removed == 1 else 's'}")
