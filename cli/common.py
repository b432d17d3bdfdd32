"""What every command shares: exit codes, options, errors for people, terminals."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import secrets
import sys
import unicodedata
from collections.abc import Callable, Iterator
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
    """What the exit status of a command says."""

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
    """Turn this package's errors into one line and the right exit code."""
    try:
        yield
    except ModelError as error:
        raise CommandError(str(error), ExitCode.MODEL) from None
    except AidetectError as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def model_options(command: F) -> F:
    """Add ``--model --device --views --batch-size --workers``."""
    options = [
        click.option(
            "--model",
            default=None,
            metavar="NAME|PATH",
            help="Model to score with: a name from `aidetect models list`, or a model folder.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda", "mps"]),
            default="auto",
            show_default=True,
            help="Where to compute.",
        ),
        click.option(
            "--views",
            "mode",
            type=click.Choice(["fast", "standard", "thorough"]),
            default="standard",
            show_default=True,
            help="How many views of each image are looked at: speed against accuracy.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1, 4096),
            default=None,
            help="Views a forward pass.  [default: 8 on the CPU, 64 on a GPU]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 64),
            default=None,
            help="Threads that read and decode.  [default: one a core, at most 4]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


table_or_json = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What to write.",
)


def picture_options(command: F) -> F:
    """Add ``--ai --real --index``, which `labelled` reads."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    options = [
        click.option(
            "--ai",
            multiple=True,
            type=folder,
            help="Folder of AI-generated pictures; its subfolders are groups, named after generators "
            "(repeatable).",
        ),
        click.option(
            "--real",
            multiple=True,
            type=folder,
            help="Folder of real pictures; its subfolders are groups (repeatable).",
        ),
        click.option(
            "--index",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="CSV that names pictures: file (or shard, member), label (ai|real), and, if known, "
            "generator, source, repo, content, view, path (repeatable).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def labelled(options: dict[str, Any]) -> list[Example]:
    """Examples that ``--ai --real --index`` name.

    Raises:
        AidetectError: an index or folder cannot be used.
    """
    from aidetect.detector.training.dataset import read_folder, read_index

    examples = [example for path in options["index"] for example in read_index(path)]
    for label, folders in ((1, options["ai"]), (0, options["real"])):
        examples += [example for folder in folders for example in read_folder(folder, label)]
    return examples


def load_detector(model: str | None, device: str, mode: str, **options: Any) -> Any:
    """Load a detector; a missing or damaged model ends the command with exit code 5."""
    from aidetect.detector.detector import Detector
    from aidetect.detector.models.model import DEFAULT_MODEL

    given = {name: value for name, value in options.items() if value is not None}
    with errors_for_people():
        return Detector.load(model or DEFAULT_MODEL, device, mode, **given)


@contextlib.contextmanager
def result_cache(detector: Any, wanted: bool = True) -> Iterator[ResultCache | None]:
    """The user's result cache for a detector; ``None`` when it is not wanted."""
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
    """One line on stderr, control characters escaped, past any progress bar."""
    from tqdm import tqdm

    tqdm.write(visible(message), file=sys.stderr)


def visible(text: str) -> str:
    """Text safe for a terminal: control characters and undecodable bytes shown as escapes."""
    from aidetect.detector.record import printable

    shown = "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in printable(text))
    return shown.replace("##[", "##\\x5b")  # GitHub's runner takes it for a command, anywhere in a line


def _harmless(c: str) -> bool:
    # Unknown to Python's tables, or a wide space, is harmless too; what steers text is not.
    return c.isprintable() or unicodedata.category(c) in ("Cn", "Co") or c == "\u3000"


def utf8_output(newline: str | None = None) -> None:
    """Write UTF-8 to standard output whatever the locale says: names may hold anything.

    Args:
        newline: ``""`` to write line ends as they are given, ``None`` as the system has them.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline=newline)


def use_colour(stream: IO[Any]) -> bool:
    """Whether to colour: a terminal, and neither ``NO_COLOR`` nor ``TERM=dumb``."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return bool(stream.isatty()) and not plain


@contextlib.contextmanager
def part_beside(target: Path) -> Iterator[Path]:
    """An empty hidden file in the target's folder, gone in the end if it has not been given another name.

    Raises:
        OSError: no file can be made there.
    """
    # The name comes first, so that an interruption right after the making finds it.
    part = target.parent / f".aidetect-{secrets.token_hex(8)}.part"
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name whole, or not at all."""
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
    """A progress bar on stderr; silent with ``-q`` or when stderr is no terminal."""
    from tqdm import tqdm

    hide = quiet or not sys.stderr.isatty()
    return tqdm(total=total, unit=unit, disable=hide, dynamic_ncols=True, leave=False, file=sys.stderr)


def ends_quietly(function: F) -> F:
    """Let a closed pipe end a command without words, as other tools in a pipeline do."""

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
