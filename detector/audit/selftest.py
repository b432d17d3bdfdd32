"""The self-test: a picture drawn in code, whose expected logit is in the card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..detector import Detector
from ..images.testcard import picture
from ..models.model import MODEL_CARD

TOLERANCE = {"float32": 0.02, "bfloat16": 0.4}


@dataclass(frozen=True)
class SelfTest:
    """The expected logit, the logit found, and the allowed difference."""

    expected: float
    found: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the logit is within the tolerance."""
        return abs(self.expected - self.found) <= self.tolerance


def add_selftest(folder: Path) -> None:
    """Write the picture's logits, in float32 on the CPU, into the card of a new model."""
    path = folder / MODEL_CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    logits = {}
    for mode in card["modes"]:
        (record,) = Detector.load(str(folder.resolve()), "cpu", mode, precision="float32").score([picture()])
        logits[mode] = record.logit
    card["selftest"] = logits
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def run(detector: Detector) -> SelfTest | None:
    """Score the picture; ``None`` if the card has no expected logit for this mode."""
    expected = detector.model.card.data.get("selftest", {}).get(detector.mode)
    if expected is None:
        return None
    (record,) = detector.score([picture()])
    assert record.logit is not None
    return SelfTest(float(expected), record.logit, TOLERANCE[detector.device.dtype_name])
