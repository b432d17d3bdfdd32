"""Outputs and numbers in README and docs, made by running what they show.

    python benchmarks/update_docs.py            rewrite what is out of date
    python benchmarks/update_docs.py --check    only say what is (exit 1)

Four kinds of blocks are looked after:

- ```console: lines after `$` are commands. They are run in a folder with the pictures of demo_pictures.py,
  one folder a page, and what they print must be what the page shows.
- ```sh: commands whose output is not shown. They are run and must not fail.
- ```python: run, and must not fail.
- `<!-- generated: NAME -->` to `<!-- end -->`: a table or sentences that a function here makes of the shipped
  model's card.

A block of commands after `<!-- example -->` (or `<!-- example: why, when, on what machine -->`) is not run;
its options must exist all the same. Times, hashes and dates may differ, and scores in their last digits
(`alike`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click
import demo_pictures  # in this folder
from click.testing import CliRunner

from aidetect.cli.main import main
from aidetect.detector.models.model import DEFAULT_MODEL, load_model, read_model_card

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "scan.svg"
PICTURE_COMMAND = "aidetect scan ./folder"
REPORT_PICTURE = ROOT / "docs" / "images" / "report.png"
PAGE_PICTURE = ROOT / "docs" / "images" / "page.png"
WIDTH = 97  # of the terminal in the picture, in characters
# What a score may differ by from machine to machine, as printed: percent, and logits.
PERCENT, LOGIT = 1.0, 0.06
FAILED = (2, 5)  # exit codes: usage, model


@dataclass(frozen=True)
class Block:
    """A fenced block of commands in a page.

    Attributes:
        path: the page.
        line: number of its first line after the fence, from 1.
        info: `console`, `sh` or `python`.
        lines: what stands between the fences.
        example: whether it is marked as one, and so not run.
    """

    path: Path
    line: int
    info: str
    lines: tuple[str, ...]
    example: bool

    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands, and the lines that they print (of `sh`: none)."""
        if self.info == "python":
            return []
        if self.info == "sh":
            joined = "\n".join(self.lines).replace("\\\n", " ")
            return [(line, []) for line in joined.splitlines() if line and not line.startswith("#")]
        found: list[tuple[str, list[str]]] = []
        for line in self.lines:
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1] = (found[-1][0] + "\n" + line[2:], [])
            else:
                found[-1][1].append(line)
        return found


def pages() -> list[Path]:
    """README, and the pages of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path) -> Iterator[Block]:
    """The command blocks of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    before = ""
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"```(\w*).*", lines[number])
        if fence:
            end = lines.index("```", number + 1)
            if fence[1] in ("console", "sh", "python"):
                example = before.startswith("<!-- example")
                yield Block(path, number + 2, fence[1], tuple(lines[number + 1 : end]), example)
            number = end
        before = lines[number].strip() or before
        number += 1


# --- running ----------------------------------------------------------------------------------------


@dataclass
class Session:
    """Runs a page's commands one after the other, in one folder of their own."""

    folder: Path
    cache: Path
    model: Callable[..., object] = load_model

    def run(self, command: str, colour: bool = False) -> tuple[str, int]:
        """What a command prints on a terminal, both streams, and its exit code.

        `aidetect` runs in this process, so that the model is loaded once; all else runs in bash.
        """
        os.environ["AIDETECT_CACHE_DIR"] = str(self.cache)
        line, _, after = command.partition("; ")
        stages = line.split(" | ")
        output, code = self._stages(stages, colour) if "aidetect" in line else self._bash(line, b"")
        if after:
            output += self._bash(f"(exit {code}); {after}", b"")[0]
        return output.replace(f"{self.folder}/", ""), code

    def run_python(self, code: str) -> None:
        """Run a page's Python code; what it prints is not looked at."""
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(io.StringIO()),
            mock.patch("aidetect.detector.detector.load_model", self.model),
        ):
            exec(compile(code, "page", "exec"), {"__name__": "page"})

    def _stages(self, stages: list[str], colour: bool) -> tuple[str, int]:
        data, shown, code = b"", "", 0
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            words = shlex.split(stage)
            if words[0] == "aidetect":
                result = self._aidetect(words[1:], data, colour)
                code, data = result.exit_code, result.stdout_bytes
                shown += result.output if last else result.stderr
            else:
                text, code = self._bash(stage, data)
                data = text.encode()
                shown += text if last else ""
        return shown, code

    def _aidetect(self, words: list[str], data: bytes, colour: bool) -> click.testing.Result:
        with (
            contextlib.chdir(self.folder),
            mock.patch.object(sys, "argv", ["aidetect", *words]),
            mock.patch("aidetect.detector.detector.load_model", self.model),
            mock.patch("aidetect.cli.formats.writers.use_colour", lambda stream: colour),
            mock.patch.object(main, "main", _line_by_line(main.main)),
        ):
            result = CliRunner().invoke(main, words, input=data, prog_name="aidetect", color=colour)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def _bash(self, line: str, data: bytes) -> tuple[str, int]:
        done = subprocess.run(
            ["bash", "-c", line],
            check=False,
            cwd=self.folder,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.stdout.decode(), done.returncode


def _line_by_line(function: Callable[..., object]) -> Callable[..., object]:
    """A function, with both streams flushed at each line, so that they mix as on a terminal."""

    def run(*words: object, **options: object) -> object:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return function(*words, **options)

    return run


@contextlib.contextmanager
def sessions(shared: bool) -> Iterator[Callable[[], Session]]:
    """A function that opens a session; sessions see no settings of the person who runs this.

    Args:
        shared: whether all sessions use one result cache, which is quicker, but shows in what scans print.
    """
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        demo_pictures.write(base / "pictures" / "folder")
        demo_pictures.write_claims(base / "pictures" / "claims")
        demo_pictures.write_clip(base / "pictures" / "clips")
        environment = {
            "XDG_DATA_HOME": str(base / "data"),
            "AIDETECT_CACHE_DIR": "",
            "AIDETECT_MODELS": "",
            "AIDETECT_PRECISION": "float32",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "80",
            "TERM": "dumb",
        }
        model = functools.cache(load_model)
        count = iter(range(1000))

        def new() -> Session:
            number = next(count)
            folder = base / f"page-{number}"
            shutil.copytree(base / "pictures", folder)
            return Session(folder, base / ("cache" if shared else f"cache-{number}"), model)

        with mock.patch.dict(os.environ, environment):
            os.environ.pop("GITHUB_WORKSPACE", None)
            yield new


def undocumented(command: str) -> str | None:
    """What is wrong with a command's words: an option or a subcommand that does not exist."""
    for part in re.split(r"\n|; |&& |\|\| | \| ", command):
        with contextlib.suppress(ValueError):  # text of a file between quotes
            words = shlex.split(re.sub(r"\$\(.*?\)|[<>]\S*", "", part), comments=True)
            if "aidetect" in words[:1]:
                try:
                    _parse(main, words)
                except click.UsageError as error:
                    return f"{part.strip()}: {error.format_message()}"
    return None


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    context = click.Context(command, parent=parent, info_name=words[0], **command.context_settings)
    _, rest, _ = command.make_parser(context).parse_args(words[1:])
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        if inner is None:
            raise click.UsageError(f"no such command: {rest[0]}")
        _parse(inner, rest, context)


# --- comparing --------------------------------------------------------------------------------------

_VOLATILE = (
    (re.compile(r"\d+\.\d s on \w+"), "some seconds"),
    (re.compile(r", \d+ from the cache"), ""),
    (re.compile(r"\b\d+\.\d+ s\b"), "some seconds"),
    (re.compile(r"\(?0x[0-9a-f.]+p[-+]\d+\)?"), "hex"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|\b\d{16,}\b"), "hash"),
    (re.compile(r"\d{4}-\d\d-\d\d(T[\d:.]+Z?)?"), "date"),
    (re.compile(r'"milliseconds": [\d.]+'), '"milliseconds": some'),
    (re.compile(r'"bytes": \d+'), '"bytes": some'),
    (re.compile(r'"cached": (true|false)'), '"cached": either'),
    (re.compile(r"<0\.1%"), "0.0%"),
    (re.compile(r">99\.9%"), "100.0%"),
    (re.compile(r"\s+"), " "),
)
_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]\d+)?(?: ?%)?")


def alike(shown: str, printed: str) -> bool:
    """Whether a text says what a command prints, but for what differs from run to run or by machine."""
    for pattern, mask in _VOLATILE:
        shown, printed = pattern.sub(mask, shown), pattern.sub(mask, printed)
    if _NUMBER.sub("", shown).split() != _NUMBER.sub("", printed).split():
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(_near(ours, theirs) for ours, theirs in pairs)


def _near(ours: str, theirs: str) -> bool:
    if ours.endswith("%") != theirs.endswith("%"):
        return False
    return abs(float(ours.rstrip(" %")) - float(theirs.rstrip(" %"))) <= (PERCENT if "%" in ours else LOGIT)


def problems(block: Block, session: Session) -> Iterator[tuple[str, str]]:
    """What is wrong with a block's commands: a sentence, and what the command prints now."""
    where = f"{block.path.relative_to(ROOT)}:{block.line}"
    if block.info == "python" and not block.example:
        session.run_python("\n".join(block.lines))
    for command, shown in block.commands():
        wrong = undocumented(command)
        if wrong:
            yield f"{where}: {wrong}", ""
        if block.example:
            continue
        printed, code = session.run(command)
        if block.info == "sh":
            if code in FAILED or (code and not command.startswith("aidetect")):
                yield f"{where}: {command} ends with {code}: {printed}", ""
        elif not alike("\n".join(shown), printed):
            yield f"{where}: {command} prints something else now", printed


# --- generated text ---------------------------------------------------------------------------------


@functools.cache
def model_card() -> str:
    """The shipped model's card for people."""
    return (read_model_card(DEFAULT_MODEL).folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def section(title: str) -> list[str]:
    """Lines of the card below the first heading that starts with a title, up to the next heading."""
    lines = model_card().splitlines()
    start = next(n for n, line in enumerate(lines) if line.lstrip("# ").startswith(title) and line[:1] == "#")
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("#")), len(lines))
    return lines[start:end]


def tables(title: str) -> list[list[str]]:
    """The tables in a section of the card, each as its lines."""
    found: list[list[str]] = [[]]
    for line in section(title):
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def rates(mode: str = "standard") -> dict[str, dict[str, str]]:
    """The card's first table of a mode: column to cell, by condition."""
    head, _, *rows = tables(f"--views {mode}")[0]
    return {cells(row)[0].split()[0]: dict(zip(cells(head), cells(row), strict=True)) for row in rows}


def point(cell: str) -> str:
    """A rate without its interval."""
    return cell.split(" (", maxsplit=1)[0]


_CONDITIONS = {
    "clean": "as they are",
    "mix": "laundered: scaled, cropped, compressed again",
    "half-jpeg-80": "half as large, saved as JPEG 80",
    "rework": "reworked: sharpened, tinted, photographed from a screen, ...",
}


def accuracy_short() -> str:
    """For README: four rows, two sentences."""
    found = rates()
    lines = ["| pictures | AI called `ai` | real called `ai` | AI called `real` |", "|---|---|---|---|"]
    for name, words in _CONDITIONS.items():
        row = found[name]
        picked = (row["recall"], row["reals called ai"], row["AI called real"])
        lines.append(f"| {words} | {' | '.join(map(point, picked))} |")
    mix = found["mix"]
    lines += [
        "",
        f"After laundering, {point(mix['recall'])} of AI pictures are called `ai`, and "
        f"{point(mix['reals called ai'])} of real pictures are called `ai` by mistake.",
        f"{point(mix['AI called real'])} of AI pictures are called `real`; the others are `uncertain`.",
    ]
    return "\n".join(lines)


_FAMILIES = {
    "dalle": "DALL-E",
    "cogview": "CogView",
    "flux": "Flux",
    "gan": "GANs",
    "gpt": "GPT image",
    "imagen": "Imagen and Nano Banana",
    "hunyuan": "Hunyuan",
    "midjourney": "Midjourney",
    "qwen": "Qwen",
    "seedream": "Seedream",
    "stable_diffusion": "Stable Diffusion",
    "wan": "Wan",
}


def weakest() -> str:
    """For the list of limits: families found least often, and kinds of real pictures accused most often."""

    def ranked(title: str, column: str, names: dict[str, str]) -> list[tuple[float, str]]:
        head, _, *rows = tables(title)[0]
        at = cells(head).index(column)
        found = [(cells(row)[0], point(cells(row)[at])) for row in rows]
        sure = [(name, value) for name, value in found if value != "-" and "*" not in value]
        return sorted(
            (float(value.rstrip(" %")), f"{names.get(name, name)} ({value})") for name, value in sure
        )

    least = [text for _, text in ranked("AI pictures by family", "recall", _FAMILIES)[:3]]
    most = [text for _, text in reversed(ranked("By content", "called ai", {})[-2:])]
    return (
        f"- Called `ai` least often, after laundering: {', '.join(least)}.\n"
        f"- Real pictures called `ai` most often, by content: {', '.join(most)}."
    )


def accuracy_of(mode: str) -> str:
    """All that the card states of a mode."""
    head = section(f"--views {mode}")[0].lstrip("# ")
    overall, *groups = tables(f"--views {mode}")
    parts = [f"**{head}**", "\n".join(overall)]
    if groups:
        parts += ["95 % intervals if other repositories had been drawn:", "\n".join(groups[0])]
    return "\n\n".join(parts)


def accuracy_adaptive() -> str:
    """What the card states of ``adaptive``, without the single ways of degrading."""
    head = section("--views adaptive")[0].lstrip("# ")
    return f"**{head}**\n\n" + "\n".join(tables("--views adaptive")[0][:5])


def accuracy_by(title: str) -> str:
    """A breakdown of the card: its table, and the sentence below it."""
    lines = section(title)[1:]
    return "\n".join(lines).strip()


def measured() -> str:
    """What was measured, in a sentence each."""
    data = read_model_card(DEFAULT_MODEL).data
    training = data["training"]
    found = rates()
    counts = re.search(r"\((\d+) AI, (\d+) real\)", found["clean"]["pictures"])
    assert counts is not None
    return (
        f"The model is `{data['name']}`, fitted on {data['date']}.\n"
        f"It was fitted on {training['pictures']:,} pictures from {training['groups']} repositories. "
        f"{int(counts[1]):,} AI pictures and {int(counts[2]):,} real ones were measured as they are."
    )


def families_named() -> str:
    """How often the hint at a family of generators is right."""
    found = read_model_card(DEFAULT_MODEL).data["attribution"]
    first, three = found["top_1"], found["top_3"]
    return (
        f"On {first['n']:,} held-out AI pictures in all conditions, the true family is named first for "
        f"{100 * first['value']:.1f} % and among the first three for {100 * three['value']:.1f} %."
    )


def speeds() -> str:
    """Speeds in the card, as a table."""
    found = read_model_card(DEFAULT_MODEL).data["speed"]
    lines = [f"Measured on: {found['measured_on']}.", "", "| `--views` | images a second |", "|---|---|"]
    lines += [f"| `{mode}` | {each:.2f} |" for mode, each in found["images_per_second"].items()]
    return "\n".join(lines)


GENERATED: dict[str, Callable[[], str]] = {
    "accuracy-short": accuracy_short,
    "weakest": weakest,
    "accuracy-standard": lambda: accuracy_of("standard"),
    "accuracy-fast": lambda: accuracy_of("fast"),
    "accuracy-adaptive": accuracy_adaptive,
    "accuracy-families": lambda: accuracy_by("AI pictures by family"),
    "accuracy-content": lambda: accuracy_by("By content"),
    "measured": measured,
    "families-named": families_named,
    "speeds": speeds,
}
_GENERATED = re.compile(r"<!-- generated: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def regenerated(text: str) -> str:
    """A page with its generated parts made anew."""
    return _GENERATED.sub(
        lambda found: f"<!-- generated: {found[1]} -->\n{GENERATED[found[1]]()}\n<!-- end -->", text
    )


# --- the picture of the terminal --------------------------------------------------------------------

_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>Output of {command}</title>
<desc>{plain}</desc>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}"
  height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g>
</svg>
"""


def terminal_picture(command: str, output: str) -> str:
    """An SVG of a terminal with a command and its coloured output; the plain text is its description."""
    from html import escape

    from rich.console import Console
    from rich.text import Text

    text = Text.from_ansi(f"$ {command}\n{output.rstrip()}")
    console = Console(record=True, width=WIDTH, height=50, file=io.StringIO(), force_terminal=True)
    console.print(text)
    given = {"command": escape(command), "plain": escape(text.plain)}
    template = _SVG.replace("{command}", given["command"]).replace(
        "{plain}", given["plain"].replace("{", "{{").replace("}", "}}")
    )
    return console.export_svg(title="", code_format=template, unique_id="scan")


def described(svg: str) -> str:
    """The plain text of a picture that `terminal_picture` made."""
    from html import unescape

    found = re.search(r"<desc>(.*?)</desc>", svg, re.DOTALL)
    return unescape(found[1]) if found else ""


# --- the command ------------------------------------------------------------------------------------


def rewrite(block: Block, session: Session, lines: list[str]) -> list[str]:
    """Bring a console block up to date in its page's lines; returns what was wrong and cannot be mended."""
    left: list[str] = []
    new: list[str] = []
    if block.example or block.info != "console":
        return [text for text, _ in problems(block, session)]
    for command, shown in block.commands():
        wrong = undocumented(command)
        if wrong:
            left.append(f"{block.path.name}:{block.line}: {wrong}")
        printed, _ = session.run(command)
        new += ("$ " + command.replace("\n", "\n> ")).splitlines()
        new += shown if alike("\n".join(shown), printed) else printed.rstrip("\n").splitlines()
    lines[block.line - 1 : block.line - 1 + len(block.lines)] = new
    return left


def update(path: Path, session: Session) -> list[str]:
    """Rewrite a page where it is out of date."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    # Commands run from top to bottom, lines are replaced from bottom to top.
    runs = []
    left: list[str] = []
    for block in blocks(path):
        part = [""] * (block.line - 1) + list(block.lines)
        left += rewrite(block, session, part)
        runs.append((block, part[block.line - 1 :]))
    for block, new in reversed(runs):
        lines[block.line - 1 : block.line - 1 + len(block.lines)] = new
    new_text = regenerated("\n".join(lines) + "\n")
    if new_text != text:
        path.write_text(new_text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: rewritten")
    return left


def check(path: Path, session: Session) -> list[str]:
    """What is out of date in a page."""
    text = path.read_text(encoding="utf-8")
    found = [
        f"{sentence}\n{printed}".rstrip() for b in blocks(path) for sentence, printed in problems(b, session)
    ]
    if regenerated(text) != text:
        found.append(f"{path.relative_to(ROOT)}: a generated part is out of date")
    return found


def check_picture(session: Session) -> list[str]:
    """Whether the picture of the terminal shows what the command prints."""
    shown = described(PICTURE.read_text(encoding="utf-8")) if PICTURE.exists() else ""
    printed, _ = session.run(PICTURE_COMMAND)
    same = alike(shown, f"$ {PICTURE_COMMAND}\n{printed}")
    return [] if same else [f"{PICTURE.relative_to(ROOT)} shows something else than {PICTURE_COMMAND} prints"]


def draw_pictures(session: Session) -> None:
    """Draw the picture of the terminal anew, and, where Chromium is installed, those of report and page."""
    output, _ = session.run(PICTURE_COMMAND, colour=True)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(terminal_picture(PICTURE_COMMAND, output), encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print(f"no Chromium: {REPORT_PICTURE.name} and {PAGE_PICTURE.name} are as they were")
        return
    session.run("aidetect scan ./folder -o report.html -q")
    page = (session.folder / "report.html").as_uri()
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,1000", page]
    subprocess.run([chromium, *options, f"--screenshot={REPORT_PICTURE}"], check=True, capture_output=True)
    script = Path(__file__).with_name("page_picture.py")
    subprocess.run([sys.executable, script, PAGE_PICTURE], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("pages", nargs="*", type=Path, help="README and all of docs where none is named")
    arguments = parser.parse_args()
    wrong: list[str] = []
    with sessions(shared=arguments.check) as new_session:
        if not arguments.pages and check_picture(new_session()):
            if arguments.check:
                wrong += check_picture(new_session())
            else:
                draw_pictures(new_session())
        for page in arguments.pages or pages():
            wrong += (check if arguments.check else update)(page.resolve(), new_session())
    print("\n".join(wrong), end="\n" if wrong else "")
    sys.exit(bool(wrong))
