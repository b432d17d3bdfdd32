"""Stages: which views of a picture are scored, and when its score is clear enough to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .probe import Calibration


@dataclass(frozen=True)
class Stage:
    """A step after which a picture's score may be clear.

    Attributes:
        calibration: joins the logits of the views so far and turns them into log-odds.
        open: log-odds between which the next stage follows; ``None`` for the last stage.
    """

    calibration: Calibration
    open: tuple[float, float] | None = None

    def logit(self, kinds: Sequence[str], logits: Sequence[float]) -> float:
        """Log-odds of the picture, from the views so far."""
        return self.calibration.slope * self.calibration.join(kinds, logits) + self.calibration.intercept

    def settles(self, logit: float) -> bool:
        """Whether no further stage follows at these log-odds."""
        return self.open is None or not self.open[0] < logit < self.open[1]


@dataclass(frozen=True)
class Stages:
    """The stages of a mode, at least one. Of a mode with one stage, all views are always scored."""

    each: tuple[Stage, ...]

    def goes_on(self, stage: int, kinds: Sequence[str], logits: Sequence[float]) -> bool:
        """Whether the views of another stage are to be scored.

        Args:
            stage: the stage that is complete, from 0 on.
            kinds, logits: of all views so far.
        """
        now = self.each[stage]
        return not now.settles(now.logit(kinds, logits))

    def logit(self, stage: int, kinds: Sequence[str], logits: Sequence[float]) -> float:
        """The raw logit of a picture whose last stage was ``stage``."""
        return self.each[stage].logit(kinds, logits)

    def replay(self, kinds: Sequence[str], logits: Sequence[float]) -> float:
        """The raw logit that a picture gets, when the logits of all its views are known.

        The first stage has the first ``whole`` or ``centre`` view, the second the first ``native`` view too.
        A stage after which there are no more views is the last.
        """
        if len(self.each) == 1:
            return self.logit(0, kinds, logits)
        first = [i for i, kind in enumerate(kinds) if kind != "native"][:1]
        second = [*first, *[i for i, kind in enumerate(kinds) if kind == "native"][:1]]
        for stage, seen in enumerate((first, second)):
            some = [kinds[i] for i in seen], [logits[i] for i in seen]
            if seen and (len(seen) == len(kinds) or not self.goes_on(stage, *some)):
                return self.logit(stage, *some)
        return self.logit(2, kinds, logits)

    def to_data(self) -> list[dict[str, Any]]:
        """The stages as a card's ``stages``."""
        return [{**vars(stage.calibration), "open": stage.open} for stage in self.each]


def stages_from(mode: Mapping[str, Any]) -> Stages:
    """Read the stages of a card's mode. A mode without ``stages`` has one, whose logit is the joined one."""
    if "stages" not in mode:
        return Stages((Stage(Calibration(float(mode["calibration"]["share"]), 1.0, 0.0)),))
    each = []
    for data in mode["stages"]:
        calibration = Calibration(float(data["share"]), float(data["slope"]), float(data["intercept"]))
        between = data.get("open")
        each.append(Stage(calibration, None if between is None else (float(between[0]), float(between[1]))))
    if len(each) != 3 or [stage.open is None for stage in each] != [False, False, True]:
        raise ValueError("a mode has one stage or three, and the last is not open")
    return Stages(tuple(each))
