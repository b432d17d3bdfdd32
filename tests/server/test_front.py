"""The page's files, and what the server makes of records and reports that come back to it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, gradient, noise, shapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from serving import Running, Servers

from aidetect.cli.formats.writers import schema_text, writer_to
from aidetect.cli.server import front
from aidetect.cli.server.reports import ReportError, read_json, record_from
from aidetect.detector.detector import Detector
from aidetect.detector.models.model import MODES
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.record import Record, ViewScore

USER, SECRET = "anna", "0123456789abcdef"


@pytest.fixture(scope="module")
def running(tiny_model_folder: Path) -> Iterator[Running]:
    """A server for all tests of this module. It computes in float32, as all tests do."""
    servers = Servers(tiny_model_folder)
    yield servers.start(precision="float32")
    servers.stop()


def pictures() -> list[tuple[str, tuple[str, bytes]]]:
    found = {"a.png": encode(shapes(90, 70)), "b.jpg": encode(noise(64, 64), "JPEG"), "c.png": b"<html>"}
    return [("files", pair) for pair in found.items()]


def scan(running: Running, **options: str) -> Any:
    reply = running.client.post("/v1/scan", files=pictures(), data=options)
    assert reply.status_code == 200, reply.text
    return reply.json()


def full_record() -> Record:
    """A record with a value in every field."""
    copies = [{"name": "JPEG 90", "logit": 0.5, "probability": 0.6, "verdict": "uncertain"}]
    return Record(
        "caf\udce9.jpg",
        file_sha256="a" * 64,
        file_bytes=2048,
        pixels_sha256="b" * 64,
        width=640,
        height=480,
        format="PNG",
        background="white",
        alpha_sha256="c" * 64,
        frame=2,
        frames=3,
        logit=1.5,
        probability=0.95,
        generators={"flux": 0.5},
        verdict="ai",
        thresholds=Thresholds(ai=0.9, real=0.3),
        views=[ViewScore("whole", (0, 0, 640, 480), 1.25)],
        warnings=["small: little detail"],
        stability={"kept": False, "verdict": "ai", "copies": copies},
        evidence=[{"kind": "c2pa", "where": "JUMBF", "says": "so", "detail": {"by": ["x", 1]}}],
        accepted={"reason": "ours", "date": "2026-01-01"},
        finding=True,
        cached=True,
        milliseconds=12.5,
    )


# --- the page and its files ---------------------------------------------------------------------------


class Links(HTMLParser):
    """What a page refers to, and what a policy would have to allow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.links += [str(names[name]) for name in ("src", "href", "action", "srcset") if name in names]
        self.inline += [name for name in names if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.inline.append(tag)


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(running: Running) -> None:
    reply = running.client.get("/")
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "data:" not in policy
    assert "set-cookie" not in reply.headers
    links = Links(reply.text)
    assert not links.inline
    assert {"/page/look.css", "/page/front.css", "/page/front.js"} <= set(links.links)
    assert all(re.match(r"/(?!/)|#", link) for link in links.links)
    imported = ["/page/intake.js", "/page/server.js"]
    for link in [*filter(lambda link: link.startswith("/page/"), links.links), *imported]:
        asset = running.client.get(link)
        assert asset.status_code == 200, link
        assert asset.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript")
        assert not re.search(r"https?://\w", asset.text.replace("http://www.w3.org/2000/svg", ""))
        assert not re.search(
            r"@import|url\(|innerHTML|localStorage|sessionStorage|document\.cookie", asset.text
        )


@pytest.mark.parametrize(
    "name", ["front.html", "front.py", "..%2Ffront.py", "%2e%2e/front.py", "nothing", ""]
)
def test_only_the_pages_files_are_served(running: Running, name: str) -> None:
    assert running.client.get(f"/page/{name}").status_code == 404


def test_the_page_states_the_models_thresholds_and_rates(running: Running) -> None:
    text = running.client.get("/").text
    assert "Probability 80.0% or more" in text
    assert "From 30.0% to 80.0%" in text
    assert "A probability is not proof." in text
    assert "1.0% <small>(0.2% to 5.0%, n&nbsp;=&nbsp;100)</small>" in text


def test_an_address_is_offered_only_where_the_server_fetches(start: Any) -> None:
    assert "Address of a picture" in start().client.get("/").text
    assert "Address of a picture" not in start(network=False).client.get("/").text


def test_while_the_model_is_loaded_the_page_says_so(running: Running, monkeypatch: Any) -> None:
    monkeypatch.setattr(running.server.service.engine, "_live", None)
    reply = running.client.get("/")
    assert reply.status_code == 503
    assert reply.headers["refresh"] == "2"
    assert "The model is being loaded" in reply.text
    assert running.client.post("/page/card", json={}).json()["error"]["type"] == "starting"
    monkeypatch.undo()


def test_the_page_is_open_and_what_it_asks_for_is_not(start: Any) -> None:
    from aidetect.cli.server.auth import Credentials

    running = start(credentials=Credentials([(USER, SECRET)]))
    assert running.client.get("/").status_code == 200
    for path in ("/page/card", "/page/why", "/v1/report?format=csv", "/v1/scan"):
        assert running.client.post(path, json={}).status_code == 401, path
        known = running.client.post(path, json={}, auth=(USER, SECRET))
        assert known.status_code == 400, path


# --- records that come back ---------------------------------------------------------------------------


def test_a_record_is_read_back_as_it_was() -> None:
    before = full_record()
    data = json.loads(json.dumps(before.to_dict()))
    assert record_from(data) == before
    bare = Record("x", status="error", error={"type": "t", "message": "m"})
    assert record_from(bare.to_dict()) == bare


def test_the_schema_and_the_page_know_every_mode() -> None:
    views = json.loads(schema_text())["properties"]["model"]["properties"]["views"]
    assert views["enum"] == list(front._SPEEDS) == list(MODES)


def test_a_card_is_the_reports_card_with_words_and_buttons(running: Running) -> None:
    record = scan(running)["records"][0] | {"verdict": "ai"}
    reply = running.client.post("/page/card", json={"record": record, "number": 7, "views": "standard"})
    assert reply.status_code == 200
    assert 'id="n7"' in reply.text
    assert "Likely AI-generated. Of 1,000 real pictures, about 10 are called AI too." in reply.text
    assert 'aria-controls="why7"' in reply.text
    report = io.StringIO()
    writer = writer_to(report, "html")
    writer.begin(running.server.service.engine.header())
    writer.add(record_from(record))
    writer.end({"images": 1, "ai": 1, "uncertain": 0, "real": 0, "errors": 0}, False)
    for part in ('<svg class="scale"', "<details><summary>", '<p class="result">'):
        cut = reply.text[reply.text.index(part) :].partition("</")[0]
        assert cut in report.getvalue()


def test_a_card_of_what_could_not_be_read_has_nothing_to_explain(running: Running) -> None:
    record = scan(running)["records"][2]
    text = running.client.post("/page/card", json={"record": record, "number": 1}).text
    assert "this is an HTML page, not an image" in text
    assert "Why this score?" not in text


def test_why_lists_the_copies(running: Running) -> None:
    (name, file) = pictures()[0]
    explained = running.client.post("/v1/explain", files=[(name, file)]).json()
    text = running.client.post("/page/why", json={"record": explained["record"], "number": 1}).text
    for copy in explained["record"]["stability"]["copies"]:
        assert f'<th scope="row">{copy["name"]}</th>' in text


# --- reports that come back ---------------------------------------------------------------------------


def test_csv_is_what_scan_writes(running: Running, tiny_detector: Detector) -> None:
    report = scan(running)
    reply = running.client.post("/v1/report?format=csv", json=report)
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"] == 'attachment; filename="aidetect-report.csv"'
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert [row["input"] for row in rows] == ["a.png", "b.jpg", "c.png"]
    scored = tiny_detector.score([file for _, (_, file) in pictures()[:2]])
    assert [row["logit"] for row in rows[:2]] == [f"{record.logit:.6f}" for record in scored]
    assert rows[2]["error_message"] == "this is an HTML page, not an image"


def test_html_is_the_report_with_the_thumbnails_that_were_sent(running: Running) -> None:
    thumbnail = encode(gradient(), "JPEG")
    sent = scan(running) | {"thumbnails": [base64.b64encode(thumbnail).decode(), None, None]}
    text = running.client.post("/v1/report?format=html", json=sent).text
    assert text.startswith("<!DOCTYPE html>")
    assert text.count('<article class="card') == 3
    assert text.count("data:image/jpeg;base64,") == 1
    assert base64.b64encode(thumbnail).decode() in text
    assert f'<time datetime="{sent["started"]}">' in text


def test_a_client_cannot_have_other_error_rates_or_totals_printed(running: Running) -> None:
    sent = scan(running)
    sent["model"] |= {"name": "better", "error_rates": {"recall": {"value": 1, "n": 9, "low": 1, "high": 1}}}
    sent["counts"] = {"images": 99, "ai": 99, "uncertain": 0, "real": 0, "errors": 0}
    text = running.client.post("/v1/report?format=html", json=sent).text
    assert "better" not in text
    assert "AI images called ai" not in text
    assert "Report on 3 images" in text


def test_the_server_gives_thumbnails_where_they_are_asked_for(running: Running) -> None:
    report = scan(running, thumbnails="true")
    first, second, third = report["thumbnails"]
    assert base64.b64decode(first).startswith(b"\xff\xd8\xff")
    assert base64.b64decode(second).startswith(b"\xff\xd8\xff")
    assert third is None
    Draft202012Validator(json.loads(schema_text())).validate(report)
    assert "thumbnails" not in scan(running)
    assert running.client.post("/v1/report?format=html", json=report).text.count("data:image/jpeg") == 2


def change(data: Any, path: str, value: Any) -> Any:
    """A copy with another value at a path."""
    copy = json.loads(json.dumps(data))
    *way, last = path.split("/")
    place = copy
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("model/card_sha256", "0" * 64, "another model"),
        ("model/views", "none", "model/views"),
        ("records/0/logit", "1", "logit"),
        ("records/0/verdict", "perhaps", "verdict"),
        ("records/0/type/ai_generated", 2, "type/ai_generated"),
        ("records/0/pixels/width", True, "pixels/width"),
        ("records/0/file/sha256", "<script>", "file/sha256"),
        ("records/0/extra", 1, "extra"),
        ("records/0/input_base64", "a", "base64"),
        ("records/0", [], "object"),
        ("records", {}, "records"),
        ("started", "yesterday", "not a time"),
        ("started", "0001-01-01T00:00:00+23:59", "not a time"),
        ("thumbnails", ["", ""], "one for each"),
        ("thumbnails", ["!", None, None], "base64"),
        ("thumbnails", ["PHN2Zz4=", None, None], "JPEG"),
        ("thumbnails", [base64.b64encode(b"\xff\xd8\xff" + bytes(2**16)).decode(), None, None], "JPEG"),
        ("schema", "other", "schema"),
    ],
)
def test_what_is_no_report_is_refused(running: Running, path: str, value: Any, says: str) -> None:
    for format_ in ("csv", "html"):
        reply = running.client.post(f"/v1/report?format={format_}", json=change(scan(running), path, value))
        assert reply.status_code == 400, reply.text
        assert says in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 400 + b"}",
        b"[" * 100_000,
        b"[" * 60 + b"]" * 60,
        b'{"record": {"input": "x"}, "number": []}',
    ],
)
def test_hostile_json_is_refused(running: Running, body: bytes) -> None:
    for path in ("/page/card", "/page/why", "/v1/report?format=csv"):
        reply = running.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code == 400, (path, reply.text)


def test_a_report_has_a_format_and_a_size(start: Any) -> None:
    running = start(max_upload=100_000)
    assert running.client.post("/v1/report?format=pdf", json={}).status_code == 400
    assert running.client.post("/v1/report?format=csv", content=b" " * 100_001).status_code == 413


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(data: Any, path: str = "") -> list[str]:
    """The paths of all values in JSON data."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    below = [(f"{path}/{key}".lstrip("/"), inner) for key, inner in pairs]
    return [each for place, inner in below for each in (place, *places(inner, place))]


WHOLE = full_record().to_dict()


@settings(suppress_health_check=list(HealthCheck), max_examples=150)
@given(st.sampled_from(places(WHOLE)), values)
def test_a_record_with_any_value_anywhere_is_shown_or_refused(path: str, value: Any) -> None:
    from aidetect.cli.formats.html import card_context, templates

    try:
        record = record_from(read_json(json.dumps(change(WHOLE, path, value)).encode()))
    except ReportError:
        return
    text = (
        templates("aidetect.cli.server")
        .get_template("scored.html")
        .render(card_context(record, 1), words=dict.fromkeys(("ai", "uncertain", "real"), ""))
    )
    text.encode("utf-8")
    for format_ in ("csv", "html"):
        writer = writer_to(io.StringIO(), format_)
        writer.begin(HEADER)
        writer.add(record)


HEADER = {"model": {"name": "m", "card_sha256": "0" * 64}}


def test_making_a_report_writes_no_file(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was made")

    report = scan(running, thumbnails="true")
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    assert running.client.post("/v1/report?format=html", json=report).status_code == 200
