"""Conditions: what is done to labelled pictures before a model is measured on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import AidetectError, InputError
from ..images.degrade import WAYS
from ..images.launder import SWEEP, launder
from ..images.rework import rework
from .features import SMALLEST_SCALE, random_source

MIX = "mix"
CUTS = "mix-cuts"  # held-out cuts that training laundered as they are, small already
REWORK = "rework"  # sharpened, tinted, enlarged, turned ...: done on purpose
FIXED = {**SWEEP, **WAYS}  # nothing in these is random
CONDITIONS = (*FIXED, MIX, REWORK)
_ORDER = ("clean", MIX, CUTS, REWORK, *(name for name in FIXED if name != "clean"))


def laundered(rgb: np.ndarray, condition: str, key: str, view: str = "full") -> np.ndarray:
    """A picture in one condition.

    Args:
        rgb: ``[height, width, 3]``, dtype ``uint8``.
        condition: one of `CONDITIONS`.
        key: what the random histories of ``mix`` and ``rework`` depend on (see `Pixels.key`).
        view: as for `Example`; it bounds how far ``mix`` shrinks.

    Raises:
        InputError: ``not_launderable``: an encoder refuses the picture, e.g. for its size.
        AidetectError: there is no such condition.
    """
    check_conditions([condition])
    try:
        if condition in FIXED:
            return FIXED[condition](rgb)
        rng = random_source(key, condition)
        if condition == REWORK:
            return rework(rgb, rng)
        return launder(rgb, rng, smallest_scale=SMALLEST_SCALE[view])
    except (OSError, ValueError, MemoryError) as error:
        raise InputError("not_launderable", f"cannot be put through {condition}: {error}") from None


def place(condition: str) -> int:
    """Place of a condition in tables: clean, the random ones, then the others as in `CONDITIONS`."""
    return _ORDER.index(condition) if condition in _ORDER else len(_ORDER)


def check_conditions(conditions: Iterable[str]) -> None:
    """Check names of conditions.

    Raises:
        AidetectError: one is unknown.
    """
    for condition in conditions:
        if condition not in CONDITIONS:
            raise AidetectError(f"no condition called {condition!r}; there are: {', '.join(CONDITIONS)}")
