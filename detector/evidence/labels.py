"""Labels that standards and platforms ask for: the IPTC's, those of GB 45438, and ByteDance's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .metadata import Field
from .names import NAMES

_EXCERPT = 120  # characters of a prompt: prompts may be private


@dataclass(frozen=True)
class Claim:
    """A claim: the place it was found in, a sentence, and named values."""

    where: str
    says: str
    detail: dict[str, Any]


def place(item: Field) -> str:
    """Where a field was found, for people."""
    return f"{item.where} {item.name}".removesuffix(" comment") if item.name else item.where


def excerpt(prompt: Any) -> str:
    """The first characters of a prompt."""
    return str(prompt)[: 4 * _EXCERPT].strip().strip('"')[:_EXCERPT]


# https://cv.iptc.org/newscodes/digitalsourcetype/
_SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "made by a generative model",
    "compositeWithTrainedAlgorithmicMedia": "partly made by a generative model",
    "compositeSynthetic": "put together, with synthetic parts",
    "algorithmicMedia": "made by an algorithm without training data",
}
# Labels that China's standard GB 45438-2025 asks for.
_AIGC = {"1": "generated", "2": "perhaps generated", "3": "suspected to be generated"}
_AIGC_KEYS = {"Label", "ContentProducer", "ProduceID", "ContentPropagator", "PropagateID"}


def claims_of_labels(fields: list[Field]) -> Iterator[Claim]:
    """What labels that standards and platforms ask for say."""
    # A tag of our own says what an earlier scan said: to count it would be to quote ourselves.
    ours = any(item.where == "XMP" and item.name == "ModelCardSHA256" for item in fields)
    for item in fields:
        source = item.text.rpartition("/")[2]
        if item.name in ("DigitalSourceType", "DigitalSourceFileType") and source in _SOURCE_TYPES:
            if item.name == "DigitalSourceType" or not any(f.name == "DigitalSourceType" for f in fields):
                says = f"labelled {_SOURCE_TYPES[source]} ({source})"
                if ours:
                    says = f"tagged by an earlier run of aidetect ({source}): no evidence of its own"
                yield Claim(f"{item.where} {item.name}", says, {"source_type": source})
        elif item.name in ("AISystemUsed", "AISystemVersionUsed", "AIPromptInformation"):
            text = excerpt(item.text)
            yield Claim(
                f"{item.where} {item.name}", "names a generative model by the IPTC's field", {"text": text}
            )
        elif item.name == "AIGC" or re.search('"(?:AIGC|ContentProducer)"', item.text[:2000]):
            yield from _aigc(item)
        elif re.search('"(?:aigc_label_type|exportType)"', item.text[:2000]):
            yield from _bytedance(item)


def _aigc(item: Field) -> Iterator[Claim]:
    label = _object(item.text)
    label = _dict(label.get("AIGC")) or label
    if _AIGC_KEYS & label.keys():
        meaning = _AIGC.get(str(label.get("Label")), "of AI's making")
        producer = str(label.get("ContentProducer", ""))
        detail = {"label": str(label.get("Label", "")), "producer": producer}
        maker = _producer(producer)
        says = f"labelled {meaning} (AIGC, GB 45438)"
        if maker:
            detail["generator"] = maker
            says += f", by {maker}"
        yield Claim(place(item), says, detail)


# Producers as generators write them: a product's name, or "001", a digit, the 18 characters of a Chinese
# company's registration and a product's number. Vendors do not publish these; they were seen in their files
# (github.com/MatrixA/aicheck, storytold/artcraft and wiltodelta/remove-ai-watermarks, 2026).
_PRODUCERS = {
    "91330106MA2CFLDG4R": "Alibaba Tongyi (Wan)",
    "91110108335469089C": "Kling",
    "kling": "Kling",
    "91110108MACC4D63XF": "Vidu",
    "minimax": "Hailuo (MiniMax)",
    "91110102MACQD9K640": "ByteDance Doubao",
    "doubao": "ByteDance Doubao",
    "9144030008867405X2": "ByteDance Jimeng",
    "91440101MA9Y9T4H7A": "Alibaba Qwen",
}


def _producer(text: str) -> str:
    """The generator behind the producer of a label; empty where it is not known."""
    text = text.strip()[:200]
    code = text[4:22] if text.startswith("001") and len(text) >= 22 else text.lower()
    named = (name for name, pattern in NAMES if pattern.search(text))
    return _PRODUCERS.get(code) or next(named, "")


# Seen in videos from TikTok (github.com/socialnetwork0/aivid) and Dreamina (storytold/artcraft); the numbers
# are those of TikTok's Research API.
_LABEL_TYPES = {1: "by who posted it", 2: "by the platform"}


def _bytedance(item: Field) -> Iterator[Claim]:
    """What TikTok and Dreamina write."""
    data = _object(item.text)
    info = _dict(data.get("aigc_info")) or data
    export = _dict(data.get("data")) or data
    type_ = info.get("aigc_label_type")
    if isinstance(type_, int) and type_ in _LABEL_TYPES:
        says = f"labelled as AI-generated {_LABEL_TYPES[type_]} (ByteDance's aigc_label_type {type_})"
        yield Claim(place(item), says, {"label": str(type_)})
    if "dreamina" in (export.get("product"), info.get("source_info")):
        is_generation = export.get("exportType") == "generation"
        says = "says that ByteDance's Dreamina wrote it" + (", as a generation" if is_generation else "")
        yield Claim(place(item), says, {"generator": "ByteDance Dreamina"})


def _object(text: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
