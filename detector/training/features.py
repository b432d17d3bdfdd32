"""Features of labelled pictures, computed once and kept in a cache that survives interruption."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import InputError
from ..images.degrade import WAYS
from ..images.launder import jpeg, launder
from ..images.pixels import Pixels, decode
from ..images.views import ViewPlan, looked_at, make_views, native_view, whole_view, whole_views
from ..models.tower import Tower
from .dataset import DEGRADED, Example, Reader

T = TypeVar("T")
R = TypeVar("R")

_LOSSLESS = {"PNG", "BMP", "TIFF", "GIF", "PPM"}
# Reduced pictures of an index were saved so, in blocks of 16 pixels (4:2:0); whole files are given the same
# end (see `views.whole_view`).
WHOLE_JPEG = 90
WHOLE_GRID = 16
# Lower end of laundering's down-scaling, by view: cuts are small already and may not shrink as far.
SMALLEST_SCALE = {"full": 0.35, "tile": 0.5, "whole": 0.6, "end": 0.6}
# The views of the default mode, and so the views that training takes of a whole file.
STANDARD: dict[str, Any] = {
    "whole": True,
    "native": 3,
    "whole_jpeg": WHOLE_JPEG,
    "spread": True,
    "trim": True,
}


_WAY_OF = {copy: name for name, copy in DEGRADED.items()}


@dataclass(frozen=True)
class Sample:
    """One view of one copy of an example: one row of the feature matrix.

    Attributes:
        example: index into the list of examples.
        kind: ``whole``, the centred square; ``end``, one of the squares that are taken in its place of a
            picture far from square; or ``native``.
        copy: 0 for the clean copy, from 1 on the laundered ones.
        key: its key in the cache.
    """

    example: int
    kind: str
    copy: int
    key: str

    @property
    def probe(self) -> str:
        """Kind of the probe that judges it: ``whole`` or ``native``."""
        return "whole" if self.kind == "end" else self.kind


class Vectors(Protocol):
    """Where feature vectors are found by key."""

    def rows(self, keys: Sequence[str], used: np.ndarray | None = None) -> np.ndarray:
        """Feature vectors, ``[n, d]``, dtype ``float16``; only the ``used`` columns where a mask is given."""


class FeatureCache:
    """Feature vectors in one SQLite file, stored as float16, keyed by pixels, tower, view and copy."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB)")
        self._db.execute("CREATE TABLE IF NOT EXISTS samples (request TEXT PRIMARY KEY, keys TEXT NOT NULL)")

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM features WHERE key=?", (key,)).fetchone() is not None

    def get(self, key: str) -> np.ndarray:
        """One feature vector, flat, dtype ``float16``."""
        row = self._db.execute("SELECT value FROM features WHERE key=?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return np.frombuffer(row[0], dtype=np.float16)

    def rows(self, keys: Sequence[str], used: np.ndarray | None = None) -> np.ndarray:
        """Feature vectors, ``[n, d]``, dtype ``float16``; only the ``used`` columns where a mask is given."""
        return np.stack([self.get(key) if used is None else self.get(key)[used] for key in keys])

    def put(self, items: Sequence[tuple[str, np.ndarray]]) -> None:
        """Store vectors; committed before this returns."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?)",
                [(key, value.astype(np.float16).tobytes()) for key, value in items],
            )

    def known(self, request: str) -> list[tuple[str, str]] | None:
        """``(kind, key)`` pairs that an earlier run found for a request, if it is complete."""
        row = self._db.execute("SELECT keys FROM samples WHERE request=?", (request,)).fetchone()
        if row is None:
            return None
        pairs = [part.split("=", 1) for part in row[0].split("\n") if part]
        if all(key in self for _, key in pairs):
            return [(kind, key) for kind, key in pairs]
        return None

    def remember(self, request: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Note which samples a request consists of."""
        with self._db:
            text = "\n".join(f"{kind}={key}" for kind, key in pairs)
            self._db.execute("INSERT OR REPLACE INTO samples VALUES (?, ?)", (request, text))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def random_source(key: str, copy: int | str) -> np.random.Generator:
    """The random generator for a copy of a picture. Its seed is the pixels' key (see `Pixels.key`) and the
    copy's number or name.
    """
    seed = hashlib.sha256(f"{key}/{copy}".encode()).digest()
    return np.random.default_rng(int.from_bytes(seed[:8], "little"))


def copy_of(pixels: Pixels, view: str, copy: int) -> tuple[np.ndarray, np.random.Generator]:
    """The laundered (or, for copy 0, format-aligned) copy of a picture, and its random source.

    The history comes from `random_source`. Copy 0 of a picture from a lossless container becomes, four
    times in five, a JPEG of quality 82 to 97, so that the container does not reveal the class. Tiles and
    reduced pictures went through this when they were cut.
    """
    rng = random_source(pixels.key, copy)
    if copy in _WAY_OF:
        return WAYS[_WAY_OF[copy]](pixels.rgb), rng
    if copy:
        return launder(pixels.rgb, rng, smallest_scale=SMALLEST_SCALE[view]), rng
    if view == "full" and pixels.format in _LOSSLESS and rng.random() < 0.8:
        quality, subsampling = int(rng.integers(82, 98)), (0, 2)[int(rng.integers(2))]
        return jpeg(pixels.rgb, quality, subsampling), rng
    return pixels.rgb, rng


def training_views(
    pixels: Pixels, view: str, copy: int, size: int, interpolation: str
) -> list[tuple[str, np.ndarray]]:
    """Views of one copy: kinds (see `Sample`) and pixels, ``uint8 [size, size, 3]``.

    Of a whole file, all views of the modes ``fast`` and ``standard``; of its laundered and degraded copies,
    the centred square and two native crops. Of a cut, its one view; of a
    tile that is laundered here, a crop from anywhere in it.

    The whole view always ends with one JPEG encoding whose blocks start at its corner, as when a file is
    scanned. Where a reduced picture brings that encoding along, its square is cut along the blocks: cut
    elsewhere, the place of the blocks would tell square pictures from others, and so most of the AI ones.
    """
    rgb, rng = copy_of(pixels, view, copy)
    if view == "tile":
        x, y = (float(rng.random()), float(rng.random())) if copy else (0.5, 0.5)
        return [("native", native_view(rgb, size, x, y).rgb)]
    if view in ("whole", "end"):
        ending = {"quality": WHOLE_JPEG} if copy else {"grid": WHOLE_GRID}
        return [(view, whole_view(rgb, size, interpolation, **ending).rgb)]
    looks = {**STANDARD, "spread": False, "native": 2} if copy else STANDARD
    plan = ViewPlan(size, interpolation, **looks)
    box = looked_at(rgb, plan)
    views = [(v.kind, v.rgb) for v in make_views(rgb, plan, box)]
    wholes = [i for i, (kind, _) in enumerate(views) if kind == "whole"]
    if len(wholes) > 1:
        for i in wholes:
            views[i] = ("end", views[i][1])
        (centred,) = whole_views(rgb, replace(plan, spread=False), box)
        views.insert(0, ("whole", centred.rgb))
    return views


def wanted(
    examples: Sequence[Example], copies: Sequence[int], known: Collection[tuple[str, int]] = ()
) -> list[tuple[int, int]]:
    """Which copies of which examples `extract` makes: numbers of the copy and of the example.

    Args:
        copies: as for `extract`.
        known: pictures and numbers of copies whose features are elsewhere: they are left out.
    """
    return [
        (copy, index)
        for index, example in enumerate(examples)
        for copy in example.wanted(copies)
        if (example.picture, copy) not in known
    ]


def extract(
    examples: Sequence[Example],
    copies: Sequence[int],
    tower: Tower,
    cache: FeatureCache,
    *,
    known: Collection[tuple[str, int]] = (),
    batch_size: int = 16,
    workers: int = 2,
    on_progress: Callable[[int], None] = lambda done: None,
    on_error: Callable[[Example, InputError], None] = lambda example, error: None,
) -> list[Sample]:
    """Compute the features of every copy of every example that the cache does not hold yet.

    Args:
        copies: numbers of the copies wanted of each example; 0 is the clean one. An example's own ``copies``
            may allow fewer; one that is laundered already is wanted as the copy that it is.
        known: as for `wanted`.
        on_progress: called with the number of (example, copy) pairs done.
        on_error: called for pictures that cannot be read; they are left out.

    Returns:
        One `Sample` a cached vector, ordered by copy, example, kind.
    """
    reader = Reader()
    tag = f"{tower.sha256[:16]}:{str(tower.dtype).removeprefix('torch.')}"
    size, interpolation = tower.preprocess.size, tower.preprocess.interpolation
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    todo = []
    for copy, index in sorted(wanted(examples, copies, known)):
        example = examples[index]
        asked = request(example, copy, tag)
        pairs = cache.known(asked)
        if pairs is None:
            todo.append((index, copy, asked))
        else:
            found[index, copy] = pairs
    done = len(found)
    on_progress(done)

    def prepare(item: tuple[int, int, str]) -> list[tuple[str, str, np.ndarray]] | InputError:
        index, copy, _ = item
        example = examples[index]
        made = _made(example, copy)
        try:
            pixels = next(decode(reader.read(example), frames=1, strict=True))
        except InputError as error:
            return error
        views = training_views(pixels, example.view, made, size, interpolation)
        prefix = f"{pixels.key}:{tag}:{_how(example.view)}:{made}"
        count: Counter[str] = Counter()
        found = []
        for kind, rgb in views:
            count[kind] += 1
            place = f"-{count[kind]}" if count[kind] > 1 else ""
            found.append((kind, f"{prefix}:{kind}{place}", rgb))
        return found

    waiting: list[tuple[str, np.ndarray]] = []
    open_requests: list[tuple[str, list[tuple[str, str]]]] = []

    def flush() -> None:
        if waiting:
            batch = np.stack([rgb for _, rgb in waiting])
            vectors = tower.features(batch, patch_mean=True).reshape(len(waiting), -1)
            cache.put([(key, vector) for (key, _), vector in zip(waiting, vectors, strict=True)])
            waiting.clear()
        for asked, pairs in open_requests:
            cache.remember(asked, pairs)
        open_requests.clear()

    with ThreadPoolExecutor(workers) as pool:
        for item, prepared in zip(todo, _ahead(pool, prepare, todo, 4 * batch_size), strict=True):
            index, copy, asked = item
            done += 1
            if isinstance(prepared, InputError):
                on_error(examples[index], prepared)
                continue
            pairs = [(kind, key) for kind, key, _ in prepared]
            queued = {key for key, _ in waiting}
            waiting += [(k, rgb) for _, k, rgb in prepared if k not in cache and k not in queued]
            open_requests.append((asked, pairs))
            found[index, copy] = pairs
            if len(waiting) >= batch_size:
                flush()
                on_progress(done)
    flush()
    on_progress(done)
    return [
        Sample(index, kind, copy, key)
        for (index, copy), pairs in sorted(found.items(), key=lambda kv: (kv[0][1], kv[0][0]))
        for kind, key in pairs
    ]


def request(example: Example, copy: int, tag: str) -> str:
    """The cache's name of a copy of an example. ``tag`` names the tower and its number format."""
    made = _made(example, copy)
    return f"{example.path.resolve()}|{example.member}|{_how(example.view)}|{made}|{tag}"


def _made(example: Example, copy: int) -> int:
    """The copy to make of an example's file: 0 where the file is that copy already."""
    return 0 if example.laundered else copy


def _how(view: str) -> str:
    """The part of a cache key that distinguishes the views of one picture."""
    named = {
        "full": f"full-trim-jpeg{WHOLE_JPEG}-native{STANDARD['native']}",
        "whole": f"whole-grid{WHOLE_GRID}",
        "end": f"end-grid{WHOLE_GRID}",
    }
    return named.get(view, view)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T], depth: int) -> Iterator[R]:
    """Results of ``work`` in order, at most ``depth`` of them under way."""
    from collections import deque

    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
