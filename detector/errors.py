"""Errors of the detector. Each message is one line that says what is wrong and what to do."""

from __future__ import annotations


class AidetectError(Exception):
    """Base class of all errors that this package raises deliberately."""


class InputError(AidetectError):
    """One input could not be read or decoded. Other inputs are not affected.

    Attributes:
        kind: a stable slug, e.g. ``not_found``, ``not_an_image``, ``truncated``, ``too_large``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.kind = kind

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return InputError, (self.kind, str(self))  # the same when it comes from another process


class ModelError(AidetectError):
    """The model is missing, damaged, or does not match its card. It must not be used for scoring."""
