"""Evidence: each kind is recognised, nothing is seen where nothing is, hostile bytes do no harm."""

from __future__ import annotations

import http.server
import io
import json
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import encode, gradient, jpeg_with, noise, png_chunk, png_with, shapes, within
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from test_watermark import embed, photograph

from aidetect.detector.evidence import evidence
from aidetect.detector.evidence.c2pa import read_manifest
from aidetect.detector.evidence.evidence import find_evidence
from aidetect.detector.evidence.metadata import read_metadata

Entry = dict[str, Any]
PICTURE = gradient()
PNG, JPEG = encode(PICTURE), encode(PICTURE, "JPEG")
IPTC_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def find(data: bytes) -> list[Entry]:
    """Evidence in metadata, with the bounds that every entry keeps."""
    found = find_evidence(data, None)
    check(found)
    return found


def check(found: list[Entry]) -> None:
    """Entries have the form and the bounds that are promised."""
    text = json.dumps(found, allow_nan=False)
    text.encode()
    assert json.loads(text) == found
    assert len(found) <= 16
    for entry in found:
        assert list(entry) == ["kind", "where", "says", "detail"]
        assert entry["kind"] in {"generator-metadata", "camera-metadata", "c2pa", "watermark"}
        assert 0 < len(entry["where"]) <= 60
        assert 0 < len(entry["says"]) <= 240
        assert len(entry["detail"]) <= 12
        texts = [entry["where"], entry["says"]]
        for value in entry["detail"].values():
            values = value if isinstance(value, list) else [value]
            assert len(values) <= 8
            texts += [item for item in values if isinstance(item, str)]
        assert all(text.isprintable() and len(text) <= 240 for text in texts)


def one(data: bytes, kind: str = "generator-metadata") -> Entry:
    """The only entry."""
    found = find(data)
    assert [entry["kind"] for entry in found] == [kind], found
    return found[0]


def text(key: str, value: str | bytes, chunk: bytes = b"tEXt") -> tuple[bytes, bytes]:
    """A PNG text chunk."""
    body = value if isinstance(value, bytes) else value.encode()
    if chunk == b"tEXt":
        return chunk, key.encode() + b"\0" + body
    if chunk == b"zTXt":
        return chunk, key.encode() + b"\0\0" + zlib.compress(body)
    packed = chunk == b"packed iTXt"
    return b"iTXt", key.encode() + bytes([0, packed, 0, 0, 0]) + (zlib.compress(body) if packed else body)


def png(*pairs: tuple[str, str | bytes]) -> bytes:
    """A PNG with text chunks."""
    return png_with(PNG, *(text(*pair) for pair in pairs))


def exif(**tags: Any) -> bytes:
    """An EXIF block."""
    numbers = {"ImageDescription": 270, "Make": 271, "Model": 272, "Software": 305, "Artist": 315}
    inner = {
        "ExposureTime": 33434,
        "FNumber": 33437,
        "ISO": 34855,
        "UserComment": 37510,
        "FocalLength": 37386,
        "DateTimeOriginal": 36867,
        "LensModel": 42036,
    }
    block = Image.Exif()
    for name, value in tags.items():
        if name in numbers:
            block[numbers[name]] = value
        else:
            block.get_ifd(0x8769)[inner[name]] = value
    return block.tobytes()


def xmp(attributes: str = "", inside: str = "") -> bytes:
    """An XMP packet."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/" '
        'xmlns:aidetect="https://aidetect.invalid/ns/1.0/" '
        'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" '
        f'{attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def with_xmp(packet: bytes) -> bytes:
    return jpeg_with(JPEG, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))


# --- nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "JPEG2000"])
def test_a_plain_picture_has_none(format: str) -> None:
    picture = shapes(320, 240)
    assert find_evidence(encode(picture, format), picture) == []


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0"])
def test_no_picture_has_none(data: bytes) -> None:
    assert find_evidence(data, None) == []


def test_words_of_a_caption_are_no_evidence() -> None:
    words = "Midjourney and DALL-E were the topic; Steps: 20 to the stage, a seed of doubt"
    assert find(png(("Description", words), ("Title", "Leonardo da Vinci"), ("Software", "GIMP 2.10"))) == []
    assert find(jpeg_with(JPEG, (0xE1, exif(ImageDescription=words, Artist="Flux Capacitor")))) == []
    assert find(with_xmp(xmp(inside=f"<dc:description>{words}</dc:description>"))) == []


# --- generators' settings ---------------------------------------------------------------------------

PROMPT = "a lighthouse at dawn, oil on canvas, " * 20
PARAMETERS = (
    f"{PROMPT}\nNegative prompt: blurry, low quality\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234567890, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned, Version: v1.10.1"
)


def check_parameters(entry: Entry) -> None:
    detail = entry["detail"]
    assert detail["generator"] == "AUTOMATIC1111"
    assert detail["model"] == "v1-5-pruned"
    assert (detail["steps"], detail["seed"], detail["sampler"]) == (28, 1234567890, "DPM++ 2M Karras")
    assert detail["prompt"].startswith("a lighthouse")
    assert len(detail["prompt"]) <= 120


@pytest.mark.parametrize("chunk", [b"tEXt", b"zTXt", b"iTXt", b"packed iTXt"])
def test_parameters_in_png(chunk: bytes) -> None:
    entry = one(png_with(PNG, text("parameters", PARAMETERS, chunk)))
    check_parameters(entry)
    assert entry["where"] == "PNG text chunk parameters"


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + PARAMETERS.encode("utf-16-be"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16-le"),
        b"ASCII\0\0\0" + PARAMETERS.encode(),
        bytes(8) + PARAMETERS.encode(),
    ],
    ids=["big", "little", "ascii", "undefined"],
)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG", "AVIF", "TIFF"])
def test_parameters_in_exif(format: str, comment: bytes) -> None:
    entry = one(encode(PICTURE, format, exif=exif(UserComment=comment)))
    check_parameters(entry)
    assert entry["where"] == "EXIF UserComment"


def test_parameters_after_the_image_data_and_in_a_jpeg_comment() -> None:
    check_parameters(one(PNG[:-12] + png_chunk(*text("parameters", PARAMETERS)) + PNG[-12:]))
    check_parameters(one(jpeg_with(JPEG, (0xFE, PARAMETERS.encode()))))


@pytest.mark.parametrize(
    ("ending", "generator"),
    [
        ("Version: f2.0.1v1.10.1-previous-659", "Forge"),
        ("App: SD.Next, Version: 4ea8b10", "SD.Next"),
        ("Version: Fooocus v2.5.5", "Fooocus"),
        ("Version: ComfyUI", "ComfyUI"),
        ('Civitai resources: [{"type":"checkpoint"}]', "Civitai"),
    ],
)
def test_relatives_of_automatic1111(ending: str, generator: str) -> None:
    settings = f"a boat\nSteps: 9, Sampler: Euler, Seed: 3, Model: m, {ending}"
    assert one(png(("parameters", settings)))["detail"]["generator"] == generator


GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 77, "steps": 25, "sampler_name": "euler"}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["4", 1]}},
}
WORKFLOW = {
    "last_node_id": 9,
    "nodes": [
        {"type": "KSampler", "widgets_values": [77, "fixed", 25]},
        {"type": "UNETLoader", "widgets_values": ["flux1-dev.safetensors"]},
    ],
    "links": [],
}


def test_comfyui() -> None:
    entry = one(png(("prompt", json.dumps(GRAPH)), ("workflow", json.dumps(WORKFLOW))))
    detail = entry["detail"]
    assert detail["generator"] == "ComfyUI"
    assert detail["models"] == ["sd_xl_base_1.0.safetensors"]
    assert (detail["nodes"], detail["steps"], detail["seed"], detail["sampler"]) == (3, 25, 77, "euler")
    assert len(detail["prompt"]) <= 120
    assert "it generates" in entry["says"]


def test_comfyui_workflow_alone() -> None:
    detail = one(png(("workflow", json.dumps(WORKFLOW))))["detail"]
    assert (detail["models"], detail["nodes"]) == (["flux1-dev.safetensors"], 2)


def test_comfyui_without_a_sampler_may_only_edit() -> None:
    graph = {str(i): {"class_type": name, "inputs": {}} for i, name in enumerate(("LoadImage", "SaveImage"))}
    assert "may only edit" in one(png(("prompt", json.dumps(graph))))["says"]


def test_comfyui_in_webp_is_no_camera() -> None:
    block = exif(Make="workflow:" + json.dumps(WORKFLOW), Model="prompt:" + json.dumps(GRAPH))
    assert one(encode(PICTURE, "WEBP", exif=block))["detail"]["generator"] == "ComfyUI"


INVOKE_2 = {"model_weights": "sd-1.5", "image": {"seed": 5, "steps": 30, "sampler": "k_lms", "prompt": [{}]}}
INVOKE_3 = {
    "generation_mode": "txt2img",
    "app_version": "4.2.0",
    "positive_prompt": "a fox",
    "seed": 5,
    "steps": 30,
    "scheduler": "euler",
    "model": {"name": "Juggernaut XL", "hash": "x"},
}
FOOOCUS = {
    "base_model": "juggernautXL_v8",
    "sampler": "dpmpp_2m_sde_gpu",
    "seed": "5",
    "steps": 30,
    "prompt": "a fox",
    "version": "Fooocus v2.5.5",
}


@pytest.mark.parametrize(
    ("chunks", "generator", "expected"),
    [
        ([("invokeai_metadata", json.dumps(INVOKE_3))], "InvokeAI", {"model": "Juggernaut XL", "steps": 30}),
        ([("sd-metadata", json.dumps(INVOKE_2))], "InvokeAI", {"model": "sd-1.5", "sampler": "k_lms"}),
        (
            [("Dream", '"a fox" -s 50 -S 4242 -W512 -H512 -C7.5 -Ak_lms')],
            "InvokeAI",
            {"seed": 4242, "steps": 50},
        ),
        ([("parameters", json.dumps(FOOOCUS))], "Fooocus", {"model": "juggernautXL_v8", "seed": 5}),
        (
            [
                (
                    "parameters",
                    json.dumps({"sui_image_params": {"model": "m", "seed": 5, "steps": 30, "prompt": "x"}}),
                )
            ],
            "SwarmUI",
            {"model": "m", "seed": 5},
        ),
        (
            [
                ("Title", "AI generated image"),
                ("Software", "NovelAI"),
                ("Comment", json.dumps({"prompt": "a fox", "steps": 28, "sampler": "k_euler", "seed": 5})),
            ],
            "NovelAI",
            {"steps": 28, "sampler": "k_euler"},
        ),
        (
            [
                ("prompt", "a fox"),
                ("seed", "5"),
                ("use_stable_diffusion_model", "sd-v1-5"),
                ("num_inference_steps", "25"),
            ],
            "Easy Diffusion",
            {"model": "sd-v1-5", "steps": 25, "seed": 5},
        ),
        (
            [("Description", "a fox --ar 16:9 --v 6.1 Job ID: 01234567-89ab-cdef-0123-456789abcdef")],
            "Midjourney",
            {"version": "6.1", "prompt": "a fox"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_programs(chunks: list[tuple[str, str]], generator: str, expected: Entry) -> None:
    entry = one(png(*chunks))
    assert entry["detail"]["generator"] == generator
    assert expected.items() <= entry["detail"].items()


def test_draw_things() -> None:
    settings = json.dumps({"c": "a fox", "model": "sd_xl.ckpt", "sampler": "Euler A", "seed": 5, "steps": 30})
    comment = f"<exif:UserComment><rdf:Alt><rdf:li>{settings}</rdf:li></rdf:Alt></exif:UserComment>"
    detail = one(with_xmp(xmp('xmp:CreatorTool="Draw Things"', comment.replace('"', "&quot;"))))["detail"]
    assert (detail["generator"], detail["model"], detail["prompt"]) == ("Draw Things", "sd_xl.ckpt", "a fox")


def test_unknown_settings_are_told_without_a_name() -> None:
    settings = json.dumps({"prompt": "a fox", "num_inference_steps": 30, "seed": 5, "guidance_scale": 7.5})
    entry = one(png(("settings", settings)))
    assert "generator" not in entry["detail"]
    assert entry["says"] == "generation settings, as generators write them"


def test_grok() -> None:
    pair = {"ImageDescription": "Signature: " + "Ab3+" * 40, "Artist": "01234567-89ab-cdef-0123-456789abcdef"}
    entry = one(jpeg_with(JPEG, (0xE1, exif(**pair))))
    assert entry["detail"] == {"generator": "Grok"}
    assert "not checked" in entry["says"]
    assert (
        find(jpeg_with(JPEG, (0xE1, exif(ImageDescription=pair["ImageDescription"], Artist="A. Person"))))
        == []
    )


# --- names and labels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("software", "generator"),
    [
        ("AI generated;txt2img;flux", "FLUX"),
        ("Adobe Firefly 3.0", "Adobe Firefly"),
        ("OpenAI DALL-E 3", "DALL-E"),
        ("ChatGPT", "OpenAI"),
        ("Ideogram AI", "Ideogram"),
        ("Leonardo.Ai", "Leonardo.Ai"),
        ("Stability AI", "Stability AI"),
        ("Stable Diffusion XL", "Stable Diffusion"),
        ("reve.com", "Reve"),
        ("Edited with Google AI", "Google AI"),
        ("Apple Image Playground", "Apple"),
        ("Apple Photos Generative Edit: Clean Up", "Apple"),
        ("Imagined with AI", "Meta AI"),
        ("Microsoft Designer", "Bing Image Creator"),
        ("Canva AI", "Canva AI"),
        ("Magic Media", "Canva AI"),
        ("Z.ai", "Z.ai"),
        ("CogView 4", "Z.ai"),
        ("Hunyuan Image 3", "Tencent Hunyuan"),
        ("Qwen-Image", "Alibaba"),
        ("Seedream 4.5", "ByteDance"),
        ("即梦AI", "ByteDance"),
        ("AI-generated image", "a generative model"),
    ],
)
def test_software_names(software: str, generator: str) -> None:
    text_chunk = png_with(PNG, text("Software", software, b"iTXt"))
    for data in (jpeg_with(JPEG, (0xE1, exif(Software=software.encode()))), text_chunk):
        entry = one(data)
        assert entry["detail"]["generator"] == generator
        assert entry["detail"]["text"] == software


def test_a_generator_that_poses_as_a_camera_maker_is_no_camera() -> None:
    entry = one(
        encode(PICTURE, "JPEG", exif=exif(Make="Black Forest Labs", Software="AI generated;txt2img;flux"))
    )
    assert entry["detail"]["generator"] == "FLUX"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("trainedAlgorithmicMedia", "labelled made by a generative model"),
        ("compositeWithTrainedAlgorithmicMedia", "labelled partly made by a generative model"),
        ("algorithmicMedia", "labelled made by an algorithm"),
    ],
)
def test_digital_source_type(source: str, words: str) -> None:
    attribute = xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC_TYPES}{source}"')
    element = xmp(
        inside=f"<Iptc4xmpExt:DigitalSourceType>{IPTC_TYPES}{source}</Iptc4xmpExt:DigitalSourceType>"
    )
    for packet in (attribute, element):
        for data in (
            with_xmp(packet),
            png_with(PNG, text("XML:com.adobe.xmp", packet, b"iTXt")),
            encode(PICTURE, "WEBP", xmp=packet),
            encode(PICTURE, "AVIF", xmp=packet),
            encode(PICTURE, "TIFF", tiffinfo={700: packet}),
        ):
            entry = one(data)
            assert entry["where"] == "XMP DigitalSourceType"
            assert entry["says"].startswith(words)
            assert entry["detail"] == {"source_type": source}


def test_google() -> None:
    packet = xmp(
        f'Iptc4xmpExt:DigitalSourceFileType="{IPTC_TYPES}trainedAlgorithmicMedia" '
        f'Iptc4xmpExt:DigitalSourceType="{IPTC_TYPES}trainedAlgorithmicMedia" '
        'photoshop:Credit="Made with Google AI"'
    )
    label, name = find(with_xmp(packet))
    assert label["detail"] == {"source_type": "trainedAlgorithmicMedia"}
    assert name["detail"] == {"generator": "Google AI", "text": "Made with Google AI"}


def test_iptc_credit() -> None:
    data_set = b"\x1c\x02\x6e" + struct.pack(">H", 19) + b"Made with Google AI"
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(data_set)) + data_set
    assert one(jpeg_with(JPEG, (0xED, resource)))["where"] == "IPTC Credit"


def test_a_packet_continued_in_further_segments() -> None:
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", 1000, 0)
    data = jpeg_with(JPEG, (0xE1, head + xmp('photoshop:Credit="Made with Google AI"')))
    assert one(data)["detail"]["generator"] == "Google AI"


def test_the_chinese_label() -> None:
    label = json.dumps({"Label": "1", "ContentProducer": "00119111", "ProduceID": "x"})
    packet = xmp(inside=f"<TC260:AIGC>{label.replace(chr(34), '&quot;')}</TC260:AIGC>")
    comment = b"ASCII\0\0\0" + json.dumps({"AIGC": json.loads(label)}).encode()
    for data in (png(("AIGC", label)), with_xmp(packet), jpeg_with(JPEG, (0xE1, exif(UserComment=comment)))):
        entry = one(data)
        assert entry["says"] == "labelled generated (AIGC, GB 45438)"
        assert entry["detail"] == {"label": "1", "producer": "00119111"}


def test_the_chinese_label_names_its_producer() -> None:
    label = json.dumps({"Label": "1", "ContentProducer": "Doubao", "ProduceID": "x"})
    assert one(png(("AIGC", label)))["detail"] == {
        "label": "1",
        "producer": "Doubao",
        "generator": "ByteDance Doubao",
    }


@pytest.mark.parametrize(
    "software", ["Canva", "Google Photos", "Adobe Photoshop 25", "Microsoft Photos", "Sora Aoi"]
)
def test_names_of_other_programs_are_no_evidence(software: str) -> None:
    assert find(jpeg_with(JPEG, (0xE1, exif(Software=software)))) == []


def test_a_tag_of_our_own_is_no_evidence() -> None:
    packet = xmp(
        inside=f"<Iptc4xmpExt:DigitalSourceType>{IPTC_TYPES}trainedAlgorithmicMedia"
        "</Iptc4xmpExt:DigitalSourceType><aidetect:ModelCardSHA256>00</aidetect:ModelCardSHA256>"
    )
    assert "no evidence of its own" in one(with_xmp(packet))["says"]


# --- cameras ----------------------------------------------------------------------------------------

CAMERA = {
    "Make": "Canon",
    "Model": "Canon EOS R5",
    "Software": "Adobe Photoshop 24.1",
    "ExposureTime": IFDRational(1, 250),
    "FNumber": IFDRational(28, 10),
    "ISO": 400,
    "FocalLength": IFDRational(50, 1),
    "LensModel": "RF50mm F1.8 STM",
    "DateTimeOriginal": "2023:05:01 10:11:12",
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_camera(format: str) -> None:
    entry = one(encode(PICTURE, format, exif=exif(**CAMERA)), "camera-metadata")
    assert entry["says"] == "claims a camera: Canon EOS R5; anyone can write this"
    assert entry["detail"] == {
        "camera": "Canon EOS R5",
        "lens": "RF50mm F1.8 STM",
        "exposure": "1/250 s",
        "aperture": "f/2.8",
        "focal_length": "50 mm",
        "iso": 400,
        "taken": "2023:05:01 10:11:12",
        "software": "Adobe Photoshop 24.1",
    }


def test_a_camera_named_in_xmp_and_a_capture() -> None:
    entry = one(with_xmp(xmp('tiff:Make="NIKON" tiff:Model="D750"')), "camera-metadata")
    assert entry["detail"] == {"camera": "NIKON D750"}
    capture = one(
        with_xmp(xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC_TYPES}digitalCapture"')), "camera-metadata"
    )
    assert capture["says"].startswith("claims a capture with a digital camera")


def test_both_sides_are_told() -> None:
    data = jpeg_with(JPEG, (0xE1, exif(**CAMERA)), (0xFE, PARAMETERS.encode()))
    assert [entry["kind"] for entry in find(data)] == ["generator-metadata", "camera-metadata"]


# --- C2PA -------------------------------------------------------------------------------------------

MANIFEST_WORDS = IPTC_TYPES.encode() + b"trainedAlgorithmicMedia"


def jumbf(inside: bytes = MANIFEST_WORDS) -> bytes:
    description = b"c2pa" + bytes(12) + b"\x03c2pa\0"
    box = struct.pack(">I4s", 8 + len(description), b"jumd") + description + inside
    return struct.pack(">I4s", 8 + len(box), b"jumb") + box


def with_manifest(format: str, box: bytes) -> bytes:
    data = encode(PICTURE, format)
    if format == "PNG":
        return png_with(data, (b"caBX", box))
    if format == "JPEG":
        return jpeg_with(data, (0xEB, b"JP\0\1\0\0\0\1" + box))
    if format == "WEBP":
        return data + b"C2PA" + struct.pack("<I", len(box)) + box
    if format == "TIFF":
        return encode(PICTURE, format, tiffinfo={0xCD41: box})
    body = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"\0\0\0\0manifest\0" + bytes(8) + box
    return data + struct.pack(">I4s", 8 + len(body), b"uuid") + body


CONTAINERS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]


@pytest.mark.parametrize("format", CONTAINERS)
def test_a_manifest_is_seen_without_the_library(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    entry = one(with_manifest(format, jumbf()), "c2pa")
    assert "pip install 'aidetect[c2pa]'" in entry["says"]
    assert "trainedAlgorithmicMedia" in entry["says"]
    assert entry["detail"] == {
        "checked": False,
        "source_types": ["trainedAlgorithmicMedia"],
        "reason": "not installed",
    }


@pytest.mark.parametrize("format", CONTAINERS)
def test_a_broken_manifest_is_told(format: str) -> None:
    entry = one(with_manifest(format, jumbf(b"nonsense")), "c2pa")
    assert "cannot be read" in entry["says"]
    assert entry["detail"]["checked"] is False


@pytest.fixture(scope="session")
def sign() -> Iterator[Any]:
    """Signs an encoded picture with a throwaway key of a throwaway authority."""
    import signing

    with signing.Authority().signer() as signer:
        yield signer.sign


@pytest.mark.parametrize("format", CONTAINERS)
def test_a_signed_picture(format: str, sign: Any) -> None:
    entry = one(sign(encode(shapes(), format), f"image/{format.lower()}"), "c2pa")
    assert entry["detail"] == {
        "checked": True,
        "intact": True,
        "state": "Valid",
        "problems": ["signingCredential.untrusted"],
        "generator": "test_generator 0.1",
        "signer": "Test Generator Ltd",
        "source_types": ["trainedAlgorithmicMedia"],
        "actions": ["c2pa.created"],
    }
    assert "Test Generator Ltd (name not verified), intact" in entry["says"]
    assert "claims a generative model" in entry["says"]


def test_a_signed_capture(sign: Any) -> None:
    entry = one(sign(encode(shapes(), "JPEG"), "image/jpeg", "digitalCapture"), "c2pa")
    assert entry["says"].endswith("it claims no generative model")
    assert entry["detail"]["source_types"] == ["digitalCapture"]


def test_a_picture_changed_after_signing(sign: Any) -> None:
    data = bytearray(sign(encode(shapes(), "JPEG"), "image/jpeg"))
    data[-100] ^= 1
    entry = one(bytes(data), "c2pa")
    assert entry["detail"]["state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in entry["detail"]["problems"]
    assert entry["detail"]["intact"] is False
    assert "but the file was changed after signing" in entry["says"]


def test_a_manifest_elsewhere_is_never_fetched(sign: Any) -> None:
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        data = sign(encode(shapes(), "JPEG"), "image/jpeg", remote=f"http://127.0.0.1:{server.server_port}/m")
        entry = one(data, "c2pa")
        assert "not fetched" in entry["says"]
        assert entry["detail"]["address"].endswith("/m")
        # Neither when something of a manifest lies in the file as well.
        both = jpeg_with(data, (0xEB, b"JP\0\1\0\0\0\1" + jumbf()))
        assert one(both, "c2pa")["detail"]["checked"] is False
        assert "remote" in read_manifest(io.BytesIO(data), read_metadata(data))["reason"].lower()
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_many_threads_read_manifests(sign: Any) -> None:
    data = sign(encode(shapes(), "PNG"), "image/png")
    states: list[str] = []

    def work() -> None:
        for _ in range(10):
            states.append(find_evidence(data, None)[0]["detail"]["state"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["Valid"] * 40


# --- watermarks -------------------------------------------------------------------------------------


def test_a_watermark() -> None:
    bits = "101100111110110010010000011110111011000110011110"
    found = find_evidence(b"", embed(photograph(), bits, floats=True))
    check(found)
    assert [entry["kind"] for entry in found] == ["watermark"]
    detail = found[0]["detail"]
    assert (detail["message"], detail["bits_agreeing"], detail["bits"]) == ("SDXL", 48, 48)
    assert detail["chance"] == pytest.approx(2**-48)
    assert "48 of 48 bits agree" in found[0]["says"]


# --- hostile bytes ----------------------------------------------------------------------------------


def test_a_finder_that_fails_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(evidence, "find_watermark", fail)
    monkeypatch.setattr(evidence, "read_manifest", fail)
    data = png_with(with_manifest("PNG", jumbf()), text("parameters", PARAMETERS))
    found = find_evidence(data, np.zeros((300, 300, 3), np.uint8))
    assert [entry["kind"] for entry in found] == ["generator-metadata"]


def test_texts_that_expand_are_cut() -> None:
    bomb = text("parameters", b"Steps: 1, Sampler: x, Seed: 1" + bytes(100_000_000), b"zTXt")
    many = [(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 20_000
    with within(10):
        assert find(png_with(PNG, bomb))[0]["kind"] == "generator-metadata"
        data = PNG[:33] + b"".join(png_chunk(*chunk) for chunk in many) + PNG[33:]
        assert find(data) == []
        assert sum(len(item.text) for item in read_metadata(data).fields) <= 6 * 2**20


def test_long_texts_are_cut() -> None:
    entry = one(png(("Software", "Midjourney " + "x" * 100_000), ("parameters", "y" * 900_000)))
    assert len(entry["detail"]["text"]) == 120


def test_long_values_of_exif_are_cut() -> None:
    body = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x010F, 2, 20_000_000, 26, 0) + b"x" * 20_000_000
    assert max(len(item.text) for item in read_metadata(body).fields) <= 2**20


def test_entries_are_few() -> None:
    names = "NovelAI Midjourney ChatGPT Ideogram ComfyUI InvokeAI Fooocus SD.Next SwarmUI NMKD SDXL Recraft"
    more = "reve.com krea.ai DALL-E Seedream Grok NightCafe Craiyon TensorArt Civitai PixAI DiffusionBee"
    found = find(png(*(("Software", name) for name in f"{names} {more}".split())))
    assert len(found) == 16


def test_one_bad_text_does_not_hide_another() -> None:
    deep = '{"prompt": "x", "steps": ' + "[" * 500_000
    assert one(png(("workflow", deep), ("parameters", PARAMETERS)))["detail"]["generator"] == "AUTOMATIC1111"


def test_entities_are_not_expanded() -> None:
    lines = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    packet = f'<!DOCTYPE x [<!ENTITY a0 "Midjourney">{lines}]><x><Credit>&a9;</Credit></x>'.encode()
    with within(2):
        assert find(with_xmp(packet)) == []
    file = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x><Credit>Midjourney &a;</Credit></x>'
    assert find(with_xmp(file)) == []


@pytest.mark.parametrize(
    "value",
    [
        '{"prompt": "x", "seed": 1, "steps": ' + "[" * 50_000,
        '{"prompt": "\\ud800\\u202e\\u001b[31m", "seed": 1, "steps": 2}',
        '{"prompt": "x", "seed": NaN, "steps": 1e999, "model": Infinity}',
        '{"prompt": "x", "seed": ' + "9" * 4000 + ', "steps": 5}',
        '{"prompt": "x", "seed": ' + "9" * 9000 + ', "steps": 5}',
        '{"nodes": {}, "links": 3}',
        '{"nodes": [1, null, {"type": [], "widgets_values": {"a": 1}}], "links": []}',
        '{"a": {"class_type": null, "inputs": [1]}, "b": {"class_type": "Sampler", "inputs": {"steps": {}}}}',
        '{"AIGC": {"Label": [[]], "ContentProducer": {}}}',
        '{"sui_image_params": []}',
        "Steps: 99999, Sampler: \x00\x1b[2J\u202e, Seed: " + "8" * 500,
        "Steps: 1 " * 50_000 + ", Seed: ",
        "workflow:{",
        '"' * 60_000 + " -s 5 -S 6",
    ],
    ids=range(14),
)
def test_hostile_texts(value: str) -> None:
    with within(5):
        for name in ("parameters", "prompt", "workflow", "Dream", "sd-metadata", "invokeai_metadata", "AIGC"):
            find(png_with(PNG, text(name, value.encode(), b"iTXt")))
        find(jpeg_with(JPEG, (0xFE, value.encode()[:60_000])))


def test_directories_that_lie() -> None:
    def entry(tag: int, type_: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, type_, count, value)

    for entries in (
        [entry(0x8769, 4, 1, 8)],  # a directory inside itself
        [entry(0x010F, 2, 0xFFFFFFFF, 8)],
        [entry(0x010F, 2, 100, 0xFFFFFFF0)],
        [entry(0x829A, 5, 1, 0xFFFFFFFF), entry(0x829D, 5, 1, 4)],
        [entry(0x010F, 2, 60_000, 0)] * 5000,
    ):
        body = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries)
        body += struct.pack("<I", 8)  # the next directory is this one
        with within(2):
            find(body)
            find(jpeg_with(JPEG, (0xE1, b"Exif\0\0" + body[:60_000])))


def test_a_million_chunks_take_no_time() -> None:
    with within(5):
        find(PNG[:33] + png_chunk(b"abCd", b"") * 1_000_000)
        find(b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000)
        find(b"RIFF\0\0\0\0WEBP" + b"EXIF\0\0\0\0" * 1_000_000)
        find(b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 1_000_000)


MAGICS = [
    b"",
    b"\xff\xd8\xff\xe1",
    b"\xff\xd8\xff\xeb\x01\0JP\0\1\0\0\0\1",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\0\0\0WEBP",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"\0\0\0\x10ftypavif\0\0\0\0",
]


def without_net(data: bytes) -> None:
    """Call what `find_evidence` calls, but let it raise."""
    metadata = read_metadata(data)
    for find_entries in (evidence._from_generators, evidence._from_camera):
        list(find_entries(metadata))
    list(evidence._from_manifest(io.BytesIO(data), metadata))


@given(st.sampled_from(MAGICS), st.binary(max_size=2000))
def test_any_bytes(magic: bytes, tail: bytes) -> None:
    without_net(magic + tail)
    find(magic + tail)


def loaded() -> list[bytes]:
    """A picture in every container, with everything in it that can be found."""
    block = exif(UserComment=b"UNICODE\0" + PARAMETERS.encode("utf-16-le"), **CAMERA)
    packet = xmp('photoshop:Credit="Made with Google AI" tiff:Make="x" dcterms:provenance="http://x.invalid"')
    pieces = []
    for format in CONTAINERS:
        options = (
            {"tiffinfo": {700: packet, 0xCD41: jumbf()}}
            if format == "TIFF"
            else {"exif": block, "xmp": packet}
        )
        data = encode(noise(24, 16), format, **options)
        if format == "PNG":
            data = png_with(data, (b"caBX", jumbf()), text("prompt", json.dumps(GRAPH), b"zTXt"))
        elif format == "JPEG":
            data = jpeg_with(data, (0xEB, b"JP\0\1\0\0\0\1" + jumbf()), (0xFE, PARAMETERS.encode()))
        elif format == "WEBP":
            data += b"C2PA" + struct.pack("<I", len(jumbf())) + jumbf()
        pieces.append(data)
    return pieces


LOADED = loaded()


@given(st.data())
def test_mutated_pictures(data: Any) -> None:
    picture = bytearray(data.draw(st.sampled_from(LOADED)))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(picture) - 1))
        edit = data.draw(st.sampled_from(["byte", "long", "cut", "repeat", "end"]))
        if edit == "byte":
            picture[at] = data.draw(st.integers(0, 255))
        elif edit == "long":
            picture[at : at + 4] = data.draw(
                st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"])
            )
        elif edit == "cut":
            del picture[at : at + data.draw(st.integers(1, 40))]
        elif edit == "repeat":
            picture[at:at] = picture[at : at + 100]
        elif at > 20:
            del picture[at:]
        picture = picture or bytearray(b"\0")
    without_net(bytes(picture))
    find(bytes(picture))
