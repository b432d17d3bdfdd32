"""Fit the stages of `--views adaptive` for a model that carries its training features, and measure them.

    python benchmarks/adaptive.py --base aidetect-4 [--votes votes.npz] [--write]

Probes are fitted on the carried features, fold by fold, so that every picture is scored by probes that never
saw its repository. `standard` is measured by the same probes, for comparison. The carried features are
reduced, so both are a little below what the card says of `standard`. `--votes` keeps the held-out votes,
which take half an hour. `--write` puts the mode into the model's cards and its held-out scores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from experiments import BLOCKS, Bench
from refresh_card import refresh, write

from aidetect.detector.models.model import read_model_card, verify_model
from aidetect.detector.models.probe import Calibration
from aidetect.detector.models.stages import Stages
from aidetect.detector.training.base import COMPONENTS, FILE, Base, read_base
from aidetect.detector.training.calibration import calibrate, error_rates, fit_stages, scored
from aidetect.detector.training.crossfit import Pictures, mean_logit
from aidetect.detector.training.evaluation import Evaluation, evaluate
from aidetect.detector.training.fit import platt
from aidetect.detector.training.heldout import FILE as HELD_OUT
from aidetect.detector.training.heldout import read_held_out, write_held_out
from aidetect.detector.training.recipe import DEFAULT_MODES, Recipe
from aidetect.detector.training.scoring import Scored

MODES = ("fast", "adaptive", "standard")


def held_out_pictures(base: Base, recipe: Recipe, kept: Path | None) -> Pictures:
    """Held-out logits of the carried features."""
    bench = Bench(base.examples, base.samples, base)
    columns = np.repeat(recipe.tokens(BLOCKS), bench.width)
    votes: dict[str, np.ndarray] = dict(np.load(kept)) if kept and kept.exists() else {}
    if not votes:
        votes = {kind: bench.votes(kind, columns, recipe) for kind in bench.samples}
        if kept:
            np.savez(kept, **votes)
    out: dict[tuple[str, int], dict[str, list[float]]] = {}
    named: dict[tuple[str, int], Any] = {}
    for kind, samples in bench.samples.items():
        joined = votes[kind] @ [1 - recipe.share, recipe.share]
        labels = np.array([base.examples[s.example].label for s in samples])
        slope, intercept = platt(joined, labels, np.ones(len(joined)))
        for sample, logit in zip(samples, slope * joined + intercept, strict=True):
            key = (base.examples[sample.example].picture, sample.copy)
            out.setdefault(key, {}).setdefault(sample.kind, []).append(float(logit))
            named.setdefault(key, base.examples[sample.example])
    keys = sorted(out)
    logits = {
        name: np.array([mean_logit(out[key], kinds) for key in keys])
        for name, kinds in (("whole", ["whole"]), ("spread", ["end", "whole"]), ("native", ["native"]))
    }
    logits["first"] = np.array([out[key].get("native", [np.nan])[0] for key in keys])
    count = np.array([len(out[key].get("native", ())) for key in keys])
    return Pictures([named[k] for k in keys], np.array([k[1] for k in keys]), logits, count, 0 * count)


def show(pictures: Pictures, stages: Stages, found: dict[str, tuple[Calibration, Evaluation]]) -> None:
    """Print the modes beside each other, and after which stage pictures stop."""
    print("| views | condition | AUC | T1 | T5 | recall | false positives |\n" + "| --- " * 7 + "|")
    for mode in MODES:
        for name in ("clean", "mix", "rework"):
            condition = found[mode][1].conditions[name]
            cells = [f"{x.value:.3f}" for x in (condition.tpr_at_1, condition.tpr_at_5, condition.recall)]
            print(f"| {mode} | {name} | {condition.auc:.4f} | " + " | ".join(cells), end="")
            print(f" | {100 * condition.fpr.value:.2f} % |")
    z = [
        stages.each[0].calibration.slope * pictures.logits["whole"] + stages.each[0].calibration.intercept,
    ]
    share = stages.each[1].calibration.share
    second = share * pictures.logits["whole"] + (1 - share) * pictures.logits["first"]
    z.append(stages.each[1].calibration.slope * second + stages.each[1].calibration.intercept)
    print("\n| condition | class | first stage is enough | second stage is enough | all views |")
    print("| --- " * 5 + "|")
    for name in ("clean", "mix"):
        for label, called in ((1, "AI"), (0, "real")):
            rows = pictures.measured("standard") & (pictures.conditions == name) & (pictures.labels == label)
            first = np.array([stages.each[0].settles(x) for x in z[0][rows]])
            both = first | np.array([stages.each[1].settles(x) for x in z[1][rows]])
            shares = [first.mean(), both.mean() - first.mean(), 1 - both.mean()]
            print(f"| {name} | {called} | " + " | ".join(f"{100 * x:.1f} %" for x in shares) + " |")


def main() -> None:
    """Fit, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--votes", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    card = read_model_card(arguments.base)
    verify_model(card)
    recipe = replace(Recipe(), components=COMPONENTS)
    pictures = held_out_pictures(read_base(card.folder / FILE), recipe, arguments.votes)
    stages = fit_stages(pictures, recipe)
    found, entries = {}, {}
    adaptive_scores: list[Scored] = []
    for mode in MODES:
        calibration, thresholds = calibrate(pictures, mode, recipe)
        scores = scored(pictures, calibration, thresholds, mode)
        found[mode] = calibration, evaluate(scores, thresholds)
        adaptive_scores = scores if mode == "adaptive" else adaptive_scores
        rates = error_rates(found[mode][1], scores)
        rates["measured_on"] += f", from features reduced to {COMPONENTS} components"
        entries[mode] = {
            "calibration": vars(calibration),
            "thresholds": vars(thresholds),
            "error_rates": rates,
        }
    show(pictures, stages, found)
    ours, theirs = found["standard"][0], card.calibration("standard")
    print(f"\ncalibration of standard: {ours.slope:.3f}, {ours.intercept:+.3f} with these probes; ", end="")
    print(f"{theirs.slope:.3f}, {theirs.intercept:+.3f} in the card")
    if arguments.write:
        adaptive = {"views": DEFAULT_MODES["adaptive"], **entries["adaptive"], "stages": stages.to_data()}
        modes = {**card.data["modes"], "adaptive": adaptive}
        scores = {mode: read_held_out(card, mode) for mode in modes if mode != "adaptive"}
        scores["adaptive"] = adaptive_scores
        order = [mode for mode in DEFAULT_MODES if mode in modes]
        write_held_out(card.folder / HELD_OUT, {mode: scores[mode] for mode in order})
        write(card.folder, {**card.data, "modes": {mode: modes[mode] for mode in order}})
        refresh(card.folder)


if __name__ == "__main__":
    main()
