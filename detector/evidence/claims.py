"""Claims in metadata that a picture was generated: settings that generators write, names, source types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .metadata import Field

_EXCERPT = 120  # characters of a prompt: prompts may be private


@dataclass(frozen=True)
class Claim:
    """A claim: the place it was found in, a sentence, and named values."""

    where: str
    says: str
    detail: dict[str, Any]


def claims_of_generators(fields: list[Field]) -> Iterator[Claim]:
    """What metadata says of generators.

    Args:
        fields: of one file.

    Yields:
        Settings first, then labels of standards, then names that nothing before has named.
    """
    named = [(item, name) for item in fields if (name := names_generator(item))]
    likely = next((name for _, name in named if name != _UNNAMED), "")
    told: set[str] = set()
    for item, settings in _all_settings(fields):
        generator = settings.generator or likely
        if generator in told:
            continue  # a program that writes its settings twice, in two forms
        told.add(generator)
        says = settings.says or f"generation settings, as {generator or 'image generators'} write them"
        yield Claim(_place(item), says, {"generator": generator} | settings.detail)
    yield from _labels(fields)
    for item, name in named:
        if name not in told and not (name == _UNNAMED and told):
            told.add(name)
            yield Claim(_place(item), f"names {name}", {"generator": name, "text": item.text})


def _place(item: Field) -> str:
    return f"{item.where} {item.name}".removesuffix(" comment") if item.name else item.where


# --- settings ---------------------------------------------------------------------------------------


@dataclass
class _Settings:
    """Settings of a generation: the generator if known, a sentence if the usual one is wrong, values."""

    generator: str
    detail: dict[str, Any]
    says: str = ""


_ALIASES = {
    "model": "model Model base_model base_model_name model_name model_weights sd_model_checkpoint "
    "use_stable_diffusion_model baseModel",
    "steps": "steps Steps num_inference_steps",
    "sampler": "sampler Sampler sampler_name scheduler sampling_method",
    "seed": "seed Seed noise_seed",
    "version": "version Version app_version swarm_version",
    "prompt": "prompt positive_prompt c Prompt full_prompt",
}


def _all_settings(fields: list[Field]) -> Iterator[tuple[Field, _Settings]]:
    for item in fields:
        settings = _settings(item)
        if settings:
            yield item, settings
    flat = {item.name: item.text for item in fields if item.where == "PNG text chunk"}
    if "prompt" in flat and ("num_inference_steps" in flat or "use_stable_diffusion_model" in flat):
        first = next(item for item in fields if item.name == "prompt")
        yield first, _Settings("Easy Diffusion", _values(flat))
    texts = {item.name: item for item in fields if item.where == "EXIF"}
    signature, artist = texts.get("ImageDescription"), texts.get("Artist")
    if (
        signature
        and artist
        and re.match(r"Signature: [\w+/=]{64}", signature.text)
        and re.fullmatch(_UUID, artist.text.strip(), re.I)
    ):
        says = "a signature as xAI's Grok writes it, beside an image number; it was not checked"
        yield signature, _Settings("Grok", {}, says)


_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PARAMETERS = re.compile(r"\bSteps: \d{1,5}\b")
_DREAM = re.compile(r'^"?.{0,4000}?"? -s ?(\d{1,4}) -S ?(\d{1,20})\b', re.S)
_JOB = re.compile(rf"\bJob ID: ({_UUID})", re.I)


def _settings(item: Field) -> _Settings | None:
    """Settings in one text."""
    text = re.sub(r"^\s*(?:prompt|workflow)\s*:\s*(?=\{)", "", item.text[:64], flags=re.I) + item.text[64:]
    text = text.strip()
    if text.startswith("{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return _from_json(item.name, data) if isinstance(data, dict) else None
    if item.name.lower() == "dream" or " -S" in text[:5000]:
        dream = _DREAM.match(text)
        if dream:
            detail = {"steps": int(dream[1]), "seed": int(dream[2]), "prompt": _excerpt(text.split(" -s")[0])}
            return _Settings("InvokeAI", detail)
    job = _JOB.search(text)
    if job:
        version = re.search(r"--(?:v|version|niji) ?([\d.]+)", text)
        prompt = re.split(r" --\w|\bJob ID:", text, maxsplit=1)[0]
        detail = {"version": version[1] if version else "", "job": job[1], "prompt": _excerpt(prompt)}
        return _Settings("Midjourney", detail)
    found = None
    for found in _PARAMETERS.finditer(text):  # noqa: B007  the last one: a prompt may hold the words too
        pass
    if found and re.search(r", (?:Sampler|Seed|CFG scale): ", text[found.start() : found.start() + 2000]):
        return _from_parameters(text, found.start())
    return None


def _from_parameters(text: str, start: int) -> _Settings:
    """The line of settings that AUTOMATIC1111's program began, and many others write."""
    line = text[start : start + 20_000]
    values = dict(re.findall(r'(?:^|, )([A-Z][\w .]{0,40}): ("[^"\n]{0,300}"|[^,\n]{0,200})', line))
    version = values.get("Version", "")
    app = values.get("App", "") or values.get("Software", "")
    if "ComfyUI" in version:
        generator = "ComfyUI"
    elif "Fooocus" in version:
        generator = "Fooocus"
    elif "SD.Next" in app or "SD.Next" in version:
        generator = "SD.Next"
    elif re.match(r"(?:f|neo|classic)\d", version):
        generator = "Forge"
    elif "Civitai resources" in line[:20_000]:
        generator = "Civitai"
    else:
        generator = "AUTOMATIC1111"
    prompt = re.split(r"\n?Negative prompt:|\n", text[:start].strip(), maxsplit=1)[0]
    detail = {
        "model": values.get("Model", ""),
        "steps": _integer(values.get("Steps", "")),
        "sampler": values.get("Sampler", ""),
        "seed": _integer(values.get("Seed", "")),
        "denoising": values.get("Denoising strength", ""),
        "version": version,
        "prompt": _excerpt(prompt),
    }
    says = "generation settings, as AUTOMATIC1111 and its relatives write them"
    return _Settings(generator, detail, says if generator == "AUTOMATIC1111" else "")


def _from_json(name: str, data: dict[str, Any]) -> _Settings | None:
    nodes = data.get("nodes")
    if isinstance(nodes, list) and ("links" in data or "last_node_id" in data):
        return _from_workflow([node for node in nodes[:5000] if isinstance(node, dict)])
    graph = [node for node in list(data.values())[:5000] if isinstance(node, dict) and "class_type" in node]
    if graph and 2 * len(graph) > len(data):
        return _from_graph(graph)
    swarm = data.get("sui_image_params")
    if isinstance(swarm, dict):
        return _Settings("SwarmUI", _values(swarm))
    image = data.get("image")
    if name in ("sd-metadata", "invokeai_metadata") or ("app_version" in data and "generation_mode" in data):
        return _Settings("InvokeAI", _values((image if isinstance(image, dict) else {}) | data))
    if re.search("fooocus", f"{data.get('version')} {data.get('Version')} {data.get('software')}", re.I):
        return _Settings("Fooocus", _values(data))
    values = _values(data)
    if "prompt" in values and len(values) >= 3 and ("steps" in values or "seed" in values):
        return _Settings("", values)
    return None


def _from_graph(nodes: list[dict[str, Any]]) -> _Settings:
    """ComfyUI's graph as it was run: nodes by number, each with a class and inputs."""
    detail: dict[str, Any] = {"nodes": len(nodes), "models": []}
    sampled = False
    for node in nodes:
        inputs: Any = node.get("inputs")
        inputs = inputs if isinstance(inputs, dict) else {}
        class_ = str(node["class_type"])
        for key in ("ckpt_name", "unet_name"):
            if isinstance(inputs.get(key), str):
                detail["models"].append(inputs[key])
        if "Sampler" in class_:
            sampled = True
        if "Sampler" in class_ or "Scheduler" in class_ or "Noise" in class_:
            for key, value in _values(inputs).items():
                if key in ("steps", "sampler", "seed"):
                    detail.setdefault(key, value)
        if "TextEncode" in class_ and isinstance(inputs.get("text"), str):
            detail.setdefault("prompt", _excerpt(inputs["text"]))
    return _Settings("ComfyUI", detail, _comfy(len(nodes), sampled))


def _from_workflow(nodes: list[dict[str, Any]]) -> _Settings:
    """ComfyUI's graph as it was drawn: nodes with a type and the values of their widgets."""
    models = []
    sampled = False
    for node in nodes:
        sampled = sampled or "Sampler" in str(node.get("type"))
        widgets = node.get("widgets_values")
        for value in widgets[:50] if isinstance(widgets, list) else ():
            if isinstance(value, str) and re.search(r"\.(?:safetensors|ckpt|gguf|sft)$", value[:300]):
                models.append(value)
    return _Settings("ComfyUI", {"nodes": len(nodes), "models": models}, _comfy(len(nodes), sampled))


def _comfy(nodes: int, sampled: bool) -> str:
    if sampled:
        return f"a ComfyUI graph of {nodes} nodes, a sampler among them: it generates"
    return f"a ComfyUI graph of {nodes} nodes, no sampler among them: it may only edit"


def _values(data: dict[str, Any]) -> dict[str, Any]:
    """Model, steps, sampler, seed, version and the start of the prompt, under whatever name."""
    found: dict[str, Any] = {}
    for name, aliases in _ALIASES.items():
        for alias in aliases.split():
            value = data.get(alias)
            if isinstance(value, dict):
                value = value.get("name") or value.get("model_name")
            if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
                found[name] = _excerpt(value) if name == "prompt" else value
                break
    for name in ("steps", "seed"):
        if isinstance(found.get(name), str):
            found[name] = _integer(found[name])
    return found


def _excerpt(prompt: Any) -> str:
    return str(prompt)[: 4 * _EXCERPT].strip().strip('"')[:_EXCERPT]


def _integer(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d{1,20}", text.strip(), re.A) else text


# --- labels of standards ----------------------------------------------------------------------------

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


def _labels(fields: list[Field]) -> Iterator[Claim]:
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
            text = _excerpt(item.text)
            yield Claim(
                f"{item.where} {item.name}", "names a generative model by the IPTC's field", {"text": text}
            )
        elif item.name == "AIGC" or '"AIGC"' in item.text[:2000]:
            yield from _aigc(item)


def _aigc(item: Field) -> Iterator[Claim]:
    try:
        label = json.loads(item.text)
    except (ValueError, RecursionError):
        return
    if isinstance(label, dict) and isinstance(label.get("AIGC"), dict):
        label = label["AIGC"]
    if isinstance(label, dict) and _AIGC_KEYS & label.keys():
        meaning = _AIGC.get(str(label.get("Label")), "of AI's making")
        producer = str(label.get("ContentProducer", ""))
        detail = {"label": str(label.get("Label", "")), "producer": producer}
        maker = next((name for name, pattern in _NAMES if pattern.search(producer[:200])), "")
        detail |= {"generator": maker} if maker else {}
        yield Claim(_place(item), f"labelled {meaning} (AIGC, GB 45438)", detail)


# --- names ------------------------------------------------------------------------------------------

# Fields that name a maker. Captions are left out: a photograph may show what they speak of.
_MAKER_FIELDS = set(
    """
    AISystemUsed Artist Author By-line Comment Creator CreatorTool Credit Make Model OriginatingProgram
    Software Source Title author comment creator generator software softwareAgent source
    """.split()
)
_UNNAMED = "a generative model"
_NAMES = tuple(
    (name, re.compile(pattern, re.I))
    for name, pattern in (
        ("NovelAI", r"\bnovel ?ai\b"),
        ("Midjourney", r"\bmidjourney\b"),
        ("FLUX", r"black forest labs|\bflux(?:[.-]?[12]\b| (?:pro|dev|schnell)\b)|;flux\b"),
        ("DALL-E", r"\bdall[-·•. ]?e\b"),
        ("OpenAI", r"\bopenai\b|\bchatgpt\b|\bgpt-?(?:4o|image)"),
        ("Adobe Firefly", r"\badobe[ _]?firefly\b|\bfirefly (?:image|vector)\b"),
        (
            "Google AI",
            r"\bwith google ai\b|\bgoogle (?:gemini|imagen)\b|\bimagen[ -]\d|\bnano banana\b",
        ),
        ("Meta AI", r"\bmeta ai\b|\bimagined? with (?:meta )?ai\b"),
        ("Bing Image Creator", r"\bbing image creator\b|\bimage creator from\b|\bmicrosoft designer\b"),
        ("Canva AI", r"\bcanva ai\b|\bmagic media\b|\bcanva(?:'s)? dream lab\b"),
        ("Z.ai", r"\bz\.ai\b|\bzhipu(?: ?ai)?\b|\bcogview\b|\bglm-image\b"),
        ("Tencent Hunyuan", r"\bhunyuan\b"),
        ("Alibaba", r"\bqwen-?image\b|\btongyi\b"),
        ("Runway", r"\brunway ?ml\b|\brunway gen-\d"),
        ("Ideogram", r"\bideogram\b"),
        ("Leonardo.Ai", r"\bleonardo\.? ?ai\b"),
        ("Draw Things", r"\bdraw things\b"),
        ("DiffusionBee", r"\bdiffusion ?bee\b"),
        ("ComfyUI", r"\bcomfy ?ui\b"),
        ("InvokeAI", r"\binvoke ?ai\b"),
        ("Fooocus", r"fooocus\b"),
        ("SD.Next", r"\bsd\.next\b"),
        ("SwarmUI", r"swarm ?ui\b"),
        ("Easy Diffusion", r"\beasy diffusion\b"),
        ("NMKD", r"\bnmkd"),
        ("Stability AI", r"\bstability ?ai\b|\bdream ?studio\b|\bstable image\b"),
        ("Stable Diffusion", r"\bstable[ -]?diffusion\b|\bsdxl\b"),
        ("Recraft", r"\brecraft\b"),
        ("Reve", r"\breve\.com\b|\breve (?:ai|image)\b"),
        ("Krea", r"\bkrea[. ]ai\b"),
        ("Kling", r"\bkling ?ai\b"),
        ("ByteDance", r"\bseedream\b|\bdreamina\b|\bjimeng\b|\bdoubao\b|即梦|豆包"),
        ("Grok", r"\bgrok\b"),
        ("Playground", r"\bplayground ?ai\b|\bplayground\.com\b"),
        ("NightCafe", r"\bnight ?cafe\b"),
        ("Craiyon", r"\bcraiyon\b"),
        ("Tensor.Art", r"\btensor\.? ?art\b"),
        ("Civitai", r"\bcivitai\b"),
        ("SeaArt", r"\bsea ?art(?:\.| )?ai\b"),
        ("PixAI", r"\bpixai\b"),
        (_UNNAMED, r"\bai[- ]generated\b|\bgenerated (?:by|with|using) (?:an? )?ai\b"),
    )
)


# Who signs or writes C2PA manifests of generated pictures under a name that says less than these do.
_MANIFEST_MAKERS = (
    ("OpenAI Sora", re.compile(r"\bsora\b", re.I)),
    ("OpenAI", re.compile(r"\bopenai\b|\bchatgpt\b|\bgpt-", re.I)),
    ("Google AI", re.compile(r"\bgoogle\b", re.I)),
    ("Adobe Firefly", re.compile(r"firefly", re.I)),
    ("Microsoft", re.compile(r"\bmicrosoft", re.I)),
    ("FLUX", re.compile(r"black[ _]forest[ _]labs", re.I)),
    ("Canva AI", re.compile(r"\bcanva\b", re.I)),
    ("ByteDance", re.compile(r"\bbytedance\b|\btiktok\b|\bcapcut\b", re.I)),
    ("Meta AI", re.compile(r"\bmeta platforms\b", re.I)),
    ("Grok", re.compile(r"\bx\.?ai\b", re.I)),
    ("Adobe", re.compile(r"\badobe\b", re.I)),
)


def manifest_maker(names: Sequence[str]) -> str:
    """The generator behind a C2PA manifest that claims a generative model; empty where none is known.

    Args:
        names: of the claim's generator, of the agents of its actions, and of the signer.
    """
    texts = [name[:200].replace("_", " ") for name in names]
    patterns = (*((name, p) for name, p in _NAMES if name != _UNNAMED), *_MANIFEST_MAKERS)
    found = (name for text in texts for name, pattern in patterns if pattern.search(text))
    return next(found, "")


def names_generator(item: Field) -> str:
    """The generator that a maker's field names; empty for other fields and other makers."""
    if item.name not in _MAKER_FIELDS:
        return ""
    text = item.text[:500]
    if re.match(r"\s*(?:prompt|workflow)\s*:\s*\{", text, re.I):  # ComfyUI keeps graphs in a camera's fields
        return "ComfyUI"
    return next((name for name, pattern in _NAMES if pattern.search(text)), "")
