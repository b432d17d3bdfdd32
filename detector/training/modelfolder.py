"""Writing a model folder: tensors, held-out scores, the card, plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AidetectError
from ..models.checksum import file_sha256
from ..models.model import CARD_SCHEMA, MODEL_CARD, Card
from ..models.probe import probe_tensors, write_tensors
from . import modelcard
from .base import FILE as BASE_FILE
from .heldout import FILE as HELD_OUT_FILE
from .heldout import write_held_out
from .plots import write_plots
from .train import Fitted

PROBE_FILE = "probe.safetensors"


def write_model(
    folder: Path,
    fitted: Fitted,
    tower_card: Mapping[str, Any],
    details: Mapping[str, Any],
    base: Callable[[Path], None] | None = None,
    like: Card | None = None,
) -> Path:
    """Write a model folder: probe tensors, held-out scores, ``MODEL_CARD.md``, plots, and the card.

    Plots are left out where matplotlib is not installed.

    The card holds the hash of every file written here.

    Args:
        tower_card: the card's ``tower`` object.
        details: further entries of the card.
        base: what writes the training features to a path, for a model that others can extend.
        like: a model with the same tower, whose judge of orientation is taken if it has one.

    Returns:
        The card's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for kind, probe in fitted.probes.items():
        tensors |= probe_tensors(kind, probe)
    for kind, families in fitted.families.items():
        tensors[f"families.{kind}.weight"] = families.weight.astype(np.float32)
        tensors[f"families.{kind}.bias"] = families.bias.astype(np.float32)
    write_tensors(folder / PROBE_FILE, tensors)
    card = {
        "schema": CARD_SCHEMA,
        "name": folder.resolve().name,
        "date": datetime.now(UTC).date().isoformat(),
        "tower": dict(tower_card),
        "probe": {"file": PROBE_FILE, "length": len(fitted.used), "patch_mean": True},
        "modes": fitted.modes,
        **({"attribution": fitted.attribution} if fitted.attribution else {}),
        **fitted.details,
        **details,
    }
    judge = take_judge(like, folder) if like else None
    if judge:
        card["orientation"] = judge
    (folder / modelcard.FILE).write_text(modelcard.render(card, fitted.evaluations), encoding="utf-8")
    write_held_out(folder / HELD_OUT_FILE, fitted.scores)
    written = [folder / PROBE_FILE, folder / modelcard.FILE, folder / HELD_OUT_FILE, *_plots(fitted, folder)]
    (folder / BASE_FILE).unlink(missing_ok=True)
    if base is not None:
        base(folder / BASE_FILE)
        written.append(folder / BASE_FILE)
    if judge:
        written.append(folder / judge["file"])
    card["files"] = {path.name: file_sha256(path) for path in written}
    path = folder / MODEL_CARD
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def take_judge(like: Card, folder: Path) -> dict[str, Any] | None:
    """Copy a model's judge of orientation into the folder of another model with the same tower.

    Returns:
        The entry ``orientation`` for the other model's card; ``None`` if there is no judge.
    """
    entry: dict[str, Any] | None = like.data.get("orientation")
    if entry:
        (folder / entry["file"]).write_bytes((like.folder / entry["file"]).read_bytes())
    return entry


def _plots(fitted: Fitted, folder: Path) -> list[Path]:
    try:
        return write_plots(fitted.evaluations["standard"], fitted.scores["standard"], folder)
    except AidetectError:  # matplotlib is an extra
        return []
