"""Claims in metadata that something was generated: settings that generators write, labels, and names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .labels import Claim, claims_of_labels, excerpt, place
from .metadata import Field
from .names import UNNAMED, names_generator


def claims_of_generators(
    fields: list[Field], names: Callable[[Field], str] = names_generator
) -> Iterator[Claim]:
    """What metadata says of generators.

    Args:
        fields: of one file.
        names: says which generator a field names as its maker.

    Yields:
        Settings first, then labels of standards, then names that nothing before has named.
    """
    named = [(item, name) for item in fields if (name := names(item))]
    likely = next((name for _, name in named if name != UNNAMED), "")
    told: set[str] = set()
    for item, settings in _all_settings(fields):
        generator = settings.generator or likely
        if generator in told:
            continue  # a program that writes its settings twice, in two forms
        told.add(generator)
        says = settings.says or f"generation settings, as {generator or 'generators'} write them"
        yield Claim(place(item), says, {"generator": generator} | settings.detail)
    yield from claims_of_labels(fields)
    for item, name in named:
        if name not in told and not (name == UNNAMED and told):
            told.add(name)
            yield Claim(place(item), f"names {name}", {"generator": name, "text": item.text})


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
    if text.startswith(("{", '"{')):
        data = _parsed(_parsed(text))
        return _from_json(item.name, data) if isinstance(data, dict) else None
    if item.name.lower() == "dream" or " -S" in text[:5000]:
        dream = _DREAM.match(text)
        if dream:
            detail = {"steps": int(dream[1]), "seed": int(dream[2]), "prompt": excerpt(text.split(" -s")[0])}
            return _Settings("InvokeAI", detail)
    job = _JOB.search(text)
    if job:
        version = re.search(r"--(?:v|version|niji) ?([\d.]+)", text)
        prompt = re.split(r" --\w|\bJob ID:", text, maxsplit=1)[0]
        detail = {"version": version[1] if version else "", "job": job[1], "prompt": excerpt(prompt)}
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
        "prompt": excerpt(prompt),
    }
    says = "generation settings, as AUTOMATIC1111 and its relatives write them"
    return _Settings(generator, detail, says if generator == "AUTOMATIC1111" else "")


def _parsed(value: Any) -> Any:
    """What a text in JSON says; anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", '"') else value
    except (ValueError, RecursionError):
        return None


def _from_json(name: str, data: dict[str, Any]) -> _Settings | None:
    graph = _from_comfy(data)
    for key in () if graph else ("prompt", "workflow"):  # video nodes keep both graphs in one comment
        inner = _parsed(data.get(key))
        graph = graph or (_from_comfy(inner) if isinstance(inner, dict) else None)
    if graph:
        return graph
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


def _from_comfy(data: dict[str, Any]) -> _Settings | None:
    nodes = data.get("nodes")
    if isinstance(nodes, list) and ("links" in data or "last_node_id" in data):
        return _from_workflow([node for node in nodes[:5000] if isinstance(node, dict)])
    graph = [node for node in list(data.values())[:5000] if isinstance(node, dict) and "class_type" in node]
    return _from_graph(graph) if graph and 2 * len(graph) > len(data) else None


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
            detail.setdefault("prompt", excerpt(inputs["text"]))
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
                found[name] = excerpt(value) if name == "prompt" else value
                break
    for name in ("steps", "seed"):
        if isinstance(found.get(name), str):
            found[name] = _integer(found[name])
    return found


def _integer(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d{1,20}", text.strip(), re.A) else text
