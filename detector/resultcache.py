"""The result cache: scores of earlier runs, so that a second scan only reads and hashes.

It is one SQLite file for all models and all processes of a user. It holds hashes and scores, no names and no
pictures. The key of a score covers the pixels' hash, the model's hash and everything else that can change the
score. The key of a file's frames covers the file's hash. Every result is committed before it is reported, so
a process may be killed at any moment. If the cache fails, the run continues without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from .errors import AidetectError

_SCHEMA = 1
_DAY = 86400.0


def default_path() -> Path:
    """The cache's path: in ``AIDETECT_CACHE_DIR`` if set, else in the user's cache folder."""
    folder = os.environ.get("AIDETECT_CACHE_DIR") or platformdirs.user_cache_dir("aidetect")
    return Path(folder) / "results.sqlite"


class ResultCache:
    """Scores and decoded frames of earlier runs. Several threads and processes may use it at once.

    Args:
        path: the SQLite file; created if missing.
        model: the model's name, for `info`.
        identity: everything besides pixels that can change a score (see `Detector.identity`).
        on_failure: called once, with a message, if the cache fails. After that it finds and stores nothing.
    """

    def __init__(
        self, path: Path, model: str, identity: str, on_failure: Callable[[str], None] = lambda message: None
    ) -> None:
        self.path = path
        self._model = model
        self._identity = identity
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        try:
            self._db = _open(path)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def scores(self, pixels: str) -> dict[str, Any] | None:
        """The scores of a picture.

        Args:
            pixels: its `Pixels.key`.

        Returns:
            ``{"kinds", "boxes", "logits", "families"}`` as passed to `put`, or ``None``.
        """
        found: dict[str, Any] | None = self._get("SELECT data FROM scores WHERE key=?", pixels)
        return found

    def frames(self, file: str) -> list[dict[str, Any]] | None:
        """The frames decoded from a file.

        Args:
            file: its SHA-256, with the options it was decoded with.

        Returns:
            One object per frame as passed to `put`, or ``None``.
        """
        found: list[dict[str, Any]] | None = self._get("SELECT data FROM files WHERE key=?", file)
        return found

    def put(
        self,
        file: str | None,
        frames: list[dict[str, Any]],
        scores: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Store the frames of a file and the scores of its pictures. They are committed on return.

        Args:
            file: key of the file, or ``None`` for pictures without a file.
            frames: JSON data, one object per frame.
            scores: JSON data by `Pixels.key`.
        """
        now = time.time()
        rows = [(self._key(key), self._model, now, json.dumps(data)) for key, data in scores.items()]
        with self._lock:
            if self._db is None:
                return
            try:
                with self._db:
                    self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?)", rows)
                    if file is not None:
                        self._db.execute(
                            "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)",
                            (self._key(file), self._model, now, json.dumps(frames)),
                        )
            except sqlite3.Error as error:
                self._fail(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _get(self, query: str, key: str) -> Any:
        with self._lock:
            if self._db is None:
                return None
            try:
                row = self._db.execute(query, (self._key(key),)).fetchone()
                return None if row is None else json.loads(row[0])
            except (sqlite3.Error, ValueError) as error:
                self._fail(error)
                return None

    def _key(self, name: str) -> str:
        return hashlib.sha256(f"{self._identity}|{name}".encode()).hexdigest()

    def _fail(self, error: Exception) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None
        self._on_failure(f"the cache {self.path} cannot be used ({error}); continuing without it")


def info(path: Path) -> dict[str, Any]:
    """What a cache holds: ``{"path", "bytes", "pictures", "files", "models", "oldest", "newest"}``.

    ``models`` counts pictures by model name; ``oldest`` and ``newest`` are seconds since the epoch, or
    ``None`` for an empty cache.

    Raises:
        AidetectError: the cache is damaged or cannot be read.
    """
    found: dict[str, Any] = {"path": str(path), "bytes": 0, "pictures": 0, "files": 0, "models": {}}
    found |= {"oldest": None, "newest": None}
    if not path.exists():
        return found
    try:
        with contextlib.closing(_open(path)) as db:
            for model, count in db.execute(
                "SELECT model, COUNT(*) FROM scores GROUP BY model ORDER BY model"
            ):
                found["models"][model] = count
            found["pictures"] = sum(found["models"].values())
            (found["files"],) = db.execute("SELECT COUNT(*) FROM files").fetchone()
            found["oldest"], found["newest"] = db.execute(
                "SELECT MIN(made), MAX(made) FROM scores"
            ).fetchone()
    except (sqlite3.Error, OSError) as error:
        raise AidetectError(
            f"the cache {path} cannot be read ({error}); to empty it: aidetect cache clear"
        ) from None
    found["bytes"] = sum(part.stat().st_size for part in _parts(path) if part.exists())
    return found


def clear(path: Path, older_than_days: float | None = None) -> int:
    """Remove results. Other processes may use the cache meanwhile. A damaged cache is deleted.

    Args:
        path: the cache's SQLite file.
        older_than_days: remove only results older than this; ``None`` to remove all.

    Returns:
        The number of pictures whose scores were removed.

    Raises:
        AidetectError: the cache cannot be written.
    """
    if not path.exists():
        return 0
    limit = time.time() + 1 if older_than_days is None else time.time() - older_than_days * _DAY
    try:
        with contextlib.closing(_open(path)) as db:
            with db:
                removed = db.execute("DELETE FROM scores WHERE made < ?", (limit,)).rowcount
                db.execute("DELETE FROM files WHERE made < ?", (limit,))
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return int(removed)
    except sqlite3.OperationalError as error:
        raise AidetectError(f"the cache {path} cannot be emptied: {error}") from None
    except (sqlite3.DatabaseError, OSError) as error:
        try:
            for part in _parts(path):
                part.unlink(missing_ok=True)
        except OSError:
            raise AidetectError(f"the cache {path} cannot be emptied: {error}") from None
        return 0


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=60, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        # In WAL mode nothing is lost when a process dies. A power cut can lose the last results.
        db.execute("PRAGMA synchronous=NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA):
            raise sqlite3.DatabaseError(f"it was made by another version of aidetect (format {version})")
        for table in ("scores", "files"):
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} "
                "(key TEXT PRIMARY KEY, model TEXT NOT NULL, made REAL NOT NULL, data TEXT NOT NULL)"
            )
        db.execute(f"PRAGMA user_version={_SCHEMA}")
        return db
    except BaseException:
        db.close()
        raise


def _parts(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]
