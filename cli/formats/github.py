"""GitHub Actions: workflow commands, which the runner shows as annotations.

Escapes follow the runner (actions/runner, ``ActionCommand``): ``%``, carriage return and line feed
everywhere, colon and comma in properties too. Each line is one command. The runner searches for a
command inside a line only if the line itself is not one, and here every line is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from aidetect.detector.record import Record

from ..common import visible
from .sarif import below, in_words, level
from .writers import percent

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


class Writer:
    """One annotation for each image that is neither real nor accepted, as soon as it is scored."""

    def __init__(self, stream: IO[str], colour: bool) -> None:
        self._stream = stream
        # Annotations name files relative to the root of the checkout, wherever the step runs.
        self._root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
        self._header: dict[str, Any] = {}

    def begin(self, header: dict[str, Any]) -> None:
        """Take the report's header."""
        self._header = header

    def add(self, record: Record) -> None:
        """Write one record's annotation, if it has one."""
        if record.error:
            self._annotate("warning", "unreadable", record.input, record.error["message"])
            return
        kind = level(record)
        if kind and (record.accepted is None or record.finding):
            title = f"{record.verdict}, {percent(record.probability or 0.0)}"
            self._annotate(_COMMANDS[kind], title, record.input, in_words(record, self._header))

    def end(self, counts: dict[str, int], interrupted: bool) -> None:
        """Flush. Nothing follows the last annotation."""
        self._stream.flush()

    def _annotate(self, command: str, title: str, name: str, text: str) -> None:
        path = below(name, self._root)
        file = "" if path is None else f"file={_property(visible(path))},"
        # The log shows only the message, so it must name the image too.
        message = _data(f"{visible(name)}: {visible(text)}")
        self._stream.write(f"::{command} {file}title={_property(f'aidetect: {title}')}::{message}\n")
        self._stream.flush()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
