"""The model card for people: what a model is made of, and how often it errs, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .conditions import CUTS, MIX, REWORK
from .evaluation import Category, Condition, Evaluation
from .metrics import GroupIntervals, Rate

FILE = "MODEL_CARD.md"


def render(card: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> str:
    """The text of a model card.

    Args:
        card: entries of ``model.json``: ``name, date, tower, features, training, recipe, speed, modes``.
        evaluations: held-out errors by mode.
    """
    training, recipe = card["training"], card["recipe"]
    tower = card["tower"].get("folder") or card["tower"].get("architecture")
    parts = [
        f"# {card['name']}",
        f"Fitted {card['date']} on {training['fitted']} views of {training['pictures']} pictures from "
        f"{training['groups']} repositories, measured on {training['views']} (copies: "
        f"{', '.join(map(str, training['copies']))}; 0 is the clean one, others are laundered or reworked at "
        f"random). Data SHA-256 `{training['sha256'][:16]}`.",
        f"- Tower: {tower}, frozen.\n- Features of a view: {card['features']}; standardised, then multiplied "
        f"by {_numbers(recipe['emphasis_whole'])} (whole) or {_numbers(recipe['emphasis_native'])} (native): "
        "class tokens of the earlier blocks, class tokens of the last quarter, means.\n"
        f"- Probe, one for each kind of view, on {recipe['components']} principal components: the votes of "
        f"an L2 logistic regression (whole {recipe['l2_whole']}, native {recipe['l2_native']}) and of a "
        f"support vector machine with squared hinge loss and a Gaussian kernel ({recipe['centres']} centres, "
        f"width {recipe['width']}, ridge {recipe['ridge']}), averaged with {recipe['share']:.0%} for it; a "
        f"laundered copy weighs {recipe['laundered_whole']} (whole) and {recipe['laundered_native']} "
        f"(native), large sources and families of generators less than their share (powers {recipe['power']} "
        f"and {recipe['family_power']}).\n"
        "- Logits of the whole view and of the native crops are averaged (see `share`), then calibrated "
        "by Platt's method.",
        f"All rates below are of pictures whose repository the probe had not seen ({recipe['folds']} folds; "
        f"no repository on both sides). `{MIX}`: pictures laundered at random as whole files, as life does "
        f"it; `{CUTS}` (where there are such): small cuts laundered as they are, which is harsher; "
        f"`{REWORK}` (where there are such): sharpened, tinted, enlarged, turned, photographed from a "
        "screen and the like at random, and saved. The thresholds and the calibration come from the same "
        "held-out scores (the `ai` threshold is the highest of those that the reals of each condition but "
        f"`{REWORK}` give), so rates at the thresholds are slightly optimistic. {_looks(card)} In brackets: "
        "95 % Wilson interval. `*`: fewer than 30 pictures.",
    ]
    for mode, evaluation in evaluations.items():
        if mode == "thorough":  # the same cuts as for standard
            continue
        limits = evaluation.thresholds
        parts.append(f"## --views {mode}: verdict ai from {limits.ai}, real below {limits.real}")
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
    parts.append(_table(["--views", "images a second"], rates))
    if "attribution" in card:
        parts += _attribution(card["attribution"])
    return "\n\n".join(parts) + "\n"


def _looks(card: Mapping[str, Any]) -> str:
    """What the modes look at, and how much of that the pictures measured had, in words."""
    crops = {mode: entry["views"]["native"] for mode, entry in card["modes"].items()}
    found = card["measured_by"]
    trims = all(entry["views"].get("trim") for entry in card["modes"].values())
    bars = " Bars, captions and a plain page around a picture are left out." if trims else ""
    return (
        f"`fast` looks at the centred square; `standard` at {crops['standard']} native crops and, of a "
        "picture that is far from square, at several squares in place of the centred one; `thorough` at "
        f"{crops['thorough']} crops, and has the rates of `standard`. Of {found['rows']} pictures and copies "
        f"measured so, {found['all_crops']} had {crops['standard']} crops, the others one or two; "
        f"{found['several_squares']} were looked at as several squares.{bars}"
    )


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def stated_condition(evaluation: Evaluation) -> Condition:
    """The condition that a card's rates are stated on: pictures laundered as files where there are any, else
    laundered cuts, else pictures as they are.
    """
    return next(evaluation.conditions[n] for n in (MIX, CUTS, "clean") if n in evaluation.conditions)


def _attribution(found: Mapping[str, Any]) -> list[str]:
    names = list(found["names"])
    top_1, top_3 = found["top_1"], found["top_3"]
    text = (
        f"Measured on {top_1['n']} {found['measured_on']}, in all conditions: the true family comes first "
        f"for {100 * top_1['value']:.1f} % ({100 * top_1['low']:.1f}-{100 * top_1['high']:.1f}), among the "
        f"first three for {100 * top_3['value']:.1f} % ({100 * top_3['low']:.1f}-{100 * top_3['high']:.1f}). "
        "Rows: the truth; columns: what was named."
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
    """Intervals over other repositories, where there are enough; what they are, and a table."""
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
    text = "With other repositories than these (whole ones drawn with repetition; 95 % intervals):"
    head = ["repositories", "AUC", "recall at 1 % FPR", "at 5 % FPR", "recall", "reals called ai"]
    return [text, _table(head, rows)]


def _categories(title: str, found: Sequence[Category], names: Sequence[str]) -> str:
    rows = [[c.name, str(c.n), *(share(getattr(c, name)) for name in names)] for c in found]
    return _table([title, "n", *(_TITLES[name] for name in names)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: Rate) -> str:
    """A rate with its interval, in per cent."""
    if not value.n:
        return "-"
    mark = "*" if value.too_few else ""
    return f"{100 * value.value:.1f} %{mark} ({100 * value.low:.1f}-{100 * value.high:.1f})"
