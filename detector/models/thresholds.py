"""The probabilities that separate the verdicts. Importing this does not load torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Probabilities that separate the three verdicts.

    Attributes:
        ai: verdict ``ai`` at or above it.
        real: verdict ``real`` below it; ``uncertain`` in between.
    """

    ai: float
    real: float

    def verdict(self, probability: float) -> str:
        """``ai``, ``uncertain`` or ``real``."""
        if probability >= self.ai:
            return "ai"
        return "real" if probability < self.real else "uncertain"
