"""Names of generators in texts that name a maker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .metadata import Field

# Fields that name a maker. Captions are left out: a photograph may show what they speak of.
_MAKER_FIELDS = set(
    """
    AISystemUsed Artist Author By-line Comment Creator CreatorTool Credit Make Model OriginatingProgram
    Software Source Title author comment creator generator software softwareAgent source
    """.split()
)
UNNAMED = "a generative model"
NAMES = tuple(
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
        # github.com/wiltodelta/remove-ai-watermarks, captures of September 2026
        ("Apple", r"\bapple image playground\b|\bapple photos generative edit\b"),
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
        (UNNAMED, r"\bai[- ]generated\b|\bgenerated (?:by|with|using) (?:an? )?ai\b"),
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
    ("ByteDance", re.compile(r"\bbytedance\b|\bbyteplus\b|\bvolcengine\b|\btiktok\b|\bcapcut\b", re.I)),
    ("Meta AI", re.compile(r"\bmeta platforms\b", re.I)),
    ("Runway", re.compile(r"\brunway\b", re.I)),
    ("Grok", re.compile(r"\b(?:space)?x\.?ai\b", re.I)),
    ("Adobe", re.compile(r"\badobe\b", re.I)),
)


def manifest_maker(names: Sequence[str]) -> str:
    """The generator behind a C2PA manifest that claims a generative model; empty where none is known.

    Args:
        names: of the claim's generator, of the agents of its actions, and of the signer.
    """
    texts = [name[:200].replace("_", " ") for name in names]
    patterns = (*((name, p) for name, p in NAMES if name != UNNAMED), *_MANIFEST_MAKERS)
    found = (name for text in texts for name, pattern in patterns if pattern.search(text))
    return next(found, "")


def names_generator(item: Field) -> str:
    """The generator that a maker's field names; empty for other fields and other makers."""
    if item.name not in _MAKER_FIELDS:
        return ""
    text = item.text[:500]
    if re.match(r"\s*(?:prompt|workflow)\s*:\s*\{", text, re.I):  # ComfyUI keeps graphs in a camera's fields
        return "ComfyUI"
    return next((name for name, pattern in NAMES if pattern.search(text)), "")


# --- videos -----------------------------------------------------------------------------------------

# Fields of videos that name a program. Titles, comments and artists are left out: programs that save videos
# from the web write what the page said there, and whose page it was.
_TOOL_FIELDS = set(
    """
    com.apple.quicktime.software compressor creator_tool encoder encoding_tool generator handler isft
    muxingapp software tool writingapp ©enc ©swr ©too
    """.split()
)
_VIDEO_NAMES = tuple(
    (name, re.compile(pattern, re.I))
    for name, pattern in (
        ("OpenAI Sora", r"\bsora\b"),
        ("Google Veo", r"\bgoogle veo\b|\bveo[- ]?[1-9]"),  # Veo alone makes cameras for sports
        ("Kling", r"\bkling\b"),
        ("Runway", r"\brunway(?: ?ml| ai| gen-?\d)\b"),
        ("Pika", r"\bpika(?: ?labs\b|\.art\b| \d)"),
        ("Luma", r"\bluma ?(?:ai|labs)\b|\bdream machine\b"),
        ("Hailuo", r"\bhailuo\b|\bminimax\b"),
        ("Wan", r"\bwan ?(?:ai|video|x)?[- ]?[1-9]\.\d|\btongyi wanxiang\b"),
        ("Vidu", r"\bvidu\b"),
        ("ByteDance", r"\bseedance\b"),
        ("PixVerse", r"\bpixverse\b"),
        ("LTX", r"\bltx[- ]?(?:video|studio|\d)"),
    )
)


def names_tool(item: Field) -> str:
    """The generator that a field of a video names as the program that wrote it; empty for other fields."""
    if item.where in ("XMP", "EXIF"):
        return names_generator(item)
    return named_in(item.text) if item.name.lower() in _TOOL_FIELDS else ""


def named_in(text: str) -> str:
    """The generator that a text names, of pictures or of videos; empty where none is known."""
    return next((name for name, pattern in (*_VIDEO_NAMES, *NAMES) if pattern.search(text[:500])), "")
