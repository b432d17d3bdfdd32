"""Fit a model's judge of orientation, measure it on unseen repositories, and add it to the model.

    python benchmarks/orientation.py --base aidetect-4 --restored originals [--scores 100] [--write]
    python benchmarks/orientation.py --base my-model --like aidetect-4

Takes some restored pictures of each repository, turns them as their EXIF tag says (for the truth alone: a
scan never reads it), and computes the features of their whole view stored in all four ways. A linear probe
learns the quarter turns. `--scores` also scores pictures of one fold all four ways, as whole files, with the
judge fitted on the other folds and without it. Features are kept in a file, so a run can be interrupted.
`--write` fits on everything, and puts the judge into the folder and the card of the model. `--like` takes
the judge of another model: it is fitted for a tower, so it suits every model of that tower.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from refresh_card import refresh, write

from aidetect.detector.detector import Detector
from aidetect.detector.errors import InputError
from aidetect.detector.images.pixels import decode
from aidetect.detector.images.views import ViewPlan, whole_view
from aidetect.detector.models.model import Card, Model, load_model, read_model_card
from aidetect.detector.models.orientation import NAMES, Orientation
from aidetect.detector.models.probe import ClassProbe, write_tensors
from aidetect.detector.training.familyfit import fit_classes
from aidetect.detector.training.features import FeatureCache
from aidetect.detector.training.fit import group_folds
from aidetect.detector.training.heldout import read_held_out
from aidetect.detector.training.metrics import roc_auc, tpr_at_fpr
from aidetect.detector.training.modelfolder import take_judge
from aidetect.detector.training.scoring import Scored

FILE = "orientation.safetensors"
FOLDS = 5
# What EXIF's orientation says: how many quarters anticlockwise the stored picture is turned.
_TAG = {3: 2, 6: 1, 8: 3}
SURE = ((0.5, 0.9), (0.6, 0.9), (0.7, 0.9), (0.8, 0.9), (0.6, 0.8), (0.6, 0.95))


@dataclass(frozen=True)
class Picture:
    """A restored picture."""

    path: Path
    label: int
    owner: str


def chosen(restored: Path, each: int) -> list[Picture]:
    """Pictures of every repository, at most ``each`` of a class, in the order of their hashes."""
    with (restored / "index.csv").open(newline="", encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: Path(row["file"]).name)
    count: Counter[tuple[str, str]] = Counter()
    found = []
    for row in rows:
        count[row["repo"], row["label"]] += 1
        if count[row["repo"], row["label"]] <= each:
            picture = Picture(
                restored / row["file"], int(row["label"] == "ai"), row["repo"].split("/")[0].lower()
            )
            found.append(picture)
    # Mixed, so that a run that is not complete has seen all kinds of sources.
    return sorted(found, key=lambda picture: picture.path.name)


def upright(path: Path) -> np.ndarray | None:
    """The pixels as a viewer shows them; ``None`` for mirrored and unreadable pictures."""
    data = path.read_bytes()
    try:
        rgb = next(decode(data, frames=1)).rgb
    except InputError:
        return None
    with Image.open(io.BytesIO(data)) as image:
        tag = image.getexif().get(274, 1)
    if tag in (2, 4, 5, 7):
        return None
    return np.ascontiguousarray(np.rot90(rgb, -_TAG.get(tag, 0)))


def features(model: Model, pictures: list[Picture], cache: FeatureCache) -> tuple[np.ndarray, list[int]]:
    """Features of whole views stored in four ways, ``[n, 4, length]``, ``float16``, and whose they are."""
    tower = model.tower
    plan = model.card.plan("fast", tower.preprocess.size, tower.preprocess.interpolation)
    found, whose = [], []
    for place, picture in enumerate(pictures):
        keys = [f"{picture.path.name}:{tower.sha256[:16]}:{tower.dtype}:{quarters}" for quarters in range(4)]
        if not all(key in cache for key in keys):
            rgb = upright(picture.path)
            if rgb is None:
                continue
            views = np.stack([_view(np.rot90(rgb, quarters), plan) for quarters in range(4)])
            vectors = tower.features(views).reshape(4, -1)
            cache.put(list(zip(keys, vectors, strict=True)))
            if place % 50 == 0:
                print(f"{place} of {len(pictures)}", flush=True)
        found.append(cache.rows(keys))
        whose.append(place)
    return np.stack(found), whose


def _view(rgb: np.ndarray, plan: ViewPlan) -> np.ndarray:
    return whole_view(np.ascontiguousarray(rgb), plan.size, plan.interpolation, plan.whole_jpeg).rgb


def fitted(x: np.ndarray, owners: list[str]) -> ClassProbe:
    """A probe of quarter turns, from ``[n, 4, length]``. Large owners count less than their share."""
    counts = Counter(owners)
    weights = np.repeat([counts[owner] ** -0.5 for owner in owners], 4)
    names = list(NAMES) * len(x)
    return fit_classes(x.reshape(len(names), -1), names, weights, l2=0.2, components=1024)


def said(votes: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of pictures stored in four ways: where one look is enough, and quarters by which each counts as turned.

    Args:
        votes: log-probabilities of the squares of ``n`` pictures stored in four ways, ``[n, 4, 4]``.

    Returns:
        Both ``[n, 4]``.
    """
    judge = Orientation(ClassProbe(NAMES, np.zeros((4, 1)), np.zeros(4)), *limits)
    first = np.array([[-1 if (q := judge.at_once([v])) is None else q for v in four] for four in votes])
    joined = [[judge.quarters(np.roll(four, way, axis=0)) for way in range(4)] for four in _backwards(votes)]
    return first >= 0, np.where(first >= 0, first, np.array(joined))


def _backwards(votes: np.ndarray) -> np.ndarray:
    """Squares stored upright and turned back by 1, 2, 3 quarters; in ``votes`` they are turned on."""
    return votes[:, [0, 3, 2, 1]]


def show(votes: np.ndarray, labels: np.ndarray) -> None:
    """Print how often pictures are turned. ``votes``: ``[n, 4 ways, 4]``."""
    head = (
        "limits",
        "upright: at once",
        "upright: turned (real; AI)",
        "turned: turned upright",
        "all ways alike",
    )
    print("\n| " + " | ".join(head) + " |")
    print("| --- " * 5 + "|")
    for limits in SURE:
        at_once, quarters = said(votes, limits)
        wrong = [100 * (quarters[labels == label, 0] > 0).mean() for label in (0, 1)]
        right = 100 * (quarters[:, 1:] == [1, 2, 3]).mean()
        left = (quarters - np.arange(4)) % 4
        alike = 100 * (left == left[:, :1]).all(axis=1).mean()
        print(f"| {limits[0]}, {limits[1]} | {100 * at_once[:, 0].mean():.1f} % ", end="")
        print(f"| {wrong[0]:.1f} %; {wrong[1]:.1f} % ", end="")
        print(f"| {right:.1f} % | {alike:.1f} % |")


def cost(card: Card, wrong: tuple[float, float]) -> None:
    """Print an estimate of what pictures turned by mistake cost `standard`.

    As many of the held-out clean pictures get the difference between the logit of a turned copy and that of
    its picture, drawn at random from those that were measured both ways.

    Args:
        wrong: shares of real and of AI pictures that are turned by mistake.
    """
    known: dict[str, dict[str, Scored]] = {}
    for one in read_held_out(card, "standard"):
        known.setdefault(one.name, {})[one.condition] = one
    clean = [found["clean"] for found in known.values() if "clean" in found]
    labels, logits = np.array([one.label for one in clean]), np.array([one.logit for one in clean])
    rng, found, fits = np.random.default_rng(0), [], []
    for label in (0, 1):
        pairs = [
            (copies["clean"].logit, copies[name].logit)
            for copies in known.values()
            for name in ("turn-90", "turn-270")
            if name in copies and "clean" in copies and copies[name].label == label
        ]
        before, after = np.array(pairs).T
        slope, shift = np.polyfit(before, after, 1)
        fits.append((slope, shift, after - slope * before - shift))
    for _ in range(40):
        moved = logits.copy()
        for label, (slope, shift, rest) in enumerate(fits):
            rows = (labels == label) & (rng.random(len(labels)) < wrong[label])
            moved[rows] = slope * logits[rows] + shift + rng.choice(rest, rows.sum())
        found.append((roc_auc(labels, moved), tpr_at_fpr(labels, moved, 0.01)))
    auc, t1 = np.mean(found, axis=0) - (roc_auc(labels, logits), tpr_at_fpr(labels, logits, 0.01))
    print(f"\nturned by mistake, held-out clean pictures: AUC {auc:+.4f}, T1 {t1:+.3f} (estimated)")


def scores(model: Model, mode: str, judge: Orientation, pictures: list[Picture]) -> None:
    """Print what turning does to the logits of whole files, with the judge and without it."""
    from aidetect.detector.models.device import choose

    dtype = str(model.tower.dtype).removeprefix("torch.")
    device = choose("auto", dtype)
    print(f"\n| {mode} | AUC upright | AUC turned | logits of four ways: all within 0.3 | spread, median |")
    print("| --- " * 5 + "|")
    labels = np.array([picture.label for picture in pictures])
    for name, orientation in (("without", None), ("with", judge)):
        detector = Detector(replace(model, orientation=orientation), device, mode)
        detector.plan = replace(detector.plan, turn=orientation is not None)
        logits = np.array([list(_ways(detector, picture)) for picture in pictures])
        spread = logits.max(1) - logits.min(1)
        aucs = [roc_auc(labels, logits[:, way]) for way in range(4)]
        cells = [f"{aucs[0]:.4f}", f"{np.mean(aucs[1:]):.4f}", f"{100 * (spread <= 0.3).mean():.1f} %"]
        print(f"| {name} the judge | " + " | ".join(cells) + f" | {np.median(spread):.2f} |", flush=True)


def _ways(detector: Detector, picture: Picture) -> Iterator[float]:
    rgb = upright(picture.path)
    assert rgb is not None
    turned = [np.ascontiguousarray(np.rot90(rgb, quarters)) for quarters in range(4)]
    for record in detector.score(turned):
        assert record.logit is not None
        yield record.logit


def take(other: Card, card: Card) -> None:
    """Give a model the judge of another one with the same tower."""
    if other.data["tower"]["sha256"] != card.data["tower"]["sha256"]:
        raise SystemExit(f"{other.name} and {card.name} have different towers")
    entry = take_judge(other, card.folder)
    if entry is None:
        raise SystemExit(f"{other.name} has no judge of orientation")
    enter(card, entry)


def enter(card: Card, entry: dict[str, Any]) -> None:
    """Write the judge's entry into a model's card, and the card for people."""
    write(card.folder, {**card.data, "orientation": entry, "files": {**card.data["files"], FILE: ""}})
    refresh(card.folder)


def main() -> None:
    """Fit, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", required=True, help="the model")
    parser.add_argument("--like", help="a model with the same tower, whose judge is taken")
    parser.add_argument(
        "--restored", type=Path, default=Path("originals"), help="folder of restored originals"
    )
    parser.add_argument("--each", type=int, default=8, help="pictures of a repository and class, at most")
    parser.add_argument("--most", type=int, help="pictures in all, at most")
    parser.add_argument("--limits", type=float, nargs=2, default=(0.6, 0.9), help="see Orientation")
    parser.add_argument("--scores", type=int, default=0, help="pictures to score all four ways")
    parser.add_argument("--mode", default="standard")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    from aidetect.detector.models.device import choose

    if arguments.like:
        take(read_model_card(arguments.like), read_model_card(arguments.base))
        return
    device = choose()
    model = load_model(arguments.base, device.dtype)
    model.tower.to(torch.device(device.name), device.dtype)
    pictures = chosen(arguments.restored, arguments.each)[: arguments.most]
    cache = FeatureCache(arguments.restored / "orientation.sqlite")
    x, whose = features(model, pictures, cache)
    pictures = [pictures[place] for place in whose]
    owners = [picture.owner for picture in pictures]
    labels = np.array([picture.label for picture in pictures])
    print(f"{len(pictures)} pictures of {len(set(owners))} owners")
    fold = np.array(group_folds(owners, labels.tolist(), FOLDS, 0))
    votes = np.empty((len(x), 4, 4))
    judge = None
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        probe = fitted(x[train], [owners[i] for i in np.flatnonzero(train)])
        votes[test] = probe.log_probabilities(x[test].reshape(-1, x.shape[2])).reshape(-1, 4, 4)
        judge = judge or Orientation(probe, *arguments.limits)
    show(votes, labels)
    _, quarters = said(votes, arguments.limits)
    real, ai = ((quarters[labels == label, 0] > 0).mean() for label in (0, 1))
    cost(model.card, (real, ai))
    if arguments.scores and judge:
        rng = np.random.default_rng(0)
        some = rng.permutation(np.flatnonzero(fold == 0))[: arguments.scores]
        scores(model, arguments.mode, judge, [pictures[i] for i in some])
    if arguments.write:
        probe = fitted(x, owners)
        folder = model.card.folder
        write_tensors(folder / FILE, {"weight": probe.weight, "bias": probe.bias})
        at_once, _ = said(votes, arguments.limits)
        measured = {
            "pictures": len(x),
            "owners": len(set(owners)),
            "upright_at_once": float(at_once[:, 0].mean()),
            "upright_turned": float((quarters[:, 0] > 0).mean()),
            "turned_back": float((quarters[:, 1:] == [1, 2, 3]).mean()),
        }
        entry = {
            "file": FILE,
            **dict(zip(("upright", "turned"), arguments.limits, strict=True)),
            "measured": measured,
        }
        enter(model.card, entry)


if __name__ == "__main__":
    main()
