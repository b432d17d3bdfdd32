"""The cloud API: replies and failures as its clients know them."""

from __future__ import annotations

import re
import time
from typing import Any

from conftest import encode, shapes
from serving import Running

from aidetect.detector.detector import Detector

PICTURE = encode(shapes(90, 70))
ID = re.compile(r"(req|med)_[0-9A-Za-z]{21}")


def post(running: Running, **fields: Any) -> Any:
    files = {"media": fields.pop("media", ("a.png", PICTURE))}
    return running.client.post("/1.0/check.json", data={"models": "genai", **fields}, files=files)


def test_the_reply_is_as_the_cloud_gives_it(running: Running, tiny_detector: Detector) -> None:
    before = time.time()
    reply = post(running)
    data = reply.json()
    (expected,) = tiny_detector.score([PICTURE])
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert set(data) == {"status", "request", "type", "media", "aidetect"}
    assert data["status"] == "success"
    assert ID.fullmatch(data["request"]["id"])
    assert before - 1 < data["request"]["timestamp"] < time.time() + 1
    assert data["request"]["operations"] == 1
    assert data["type"] == {"ai_generated": expected.probability, "ai_generators": {}}
    assert ID.fullmatch(data["media"]["id"])
    assert data["media"]["uri"] == "a.png"
    assert data["aidetect"]["verdict"] == expected.verdict
    assert data["aidetect"]["logit"] == expected.logit
    assert reply.headers["x-request-id"] == data["request"]["id"]
    assert "server" not in reply.headers
