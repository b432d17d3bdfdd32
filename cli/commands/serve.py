"""``aidetect serve``: the cloud API and a page, on this machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common import CONTEXT, CommandError, errors_for_people, model_options, say
from ..files import (
    detector_options,
    frames_option,
    max_pixels_option,
    no_cache_option,
    strict_option,
    video_options,
)

if TYPE_CHECKING:
    from ..server.auth import Credentials
    from ..server.settings import Settings

_NEEDED = ("starlette", "uvicorn", "python_multipart", "prometheus_client", "jsonschema")
_USER, _SECRET = "AIDETECT_API_USER", "AIDETECT_API_SECRET"


class _Network(click.ParamType[Any]):
    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return ipaddress.ip_network(value, strict=False)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(context_settings=CONTEXT)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="Port; 0 for any free one."
)
@click.option(
    "--tls-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PEM",
    help="Certificate (with its chain) for HTTPS.",
)
@click.option(
    "--tls-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PEM",
    help="Key of the certificate.",
)
@click.option(
    "--credentials",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"Who may come in: one user:secret a line. Or set {_USER} and {_SECRET}.",
)
@click.option("--no-auth", is_flag=True, help="Let everybody in who reaches an address that is not loopback.")
@click.option(
    "--public-host",
    multiple=True,
    metavar="NAME",
    help="A name by which clients call this server (repeatable). Without it only names of the loopback "
    "interface are answered.",
)
@click.option(
    "--cors", multiple=True, metavar="ORIGIN", help="An origin whose pages may use the server (repeatable)."
)
@click.option("--no-network", is_flag=True, help="Fetch no address that a client gives.")
@click.option(
    "--allow-network",
    "networks",
    type=_Network(),
    multiple=True,
    metavar="CIDR",
    help="A network that may be fetched from though it is not public (repeatable).",
)
@click.option(
    "--max-upload-mb",
    type=click.IntRange(1, 1024),
    default=12,
    show_default=True,
    metavar="MIB",
    help="Refuse larger images.",
)
@click.option(
    "--max-memory-mb",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    metavar="MIB",
    help="Uploads held at the same time.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="N",
    help="Images that may wait. Further ones get status 503.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    metavar="N",
    help="Connections at the same time.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86400),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for a request.",
)
@click.option(
    "--upload-timeout",
    type=click.FloatRange(0.1, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for an upload to arrive.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to finish what is under way after SIGTERM.",
)
@click.option("--log-names", is_flag=True, help="Name the images in the access log.")
@no_cache_option
@max_pixels_option
@frames_option
@video_options
@strict_option
@model_options
def serve(**options: Any) -> None:
    """Serve the cloud API, an API of our own, and a page in the browser.

    Clients of the cloud API change one host name and keep their code. The access log goes to standard
    output, one JSON object a line. SIGTERM ends the server after what is under way; a second one ends it at
    once.

    \b
    Exit codes:
      0    ended by a signal
      2    usage error
      5    model missing or damaged, or the self-test failed

    \b
    Examples:
      aidetect serve
      aidetect serve --host 0.0.0.0 --credentials users.txt --public-host detect.example.com
      curl -F media=@photo.jpg -F models=genai http://127.0.0.1:8077/1.0/check.json
    """
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise CommandError("the server needs further packages: pip install 'aidetect[serve]'")
    from ..server.run import Server

    with errors_for_people():
        server = Server(_settings(options))
        say(f"aidetect: listening on {server.address}")
        server.serve_forever()


def _settings(options: dict[str, Any]) -> Settings:
    from ..server.gate import is_loopback
    from ..server.settings import MIB, Settings

    credentials = _credentials(options["credentials"])
    if credentials is None and not options["no_auth"] and not is_loopback(options["host"]):
        raise CommandError(
            f"--host {options['host']} can be reached from elsewhere: give --credentials FILE, or --no-auth"
        )
    if (options["tls_cert"] is None) != (options["tls_key"] is None):
        raise CommandError("--tls-cert and --tls-key belong together")
    names = [*options["public_host"]]
    if options["host"] not in ("0.0.0.0", "::", ""):
        names.append(f"[{options['host']}]" if ":" in options["host"] else options["host"])
    return Settings(
        model=options["model"],
        device=options["device"],
        precision=options["precision"],
        mode=options["mode"],
        detector=detector_options(options),
        cache=not options["no_cache"],
        host=options["host"],
        port=options["port"],
        tls=None if options["tls_cert"] is None else (str(options["tls_cert"]), str(options["tls_key"])),
        credentials=credentials,
        public_hosts=tuple(names),
        cors=options["cors"],
        network=not options["no_network"],
        networks=options["networks"],
        max_upload=options["max_upload_mb"] * MIB,
        max_memory=options["max_memory_mb"] * MIB,
        max_waiting=options["max_queue"],
        max_connections=options["max_connections"],
        timeout=options["timeout"],
        upload_timeout=options["upload_timeout"],
        grace=options["grace"],
        log_names=options["log_names"],
    )


def _credentials(path: Path | None) -> Credentials | None:
    from ..server.auth import Credentials

    user, secret = os.environ.get(_USER), os.environ.get(_SECRET)
    if path is not None:
        return Credentials.read(path)
    if (user is None) != (secret is None):
        raise CommandError(f"{_USER} and {_SECRET} belong together")
    return None if user is None or secret is None else Credentials([(user, secret)])
