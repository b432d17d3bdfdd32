"""Held-out scores: scores of the training pictures by probes that were fitted without their repository.

They are stored with a model, so that its error rates can be computed again without the pictures.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ModelError
from ..models.checksum import verify_files
from ..models.model import Card
from .conditions import place
from .scoring import Scored

FILE = "held-out.csv.gz"
_COLUMNS = ("condition", "label", "generator", "source", "group", "content", "name")


def write_held_out(path: Path, scores: Mapping[str, Sequence[Scored]]) -> None:
    """Write held-out scores: one row per picture and condition, with the raw logit in each mode.

    Args:
        path: the gzipped CSV to write.
        scores: by mode.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for mode, found in scores.items():
        for one in found:
            key = tuple(str(getattr(one, column)) for column in _COLUMNS)
            rows.setdefault(key, {})[mode] = f"{one.logit:.6f}"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *scores])
    for key in sorted(rows):
        writer.writerow([*key, *(rows[key].get(mode, "") for mode in scores)])
    # Without name and time in the gzip header, the same scores give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
        packed.write(text.getvalue().encode())


def read_held_out(card: Card, mode: str) -> list[Scored]:
    """Held-out scores of a model in one mode, after verifying its files' hashes.

    Probabilities and verdicts are computed from the logits with the card's calibration and thresholds.

    Raises:
        ModelError: the model has no held-out scores, or they are damaged.
    """
    if FILE not in card.data["files"]:
        raise ModelError(f"model {card.name} has no held-out scores")
    verify_files(card.folder, card.data["files"])
    path = card.folder / FILE
    calibration, thresholds = card.calibration(mode), card.thresholds(mode)
    found = []
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            if mode not in (rows.fieldnames or ()):
                raise ModelError(f"model {card.name} has no held-out scores for --views {mode}")
            for row in rows:
                if not row[mode]:
                    continue
                logit = float(row[mode])
                probability = calibration.probability(logit)
                found.append(
                    Scored(
                        name=row["name"],
                        label=int(row["label"]),
                        generator=row["generator"],
                        source=row["source"],
                        group=row["group"],
                        content=row["content"],
                        logit=logit,
                        probability=probability,
                        verdict=thresholds.verdict(probability),
                        condition=row["condition"],
                    )
                )
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"cannot read {path}: {error!r}") from None
    return sorted(found, key=lambda one: place(one.condition))
