"""What all commands share: exit codes, options, error messages, terminal output."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import secrets
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from aidetect.detector.errors import AidetectError, ModelError

if TYPE_CHECKING:
    from aidetect.detector.resultcache import ResultCache
    from aidetect.detector.training.dataset import Example

CONTEXT = {"help_option_names": ["-h", "--help"]}

F = TypeVar("F", bound=Callable[..., Any])


class ExitCode(enum.IntEnum):
    """Exit statuses and their meaning."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    UNREADABLE = 3
    NOTHING = 4
    MODEL = 5
    INTERRUPTED = 130


class CommandError(click.ClickException):
    """An error shown as one line on stderr."""

    def __init__(self, message: str, exit_code: int = ExitCode.USAGE) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = int(exit_code)  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        say(f"aidetect: error: {self.format_message()}")


@contextlib.contextmanager
def errors_for_people() -> Iterator[None]:
    """Turn this package's errors into one line on stderr and the right exit code."""
    try:
        yield
    except ModelError as error:
        raise CommandError(str(error), ExitCode.MODEL) from None
    except AidetectError as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def add_options(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Add options to a command, which shows them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to compute on.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    envvar="AIDETECT_PRECISION",
    show_envvar=True,
    help="Number format of the tower. `auto` takes bfloat16 where the device computes faster in it; float32 "
    "gives the same score on every machine.",
)


def model_options(command: F) -> F:
    """Add ``--model --device --precision --views --batch-size --workers``."""
    options = [
        click.option(
            "--model",
            default=None,
            metavar="NAME|PATH",
            help="Model to use: a name from `aidetect models list`, or a model folder.  [default: the one "
            "marked * in that list]",
        ),
        device_option,
        precision_option,
        click.option(
            "--views",
            "mode",
            type=click.Choice(["fast", "adaptive", "standard", "thorough"]),
            default="standard",
            show_default=True,
            help="Views scored per image. `adaptive` scores all of `standard` only where the first ones "
            "leave the verdict open. More views are slower and more accurate.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1, 4096),
            default=None,
            metavar="N",
            help="Views per forward pass.  [default: 8 on a CPU, 64 on a GPU]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 64),
            default=None,
            metavar="N",
            help="Threads that read and decode images.  [default: one per core, at most 4]",
        ),
    ]
    return add_options(command, options)


table_or_json = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)


def picture_options(command: F) -> F:
    """Add ``--ai --real --index``, which `labelled` reads."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    options = [
        click.option(
            "--ai",
            multiple=True,
            type=folder,
            metavar="DIR",
            help="Folder of AI-generated pictures (repeatable). Each subfolder is a group and names a "
            "generator.",
        ),
        click.option(
            "--real",
            multiple=True,
            type=folder,
            metavar="DIR",
            help="Folder of real pictures (repeatable). Each subfolder is a group and names a source.",
        ),
        click.option(
            "--index",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="CSV file that lists pictures (repeatable). Columns: file (or shard and member), label (ai "
            "or real), and optionally generator, source, repo, content, view, path.",
        ),
    ]
    return add_options(command, options)


def labelled(options: dict[str, Any]) -> list[Example]:
    """The examples named by ``--ai --real --index``.

    Raises:
        AidetectError: an index or folder cannot be used.
    """
    from aidetect.detector.training.dataset import read_folder, read_index

    examples = [example for path in options["index"] for example in read_index(path)]
    for label, folders in ((1, options["ai"]), (0, options["real"])):
        examples += [example for folder in folders for example in read_folder(folder, label)]
    return examples


def load_detector(model: str | None, device: str, mode: str, **options: Any) -> Any:
    """Load a detector. If the model is missing or damaged, the command ends with exit code 5."""
    from aidetect.detector.resources import importing

    with importing():
        from aidetect.detector.detector import Detector
        from aidetect.detector.models.model import DEFAULT_MODEL

    given = {name: value for name, value in options.items() if value is not None}
    with errors_for_people():
        return Detector.load(model or DEFAULT_MODEL, device, mode, **given)


def report_head(detector: Any, started: datetime) -> dict[str, Any]:
    """What every report begins with, but for the number of the schema, which is of scan's reports."""
    from aidetect.detector.audit.report import header

    head = header(detector, started, shlex.join(["aidetect", *sys.argv[1:]]))
    del head["schema"]
    return head


@contextlib.contextmanager
def result_cache(detector: Any, wanted: bool = True) -> Iterator[ResultCache | None]:
    """The user's result cache for a detector, or ``None`` if it is not wanted."""
    from aidetect.detector.resultcache import ResultCache, default_path

    if not wanted:
        yield None
        return
    cache = ResultCache(
        default_path(), detector.model.card.name, detector.identity, lambda text: say(f"aidetect: {text}")
    )
    try:
        yield cache
    finally:
        cache.close()


def say(message: str) -> None:
    """Print one line on stderr, above any progress bar.

    Control characters are escaped, and secrets of addresses are left out.
    """
    from tqdm import tqdm

    from aidetect.detector.inputs.redact import redacted

    tqdm.write(visible(redacted(message)), file=sys.stderr)


def visible(text: str) -> str:
    """Text that is safe on a terminal: control characters and undecodable bytes become escapes."""
    from aidetect.detector.record import printable

    shown = "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in printable(text))
    return shown.replace("##[", "##\\x5b")  # GitHub's runner takes this for a command, anywhere in a line


def _harmless(c: str) -> bool:
    # Characters unknown to Python's tables and wide spaces are harmless too. Control characters are not.
    return c.isprintable() or unicodedata.category(c) in ("Cn", "Co") or c == "\u3000"


def utf8_output(newline: str | None = None) -> None:
    """Write UTF-8 to standard output whatever the locale says: names may contain anything.

    Args:
        newline: ``""`` to write line ends unchanged, ``None`` to use the system's.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline=newline)


def use_colour(stream: IO[Any]) -> bool:
    """Whether to use colour: on a terminal, without ``NO_COLOR`` and ``TERM=dumb``."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return bool(stream.isatty()) and not plain


@contextlib.contextmanager
def part_beside(target: Path) -> Iterator[Path]:
    """An empty hidden file in the target's folder. It is removed at the end unless it was renamed.

    Raises:
        OSError: no file can be created there.
    """
    # The name is chosen first, so that the file is removed even after an interruption right here.
    part = target.parent / f".aidetect-{secrets.token_hex(8)}.part"
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name when complete, or not at all."""
    with contextlib.ExitStack() as stack:
        try:
            part = stack.enter_context(part_beside(path))
            stream = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from None
        yield stream
        stream.close()
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)


def progress_bar(total: int | None, quiet: bool, unit: str = " images") -> Any:
    """A progress bar on stderr, hidden with ``-q`` or if stderr is not a terminal."""
    from tqdm import tqdm

    hide = quiet or not sys.stderr.isatty()
    return tqdm(total=total, unit=unit, disable=hide, dynamic_ncols=True, leave=False, file=sys.stderr)


def ends_quietly(function: F) -> F:
    """Let a closed pipe end a command silently, as other tools in a pipeline do."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(141) from None

    return run  # type: ignore[return-value]


def worst_false_positive_rate(rates: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How often real images are called ai in the worst condition that the card states, or ``None``."""
    return rates.get("false_positive_rate_at_most") or rates.get("false_positive_rate")


def false_positives(rates: Mapping[str, Any]) -> str:
    """How often real images are called ai, as a clause; empty if the card does not say.

    The rate is the one of the condition with the most false positives: clean, laundered or scaled down.

    Args:
        rates: the ``error_rates`` of a card or a report.
    """
    rate = worst_false_positive_rate(rates) or {}
    return "" if rate.get("value") is None else f"about {rate['value']:.1%} of real images are called ai"
