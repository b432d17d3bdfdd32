"""Shortcut guards: what a classifier could learn that has nothing to do with how a picture was made.

If the classes of a corpus differ in file size, dimensions, JPEG tables, coarse content or mean colour, a
detector learns that difference instead. Each guard is a classifier that sees only one of these. Like the
probe, it is measured on groups it was not fitted on: an area under the ROC curve near 0.5 means that there
was nothing to learn. `drift` tests the detector itself: its score of a real picture must not depend on the
quality that the picture was saved with.
"""

from __future__ import annotations

import io
import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, JpegImagePlugin

from ..errors import AidetectError, InputError
from ..images.pixels import DEFAULT_MAX_PIXELS, Pixels, decode
from ..inputs.source import Source
from .conditions import laundered
from .dataset import Example, Reader
from .fit import balanced_weights, fit_probe, group_folds
from .metrics import Rate, number, rate, roc_auc
from .scoring import Picture

if TYPE_CHECKING:
    from ..detector import Detector

VIEWS = ("tile", "whole", "full")
FOLDS = 5
# Penalty of the guards' regressions: weaker than the probe's, because there are far fewer features.
L2 = 0.01
_THUMBNAIL = 16
_NO_TABLES = np.zeros(2 * 64 + 4)


# --- what each guard sees --------------------------------------------------------------------------


def file_size(data: bytes, pixels: Pixels) -> np.ndarray:
    """Logarithms of the file size in bytes and of the bytes per pixel, ``[2]``."""
    return np.log([len(data), len(data) / (pixels.width * pixels.height)])


def dimensions(data: bytes, pixels: Pixels) -> np.ndarray:
    """Logarithms of width, height and aspect ratio (long over short side), then four flags, ``[7]``.

    The flags: the picture is square; both sides are multiples of 8; of 16; of 64.
    """
    width, height = pixels.width, pixels.height
    multiples = [float(width % n == 0 and height % n == 0) for n in (8, 16, 64)]
    logs = [math.log(width), math.log(height), abs(math.log(width / height))]
    return np.array([*logs, float(width == height), *multiples])


def jpeg_tables(data: bytes, pixels: Pixels) -> np.ndarray:
    """Quantisation tables and subsampling of a JPEG, ``[132]``.

    First come two tables of 64 values, row by row; a missing second table is all 0. Then three flags for the
    subsampling: 4:2:2, 4:2:0, and anything else but 4:4:4 (e.g. grey). The last flag says that the file is
    not a JPEG; all other values are 0 then.

    Raises:
        InputError: ``damaged``: the container cannot be read.
    """
    found = _NO_TABLES.copy()
    if pixels.format != "JPEG":
        found[-1] = 1
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                assert isinstance(image, JpegImagePlugin.JpegImageFile)
                for slot, key in enumerate(sorted(image.quantization)[:2]):
                    found[64 * slot : 64 * (slot + 1)] = image.quantization[key]
                sampling = JpegImagePlugin.get_sampling(image)
    except Exception as error:  # the header may be hostile; Pillow raises many kinds of errors
        raise InputError("damaged", f"the JPEG's tables cannot be read: {error}") from None
    if sampling:
        found[128 + {1: 0, 2: 1}.get(sampling, 2)] = 1
    return found


def thumbnail(data: bytes, pixels: Pixels) -> np.ndarray:
    """The picture averaged to 16 by 16, ``[768]``, 0..255."""
    small = Image.fromarray(pixels.rgb).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, np.float64).reshape(-1)


def mean_colour(data: bytes, pixels: Pixels) -> np.ndarray:
    """Mean and standard deviation of each channel, ``[6]``, 0..255."""
    flat = pixels.rgb.reshape(-1, 3)
    return np.concatenate([flat.mean(axis=0), flat.std(axis=0)])


GUARDS: dict[str, Callable[[bytes, Pixels], np.ndarray]] = {
    "file-size": file_size,
    "dimensions": dimensions,
    "jpeg-tables": jpeg_tables,
    "thumbnail": thumbnail,
    "mean-colour": mean_colour,
}


@dataclass(frozen=True)
class Looks:
    """The guards' features of the pictures that could be read.

    Attributes:
        examples: the ``n`` pictures.
        vectors: by guard, ``[n, d]``, dtype ``float64``.
    """

    examples: list[Example]
    vectors: dict[str, np.ndarray]


def look(
    examples: Sequence[Example],
    on_progress: Callable[[int], None] = lambda done: None,
    on_error: Callable[[Example, InputError], None] = lambda example, error: None,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Looks:
    """Read pictures one at a time and compute the guards' features.

    Args:
        examples: cuts or whole files; of an animation the first frame is used.
        on_progress: called with the number of pictures done.
        on_error: called for pictures that cannot be read; they are left out.
        max_pixels: pictures with more pixels count as unreadable.
    """
    reader = Reader()
    kept: list[Example] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in GUARDS}
    for done, example in enumerate(examples, start=1):
        try:
            data = reader.read(example)
            pixels = next(decode(data, max_pixels=max_pixels, frames=1, strict=True))
            found = {name: see(data, pixels) for name, see in GUARDS.items()}
        except InputError as error:
            on_error(example, error)
        else:
            kept.append(example)
            for name, vector in found.items():
                columns[name].append(vector)
        on_progress(done)
    return Looks(kept, {name: np.stack(rows) if rows else np.empty((0, 0)) for name, rows in columns.items()})


# --- what each guard learns ------------------------------------------------------------------------


@dataclass(frozen=True)
class Guard:
    """How well one guard separates the classes on one kind of view.

    Attributes:
        name: one of `GUARDS`.
        view: one of `VIEWS`.
        auc: area under the ROC curve on held-out groups; ``nan`` if a class has fewer than two groups.
        n_ai, n_real: numbers of pictures it was measured on.
    """

    name: str
    view: str
    auc: float
    n_ai: int
    n_real: int

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON data, with ``None`` for an AUC that is ``nan``."""
        pictures = {"ai": self.n_ai, "real": self.n_real}
        return {"guard": self.name, "view": self.view, "auc": number(self.auc), "pictures": pictures}


def measure(
    looks: Looks, on_stage: Callable[[str], None] = lambda text: None, *, folds: int = FOLDS, l2: float = L2
) -> list[Guard]:
    """Fit and measure every guard separately on every kind of view in the data.

    Args:
        looks: the result of `look`.
        on_stage: called with what is being fitted.
        folds: number of folds with held-out groups, at least 2.
        l2: penalty of the regressions.

    Returns:
        One `Guard` per view and guard, in the order of `VIEWS` and `GUARDS`.

    Raises:
        AidetectError: no view has two groups of each class.
    """
    results = []
    for view in VIEWS:
        rows = np.array([e.view == view for e in looks.examples], dtype=bool)
        mine = [e for e in looks.examples if e.view == view]
        for name in GUARDS if mine else ():
            on_stage(f"{view} view: {name}")
            logits = held_out(looks.vectors[name][rows], mine, folds=folds, l2=l2)
            judged = ~np.isnan(logits)
            labels = np.array([e.label for e in mine])[judged]
            auc = roc_auc(labels, logits[judged])
            n_ai = int(labels.sum())
            results.append(Guard(name, view, auc, n_ai, len(labels) - n_ai))
    if all(math.isnan(result.auc) for result in results):
        raise AidetectError(
            "too few groups to hold some out: no kind of view has two groups (repositories, else sources or "
            "subfolders) of each class"
        )
    return results


def held_out(vectors: np.ndarray, examples: Sequence[Example], *, folds: int, l2: float) -> np.ndarray:
    """Logits of a logistic regression, each from a fit without the picture's group.

    In every fit both classes have half of the weight, so that the logits of different folds are comparable.

    Args:
        vectors: ``[n, d]``.
        examples: ``n`` of them.
        folds: number of folds.
        l2: penalty.

    Returns:
        ``[n]``; NaN where no fit was possible, because a class has fewer than two groups, or no pictures
        outside the fold.
    """
    labels = np.array([e.label for e in examples])
    groups = [e.group for e in examples]
    logits = np.full(len(examples), np.nan)
    for value in (0, 1):
        if len({e.group for e in examples if e.label == value}) < 2:
            return logits
    fold = group_folds(groups, labels.tolist(), folds)
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if not len(test) or len(set(labels[train].tolist())) < 2:
            continue
        # A column that is constant in the training part has no information. It must not dominate the rest.
        mean, std = vectors[train].mean(axis=0), vectors[train].std(axis=0)
        varies = std > 1e-9 * (1 + np.abs(mean))
        x = ((vectors - mean) / np.where(varies, std, 1) * varies).astype(np.float32)
        shown = [examples[i] for i in train.tolist()]
        weights = balanced_weights(labels[train], [e.source for e in shown], [e.group for e in shown])
        probe = fit_probe(x[train], labels[train], weights, l2, components=x.shape[1])
        logits[test] = probe.logits(x[test])
    return logits


# --- what the detector does ------------------------------------------------------------------------

AS_IS, PNG, SQUARE = "as is", "png", "square-1024"
DRIFT = (
    AS_IS,
    PNG,
    SQUARE,
    *(f"jpeg-{quality}" for quality in (95, 85, 75, 60, 45, 30)),
    "resize-0.75",
    "resize-0.5",
)


@dataclass(frozen=True)
class Drift:
    """The detector's scores of real pictures that were saved in one way.

    Attributes:
        name: one of `DRIFT`.
        logit: mean logit; positive means AI.
        change: mean difference of the logit to that of the picture as it is.
        largest: largest absolute difference for one picture.
        called_ai: share with verdict ``ai``.
    """

    name: str
    logit: float
    change: float
    largest: float
    called_ai: Rate

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON data."""
        return {
            "condition": self.name,
            "logit": self.logit,
            "change": self.change,
            "largest_change": self.largest,
            "called_ai": self.called_ai.to_dict(),
        }


def spread(found: Sequence[Picture], count: int, seed: int = 0) -> list[Example]:
    """Some real pictures, spread over the sources: one of each source in turn, in a seeded random order.

    Args:
        found: pictures from `scoring.pictures`.
        count: largest number of pictures.
        seed: seed of the order.

    Returns:
        One example per picture: the whole file, else the native cut, else the reduced picture.
    """
    rng = random.Random(seed)
    by_source: dict[str, list[Example]] = {}
    for picture in found:
        if not picture[0].label:
            best = min(picture, key=lambda e: ("full", "tile", "whole", "end").index(e.view))
            by_source.setdefault(best.source, []).append(best)
    queues = [rng.sample(mine, len(mine)) for _, mine in sorted(by_source.items())]
    rng.shuffle(queues)
    longest = max(map(len, queues), default=0)
    turns = [mine[turn] for turn in range(longest) for mine in queues if turn < len(mine)]
    return turns[:count]


def saved(data: bytes, pixels: Pixels, condition: str) -> bytes | np.ndarray:
    """A picture saved in another way, as a file or as pixels.

    Args:
        data: the bytes of its file.
        pixels: the decoded file.
        condition: one of `DRIFT`.

    Raises:
        InputError: ``not_launderable``: an encoder refuses the picture, e.g. because of its size.
        AidetectError: there is no such condition.
    """
    if condition == AS_IS:  # of an animation, the frame that the other conditions start from
        return data if pixels.frames == 1 else pixels.rgb
    if condition == PNG:
        buffer = io.BytesIO()
        Image.fromarray(pixels.rgb).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    if condition == SQUARE:
        return np.asarray(Image.fromarray(pixels.rgb).resize((1024, 1024), Image.Resampling.BICUBIC))
    return laundered(pixels.rgb, condition, pixels.key)


def drift(
    detector: Detector,
    examples: Iterable[Example],
    on_progress: Callable[[int], None] = lambda done: None,
    on_error: Callable[[Example, InputError], None] = lambda example, error: None,
) -> list[Drift]:
    """Score the same real pictures saved in different ways. Only a few are in memory at a time.

    Every example, including a cut, is scored as a picture. Saving as PNG keeps the pixels, so its change must
    be 0.

    Args:
        detector: the detector to test.
        examples: real pictures, e.g. from `spread`.
        on_progress: called with the number of scores done.
        on_error: called for pictures that cannot be read or cannot be saved in one of the ways; they are
            left out.

    Returns:
        One `Drift` per way of saving, in the order of `DRIFT`, all over the same pictures.

    Raises:
        AidetectError: no picture could be read.
    """
    reader = Reader()
    asked: deque[Example] = deque()

    def sources() -> Iterator[Source]:
        for example in examples:
            try:
                data = reader.read(example)
                pixels = next(decode(data, max_pixels=detector.max_pixels, frames=1, strict=True))
                copies = [saved(data, pixels, condition) for condition in DRIFT]
            except InputError as error:
                on_error(example, error)
                continue
            for copy in copies:
                asked.append(example)
                yield Source(example.name, "memory", payload=copy)

    logits: list[float] = []
    verdicts: list[str] = []
    for done, record in enumerate(detector.stream(sources()), start=1):
        example = asked.popleft()
        if record.logit is None or record.verdict is None:
            raise AidetectError(f"{example.name}: {(record.error or {}).get('message', 'no score')}")
        logits.append(record.logit)
        verdicts.append(record.verdict)
        on_progress(done)
    if not logits:
        raise AidetectError("no real picture could be read: there is no drift to measure")
    table = np.array(logits).reshape(-1, len(DRIFT))
    called = np.array([verdict == "ai" for verdict in verdicts]).reshape(table.shape)
    changes = table - table[:, :1]
    return [
        Drift(
            name,
            float(table[:, i].mean()),
            float(changes[:, i].mean()),
            float(np.abs(changes[:, i]).max()),
            rate(int(called[:, i].sum()), len(table)),
        )
        for i, name in enumerate(DRIFT)
    ]
