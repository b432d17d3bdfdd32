"""The model card in Markdown: what a model is made of, and its error rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..images.degrade import SMALLER
from .conditions import CUTS, MIX, REWORK
from .evaluation import Category, Condition, Evaluation
from .metrics import GroupIntervals, Rate

FILE = "MODEL_CARD.md"


def render(card: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> str:
    """The text of a model card.

    Args:
        card: entries of ``model.json``: ``name, date, tower, features, training, measured_by, recipe,
            speed, modes`` and, with attribution, ``attribution``.
        evaluations: held-out errors by mode.
    """
    training, recipe = card["training"], card["recipe"]
    tower = card["tower"].get("folder") or card["tower"].get("architecture")
    parts = [
        f"# {card['name']}",
        f"Fitted on {card['date']} with {training['fitted']} views of {training['pictures']} pictures from "
        f"{training['groups']} repositories. Measured on {training['views']} views of the "
        "pictures and of laundered, reworked and degraded copies. SHA-256 of the data: "
        f"`{training['sha256'][:16]}`.",
        f"- Tower: {tower}, frozen.\n"
        f"- Features of a view: {card['features']}. They are standardised, then multiplied by "
        f"{_numbers(recipe['emphasis_whole'])} (whole view) or {_numbers(recipe['emphasis_native'])} (native "
        "crops): the first factor is for class tokens of earlier blocks, the second for class tokens of the "
        "last quarter of the blocks, the third for patch means.\n"
        f"- Probe: one for each kind of view, on {recipe['components']} principal components. It averages "
        f"two classifiers: an L2 logistic regression (penalty {recipe['l2_whole']} whole, "
        f"{recipe['l2_native']} native) and a support vector machine with squared hinge loss and a Gaussian "
        f"kernel ({recipe['centres']} centres, width {recipe['width']}, ridge {recipe['ridge']}). The "
        f"support vector machine has a weight of {recipe['share']:.0%}.\n"
        f"- Weights in the fit: a laundered copy has {recipe['laundered_whole']} (whole) and "
        f"{recipe['laundered_native']} (native) of a clean picture's weight. Large sources and large "
        f"families of generators weigh less than their share of pictures (powers {recipe['power']} and "
        f"{recipe['family_power']}).\n"
        "- The logits of the whole view and of the native crops are averaged (with the weight `share` in "
        "`model.json`), then calibrated by Platt's method.",
        "All rates below are measured on held-out pictures: the probe that scored a picture was fitted "
        f"without its repository and all others of the same owner ({recipe['folds']} folds). The tables have "
        "these conditions, as far as they were measured:",
        "- `clean`: pictures as they are.\n"
        f"- `{MIX}`: whole files laundered at random (scaled down, cropped, blurred, given noise, "
        "re-encoded), as happens to pictures that are shared.\n"
        f"- `{CUTS}`: small cuts laundered at random, which is harsher.\n"
        f"- `{REWORK}`: pictures edited at random (sharpened, tinted, enlarged, turned, photographed from a "
        "screen and the like), then saved.\n"
        "- other names: pictures degraded in one way. `half-jpeg-80`, `third-jpeg-80`, `1024-jpeg-80`, "
        "`512-jpeg-80` and `256-jpeg-80` are smaller copies (by a factor, or by the longest side in pixels) "
        "saved as JPEG 80. `enlarged-256`, `-128` and `-64` are scaled down to that longest side and "
        "enlarged again. `grey` has no colour. `twice` is scaled to 1280 pixels and saved as JPEG twice. "
        "`corner` is 60 % of both sides. `pair` has the mirror image beside it. `bars` has black bars above "
        "and below. `turn-90` and `turn-270` are turned by quarters. `jpeg-40`, `jpeg-25` and `jpeg-15` are "
        "saved at that quality.",
        "The calibration and the thresholds were fitted to the same held-out scores, so rates at the "
        "thresholds may be slightly optimistic. The `ai` threshold aims at "
        f"{100 * recipe['false_positive_rate']:g} % of real pictures or fewer called ai. "
        "One such threshold is computed for each of "
        f"`clean`, `{MIX}`, `{CUTS}` and all smaller copies ({', '.join(f'`{name}`' for name in SMALLER)}). "
        f"At least {100 * recipe['sure']:g} % of bootstrap samples of the repositories keep the rate at it. "
        f"Further ones keep {100 * recipe['content_rate']:g} % of each content in `clean` and `{MIX}`, and "
        f"except in `fast` {100 * recipe['smaller_rate']:g} % in each way of making a picture smaller and "
        f"{100 * recipe['rougher_rate']:g} % in each of the others, where there are at least "
        f"{recipe['enough']} reals. "
        "The highest of these thresholds is used.",
        _looks(card),
        *_turns(card),
        "Brackets hold 95 % Wilson intervals, which assume that pictures are independent. `*` means fewer "
        "than 30 pictures.",
    ]
    for mode, evaluation in evaluations.items():
        if mode == "thorough":  # the same cuts as for standard
            continue
        limits = evaluation.thresholds
        parts.append(f"## --views {mode}: verdict ai from {limits.ai}, real below {limits.real}")
        if mode == "adaptive":
            parts.append(f"Error rates in `model.json`: {card['modes'][mode]['error_rates']['measured_on']}.")
        parts.append(_overall(evaluation.conditions.values()))
        parts += _other_groups(evaluation.conditions.values())
    condition = stated_condition(evaluations["standard"])
    parts.append(f"## Breakdown: --views standard, {condition.name}")
    reals = [*([condition.polished] if condition.polished else []), *condition.sources]
    if condition.families:
        parts.append("### AI pictures by family of generators")
        parts.append(_categories("family", condition.families, ("recall", "recall_at_5")))
        count, recall, recall_at_5 = condition.family_mean
        if count > 1:
            parts.append(
                f"Mean of the {count} families without `*`, each counting alike: "
                f"recall {100 * recall:.1f} %, at 5 % FPR {100 * recall_at_5:.1f} %."
            )
    parts.append("### AI pictures by generator")
    parts.append(_categories("generator", condition.generators, ("recall", "recall_at_5")))
    parts.append("### Real pictures by source")
    parts.append(_categories("source", reals, ("fpr",)))
    parts.append("### By content")
    parts.append(_categories("content", condition.content, ("recall", "recall_at_5", "fpr")))
    speed = card["speed"]
    parts.append(f"## Speed\n\nMeasured on: {speed['measured_on']}.")
    rates = [[mode, f"{each:.2f}"] for mode, each in speed["images_per_second"].items()]
    parts.append(_table(["--views", "images per second"], rates))
    if "attribution" in card:
        parts += _attribution(card["attribution"])
    return "\n\n".join(parts) + "\n"


def _turns(card: Mapping[str, Any]) -> list[str]:
    """What the card says of pictures that are turned back; nothing of a model that does not."""
    if "orientation" not in card:
        return []
    found = card["orientation"]["measured"]
    return [
        "Pictures that count as turned by quarters are turned back before they are judged. The rates below "
        f"are of pictures as stored. On {found['pictures']} pictures of {found['owners']} owners, held out: "
        f"{found['upright_at_once']:.1%} of upright ones count as upright after one look, "
        f"{found['upright_turned']:.1%} are turned by mistake, and {found['turned_back']:.1%} of turned ones "
        "are turned back."
    ]


def _looks(card: Mapping[str, Any]) -> str:
    """Which views the modes score, and how many of the measured pictures had all of them."""
    crops = {mode: entry["views"]["native"] for mode, entry in card["modes"].items()}
    found = card["measured_by"]
    trims = all(entry["views"].get("trim") for entry in card["modes"].values())
    staged = (
        " `adaptive` scores the views of `standard` only where the first ones leave the verdict open."
        if "adaptive" in card["modes"]
        else ""
    )
    bars = " Bars, captions and a plain page around a picture are left out." if trims else ""
    return (
        f"`fast` scores the centred square. `standard` adds {crops['standard']} native crops; of a picture "
        "far from square it scores several squares instead of the centred one. `thorough` scores "
        f"{crops['thorough']} native crops. It was not measured separately: the rates of `standard` are "
        f"stated for it. Of {found['rows']} pictures and copies measured for `standard`, "
        f"{found['all_crops']} had {crops['standard']} crops and the others one or two; for "
        f"{found['several_squares']} several squares were scored.{staged}{bars}"
    )


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def stated_condition(evaluation: Evaluation) -> Condition:
    """The condition that a card states its rates for.

    It is pictures laundered as files if there are any, else laundered cuts, else clean pictures.
    """
    return next(evaluation.conditions[n] for n in (MIX, CUTS, "clean") if n in evaluation.conditions)


def _attribution(found: Mapping[str, Any]) -> list[str]:
    names = list(found["names"])
    top_1, top_3 = found["top_1"], found["top_3"]
    text = (
        f"Measured on {top_1['n']} {found['measured_on']}, in all conditions. The true family comes first "
        f"for {100 * top_1['value']:.1f} % ({100 * top_1['low']:.1f}-{100 * top_1['high']:.1f}) and is among "
        f"the first three for {100 * top_3['value']:.1f} % "
        f"({100 * top_3['low']:.1f}-{100 * top_3['high']:.1f}). Rows are true families, columns are the "
        "families named first."
    )
    rows = [
        [truth, *(str(counts.get(name, 0)) for name in names)] for truth, counts in found["confusion"].items()
    ]
    return ["## Generator families", text, _table(["", *names], rows)]


_TITLES = {"recall": "recall", "recall_at_5": "recall at 5 % FPR", "fpr": "called ai"}


def _overall(conditions: Iterable[Condition]) -> str:
    rows = []
    for c in conditions:
        polished = share(c.polished.fpr) if c.polished else "-"
        rows.append(
            [
                f"{c.name} ({c.recall.n} AI, {c.fpr.n} real)",
                f"{c.auc:.3f}",
                share(c.tpr_at_1),
                share(c.tpr_at_5),
                share(c.recall),
                share(c.fpr),
                polished,
                share(c.missed),
                f"{c.balanced_accuracy:.3f}",
                f"{c.ece:.3f}",
            ]
        )
    head = ["pictures", "AUC", "recall at 1 % FPR", "at 5 % FPR", "recall", "reals called ai"]
    head += ["polished reals called ai", "AI called real", "balanced accuracy, uncertain wrong", "ECE"]
    return _table(head, rows)


def interval_cells(found: GroupIntervals) -> list[str]:
    """Intervals of AUC, recall at 1 % and 5 % FPR, recall and FPR, as a table's cells."""
    rates = (found.tpr_at_1, found.tpr_at_5, found.recall, found.fpr)
    auc = "{:.3f}-{:.3f}".format(*found.auc)
    return [auc, *(f"{100 * low:.1f}-{100 * high:.1f} %" for low, high in rates)]


def _other_groups(conditions: Iterable[Condition]) -> list[str]:
    """Intervals over repositories as a heading line and a table; empty if there are too few repositories."""
    rows = [
        [
            f"{c.name} ({found.ai_groups} with AI, {found.real_groups} with real)",
            *interval_cells(found),
        ]
        for c in conditions
        if (found := c.by_group)
    ]
    if not rows:
        return []
    text = "95 % intervals over repositories (bootstrap: whole repositories are drawn with replacement):"
    head = ["repositories", "AUC", "recall at 1 % FPR", "at 5 % FPR", "recall", "reals called ai"]
    return [text, _table(head, rows)]


def _categories(title: str, found: Sequence[Category], names: Sequence[str]) -> str:
    rows = [[c.name, str(c.n), *(share(getattr(c, name)) for name in names)] for c in found]
    return _table([title, "n", *(_TITLES[name] for name in names)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: Rate) -> str:
    """A rate with its interval, in percent; ``-`` for a rate over no pictures."""
    if not value.n:
        return "-"
    mark = "*" if value.too_few else ""
    return f"{100 * value.value:.1f} %{mark} ({100 * value.low:.1f}-{100 * value.high:.1f})"
