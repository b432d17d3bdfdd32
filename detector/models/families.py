"""Families of generators, with the names that the cloud API uses for them."""

from __future__ import annotations

# The names are those of the cloud API's `ai_generators`, where it has one. Unknown generators have no family.
_FAMILIES = {
    "stable_diffusion": (
        "sd14 sd15 sd15-ft sd2 sdxl sdxl-ft sd3 sd35 pony sd-unknown stable-cascade segmind-vega"
    ),
    "midjourney": "midjourney",
    "dalle": "dalle2 dalle3",
    "gpt": "gpt-image",
    "imagen": "nano-banana gemini-image imagen",
    "flux": "flux flux-dev flux-schnell flux-krea flux-kontext flux-unknown flux2 chroma flex",
    "gan": "stylegan stylegan2 stylegan3 gan-unknown",
    "firefly": "firefly",
    "ideogram": "ideogram",
    "recraft": "recraft",
    "qwen": "qwen-image",
    "wan": "wan-t2i",
    "z_image": "z-image",
    "seedream": "seedream",
    "hunyuan": "hunyuan-dit hunyuan-image",
    "cogview": "cogview",
}
_UNKNOWN = {"unknown-ai", "diffusion-unknown", "unknown"}
OTHER = "other"


def family_of(generator: str) -> str | None:
    """Family of a generator's slug: one of the list, ``other``, or ``None`` for an unknown generator."""
    for family, slugs in _FAMILIES.items():
        if generator in slugs.split() or generator == family:
            return family
    return None if generator in _UNKNOWN or generator.endswith("-unknown") else OTHER
