"""Errors of the detector. Each message is one line that a person can act on."""

from __future__ import annotations


class AidetectError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(AidetectError):
    """One input could not be read or decoded; the others are not affected.

    Attributes:
        kind: a stable slug, e.g. ``not_found``, ``not_an_image``, ``truncated``, ``too_large``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.kind = kind


class ModelError(AidetectError):
    """The model is missing, damaged, or does not match its card. Nothing may be scored with it."""
