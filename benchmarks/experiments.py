"""The table of experiments behind the probe: what each choice gives on held-out repositories.

    python benchmarks/experiments.py --index ../shared/corpus/index.csv --index originals/index.csv \\
        --cache features.sqlite

Reads features that `aidetect train` has cached (clean copies and one laundered copy) and prints, for each
choice, measures of pictures whose repository the probe had not seen, in Markdown. Pictures that the cache
does not hold are left out; the first line says how many views were found.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aidetect.detector.dataset import Example, read_index
from aidetect.detector.features import FeatureCache, Sample
from aidetect.detector.fit import balanced_weights, fit_probe, group_folds
from aidetect.detector.metrics import roc_auc, threshold_at_fpr
from aidetect.detector.model import tower_reference
from aidetect.detector.train import Recipe

BLOCKS = 12  # of the towers named ViT-B


def cached(examples: Sequence[Example], cache: FeatureCache, tag: str) -> list[Sample]:
    """Samples of copies 0 and 1 that the cache holds."""
    found = []
    for copy in (0, 1):
        for index, example in enumerate(examples):
            request = f"{example.path.resolve()}|{example.member}|{example.view}|{copy}|{tag}"
            found += [Sample(index, kind, copy, key) for kind, key in cache.known(request) or []]
    return found


class Bench:
    """Features in memory, and held-out measures of one choice at a time."""

    def __init__(self, examples: Sequence[Example], samples: Sequence[Sample], cache: FeatureCache) -> None:
        self.examples = examples
        self.samples = {k: [s for s in samples if s.kind == k] for k in ("whole", "native")}
        self.x = {k: cache.rows([s.key for s in v]) for k, v in self.samples.items()}
        self.length = self.x["whole"].shape[1]

    def held_out(
        self, kind: str, columns: np.ndarray, l2: float, components: int, power: float, laundered: float
    ) -> dict[tuple[str, int], float]:
        """Held-out logits by (picture, copy)."""
        samples = self.samples[kind]
        mine = [self.examples[s.example] for s in samples]
        labels = np.array([e.label for e in mine])
        copies = np.array([s.copy for s in samples])
        groups, sources = [e.group for e in mine], [e.source for e in mine]
        fold = group_folds(groups, labels.tolist(), 5)
        used = (copies == 0) | (laundered > 0)
        logits = np.empty(len(mine))
        x = self.x[kind][:, columns]
        for k in range(5):
            train = np.flatnonzero((fold != k) & used)
            some = [sources[i] for i in train], [groups[i] for i in train]
            weights = balanced_weights(labels[train], *some, power)
            weights *= np.where(copies[train] > 0, laundered, 1.0)
            probe = fit_probe(x[train], labels[train], weights, l2, components=components)
            logits[fold == k] = probe.logits(x[fold == k])
        names = [(f"{e.group}|{e.original}", s.copy) for e, s in zip(mine, samples, strict=True)]
        return dict(zip(names, logits.tolist(), strict=True))

    def row(self, name: str, logits: dict[tuple[str, int], float]) -> None:
        """Print one row: measures on clean and on laundered copies."""
        label = {f"{e.group}|{e.original}": e for e in self.examples}
        cells = [name]
        for copy in (0, 1):
            keys = [key for key in logits if key[1] == copy]
            truth = np.array([label[key[0]].label for key in keys])
            z = np.array([logits[key] for key in keys])
            polished = np.array([label[key[0]].source.startswith("polished-") for key in keys])
            at_1, at_5 = threshold_at_fpr(truth, z, 0.01), threshold_at_fpr(truth, z, 0.05)
            cells += [f"{roc_auc(truth, z):.4f}", f"{(z[truth == 1] >= at_1).mean():.3f}"]
            cells += [f"{(z[truth == 1] >= at_5).mean():.3f}", f"{(z[polished] >= at_5).mean():.3f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def joined(
    whole: dict[tuple[str, int], float], native: dict[tuple[str, int], float], share: float
) -> dict[tuple[str, int], float]:
    """Logits averaged over the pictures that have both views."""
    return {key: share * whole[key] + (1 - share) * native[key] for key in whole if key in native}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--index", type=Path, required=True, action="append", help="repeatable")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tower", default="clip-vit-b-16-openai")
    parser.add_argument("--dtype", default="float32", help="that the features were computed in")
    parser.add_argument("--quick", action="store_true", help="only the shipped choice and the joins")
    arguments = parser.parse_args()
    examples = [example for path in arguments.index for example in read_index(path)]
    cache = FeatureCache(arguments.cache)
    samples = cached(examples, cache, f"{tower_reference(arguments.tower)['sha256'][:16]}:{arguments.dtype}")
    if not samples:
        parser.exit(2, "the cache holds none of these pictures; run aidetect train first (see --dtype)\n")
    print(f"{len(samples)} views of {len(examples)} rows of the index, both copies counted\n")
    bench = Bench(examples, samples, cache)
    recipe = Recipe()
    blocks, width = BLOCKS, bench.length // (2 * BLOCKS)
    mask = np.arange(2 * blocks) < blocks
    tokens_of = {"class": mask, "mean": ~mask, "class + mean": mask | ~mask, "chosen": recipe.tokens(blocks)}
    columns = {name: np.repeat(tokens, width) for name, tokens in tokens_of.items()}
    print(f"chosen: {recipe.features(blocks)}\n")
    measures = ["AUC", "TPR@1%", "TPR@5%", "polished@5%"]
    head = ["choice", *(f"clean {m}" for m in measures), *(f"laundered {m}" for m in measures)]
    print("| " + " | ".join(head) + " |\n" + "| " + " | ".join(["---"] * len(head)) + " |")
    shipped = {
        "whole": (recipe.l2_whole, recipe.laundered_whole),
        "native": (recipe.l2_native, recipe.laundered_native),
    }
    choices: list[tuple[str, str, float, int, float, float]] = []
    for kind, (l2, weight) in shipped.items():
        choices.append((kind, "chosen", l2, 1024, 0.5, weight))
        if not arguments.quick:
            choices += [(kind, tokens, l2, 1024, 0.5, weight) for tokens in ("class + mean", "class", "mean")]
            choices += [(kind, "chosen", l2 * f, 1024, 0.5, weight) for f in (0.3, 3, 10)]
            choices += [(kind, "chosen", l2, n, 0.5, weight) for n in (256, 512)]
            choices += [(kind, "chosen", l2, 1024, p, weight) for p in (0.0, 1.0)]
            choices += [(kind, "chosen", l2, 1024, 0.5, w) for w in (0.0, 1.0)]
    kept = {}
    for kind, tokens, l2, components, power, laundered in choices:
        logits = bench.held_out(kind, columns[tokens], l2, components, power, laundered)
        name = f"{kind}: {tokens}, l2 {l2:g}, {components} components, power {power:g}, "
        name += f"laundered copies weighing {laundered:g}"
        bench.row(name, logits)
        kept.setdefault(kind, logits)
    for share in (0.3, 0.4, 0.5, 0.6, 0.7):
        bench.row(f"joined, share of whole {share}", joined(kept["whole"], kept["native"], share))


if __name__ == "__main__":
    main()
