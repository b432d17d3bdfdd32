"""aidetect's detector: how likely it is that a whole picture was made by a generative model.

>>> from aidetect.detector import Detector
>>> detector = Detector.load()
>>> [record.probability for record in detector.score(["a.jpg", "b.png"])]

The score comes from pixels alone. Heavy libraries are imported when a detector is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import AidetectError, InputError, ModelError
from .versions import version

if TYPE_CHECKING:
    from .detector import Detector
    from .record import Record

__all__ = ["AidetectError", "Detector", "InputError", "ModelError", "Record", "version"]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        from .detector import Detector

        return Detector
    if name == "Record":
        from .record import Record

        return Record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
