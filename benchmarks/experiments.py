"""The table of experiments behind the probe: what each choice gives on held-out repositories.

    python benchmarks/experiments.py --base aidetect-4
    python benchmarks/experiments.py --index ../shared/corpus/index.csv --cache features.sqlite

Reads the training features that a model carries, or those that `aidetect train` has cached, and prints, for
each choice, measures of pictures whose repository the probe had not seen, in Markdown: pictures as they are,
laundered as whole files, and cuts laundered as they are. No picture is needed with `--base`. On two cores a
row takes one to three minutes; with `--partitions` or `--curve`, ten minutes or more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aidetect.detector.models.families import OTHER, family_of
from aidetect.detector.models.model import read_model_card, tower_reference, verify_model
from aidetect.detector.models.probe import KINDS
from aidetect.detector.training.base import FILE, Base, read_base
from aidetect.detector.training.calibration import calibrate
from aidetect.detector.training.conditions import CUTS, MIX, REWORK
from aidetect.detector.training.crossfit import (
    both_votes,
    condition_of,
    fit_kind,
    held_out,
    in_fit,
    mean_logit,
    sample_weights,
)
from aidetect.detector.training.dataset import Example, read_index
from aidetect.detector.training.features import FeatureCache, Sample, Vectors, request
from aidetect.detector.training.fit import fit_probe, group_folds, leading, projected
from aidetect.detector.training.metrics import roc_auc, threshold_at_fpr
from aidetect.detector.training.recipe import Recipe

BLOCKS = 12  # of the towers named ViT-B
CONDITIONS = ("clean", MIX, CUTS, REWORK)
# Repositories that hold both classes: the same subjects, in one pipeline.
PAIRS = (
    "Rafi-Andi/human-vs-ai-images",
    "ai-or-human/ai-or-human.github.io",
    "dexer1/AI-Image-Detector",
    "Hiyoiria/aipic",
    "rekeai/rekegame",
    "crinatlc/ai-vs-uman-survey",
    "HermeticOrmus/FloraHeritage",
    "brockwebb/ai-or-not",
    "gctanita/humanOrAi",
    "mindbomber/AI_vs_Real-App",
)
Logits = dict[tuple[str, int], float]


def cached(examples: Sequence[Example], cache: FeatureCache, tag: str) -> list[Sample]:
    """Samples of the copies that the cache holds."""
    found = []
    for index, example in enumerate(examples):
        for copy in example.wanted((0, 1)):
            asked = request(example, copy, tag)
            found += [Sample(index, kind, copy, key) for kind, key in cache.known(asked) or []]
    return found


class Bench:
    """Features in memory, and held-out votes of one choice at a time."""

    def __init__(self, examples: Sequence[Example], samples: Sequence[Sample], vectors: Vectors) -> None:
        self.examples = examples
        self.samples = {k: [s for s in samples if s.probe == k] for k in ("whole", "native")}
        length = vectors.rows([samples[0].key]).shape[1]
        self.width = length // (2 * BLOCKS)
        self.used = np.repeat(Recipe().tokens(BLOCKS), self.width)
        self.x = {k: vectors.rows([s.key for s in v], self.used) for k, v in self.samples.items()}
        self.named = {(examples[s.example].picture, s.copy): examples[s.example] for s in samples}

    def votes(self, kind: str, columns: np.ndarray, recipe: Recipe, families: bool = False) -> np.ndarray:
        """Held-out votes of the linear and the kernel probe, ``[n, 2]``, each of standard deviation 1.

        Args:
            families: hold out families of generators as well: no AI picture is scored by a probe that saw
                one of its family, or any picture of its repository.
        """
        samples = self.samples[kind]
        mine = [self.examples[s.example] for s in samples]
        labels = np.array([e.label for e in mine])
        copies = np.array([s.copy for s in samples])
        groups = [e.side for e in mine]
        kept = [(family_of(e.generator) or OTHER) if families and e.label else e.side for e in mine]
        fold = group_folds(kept, labels.tolist(), recipe.folds)
        fitted = in_fit(samples, self.examples, recipe.crops)
        laundered = recipe.laundered_whole if kind == "whole" else recipe.laundered_native
        found = np.empty((len(mine), 2))
        x = self.x[kind][:, columns[self.used]]
        emphasis = recipe.emphasis(kind, BLOCKS, self.width)[columns[self.used]]
        for k in range(recipe.folds):
            tested = {groups[i] for i in np.flatnonzero(fold == k)}
            unseen = np.array([group not in tested for group in groups])
            train = np.flatnonzero(unseen & (fold != k) & fitted & ((copies == 0) | (laundered > 0)))
            rows = [samples[i] for i in train]
            pair = fit_kind(kind, x[train], rows, self.examples, recipe, emphasis)
            found[fold == k] = both_votes(*pair, x[fold == k])
        return found / found.std(axis=0)

    def pictures(self, kind: str, votes: np.ndarray) -> Logits:
        """Means of votes over the views of a picture's copy that `standard` looks at."""
        found: dict[tuple[str, int], dict[str, list[float]]] = {}
        for sample, vote in zip(self.samples[kind], votes.tolist(), strict=True):
            key = (self.examples[sample.example].picture, sample.copy)
            found.setdefault(key, {}).setdefault(sample.kind, []).append(vote)
        return {key: mean_logit(mine, ("end", kind)) for key, mine in found.items()}

    def row(self, name: str, logits: Logits) -> None:
        """Print one row."""
        cells = [name]
        for condition in CONDITIONS:
            keys = [key for key in logits if condition_of(self.named[key], key[1]) == condition]
            truth = np.array([self.named[key].label for key in keys])
            z = np.array([logits[key] for key in keys])
            if len(set(truth.tolist())) < 2:
                cells += ["-"] * 4
                continue
            polished = np.array([self.named[key].source.startswith("polished-") for key in keys])
            accused = (z[polished] >= threshold_at_fpr(truth, z, 0.05)).mean()
            cells += [*measures(truth, z), f"{accused:.3f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def measures(truth: np.ndarray, z: np.ndarray) -> list[str]:
    """AUC, and recall at 1 % and 5 % false positives, of logits ``z`` and labels, ``[n]`` each."""
    reach = [(z[truth == 1] >= threshold_at_fpr(truth, z, fpr)).mean() for fpr in (0.01, 0.05)]
    return [f"{roc_auc(truth, z):.4f}", *(f"{each:.3f}" for each in reach)]


def by_family(bench: Bench, columns: np.ndarray, recipe: Recipe) -> None:
    """Print recall at 5 % false positives by family of generators, seen in other repositories or never."""
    share = [1 - recipe.share, recipe.share]
    found = []
    for families in (False, True):
        votes = {k: bench.votes(k, columns, recipe, families) @ share for k in ("whole", "native")}
        found.append(joined(*(bench.pictures(kind, vote) for kind, vote in votes.items()), 0.5))
    print("| condition | family | n | repository held out | repository and family held out |")
    print("| --- | --- | --- | --- | --- |")
    for condition in CONDITIONS:
        keys = [key for key in found[0] if condition_of(bench.named[key], key[1]) == condition]
        if not keys:
            continue
        names = [family_of(bench.named[k].generator) or OTHER if bench.named[k].label else "" for k in keys]
        truth = np.array([bool(name) for name in names], int)
        scores = [np.array([logits[key] for key in keys]) for logits in found]
        hits = [z >= threshold_at_fpr(truth, z, 0.05) for z in scores]
        for name in sorted(set(names) - {""}):
            mine = np.array([n == name for n in names])
            cells = [f"{hit[mine].mean():.3f}" for hit in hits]
            print(f"| {condition} | {name} | {mine.sum()} | " + " | ".join(cells) + " |")
        both = zip(hits, scores, strict=True)
        cells = [f"{hit[truth == 1].mean():.3f}, AUC {roc_auc(truth, z):.4f}" for hit, z in both]
        print(f"| {condition} | all | {truth.sum()} | " + " | ".join(cells) + " |", flush=True)


def by_partition(base: Base, recipe: Recipe, count: int) -> None:
    """Print what the recipe reaches when repositories are shared out among folds otherwise: the partition of
    a card first, then others drawn at random.
    """
    recipe = replace(recipe, components=min(base.tensors[f"{kind}.features"].shape[1] for kind in KINDS))
    used = base.tensors["used"] > 0
    width = int(used.sum() / recipe.tokens(BLOCKS).sum())
    emphasis = {kind: recipe.emphasis(kind, BLOCKS, width) for kind in KINDS}
    names = ("clean", MIX, REWORK)
    print("| partition | mode | " + " | ".join(f"{name}: AUC, T1, T5" for name in names) + " |")
    print("| " + " | ".join(["---"] * (2 + len(names))) + " |")
    for seed in range(count + 1):
        tried = replace(recipe, seed=seed)
        _, pictures = held_out(base.examples, base.samples, base, tried, used, emphasis)
        for mode in ("fast", "standard"):
            calibration, _ = calibrate(pictures, mode, tried)
            logits, measured = pictures.joined(calibration, mode), pictures.measured(mode)
            rows = [measured & (pictures.conditions == name) for name in names]
            cells = [
                " ".join(measures(pictures.labels[mine], logits[mine]))
                if len(set(pictures.labels[mine].tolist())) == 2
                else "-"
                for mine in rows
            ]
            print(f"| {seed} | {mode} | " + " | ".join(cells) + " |", flush=True)


def by_size(bench: Bench, recipe: Recipe, sizes: Sequence[int]) -> None:
    """Print what the linear probe reaches when it is fitted on fewer repositories: of both classes, of AI
    pictures alone and of reals alone. All repositories are measured, each by probes that never saw it.
    """
    reduced = {}
    for kind, x in bench.x.items():
        standard, basis = leading(
            x, np.ones(len(x)), recipe.components, recipe.emphasis(kind, BLOCKS, bench.width)
        )
        reduced[kind] = projected(x, standard, basis)
    print("| fewer | repositories | condition | AUC | T1 | T5 |\n| --- | --- | --- | --- | --- | --- |")
    everything = sorted({bench.examples[s.example].side for mine in bench.samples.values() for s in mine})
    order = np.random.default_rng(0).permutation(len(everything))
    for classes, name in (((0, 1), "both"), ((1,), "AI"), ((0,), "reals")):
        for size in (*sizes, len(everything)):
            if size == len(everything) and name != "both":
                continue
            chosen = {everything[i] for i in order[:size]}
            logits = {}
            for kind, samples in bench.samples.items():
                mine = [bench.examples[s.example] for s in samples]
                labels = np.array([e.label for e in mine])
                fold = group_folds([e.side for e in mine], labels.tolist(), recipe.folds)
                there = [e.side in chosen or e.label not in classes for e in mine]
                there &= in_fit(samples, bench.examples, recipe.crops)
                votes = np.empty(len(mine))
                for k in range(recipe.folds):
                    train = np.flatnonzero(there & (fold != k))
                    weights = sample_weights(kind, [samples[i] for i in train], bench.examples, recipe)
                    probe = fit_probe(reduced[kind][train], labels[train], weights, 0.3)
                    votes[fold == k] = probe.logits(reduced[kind][fold == k])
                logits[kind] = bench.pictures(kind, votes / votes.std())
            both = joined(logits["whole"], logits["native"], 0.5)
            for condition in ("clean", MIX):
                keys = [key for key in both if condition_of(bench.named[key], key[1]) == condition]
                cells = measures(
                    np.array([bench.named[k].label for k in keys]), np.array([both[k] for k in keys])
                )
                print(f"| {name} | {size} | {condition} | " + " | ".join(cells) + " |", flush=True)


def by_pairs(bench: Bench, recipe: Recipe) -> None:
    """Print what the recipe reaches on repositories that hold both classes of the same subjects in one
    pipeline, when it is fitted without any of them.
    """
    logits = {}
    for kind, samples in bench.samples.items():
        mine = [bench.examples[s.example] for s in samples]
        tested = np.array([e.group in PAIRS for e in mine])
        train = np.flatnonzero(~tested & in_fit(samples, bench.examples, recipe.crops))
        emphasis = recipe.emphasis(kind, BLOCKS, bench.width)
        x = bench.x[kind]
        pair = fit_kind(kind, x[train], [samples[i] for i in train], bench.examples, recipe, emphasis)
        votes = both_votes(*pair, x)
        both = votes / votes.std(axis=0) @ [1 - recipe.share, recipe.share]
        logits[kind] = bench.pictures(kind, np.where(tested, both, np.nan))
    found = joined(logits["whole"], logits["native"], 0.5)
    print("| repositories | condition | AI | real | AUC | T1 | T5 |\n" + "| --- " * 7 + "|")
    for repositories in (PAIRS, *((name,) for name in PAIRS)):
        for condition in ("clean", MIX):
            keys = [
                key
                for key in found
                if bench.named[key].group in repositories
                and condition_of(bench.named[key], key[1]) == condition
            ]
            truth, z = np.array([bench.named[k].label for k in keys]), np.array([found[k] for k in keys])
            if len(set(truth.tolist())) < 2:
                continue
            name = "all" if repositories is PAIRS else repositories[0]
            cells = [name, condition, str(truth.sum()), str((truth == 0).sum()), *measures(truth, z)]
            print("| " + " | ".join(cells) + " |", flush=True)


def joined(whole: Logits, native: Logits, share: float) -> Logits:
    """Logits averaged over the pictures that have both views."""
    return {key: share * whole[key] + (1 - share) * native[key] for key in whole if key in native}


def choices(recipe: Recipe, quick: bool) -> list[tuple[str, str, Recipe]]:
    """What is tried: the tokens looked at, what is changed, and the recipe with that change."""
    tried: list[tuple[str, str, Recipe]] = [("chosen", "as shipped", recipe)]
    if quick:
        return tried
    tried += [(tokens, "as shipped", recipe) for tokens in ("class", "mean")]
    scaled = [
        (f, replace(recipe, l2_whole=recipe.l2_whole * f, l2_native=recipe.l2_native * f)) for f in (0.3, 3)
    ]
    tried += [("chosen", f"l2 times {f}", changed) for f, changed in scaled]
    for name, values in (
        ("emphasis_whole", ((1.0, 1.0, 1.0),)),
        ("emphasis_native", ((1.0, 1.0, 1.0),)),
        ("ridge", (0.1, 1.0)),
        ("width", (0.25, 1.0)),
        ("components", (256,)),
        ("centres", (2048, 8192)),
        ("power", (0.0, 1.0)),
        ("family_power", (0.0, 1.0)),
    ):
        tried += [("chosen", f"{name} {value}", replace(recipe, **{name: value})) for value in values]
    for weight in (0.0, 0.3, 1.0):
        changed = replace(recipe, laundered_whole=weight, laundered_native=weight)
        tried.append(("chosen", f"laundered copies weighing {weight:g}", changed))
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", help="a model that carries its training features")
    parser.add_argument("--index", type=Path, action="append", help="repeatable")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--tower", default="clip-vit-b-16-openai")
    parser.add_argument("--dtype", default="float32", help="that the features were computed in")
    parser.add_argument("--quick", action="store_true", help="only the shipped choice and the joins")
    parser.add_argument("--families", action="store_true", help="hold out families of generators instead")
    parser.add_argument("--curve", help="fit the linear probe on fewer repositories: numbers, e.g. 40,80,160")
    parser.add_argument("--pairs", action="store_true", help="hold out repositories with both classes")
    parser.add_argument("--partitions", type=int, help="the card's partition into folds, and so many others")
    arguments = parser.parse_args()
    if arguments.partitions is not None and not arguments.base:
        parser.error("--partitions needs --base")
    vectors: Vectors
    if arguments.base:
        card = read_model_card(arguments.base)
        verify_model(card)
        vectors = base = read_base(card.folder / FILE)
        examples: Sequence[Example] = base.examples
        samples: Sequence[Sample] = base.samples
        if arguments.partitions is not None:
            by_partition(base, Recipe(), arguments.partitions)
            return
    elif arguments.index and arguments.cache:
        examples = [example for path in arguments.index for example in read_index(path)]
        vectors = FeatureCache(arguments.cache)
        tag = f"{tower_reference(arguments.tower)['sha256'][:16]}:{arguments.dtype}"
        samples = cached(examples, vectors, tag)
    else:
        parser.error("give --base, or --index and --cache")
    if not samples:
        parser.exit(2, "the cache holds none of these pictures; run aidetect train first (see --dtype)\n")
    print(f"{len(samples)} views of {len({e.picture for e in examples})} pictures\n")
    bench = Bench(examples, samples, vectors)
    recipe = Recipe()
    chosen = recipe.tokens(BLOCKS)
    first = np.arange(2 * BLOCKS) < BLOCKS
    tokens_of = {"chosen": chosen, "class": chosen & first, "mean": chosen & ~first}
    columns = {name: np.repeat(tokens, bench.width) for name, tokens in tokens_of.items()}
    print(f"chosen: {recipe.features(BLOCKS)}\n")
    if arguments.curve:
        by_size(bench, replace(recipe, components=576), [int(size) for size in arguments.curve.split(",")])
        return
    if arguments.pairs:
        by_pairs(bench, recipe)
        return
    if arguments.families:
        by_family(bench, columns["chosen"], recipe)
        return
    measures = ("AUC", "T1", "T5", "polished")
    head = ["choice", *(f"{condition} {m}" for condition in CONDITIONS for m in measures)]
    print("| " + " | ".join(head) + " |\n" + "| " + " | ".join(["---"] * len(head)) + " |")
    kept = {}
    for kind in ("whole", "native"):
        for tokens, name, changed in choices(recipe, arguments.quick):
            votes = bench.votes(kind, columns[tokens], changed)
            both = votes @ [1 - recipe.share, recipe.share]
            bench.row(f"{kind}: {tokens}, {name}", bench.pictures(kind, both))
            if kind not in kept:
                kept[kind] = bench.pictures(kind, both)
                bench.row(f"{kind}: linear alone", bench.pictures(kind, votes[:, 0]))
                bench.row(f"{kind}: kernel alone", bench.pictures(kind, votes[:, 1]))
    for share in (0.3, 0.4, 0.5, 0.6, 0.7):
        bench.row(f"joined, share of whole {share}", joined(kept["whole"], kept["native"], share))


if __name__ == "__main__":
    main()
