"""Work in progress: the frames of a source while their views wait for logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .images.turns import Turned
from .images.views import View
from .record import Record
from .resultcache import ResultCache

if TYPE_CHECKING:
    from .models.orientation import Orientation
    from .models.stages import Stages


@dataclass
class Result:
    """Logits of the views of one distinct picture; empty until its batch has run.

    Attributes:
        kinds, boxes: of the views to be scored so far, as in `View`.
        logits: one per view.
        stage: the last stage whose views were scored, or are being scored.
        later: views of further stages, which are scored only if the logits so far leave the score open.
        families: log-probabilities of generator families, one array per view; empty without attribution.
        seconds: time spent on it in forward passes.
        kept: whether it came from the result cache.
        turned: its views turned back, until it is decided whether it is turned.
        votes: what its whole views say of that.
        looks: what its centred square says of that, stored in all four ways; asked for where that is open.
        quarters: by how many quarters it counts as turned anticlockwise. Its views are those turned back.
    """

    kinds: list[str]
    boxes: list[tuple[int, int, int, int]]
    logits: list[float] = field(default_factory=list)
    families: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0
    kept: bool = False
    stage: int = 0
    later: list[View] = field(default_factory=list)
    turned: Turned | None = None
    votes: list[np.ndarray] = field(default_factory=list)
    looks: list[np.ndarray] | None = None
    quarters: int = 0

    @property
    def done(self) -> bool:
        """Whether every view that is to be scored has its logit."""
        return not self.later and self.turned is None and len(self.logits) == len(self.kinds)

    def begin(self, views: list[View], turned: Turned | None = None) -> list[View]:
        """Take over a picture's views, and give those of the first stage."""
        self.later, self.turned = views, turned
        return self._next(views[0].stage)

    def settle(self, stages: Stages, orientation: Orientation | None = None) -> list[View]:
        """Once a stage's views have logits: the views of the next one, or none if the score is clear.

        Of a picture that turns out to be turned, everything begins anew with its views turned back. Where
        that is not sure, its centred square is looked at in all four ways, unless one view is all there is.
        """
        if len(self.logits) < len(self.kinds):
            return []
        if orientation is not None and self.turned is not None:
            quarters = orientation.at_once(self.votes) if self.looks is None else None
            if quarters is None and self.looks is None and self.turned.natives[0]:
                wholes = [box for kind, box in zip(self.kinds, self.boxes, strict=True) if kind != "native"]
                centre = self.turned.centre.box
                known = [vote for vote, box in zip(self.votes, wholes, strict=True) if box == centre]
                self.looks = known[:1]
                return self.turned.looks()[len(self.looks) :]
            if self.looks is not None:
                if len(self.looks) < 4:
                    return []
                quarters = orientation.quarters(self.looks)
            turned, self.turned, self.quarters = self.turned, None, quarters or 0
            if self.quarters:
                self.kinds, self.boxes, self.logits, self.families = [], [], [], []
                return self.begin(turned.views(self.quarters))
        if not self.later:
            return []
        if stages.goes_on(self.stage, self.kinds, self.logits):
            return self._next(self.later[0].stage)
        self.later = []
        return []

    def _next(self, stage: int) -> list[View]:
        mine = [view for view in self.later if view.stage == stage]
        self.later = [view for view in self.later if view.stage != stage]
        self.stage = stage
        self.kinds += [view.kind for view in mine]
        self.boxes += [view.box for view in mine]
        return mine

    def to_data(self) -> dict[str, Any]:
        """The result as JSON data. `from_data` restores every float exactly."""
        families = [[float(value) for value in vector] for vector in self.families]
        scores = {"kinds": self.kinds, "boxes": self.boxes, "logits": self.logits, "families": families}
        return scores | {"stage": self.stage, "quarters": self.quarters}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Result:
        """The result that `to_data` gave this data for."""
        boxes = [(int(a), int(b), int(c), int(d)) for a, b, c, d in data["boxes"]]
        families = [np.array(vector) for vector in data["families"]]
        found = cls(data["kinds"], boxes, data["logits"], families, kept=True, stage=data["stage"])
        found.quarters = data["quarters"]
        return found


@dataclass
class Frame:
    """A decoded frame, or a re-encoding of one, with its views and their result."""

    key: str
    sha256: str
    width: int
    height: int
    format: str
    frame: int
    frames: int
    warnings: list[str]
    reencoding: str = ""  # name of the re-encoding, or "" for the frame itself
    backdrop: str = ""  # the background that it is seen on, or "" for the picture as stored
    alpha_sha256: str | None = None  # of its alpha channel, where it is not opaque
    clip: dict[str, Any] | None = None  # of a clip: codec, seconds, fps; the frame's time and shot
    views: list[View] = field(default_factory=list)
    turned: Turned | None = None
    thumbnail: bytes | None = None
    result: Result | None = None

    def to_data(self) -> dict[str, Any]:
        """What the cache stores for a second scan, as JSON data."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = (
    *("key", "sha256", "width", "height", "format", "frame", "frames", "warnings", "reencoding"),
    *("backdrop", "alpha_sha256", "clip"),
)


@dataclass
class Prepared:
    """One source, read and cut into views: its record so far, its frames, and the results new with it."""

    record: Record
    frames: list[Frame]
    file: str | None = None  # key of the file in the result cache
    charge: list[Result] = field(default_factory=list)  # results whose computing time counts for this record
    large: bool = False  # whether it holds a place of `Preparer.clips`

    @property
    def done(self) -> bool:
        """Whether every frame has its result."""
        return all(frame.result is not None and frame.result.done for frame in self.frames)


@dataclass(frozen=True)
class Extras:
    """What a scan reports besides scores. None of it changes a logit.

    Attributes:
        stability: also score re-encodings; a verdict that does not survive them becomes ``uncertain``.
        evidence: report what metadata and watermarks say.
        trust_list: PEM certificates of the authorities that C2PA signers are checked against; ``None`` to
            check none.
        thumbnail: longest side of a small JPEG kept with each record, in pixels; 0 for none.
    """

    stability: bool = False
    evidence: bool = False
    trust_list: str | None = None
    thumbnail: int = 0


def kept_frames(cache: ResultCache, file: str) -> list[Frame]:
    """The frames of a file from the result cache if all their scores are in it, else an empty list."""
    frames = [Frame(**data) for data in cache.frames(file) or []]
    for frame in frames:
        frame.result = kept_result(cache, frame.key)
    return frames if all(frame.result is not None for frame in frames) else []


def kept_result(cache: ResultCache, key: str) -> Result | None:
    """What an earlier run computed for a picture, or ``None``."""
    data = cache.scores(key)
    return None if data is None else Result.from_data(data)
