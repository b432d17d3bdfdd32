"""Evidence of videos: what generators, platforms and cameras write is told, and nothing else is."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import containers as made
import pytest
from conftest import within
from hypothesis import given
from hypothesis import strategies as st
from test_evidence import check, jumbf, xmp

from aidetect.detector.evidence import clip as reading
from aidetect.detector.evidence.clip import read_clip
from aidetect.detector.evidence.evidence import find_evidence
from aidetect.detector.evidence.metadata import Field
from aidetect.detector.evidence.names import manifest_maker

Entry = dict[str, Any]
LABEL = {"Label": "1", "ContentProducer": "00119111", "ProduceID": "x"}
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "wan.safetensors"}},
}
WORKFLOW = {"nodes": [{"type": "KSampler"}], "links": []}


def find(data: bytes) -> list[Entry]:
    """Evidence of a file; the same from bytes and from a stream."""
    found = find_evidence(data, None)
    check(found)
    assert find_evidence(io.BytesIO(data), None) == found
    return found


def one(data: bytes, kind: str = "generator-metadata") -> Entry:
    found = find(data)
    assert [entry["kind"] for entry in found] == [kind], found
    return found[0]


def fields(data: bytes) -> dict[str, str]:
    metadata = read_clip(io.BytesIO(data))
    assert metadata is not None
    return {f"{item.where} {item.name}": item.text for item in metadata.fields}


def label(producer: str = "00119111", number: str = "1") -> str:
    return json.dumps(LABEL | {"ContentProducer": producer, "Label": number})


# --- nothing ----------------------------------------------------------------------------------------

COMMON = [
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
]


@pytest.mark.parametrize(("format", "codec"), COMMON)
def test_a_plain_clip_has_none(format: str, codec: str) -> None:
    data = made.clip(format, codec, {"title": "Sora and Kling compared", "comment": "made with Midjourney"})
    assert find(data) == []
    said = fields(data)
    assert any("Sora and Kling compared" in text for text in said.values()), said
    # The encoder's settings are seen, and are no sign of anything.
    assert codec != "libx264" or any("x264 - core" in text for text in said.values()), said


NO_EVIDENCE = {
    "a title": made.mp4(made.box(b"udta", made.items({"©nam": "Midjourney", "©ART": "OpenAI"}))),
    "a download": made.mp4(made.keys({"comment": "https://x.test/sora", "artist": "Runway ML"})),
    "Google's encoder": made.mp4(made.box(b"udta", made.items({"©too": "Google"}))),
    "YouTube": made.mp4(made.track(b"ISO Media file produced by Google Inc.\0")),
    "a camera for sports": made.mp4(made.udta(**{"©swr": "Veo Camera 2"})),
    "ffmpeg": made.mp4(made.box(b"udta", made.items({"©too": "Lavf61.7.100"}))),
    "a label that says no": made.mp4(made.keys({"aigc_info": '{"aigc_label_type":0}'})),
    "an export of an editor": made.mp4(made.keys({"x": '{"data":{"product":"lv","exportType":"export"}}'})),
    "x264": made.avi(media=made.units(made.message(bytes(16), b"x264 - core 164"), codes=True)),
    "a tag": made.matroska(made.tags(made.tag("TITLE", "Kling"), made.tag("ARTIST", "Sora"))),
    "AVI": made.avi(made.info(INAM="Kling AI", ICMT="made with Sora")),
    "words in JSON": made.mp4(made.keys({"description": '{"text": "ContentProducer"}'})),
}


@pytest.mark.parametrize("name", NO_EVIDENCE)
def test_what_says_nothing_of_an_origin(name: str) -> None:
    assert fields(NO_EVIDENCE[name]), "the text is seen, and is no evidence"
    assert find(NO_EVIDENCE[name]) == []


@pytest.mark.parametrize("brand", [b"avif", b"heic", b"mif1"])
def test_pictures_in_boxes_are_no_clips(brand: bytes) -> None:
    assert read_clip(io.BytesIO(made.box(b"ftyp", brand, bytes(4)))) is None


# --- labels -----------------------------------------------------------------------------------------

LABELLED = {
    "MP4 keys": (made.mp4(made.box(b"udta", made.keys({"AIGC": label()}))), "MP4 keys AIGC"),
    "MOV": (made.mp4(made.keys({"AIGC": label()}, version=b""), brand=b"qt  "), "MOV keys AIGC"),
    "UTF-16": (made.mp4(made.keys({"AIGC": label()}, type_=2)), "MP4 keys AIGC"),
    "no key": (made.mp4(made.items({"\0\0\0\1": label()})), "MP4 ilst"),
    "user data": (made.mp4(made.box(b"udta", made.box(b"AIGC", label().encode()))), "MP4 udta AIGC"),
    "Matroska": (made.matroska(made.tags(made.tag("AIGC", label()))), "MKV tag AIGC"),
    "WebM": (made.matroska(made.tags(made.tag("AIGC", label())), kind=b"webm"), "WebM tag AIGC"),
    "live": (
        made.matroska(
            made.element(0x1F43B675, made.element(0xA3, b"\x81\0\0\x80x"), unknown=True),
            made.tags(made.tag("AIGC", label())),
            unknown=True,
        ),
        "MKV tag AIGC",
    ),
    "a tag in a tag": (
        made.matroska(made.tags(made.tag("A", "b", made.tag("AIGC", label())))),
        "MKV tag AIGC",
    ),
    "AVI": (made.avi(made.info(ISFT="Lavf", AIGC=label())), "AVI INFO AIGC"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_the_chinese_label(name: str) -> None:
    data, where = LABELLED[name]
    entry = one(data)
    assert entry["says"] == "labelled generated (AIGC, GB 45438)"
    assert entry["where"] == where
    assert entry["detail"] == {"label": "1", "producer": "00119111"}


@pytest.mark.parametrize(
    ("producer", "generator"),
    [
        ("001191330106MA2CFLDG4R10001", "Alibaba Tongyi (Wan)"),
        ("001191110108335469089C10100", "Kling"),
        ("kling", "Kling"),
        ("MiniMax", "Hailuo (MiniMax)"),
        ("001191110108MACC4D63XF00000", "Vidu"),
        ("0011914403000886740" + "5X200000", "ByteDance Jimeng"),
    ],
)
def test_the_label_names_its_producer(producer: str, generator: str) -> None:
    entry = one(made.mp4(made.box(b"udta", made.keys({"AIGC": label(producer)}))))
    assert entry["detail"]["generator"] == generator
    assert entry["says"] == f"labelled generated (AIGC, GB 45438), by {generator}"


def test_the_label_may_be_unsure() -> None:
    assert "perhaps generated" in one(made.mp4(made.keys({"AIGC": label(number="2")})))["says"]


@pytest.mark.parametrize(("number", "who"), [(1, "by who posted it"), (2, "by the platform")])
def test_tiktok(number: int, who: str) -> None:
    entry = one(made.mp4(made.keys({"aigc_info": json.dumps({"aigc_label_type": number})})))
    assert entry["says"] == f"labelled as AI-generated {who} (ByteDance's aigc_label_type {number})"


def test_dreamina() -> None:
    export = {"data": {"os": "", "product": "dreamina", "exportType": "generation", "videoId": "0"}}
    entry = one(made.mp4(made.box(b"udta", made.items({"©cmt": json.dumps(export)}))))
    assert entry["says"] == "says that ByteDance's Dreamina wrote it, as a generation"
    entry = one(made.mp4(made.keys({"x": '{"aigc_label_type":0,"source_info":"dreamina"}'})))
    assert entry["says"] == "says that ByteDance's Dreamina wrote it"


@pytest.mark.parametrize("place", ["uuid", "XMP_", "AVI"])
def test_a_label_of_the_iptc(place: str) -> None:
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    packet = xmp(f'Iptc4xmpExt:DigitalSourceType="{source}"')
    data = {
        "uuid": made.mp4(after=made.box(b"uuid", made.XMP_UUID, packet)),
        "XMP_": made.mp4(made.box(b"udta", made.box(b"XMP_", packet)), brand=b"qt  "),
        "AVI": made.avi(made.chunk(b"_PMX", packet)),
    }[place]
    assert one(data)["says"] == "labelled made by a generative model (trainedAlgorithmicMedia)"


# --- programs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "codec"), COMMON[:4])
def test_comfyui(format: str, codec: str) -> None:
    entry = one(made.clip(format, codec, {"prompt": json.dumps(GRAPH), "workflow": json.dumps(WORKFLOW)}))
    assert entry["detail"]["generator"] == "ComfyUI"
    assert entry["says"] == "a ComfyUI graph of 2 nodes, a sampler among them: it generates"
    assert entry["detail"]["models"] == ["wan.safetensors"]


@pytest.mark.parametrize(
    "comment",
    [
        json.dumps({"prompt": json.dumps(GRAPH), "workflow": WORKFLOW}),
        json.dumps({"prompt": GRAPH, "workflow": WORKFLOW}),
        json.dumps(json.dumps(GRAPH)),
    ],
)
def test_comfyui_in_a_comment(comment: str) -> None:
    for data in (
        made.mp4(made.box(b"udta", made.items({"©cmt": comment}))),
        made.matroska(made.tags(made.tag("COMMENT", comment)), kind=b"webm"),
        made.avi(made.info(ICMT=comment)),
    ):
        assert one(data)["detail"]["generator"] == "ComfyUI"


def test_comfyui_without_a_sampler_may_only_edit() -> None:
    graph = {"1": {"class_type": "VHS_LoadVideo", "inputs": {}}}
    assert "it may only edit" in one(made.mp4(made.keys({"prompt": json.dumps(graph)})))["says"]


def test_settings_of_other_programs() -> None:
    settings = json.dumps({"prompt": "a cat", "num_inference_steps": 30, "seed": 5, "model": "wan"})
    entry = one(made.mp4(made.box(b"udta", made.items({"©cmt": settings}))))
    assert entry["says"] == "generation settings, as generators write them"
    assert entry["detail"]["steps"] == 30


@pytest.mark.parametrize(
    ("text", "generator"),
    [
        ("Sora", "OpenAI Sora"),
        ("Google Veo 3.1", "Google Veo"),
        ("Kling 2.6", "Kling"),
        ("Runway Gen-4", "Runway"),
        ("Pika Labs", "Pika"),
        ("Luma Dream Machine", "Luma"),
        ("hailuo AI", "Hailuo"),
        ("Wan 2.6", "Wan"),
        ("Vidu Q3", "Vidu"),
        ("Seedance 2.0", "ByteDance"),
        ("Adobe Firefly", "Adobe Firefly"),
    ],
)
def test_tools_that_name_themselves(text: str, generator: str) -> None:
    for data, where in (
        (made.mp4(made.box(b"udta", made.items({"©too": text}))), "MP4 ilst ©too"),
        (made.mp4(made.udta(**{"©swr": text}), brand=b"qt  "), "MOV udta ©swr"),
        (
            made.mp4(made.keys({"com.apple.quicktime.software": text})),
            "MP4 keys com.apple.quicktime.software",
        ),
        (made.mp4(made.track(text.encode() + b"\0")), "MP4 track handler"),
        (
            made.matroska(made.element(0x1549A966, made.element(0x5741, text.encode()))),
            "MKV info WritingApp",
        ),
        (made.matroska(made.tags(made.tag("ENCODER", text))), "MKV tag ENCODER"),
        (made.avi(made.info(ISFT=text)), "AVI INFO ISFT"),
    ):
        entry = one(data)
        assert (entry["says"], entry["where"]) == (f"names {generator}", where)


# --- marks in the coded stream ----------------------------------------------------------------------

STREAM = made.units(b"\x67\x64", made.message(bytes(16), b"x264 - core 164"), made.KLING, made.SLICE)


def in_matroska(codec: bytes, private: bytes, stream: bytes, *, grouped: bool = False) -> bytes:
    entry = made.element(
        0xAE, made.element(0xD7, b"\2"), made.element(0x86, codec), made.element(0x63A2, private)
    )
    block = b"\x82\0\0\x80" + stream
    inside = made.element(0xA0, made.element(0xA1, block)) if grouped else made.element(0xA3, block)
    sound = made.element(0xA3, b"\x81\0\0\x80" + bytes(50))
    return made.matroska(made.element(0x1654AE6B, entry), made.element(0x1F43B675, sound, inside))


CODED = {
    "MP4": made.mp4(made.track(offset=24 + 4), media=STREAM),
    "MP4 in fragments": made.mp4(made.track(), media=STREAM),
    "Matroska": in_matroska(b"V_MPEG4/ISO/AVC", b"\1\x64\0\x0a\xff", STREAM),
    "Matroska, group": in_matroska(b"V_MPEG4/ISO/AVC", b"", STREAM, grouped=True),
    "AVI": made.avi(media=made.units(b"\x67\x64", made.KLING, made.SLICE, codes=True)),
    "HEVC": in_matroska(
        b"V_MPEGH/ISO/HEVC",
        b"\1" + bytes(20) + b"\3",
        made.units(b"\x40\x01", made.message(made.KLING_UUID, b"kling-ai\0", hevc=True)),
    ),
}


@pytest.mark.parametrize("name", CODED)
def test_kling(name: str) -> None:
    entry = one(CODED[name])
    assert entry["says"] == "the coded stream carries the mark that Kling writes (kling-ai)"
    assert entry["where"] == ("HEVC SEI" if name == "HEVC" else "H.264 SEI")
    assert entry["detail"]["generator"] == "Kling"


def test_a_mark_in_a_real_stream() -> None:
    import av

    marked = io.BytesIO()
    with av.open(io.BytesIO(made.clip())) as source, av.open(marked, "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            body = (made.units(made.KLING) if number == 0 else b"") + bytes(packet)
            copy = av.Packet(body)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            output.mux(copy)
    assert one(marked.getvalue())["detail"]["generator"] == "Kling"
    with av.open(io.BytesIO(marked.getvalue())) as again:
        assert sum(1 for _ in again.decode(video=0)) == 5


# --- cameras ----------------------------------------------------------------------------------------

APPLE = {"make": "Apple", "model": "iPhone 15 Pro", "software": "17.1", "creationdate": "2024-01-02T03:04:05"}
SONY = '<NonRealTimeMeta><Device manufacturer="Sony" modelName="ILCE-7SM3" serialNo="1"/></NonRealTimeMeta>'
CAMERAS = {
    "Apple": (
        made.mp4(made.keys({f"com.apple.quicktime.{k}": v for k, v in APPLE.items()}, b""), brand=b"qt  "),
        "Apple iPhone 15 Pro",
    ),
    "Apple, user data": (
        made.mp4(made.udta(**{"©mak": "Apple", "©mod": "iPhone 4"}), brand=b"qt  "),
        "Apple iPhone 4",
    ),
    "Android": (
        made.mp4(made.keys({"com.android.manufacturer": "Google", "com.android.model": "Pixel 9"})),
        "Google Pixel 9",
    ),
    "Samsung": (made.mp4(made.box(b"udta", made.box(b"smta", bytes(20)))), "Samsung"),
    "GoPro": (
        made.mp4(made.box(b"udta", made.box(b"FIRM", b"HD9.01.01.60.00"), made.box(b"GPMF", bytes(99)))),
        "GoPro",
    ),
    "GoPro, track": (made.mp4(made.track(b"\x0bGoPro AVC  \0", b"GoPro AVC encoder")), "GoPro"),
    "DJI": (made.mp4(made.track(b"\x10DJI.AVC\0\0\0\0\0")), "DJI"),
    "DJI, user data": (made.mp4(made.box(b"udta", made.box(b"\xa9mdl", b"FC7203\0"))), "FC7203"),
    "Canon": (made.mp4(made.box(b"udta", made.box(b"CNMN", b"Canon EOS 550D\0"))), "Canon EOS 550D"),
    "Sony": (
        made.mp4(
            after=made.box(
                b"meta", bytes(4), made.handler(b"nrtm"), made.box(b"xml ", bytes(4), SONY.encode())
            )
        ),
        "Sony ILCE-7SM3",
    ),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras(name: str) -> None:
    data, camera = CAMERAS[name]
    entry = one(data, "camera-metadata")
    assert entry["says"] == f"claims a camera: {camera}; anyone can write this"
    assert entry["detail"]["camera"] == camera
    if name == "Apple":
        assert entry["detail"] == {
            "camera": camera,
            "taken": "2024-01-02T03:04:05",
            "software": "17.1",
        }


def test_a_generator_that_poses_as_a_camera_is_none() -> None:
    data = made.mp4(
        made.keys({"com.apple.quicktime.make": "Kling AI", "com.apple.quicktime.model": "Kling 3"})
    )
    assert [entry for entry in find(data) if entry["kind"] == "camera-metadata"] == []


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_what_exiftool_writes_and_reads(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(made.clip(tags={"AIGC": label("kling"), "comment": "hello"}))
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    written = ["-Keys:Make=Apple", "-Keys:Model=iPhone 15", "-UserData:Model=iPhone 15"]
    written.append(f"-XMP-iptcExt:DigitalSourceType={source}")
    subprocess.run(["exiftool", "-q", "-overwrite_original", *written, str(path)], check=True)
    printed = subprocess.run(
        ["exiftool", "-j", "-G1", "-Keys:all", str(path)], check=True, capture_output=True, text=True
    )
    (read,) = json.loads(printed.stdout)
    said = fields(path.read_bytes())
    assert said["MP4 keys com.apple.quicktime.make"] == read["Keys:Make"] == "Apple"
    assert json.loads(said["MP4 keys AIGC"]) == json.loads(label("kling"))
    assert said["MP4 keys comment"] == read["Keys:Comment"] == "hello"
    assert [entry["says"] for entry in find(path.read_bytes())] == [
        "labelled made by a generative model (trainedAlgorithmicMedia)",
        "labelled generated (AIGC, GB 45438), by Kling",
        "claims a camera: Apple iPhone 15; anyone can write this",
    ]


# --- C2PA -------------------------------------------------------------------------------------------


def test_a_manifest_is_seen_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    purpose = bytes(4) + b"manifest\0" + bytes(8)
    data = made.mp4(after=made.box(b"uuid", made.C2PA_UUID, purpose, jumbf()))
    assert "; pip install 'aidetect[c2pa]' to read and check it" in one(data, "c2pa")["says"]
    merkle = bytes(4) + b"merkle\0" + bytes(30)
    assert find(made.mp4(after=made.box(b"uuid", made.C2PA_UUID, merkle))) == []


@pytest.fixture(scope="module")
def signed() -> dict[str, bytes]:
    """Clips signed by a test certificate, by type."""
    import signing

    types = {"mp4": "video/mp4", "mov": "video/quicktime", "avi": "video/avi"}
    with signing.Authority().signer() as signer:
        return {
            name: signer.sign(
                made.clip(name, "mpeg4" if name == "avi" else "libx264"), type_, generator="Sora"
            )
            for name, type_ in types.items()
        }


@pytest.mark.parametrize("name", ["mp4", "mov", "avi"])
def test_a_signed_clip(signed: dict[str, bytes], name: str) -> None:
    entry = one(signed[name], "c2pa")
    assert entry["detail"]["intact"] is True
    assert entry["says"] == (
        "a C2PA manifest signed by Test Generator Ltd (name not verified), intact; "
        "it claims a generative model (trainedAlgorithmicMedia) of OpenAI Sora"
    )


@pytest.mark.parametrize(
    ("names", "maker"),
    [
        (["c2pa-rs", "Runway Video Generation", "RUNWAY AI, INC."], "Runway"),
        (["c2pa-rs", "", "Byteplus Pte. Ltd."], "ByteDance"),
        (["ByteDance Media Transcode Service", "Dreamina/7.5.0"], "ByteDance"),
        (["c2pa-rs", "xAI Grok Imagine"], "Grok"),
        (["c2pa-rs", "", "SpaceXAI"], "Grok"),
        (["Google C2PA Core Generator Library", "", "Google LLC"], "Google AI"),
        (["Sora", "", "OpenAI"], "OpenAI Sora"),
    ],
)
def test_makers_of_manifests_in_videos(names: list[str], maker: str) -> None:
    assert manifest_maker(names) == maker


@pytest.mark.parametrize("name", ["mp4", "mov"])
def test_a_clip_changed_after_signing(signed: dict[str, bytes], name: str) -> None:
    data = bytearray(signed[name])
    data[data.index(b"mdat") + 200] ^= 1
    entry = one(bytes(data), "c2pa")
    assert entry["detail"]["intact"] is False
    assert "assertion.bmffHash.mismatch" in entry["detail"]["problems"]
    assert "but the file was changed after signing" in entry["says"]


def test_a_clip_cut_short_still_shows_its_manifest(signed: dict[str, bytes]) -> None:
    (entry,) = find(signed["mp4"][:-300])
    assert entry["kind"] == "c2pa"
    assert "intact;" not in entry["says"]


# --- hostile bytes ----------------------------------------------------------------------------------


def without_net(data: bytes) -> None:
    """Read a clip, and let it raise."""
    metadata = read_clip(io.BytesIO(data))
    if metadata is not None:
        assert len(metadata.fields) <= 400
        assert sum(len(item.text) for item in metadata.fields) <= 6 * 2**20
        assert all(isinstance(item, Field) for item in metadata.fields)
    check(find_evidence(data, None))


MAGICS = [made.mp4(), made.matroska(), made.avi(), b"\0\0\0\x10moov", made.box(b"ftyp", b"qt  ")]


@given(st.sampled_from(MAGICS), st.binary(max_size=2000))
def test_any_bytes(magic: bytes, tail: bytes) -> None:
    without_net(magic + tail)


LOADED = [
    *(data for data, _ in LABELLED.values()),
    *CODED.values(),
    *(data for data, _ in CAMERAS.values()),
    made.mp4(
        made.track(offset=28), media=STREAM, after=made.box(b"uuid", made.C2PA_UUID, bytes(30), jumbf())
    ),
]


@given(st.data())
def test_mutated_clips(data: Any) -> None:
    mutated = bytearray(data.draw(st.sampled_from(LOADED)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        change = data.draw(st.sampled_from(["byte", "length", "cut", "double"]))
        if change == "byte":
            mutated[at] = data.draw(st.integers(0, 255))
        elif change == "length":
            mutated[at : at + 4] = data.draw(
                st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\xff" * 4, b"\0\0\0\x09"])
            )
        elif change == "cut":
            del mutated[at : at + data.draw(st.integers(1, 40))]
        else:
            mutated[at:at] = mutated[at : at + 60]
        if not mutated:
            return
    without_net(bytes(mutated))


NAMES = b"moov udta meta trak mdia ilst keys uuid hdlr stbl".split()
BOXES = st.recursive(
    st.binary(max_size=60),
    lambda inner: st.builds(
        lambda name, parts: made.box(name, *parts), st.sampled_from(NAMES), st.lists(inner, max_size=4)
    ),
    max_leaves=20,
)


@given(BOXES)
def test_boxes_in_boxes(boxes: bytes) -> None:
    without_net(made.mp4() + boxes)


def test_nesting_is_bounded() -> None:
    boxes, tags, lists = b"", b"", b""
    for _ in range(2000):
        boxes, lists = made.box(b"meta", bytes(4), boxes), made.chunk(b"LIST", b"strl", lists)
        tags = made.tag("a", "b", tags)
    with within(5):
        without_net(made.mp4(made.box(b"udta", boxes)))
        without_net(made.matroska(made.tags(tags)))
        without_net(made.avi(lists))


@pytest.mark.parametrize(
    "many",
    [
        made.mp4() + made.box(b"free") * 300_000,
        made.mp4(made.box(b"trak") * 300_000),
        made.mp4(made.box(b"udta", made.box(b"\xa9nam", b"\0\1\0\0x") * 200_000)),
        made.mp4(made.box(b"meta", bytes(4), made.box(b"ilst", made.box(b"\xa9nam") * 200_000))),
        made.matroska(made.element(0xEC) * 300_000),
        made.matroska(made.tags(made.tag("a", "b") * 100_000)),
        made.avi(made.chunk(b"JUNK") * 300_000),
        made.avi(media=b"\0\0\1" * 300_000),
        made.mp4(made.track(offset=28), media=b"\0\0\0\1\6" * 300_000),
        made.mp4(made.track(offset=28), media=made.units(b"\6" + b"\5\0" * 400_000)),
    ],
    ids=range(10),
)
def test_many_parts_take_no_time(many: bytes) -> None:
    start = time.perf_counter()
    without_net(many)
    assert time.perf_counter() - start < 5


def test_a_film_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    moov = made.box(b"moov", made.box(b"udta", made.keys({"AIGC": label("kling")})))
    gap = 40 * 2**30
    with path.open("wb") as file:
        file.write(made.box(b"ftyp", b"isom", bytes(4)))
        file.write(b"\0\0\0\1mdat" + (16 + gap).to_bytes(8, "big"))
        file.seek(gap, 1)
        file.write(moov)
    tracemalloc.start()
    with path.open("rb") as file, within(5):
        (entry,) = find_evidence(file, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert entry["detail"]["generator"] == "Kling"
    assert peak < 4 * 2**20


def test_what_is_read_in_all_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            body = super().read(size)
            read += len(body)
            return body

    texts = made.box(b"\xa9nam", bytes(2**20)) * 200
    metadata = reading.read_clip(Counted(made.mp4(made.box(b"udta", texts))))
    assert metadata is not None
    assert read < 80 * 2**20
