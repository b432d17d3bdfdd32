"""How a clip is best scored by its frames, and what video compression does to scores.

    python benchmarks/clips.py rules
    python benchmarks/clips.py compression --originals originals --lists originals.csv originals-2.csv \\
        --rows clips.csv [--pictures 14] [--seconds 300]

There was no video of generators to measure on. `rules` draws clips of several shots from the model's held-out
scores: each shot is a picture, and all pictures of a clip are of one repository, as the shots of a clip are
of one hand. It prints how often clips of AI pictures, and of real ones, are called `ai`, by their shots.

`compression` makes clips of originals: a slow pan and zoom over one picture, coded by
x264 and VP9 at several qualities. It scores their frames in the mode `fast`. Pictures are taken from as many
repositories as possible, AI and real equally. The model was fitted on these pictures, so its scores of them
are too good. Therefore what counts is the change of the logit from the picture to the frame, added to the
logit that probes gave which had not seen the picture's repository. Rows are kept in a file; a second run goes
on from there, for at most the given time, and prints the table. `--originals` is a folder with an index.csv
(see `list_originals.py`) and files named by the first 16 digits of their SHA-256; `--lists` says their paths.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from aidetect.detector.clips import verdict
from aidetect.detector.clips.reader import stills
from aidetect.detector.clips.sampling import Sampling
from aidetect.detector.detector import Detector
from aidetect.detector.models.model import DEFAULT_MODEL, read_model_card
from aidetect.detector.training.heldout import read_held_out

MODE = "fast"
SMALLEST, LONGEST, SECONDS, RATE = 480, 1024, 1.5, 24
SAMPLING = Sampling(fps=2, frames=3)
# Name, codec, container and options of each way of coding.
CODINGS = (
    *((f"x264 crf {q}", "libx264", "mp4", {"crf": str(q), "preset": "fast"}) for q in (18, 23, 28, 34)),
    *(
        (f"VP9 crf {q}", "libvpx-vp9", "webm", {"crf": str(q), "b": "0", "cpu-used": "6", "row-mt": "1"})
        for q in (24, 34, 44)
    ),
)
COLUMNS = ("label", "repo", "path", "coding", "bits", "time", "logit")
Rule = Callable[[np.ndarray], float]
RULES: dict[str, Rule] = {
    "maximum": lambda logits: float(logits.max()),
    "90% quantile": lambda logits: float(np.quantile(logits, 0.9)),
    "75% quantile": lambda logits: float(np.quantile(logits, 0.75)),
    "median": lambda logits: float(np.median(logits)),
    "mean": lambda logits: float(logits.mean()),
}
SHOTS = (1, 2, 4, 8, 16, 32)
SHARES = (0.0, 0.25, 1 / 3, 0.5, 2 / 3)


# --- rules ----------------------------------------------------------------------------------------------


def rules(model: str, condition: str, draws: int, seed: int) -> None:
    """Print how often clips are called ai, by rule and number of shots."""
    card = read_model_card(model)
    calibration, thresholds = card.calibration(MODE), card.thresholds(MODE)

    def reading(logit: float) -> tuple[float, str]:
        probability = calibration.probability(logit)
        return probability, thresholds.verdict(probability)

    groups: dict[int, dict[str, list[float]]] = {0: defaultdict(list), 1: defaultdict(list)}
    for one in read_held_out(card, MODE):
        if one.condition == condition:
            groups[one.label][one.group].append(one.logit)
    drawn = {(n, label): list(clips(groups[label], n, draws, seed)) for n in SHOTS for label in (0, 1)}
    heads = " | ".join(f"{n} shot{'s' * (n > 1)}" for n in SHOTS)
    rule_line = "\n" + "|---" * (len(SHOTS) + 1) + "|"
    print(f"{card.name}, {MODE}, condition {condition}, {draws} clips a cell, seed {seed}")
    print("all pictures of a clip are of one repository; AI clips called ai / real ones called ai\n")
    print(f"| score | {heads} |{rule_line}")
    for name, rule in RULES.items():
        cells = []
        for n in SHOTS:
            found = {y: np.mean([reading(rule(c))[1] == "ai" for c in drawn[n, y]]) for y in (0, 1)}
            cells.append(f"{found[1]:.1%} / {found[0]:.2%}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nthe shipped rule, for which this share of the frames must have the verdict too:")
    print("AI clips called ai / real ones called ai / AI clips called real\n")
    print(f"| share | {heads} |{rule_line}")
    for share in SHARES:
        cells = []
        for n in SHOTS:
            given = {y: [_verdict(logits, share, reading) for logits in drawn[n, y]] for y in (0, 1)}
            found = [given[y].count(v) / draws for y, v in ((1, "ai"), (0, "ai"), (1, "real"))]
            cells.append("{:.1%} / {:.2%} / {:.1%}".format(*found))
        print(f"| {share:.0%} | " + " | ".join(cells) + " |")


def _verdict(logits: np.ndarray, share: float, reading: Callable[[float], tuple[float, str]]) -> str:
    own = reading(verdict.score(logits.tolist(), range(len(logits))))[1]
    frames = [reading(logit)[1] for logit in logits]
    return own if frames.count(own) >= share * len(frames) else "uncertain"


def clips(groups: dict[str, list[float]], shots: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Logits of the shots of clips, each of one repository that has enough pictures."""
    random = np.random.default_rng((seed, shots))
    names = sorted(name for name, logits in groups.items() if len(logits) >= max(SHOTS))
    for _ in range(draws):
        logits = groups[names[random.integers(len(names))]]
        yield random.choice(logits, shots, replace=False)


# --- compression ----------------------------------------------------------------------------------------


def window(picture: Image.Image, at: float) -> np.ndarray:
    """A frame of a slow pan and zoom: nine tenths of the picture, and a little less at the end."""
    scale = min(1.0, LONGEST / max(picture.size))
    width, height = (2 * round(side * scale * 0.9 / 2) for side in picture.size)
    zoom = 1 + 0.04 * at
    w, h = picture.width * 0.9 / zoom, picture.height * 0.9 / zoom
    left, upper = (picture.width - w) * at, (picture.height - h) * (1 - at)
    return np.asarray(
        picture.resize((width, height), Image.Resampling.BICUBIC, (left, upper, left + w, upper + h))
    )


def coded(frames: list[np.ndarray], codec: str, container: str, options: dict[str, str]) -> bytes:
    """A clip's bytes."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def chosen(folder: Path, lists: list[Path], known: set[str], count: int, seed: int) -> list[dict[str, str]]:
    """As many AI pictures as real ones, each of another repository, in turn.

    Args:
        folder: of the originals.
        lists: which say the paths of the originals.
        known: repository and path of the pictures that have a held-out logit.
        count: of each label.
        seed: of the choice.
    """

    def order(name: str) -> str:  # what else there is does not change it
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    listed = {row["sha256"][:16]: row for path in lists for row in read(path)}
    by_label: dict[str, dict[str, list[dict[str, str]]]] = {"ai": {}, "real": {}}
    for row in read(folder / "index.csv"):
        of = listed.get(Path(row["file"]).stem)
        if (
            of
            and f"{of['repo']}/{of['path']}" in known
            and min(int(of["width"]), int(of["height"])) >= SMALLEST
        ):
            by_label[row["label"]].setdefault(row["repo"], []).append(of | row)
    taken: dict[str, list[dict[str, str]]] = {}
    for label, repos in by_label.items():
        names = sorted(repos, key=order)[:count]
        taken[label] = [min(repos[name], key=lambda row: order(row["path"])) for name in names]
    return [row for pair in zip(taken["ai"], taken["real"], strict=False) for row in pair]


def score_picture(detector: Detector, row: dict[str, str], folder: Path) -> list[dict[str, object]]:
    """The logits of a picture, of its frames, and of these after each coding."""
    picture = Image.open(folder / row["file"]).convert("RGB")
    count = round(SECONDS * RATE)
    frames = [window(picture, i / (count - 1)) for i in range(count)]
    sources: list[tuple[str, float, float, np.ndarray]] = [("picture", 0.0, 0.0, np.asarray(picture))]
    for _, middle in SAMPLING.slots(SECONDS):
        sources.append(("no coding", 0.0, middle, frames[int(middle * RATE)]))
    for name, codec, container, options in CODINGS:
        data = coded(frames, codec, container, options)
        bits = 8 * len(data) / (SECONDS * 1000)
        sources += [(name, bits, still.time, still.rgb) for still in stills(data, sampling=SAMPLING)]
    records = detector.score(rgb for *_, rgb in sources)
    of = {"label": row["label"], "repo": row["repo"], "path": row["path"]}
    return [
        of | {"coding": name, "bits": round(bits), "time": round(moment, 3), "logit": record.logit}
        for (name, bits, moment, _), record in zip(sources, records, strict=True)
    ]


def compression(options: argparse.Namespace) -> None:
    """Score what has no rows yet, and print the table."""
    rows = read(options.rows) if options.rows.exists() else []
    unseen = {
        one.name for one in read_held_out(read_model_card(options.model), MODE) if one.condition == "clean"
    }
    done = {(row["repo"], row["path"]) for row in rows}
    wanted = chosen(options.originals, options.lists, unseen, options.pictures, options.seed)
    left = [row for row in wanted if (row["repo"], row["path"]) not in done]
    if left and options.seconds:
        detector = Detector.load(options.model, "cpu", MODE)
        end = time.monotonic() + options.seconds
        with options.rows.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            if not rows:
                writer.writeheader()
            for row in left:
                if time.monotonic() > end:
                    break
                found = score_picture(detector, row, options.originals)
                writer.writerows(found)
                stream.flush()
                rows += [{key: str(value) for key, value in one.items()} for one in found]
    asked = {(row["repo"], row["path"]) for row in wanted}
    rows = [row for row in rows if (row["repo"], row["path"]) in asked]
    if rows:
        table(rows, options.model)
    missing = len(asked - {(row["repo"], row["path"]) for row in rows})
    if missing:
        print(
            f"\n{missing} of {len(wanted)} pictures are still to be scored: run this again", file=sys.stderr
        )


def table(rows: list[dict[str, str]], model: str) -> None:
    """Print what coding does to logits, and to recall and false positives."""
    card = read_model_card(model)
    calibration, thresholds = card.calibration(MODE), card.thresholds(MODE)
    unseen = {one.name: one.logit for one in read_held_out(card, MODE) if one.condition == "clean"}
    clips_of: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    bits: dict[str, list[float]] = defaultdict(list)
    labels: dict[tuple[str, str], str] = {}
    for row in rows:
        key = (row["repo"], row["path"])
        labels[key] = row["label"]
        clips_of[key][row["coding"]].append(float(row["logit"]))
        bits[row["coding"]].append(float(row["bits"]))
    known = list(clips_of)
    count = {label: sum(labels[key] == label for key in known) for label in ("ai", "real")}
    counts = f"{count['ai']} AI pictures, {count['real']} real ones"
    print(f"{card.name}, {MODE}: {counts}, each of another repository")
    print(f"clips of {SECONDS} s, {SAMPLING.frames} frames scored; held-out logits moved by the change\n")
    print(
        "| coding | kbit/s | change, AI | change, real | AI: `ai` | AI: `real` | real: `ai` | real: `real` |"
    )
    print("|---" * 8 + "|")
    for coding in ("picture", "no coding", *(name for name, *_ in CODINGS)):
        change: dict[str, list[float]] = {"ai": [], "real": []}
        given: dict[str, list[str]] = {"ai": [], "real": []}
        for key in known:
            logits = [
                unseen[f"{key[0]}/{key[1]}"] + logit - clips_of[key]["picture"][0]
                for logit in clips_of[key][coding]
            ]
            change[labels[key]].append(float(np.mean(logits)) - unseen[f"{key[0]}/{key[1]}"])
            logit = verdict.score(logits, [0] * len(logits))
            given[labels[key]].append(thresholds.verdict(calibration.probability(logit)))
        share = {(y, v): given[y].count(v) / max(1, len(given[y])) for y in given for v in ("ai", "real")}
        rate = "" if not any(bits[coding]) else f"{np.median(bits[coding]):,.0f}"
        moves = " | ".join(f"{np.mean(change[y]):+.2f}" for y in ("ai", "real"))
        print(
            f"| {coding} | {rate} | {moves} | {share['ai', 'ai']:.0%} | {share['ai', 'real']:.0%} "
            f"| {share['real', 'ai']:.0%} | {share['real', 'real']:.0%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seed", type=int, default=0)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("rules")
    one.add_argument("--condition", default="mix")
    one.add_argument("--draws", type=int, default=2000)
    two = commands.add_parser("compression")
    two.add_argument("--originals", type=Path, required=True)
    two.add_argument("--lists", type=Path, nargs="+", required=True)
    two.add_argument("--rows", type=Path, required=True)
    two.add_argument("--pictures", type=int, default=14, help="of each label")
    two.add_argument("--seconds", type=float, default=300.0, help="score new pictures for so long")
    options = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "0")
    if options.command == "rules":
        rules(options.model, options.condition, options.draws, options.seed)
    else:
        compression(options)


if __name__ == "__main__":
    main()
