"""The cloud API: replies and failures as its clients know them."""

from __future__ import annotations

import json
import re
import time
from importlib.resources import files
from typing import Any

import pytest
from conftest import encode, shapes
from jsonschema import Draft202012Validator
from serving import Running

from aidetect.cli.server.apidocs import openapi
from aidetect.detector.detector import Detector

PICTURE = encode(shapes(90, 70))
ID = re.compile(r"(req|med)_[0-9A-Za-z]{21}")
TYPES = {"argument_error", "media_error", "request_error"}


def post(running: Running, media: Any = ("a.png", PICTURE), **fields: Any) -> Any:
    parts = {} if media is None else {"media": media}
    return running.client.post("/1.0/check.json", data={"models": "genai", **fields}, files=parts)


def follows(data: Any, name: str) -> None:
    """Check that data is as the server's own description says."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": openapi()["components"]}
    Draft202012Validator(schema).validate(data)


def failure(reply: Any, status: int, type_: str, words: str) -> None:
    data = reply.json()
    follows(data, "CloudFailure")
    assert (reply.status_code, data["error"]["type"]) == (status, type_)
    assert words in data["error"]["message"]
    assert data["request"]["operations"] == 0
    assert ID.fullmatch(data["request"]["id"])


def test_the_reply_is_as_the_cloud_gives_it(running: Running, tiny_detector: Detector) -> None:
    before = time.time()
    reply = post(running)
    data = reply.json()
    follows(data, "CloudReply")
    (expected,) = tiny_detector.score([PICTURE])
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert data["status"] == "success"
    assert before - 1 < data["request"]["timestamp"] < time.time() + 1
    assert data["request"]["operations"] == 1
    assert data["type"] == {"ai_generated": expected.probability, "ai_generators": {}}
    assert data["media"]["uri"] == "a.png"
    assert data["aidetect"]["verdict"] == expected.verdict
    assert data["aidetect"]["logit"] == expected.logit
    assert reply.headers["x-request-id"] == data["request"]["id"]
    assert "server" not in reply.headers


def test_ids_are_new_each_time(running: Running) -> None:
    replies = [post(running).json() for _ in range(3)]
    assert len({reply["request"]["id"] for reply in replies} | {r["media"]["id"] for r in replies}) == 6


def test_fields_may_be_in_the_query(running: Running) -> None:
    reply = running.client.post("/1.0/check.json?models=genai&api_user=1", files={"media": ("a", PICTURE)})
    assert reply.json()["status"] == "success"


@pytest.mark.parametrize("models", ["genai", " genai ", "genai,genai", "genai,"])
def test_names_of_the_model(running: Running, models: str) -> None:
    assert post(running, models=models).json()["status"] == "success"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("", "models is missing"),
        ("nudity-2.1", "nudity-2.1"),
        ("genai,wad,type", "wad, type"),
        ("x\x1b[2J", "\\x1b"),
    ],
)
def test_other_models_are_named(running: Running, models: str, words: str) -> None:
    failure(post(running, models=models), 400, "argument_error", words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"media": None}, "media (a file) or url is missing"),
        ({"media": None, "url": ""}, "missing"),
        ({"url": "https://example.com/a.jpg"}, "both"),
    ],
)
def test_what_is_missing_is_told(running: Running, fields: dict[str, Any], words: str) -> None:
    failure(post(running, **fields), 400, "argument_error", words)


def test_a_query_without_anything(running: Running) -> None:
    failure(running.client.get("/1.0/check.json"), 400, "argument_error", "models is missing")


@pytest.mark.parametrize("media", [b"", b"GIF89a", b"<!DOCTYPE html><p>", PICTURE[:40]])
def test_media_that_is_no_picture(running: Running, media: bytes) -> None:
    reply = post(running, media=("a.png", media))
    failure(reply, 400, "media_error", "")
    assert reply.json()["aidetect"]["error"]["type"]
    assert reply.json()["aidetect"]["input"] == "a.png"


@pytest.mark.parametrize("path", ["check-workflow", "feedback", "video/check", "text/check"])
def test_what_there_is_nothing_behind(running: Running, path: str) -> None:
    for reply in (
        running.client.get(f"/1.0/{path}.json"),
        running.client.post(f"/1.0/{path}.json", data={"models": "genai"}),
    ):
        failure(reply, 400, "argument_error", "not available here")


def test_other_paths_and_methods(running: Running) -> None:
    failure(running.client.get("/1.0/nothing.json"), 404, "request_error", "/docs")
    reply = running.client.put("/1.0/check.json")
    failure(reply, 405, "request_error", "method")
    assert "POST" in reply.headers["allow"]


def test_too_large(start: Any) -> None:
    running = start(max_upload=10_000)
    assert post(running, media=("a", PICTURE[:10_000])).status_code in (200, 400)
    failure(post(running, media=("a", bytes(10_001))), 413, "media_error", "MiB")
    failure(post(running, media=("a", bytes(1_000_000))), 413, "media_error", "MiB")


def test_a_picture_with_too_many_pixels(start: Any) -> None:
    running = start(detector={"max_pixels": 1000})
    failure(post(running), 400, "media_error", "pixel")


def part(head: bytes, body: bytes) -> bytes:
    """A form of one part."""
    return b"--x\r\nContent-Disposition: form-data" + head + b"\r\n\r\n" + body + b"\r\n--x--\r\n"


FORM = "multipart/form-data"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"--x\r\n"),
        (f"{FORM}; boundary=", b"--\r\n"),
        (f"{FORM}; boundary=x", b"garbage"),
        (f"{FORM}; boundary=x", part(b"", b"a")),
        (f"{FORM}; boundary=x; charset=undefined", part(b'; name="a"', b"b")),
        (f"{FORM}; boundary=x; charset=idna", part(b'; name="\xff"', b"\xff")),
        (f"{FORM}; boundary=x", part(b'; name="models"', b"a" * 99999)),
        ("application/x-www-form-urlencoded", b"&" * 1000 + b"a=b" * 70000),
        ("application/json", b'{"models": "genai"}'),
        ("", b"\0\xff"),
    ],
)
def test_malformed_bodies(running: Running, kind: str, body: bytes) -> None:
    reply = running.client.post("/1.0/check.json", content=body, headers={"Content-Type": kind})
    follows(reply.json(), "CloudFailure")
    assert reply.status_code in (400, 413)
    assert reply.json()["error"]["type"] in TYPES
    assert post(running).json()["status"] == "success"


def test_many_parts(running: Running) -> None:
    parts = [("media", (f"{i}.png", PICTURE)) for i in range(3)]
    reply = running.client.post("/1.0/check.json", data={"models": "genai"}, files=parts)
    failure(reply, 400, "request_error", "Too many files")


def test_names_are_data(running: Running) -> None:
    for name in ("../../etc/passwd", "a\u202eb.png", "\u2603.png", 'quote".png', "a\tb"):
        data = post(running, media=(name, PICTURE)).json()
        assert data["status"] == "success"
        assert data["media"]["uri"]


def test_errors_tell_nothing_of_the_machine(running: Running) -> None:
    replies = [post(running, media=("a", b"x")), post(running, models="x"), running.client.get("/1.0/x")]
    for reply in replies:
        text = reply.text + json.dumps(dict(reply.headers))
        for word in ("/work", "site-packages", "python", "uvicorn", "starlette", "Traceback"):
            assert word not in text.lower()


def test_the_description_is_whole() -> None:
    data = openapi()
    text = json.dumps(data)
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        found: Any = data
        for part in reference.split("/"):
            found = found[part]
    page = files("aidetect.cli.server").joinpath("openapi/apidocs.html").read_text()
    assert "http" not in page.replace("/openapi.json", "")


# --- clips ----------------------------------------------------------------------------------------------


def post_clip(running: Running, data: bytes, path: str = "video/check-sync", **fields: Any) -> Any:
    parts = {"media": ("a.mp4", data)}
    return running.client.post(f"/1.0/{path}.json", data={"models": "genai", **fields}, files=parts)


@pytest.fixture(scope="module")
def clip() -> bytes:
    from drawnclips import clip, pictures

    return clip("h264.mp4", pictures(3, 8), rate=8)


def test_a_clip_is_answered_frame_by_frame(running: Running, tiny_detector: Detector, clip: bytes) -> None:
    reply = post_clip(running, clip)
    data = reply.json()
    follows(data, "CloudClipReply")
    (expected,) = tiny_detector.score([clip])
    assert expected.clip is not None
    assert (reply.status_code, data["status"], data["request"]["operations"]) == (200, "success", 1)
    assert data["media"]["uri"] == "a.mp4"
    frames = data["data"]["frames"]
    assert [one["info"]["position"] for one in frames] == [500, 1500, 2500]
    assert [one["type"]["ai_generated"] for one in frames] == [
        f["probability"] for f in expected.clip["frames"]
    ]
    assert data["aidetect"]["type"]["ai_generated"] == expected.probability
    assert data["aidetect"]["verdict"] == expected.verdict


def test_clips_and_pictures_have_their_own_addresses(running: Running, clip: bytes) -> None:
    failure(post_clip(running, PICTURE), 400, "media_error", "this is not an MP4")
    failure(post(running, media=("a.png", clip)), 400, "media_error", "/1.0/video/check-sync.json")
    failure(post_clip(running, clip, models="wad"), 400, "argument_error", "wad")
    failure(post_clip(running, clip[:5000]), 400, "media_error", "truncated or damaged")
    (record,) = running.client.post("/v1/scan", content=clip, headers={"content-type": "video/mp4"}).json()[
        "records"
    ]
    assert len(record["clip"]["frames"]) == 3
