"""Write a model's card for people anew, from its held-out scores, and measure its speed again on request.

    python benchmarks/refresh_card.py FOLDER [--speed] [--thresholds]

`--speed` times the modes in float32; nothing else should run meanwhile. `--thresholds` sets the `ai`
thresholds anew by the present recipe, with the error rates and plots. The folder's `model.json` gets the new
hashes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aidetect.detector.models.checksum import file_sha256
from aidetect.detector.models.model import MODEL_CARD, load_card_tower, read_model_card
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.training import modelcard
from aidetect.detector.training.calibration import ai_threshold, error_rates
from aidetect.detector.training.dataset import owner
from aidetect.detector.training.evaluation import evaluate
from aidetect.detector.training.heldout import read_held_out
from aidetect.detector.training.plots import write_plots
from aidetect.detector.training.recipe import Recipe
from aidetect.detector.training.speed import measured


def write(folder: Path, data: dict[str, Any]) -> None:
    """Write ``model.json`` with the present hashes of its files."""
    data["files"] = {name: file_sha256(folder / name) for name in data["files"]}
    (folder / MODEL_CARD).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def set_thresholds(folder: Path) -> None:
    """Set the ``ai`` thresholds by the present recipe, from held-out scores, and the error rates at them."""
    card = read_model_card(str(folder.resolve()))
    data, recipe = dict(card.data), Recipe()
    drawn: tuple[Any, ...] = ()
    for mode, entry in data["modes"].items():
        scores = read_held_out(card, mode)
        reals = [one for one in scores if not one.label]
        ai = ai_threshold(
            np.array([one.probability for one in reals]),
            np.array([one.condition for one in reals]),
            np.array([one.content for one in reals]),
            np.array([owner(one.group, one.source) for one in reals]),
            mode,
            recipe,
        )
        thresholds = Thresholds(ai=ai, real=min(card.thresholds(mode).real, ai))
        scores = [replace(one, verdict=thresholds.verdict(one.probability)) for one in scores]
        found = evaluate(scores, thresholds)
        entry |= {"thresholds": vars(thresholds), "error_rates": error_rates(found, scores)}
        if mode == "standard":
            drawn = found, scores
    write_plots(*drawn, folder)
    names = ("false_positive_rate", "smaller_rate", "rougher_rate", "content_rate", "enough", "sure")
    data["recipe"] = {**data["recipe"], **{name: getattr(recipe, name) for name in names}}
    write(folder, data)


def refresh(folder: Path) -> None:
    """Write ``MODEL_CARD.md`` anew."""
    card = read_model_card(str(folder.resolve()))
    data = dict(card.data)
    evaluations = {mode: evaluate(read_held_out(card, mode), card.thresholds(mode)) for mode in data["modes"]}
    (folder / modelcard.FILE).write_text(modelcard.render(data, evaluations), encoding="utf-8")
    write(folder, data)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--thresholds", action="store_true")
    arguments = parser.parse_args()
    card = read_model_card(str(arguments.folder.resolve()))
    if arguments.speed:
        tower = load_card_tower(card.data["tower"], card.folder.parent)
        tower.patch_mean = True
        tower.to(torch.device("cpu"), torch.float32)
        size, interpolation = tower.preprocess.size, tower.preprocess.interpolation
        modes = [mode for mode in card.data["modes"] if mode != "adaptive"]
        speed = measured(tower, {mode: card.plan(mode, size, interpolation) for mode in modes})
        write(arguments.folder, {**card.data, "speed": speed})
    if arguments.thresholds:
        set_thresholds(arguments.folder)
    refresh(arguments.folder)


if __name__ == "__main__":
    main()
