"""Our own API: reports, explanations, the model, health, metrics, the log."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from conftest import encode, png_with, shapes, wait_until
from jsonschema import Draft202012Validator
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from serving import Running

from aidetect.cli.formats.writers import schema_text
from aidetect.detector.detector import Detector

PICTURES = [encode(shapes(80 + i, 60, seed=i)) for i in range(4)]
SCHEMA = Draft202012Validator(json.loads(schema_text()))


def scan(running: Running, query: str = "", count: int = 3, **more: Any) -> Any:
    parts = [("file", (f"{i}.png", data)) for i, data in enumerate(PICTURES[:count])]
    return running.client.post(f"/v1/scan{query}", files=parts, **more)


def test_a_report_of_many_files(running: Running, tiny_detector: Detector) -> None:
    data = scan(running).json()
    SCHEMA.validate(data)
    expected = tiny_detector.score(PICTURES[:3])
    assert [record["logit"] for record in data["records"]] == [record.logit for record in expected]
    assert [record["input"] for record in data["records"]] == ["0.png", "1.png", "2.png"]
    assert data["counts"]["images"] == 3
    assert data["model"]["views"] == "standard"


def test_one_raw_body(running: Running) -> None:
    reply = running.client.post("/v1/scan?name=x.png", content=PICTURES[0])
    data = reply.json()
    SCHEMA.validate(data)
    assert [record["input"] for record in data["records"]] == ["x.png"]
    assert running.client.post("/v1/scan", content=PICTURES[0]).json()["records"][0]["input"] == "upload"


def test_options_in_query_and_form(running: Running, tiny_detector: Detector) -> None:
    fast = Detector(tiny_detector.model, tiny_detector.device, "fast", batch_size=8)
    (expected,) = fast.score(PICTURES[:1])
    for reply in (scan(running, "?views=fast", 1), scan(running, "", 1, data={"views": "fast"})):
        data = reply.json()
        assert data["model"]["views"] == "fast"
        assert data["records"][0]["logit"] == expected.logit


def test_evidence_and_stability(running: Running) -> None:
    text = (b"tEXt", b"parameters\0a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    parts = {"file": ("a.png", png_with(PICTURES[0], text))}
    data = running.client.post("/v1/scan?evidence=1&stability=true", files=parts).json()
    SCHEMA.validate(data)
    (record,) = data["records"]
    assert record["evidence"][0]["kind"] == "generator-metadata"
    assert len(record["stability"]["copies"]) == 5
    (plain,) = scan(running, "", 1).json()["records"]
    assert "evidence" not in plain
    assert "stability" not in plain
    assert plain["logit"] == record["logit"]


def test_one_bad_file_is_one_bad_record(running: Running) -> None:
    parts = [("a", ("a.png", PICTURES[0])), ("b", ("b.png", b"x")), ("c", ("c.png", PICTURES[1]))]
    reply = running.client.post("/v1/scan", files=parts)
    SCHEMA.validate(reply.json())
    assert reply.status_code == 200
    assert [record["status"] for record in reply.json()["records"]] == ["ok", "error", "ok"]
    assert reply.json()["counts"]["errors"] == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [("?views=best", "views is one of"), ("?evidence=perhaps", "evidence"), ("?stability=2", "stability")],
)
def test_options_that_do_not_exist(running: Running, query: str, words: str) -> None:
    reply = scan(running, query, 1)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "argument"
    assert words in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"{}", b'{"urls": "x"}', b'{"urls": []}', b'{"urls": [1]}', b'{"urls": [null]}'),
        *(b'{"urls": ["x"], "views": 3}', b"[" * 100_000, b'{"urls": ["x"], "evidence": "perhaps"}', b"\xff"),
        json.dumps({"urls": ["http://x.invalid/"] * 101}).encode(),
    ],
)
def test_json_that_is_no_list_of_addresses(running: Running, body: bytes) -> None:
    reply = running.client.post("/v1/scan", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] in ("argument", "request")


def test_nothing_to_scan(running: Running) -> None:
    assert running.client.post("/v1/scan").status_code == 400
    assert running.client.post("/v1/scan", data={"views": "fast"}).status_code == 400


def test_more_files_than_may_be(running: Running) -> None:
    parts = [("file", ("a", b"x"))] * 101
    assert running.client.post("/v1/scan", files=parts).status_code == 400


def test_an_explanation(running: Running) -> None:
    reply = running.client.post("/v1/explain", content=PICTURES[0], headers={"Accept": "image/png"})
    assert reply.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(reply.content)).format == "PNG"
    data = running.client.post("/v1/explain?views=fast", files={"file": ("a.png", PICTURES[0])}).json()
    assert data["record"]["stability"]["copies"]
    assert data["influence"]["tiles"]
    assert data["heat_map"].startswith("data:image/png;base64,")
    assert data["model"]["views"] == "fast"


def test_what_cannot_be_explained(running: Running) -> None:
    reply = running.client.post("/v1/explain", content=b"no picture")
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "media")
    two = [("file", ("a", PICTURES[0])), ("file", ("b", PICTURES[1]))]
    assert running.client.post("/v1/explain", files=two).status_code == 400


def test_the_model(running: Running) -> None:
    data = running.client.get("/v1/model").json()
    assert data["model"]["name"] == "tiny"
    assert data["modes"] == ["fast", "standard", "thorough"]
    assert running.client.get("/v1/model?views=fast").json()["model"]["views"] == "fast"


def test_health_before_and_after_loading(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from aidetect.cli.server.engine import Engine

    go, load = threading.Event(), Engine.load
    monkeypatch.setattr(Engine, "load", lambda engine: (go.wait(10), load(engine)))
    running = start(ready=False)
    assert running.client.get("/healthz").status_code == 200
    assert running.client.get("/readyz").status_code == 503
    reply = scan(running, "", 1)
    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "starting")
    assert reply.headers["retry-after"]
    go.set()
    assert wait_until(lambda: running.client.get("/readyz").status_code == 200)
    assert scan(running, "", 1).status_code == 200


def test_metrics(running: Running) -> None:
    scan(running)
    running.client.post("/v1/scan", content=b"x")
    running.client.get("/nowhere")
    text = running.client.get("/metrics").text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["aidetect_requests_total", "/v1/scan", "200", "POST"] == 2
    assert found["aidetect_requests_total", "404", "GET", "other"] == 1
    assert sum(value for key, value in found.items() if key[0] == "aidetect_images_total") == 4
    assert found["aidetect_images_total", "error"] == 1
    assert found["aidetect_errors_total", "not_an_image"] == 1
    assert found["aidetect_errors_total", "not_found"] == 1
    assert found["aidetect_queue_seconds_count",] == 4
    views = found["aidetect_batch_views_sum",]
    assert views >= 3 * 4
    assert found["aidetect_tower_seconds_count",] == found["aidetect_batch_views_count",] > 0
    assert found["aidetect_waiting_images",] == found["aidetect_upload_bytes",] == 0


def test_the_log_names_no_picture(running: Running, start: Any) -> None:
    reply = running.client.post("/1.0/check.json?models=genai", files={"media": ("secret.png", PICTURES[0])})
    running.client.get("/1.0/check.json?models=genai&url=http://10.0.0.1/secret.png&api_secret=hush")
    assert wait_until(lambda: len(running.lines) == 2)
    first, second = running.log
    assert first["id"] == reply.headers["x-request-id"]
    assert (first["route"], first["status"], first["images"]) == ("/1.0/check.json", 200, 1)
    assert second["error"] == "address_refused"
    assert "secret" not in json.dumps(running.log)
    assert "hush" not in json.dumps(running.log)
    named = start(log_names=True)
    named.client.post("/1.0/check.json?models=genai", files={"media": ("a\x1bb.png", PICTURES[0])})
    assert wait_until(lambda: len(named.lines) == 1)
    assert named.log[0]["names"][0].endswith("b.png")
    assert "\x1b" not in named.lines[0]


def test_nothing_is_written_to_disk(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", forbidden)
    noisy = encode(shapes(1500, 1200), "BMP")
    assert len(noisy) > 2**22
    assert scan(running, "", 1).status_code == 200
    parts = {"file": ("a.bmp", noisy)}
    assert running.client.post("/v1/scan", files=parts).json()["records"][0]["status"] == "ok"
