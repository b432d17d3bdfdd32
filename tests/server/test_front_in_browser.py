"""The page in a real browser: its flows, what it may load, and who can use it."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import ipaddress
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import playwright.sync_api
import pytest
from conftest import encode, noise, png_chunk, shapes
from jsonschema import Draft202012Validator
from PIL import PngImagePlugin
from serving import Running, Servers

from aidetect.cli.formats.html import VERDICTS
from aidetect.cli.formats.writers import percent, schema_text
from aidetect.cli.server.auth import Credentials
from aidetect.detector.detector import Detector

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
AXE = os.environ.get("AIDETECT_AXE")
needs_axe = pytest.mark.skipif(not AXE, reason="AIDETECT_AXE does not name axe.min.js of npm's axe-core")

_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
USER, SECRET = "anna", "0123456789abcdef\u00e9"

GOOD = encode(shapes(200, 120, 1))
JPEG = encode(shapes(120, 200, 2), "JPEG")
TIFF = encode(shapes(90, 90, 3), "TIFF")  # no browser draws it
BROKEN = b"<!doctype html><title>404</title>"


def file(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


@dataclass
class Open:
    """A page in a window of its own, with what it asked for and complained of."""

    page: Any
    base: str
    addresses: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def choose(self, *files: dict[str, Any]) -> None:
        self.page.set_input_files("#files", list(files))

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self.page.wait_for_selector("#results:not([hidden]) #stop[hidden]", state="attached", timeout=20_000)

    def card(self, number: int) -> Any:
        return self.page.locator(f"#n{number}")

    def texts(self, selector: str) -> list[str]:
        return [" ".join(text.split()) for text in self.page.locator(selector).all_inner_texts()]

    def totals(self) -> list[int]:
        return [int(text) for text in self.texts(".totals b")]

    def said(self) -> str:
        self.page.wait_for_timeout(900)  # it is told after a pause
        return str(self.page.locator("#said").inner_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=BROWSER, args=_FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def serve(tiny_model_folder: Path) -> Iterator[Any]:
    """Starts servers that live as long as the module, and compute in float32, as all tests do."""
    servers = Servers(tiny_model_folder)
    yield functools.partial(servers.start, precision="float32")
    servers.stop()


@pytest.fixture(scope="module")
def server(serve: Any) -> Running:
    """A server that fetches from loopback."""
    found: Running = serve(networks=(ipaddress.ip_network("127.0.0.0/8"),), max_upload=2**20)
    return found


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens the page of a server in a new window. At the end nothing may have gone wrong, or elsewhere."""
    contexts = []
    windows: list[Open] = []

    def call(running: Running, size: dict[str, int] = DESKTOP, **options: Any) -> Open:
        context = browser.new_context(viewport=size, accept_downloads=True, **options)
        contexts.append(context)
        window = Open(context.new_page(), running.server.address)
        windows.append(window)
        window.page.on("request", lambda request: window.addresses.append(request.url))
        window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.page.on("console", lambda line: window.complaints.append(line.text))
        window.page.goto(window.base)
        return window

    yield call
    for window in windows:
        own = (f"{window.base}/", f"blob:{window.base}/")
        assert all(address.startswith(own) for address in window.addresses)
        assert not [text for text in window.complaints if not text.startswith("Failed to load resource")]
        assert window.page.context.cookies() == []
        assert window.page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert window.page.title().endswith("aidetect: is it AI-generated?")
    for context in contexts:
        context.close()


def expected(detector: Detector, data: bytes) -> str:
    (record,) = detector.score([data])
    return f"{percent(record.probability)} {VERDICTS[str(record.verdict)]}"


# --- flows --------------------------------------------------------------------------------------------


def test_chosen_files_become_cards_with_the_scores_of_scan(
    visit: Any, server: Running, tiny_detector: Detector
) -> None:
    window = visit(server)
    assert window.page.locator("#results").is_hidden()
    window.choose(file("a.png", GOOD), file("b.jpg", JPEG), file("c.png", BROKEN), file("d.tif", TIFF))
    window.settle()
    assert window.texts("#cards .name") == ["a.png", "b.jpg", "c.png", "d.tif"]
    shown = [text.removeprefix("Probability ") for text in window.texts("#cards .result")]
    scored = [expected(tiny_detector, data) for data in (GOOD, JPEG, TIFF)]
    assert shown == [*scored[:2], "Unreadable", scored[2]]
    assert "this is an HTML page, not an image" in window.card(3).inner_text()
    assert sum(window.totals()) == 4
    assert window.totals()[3] == 1
    for number, words in ((1, "200 \u00d7 120 PNG"), (2, "120 \u00d7 200 JPEG")):
        assert words in window.card(number).inner_text()
    sources = window.page.eval_on_selector_all("#cards img", "all => all.map((one) => one.src)")
    assert len(sources) == 3  # the server drew the TIFF
    assert all(source.startswith("blob:") for source in sources)
    widths = "all => all.map((one) => one.naturalWidth)"
    assert window.page.eval_on_selector_all("#cards img", widths) == [160, 96, 90]
    assert window.said().startswith("4 of 4 pictures done: ")


def test_pictures_can_be_pasted_and_dropped(visit: Any, server: Running) -> None:
    window = visit(server)
    send = """([kind, name, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name));
      const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
        : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.querySelector("h1").dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    window.page.evaluate(send, ["paste", "pasted.png", list(GOOD)])
    assert window.page.evaluate(send, ["drop", "dropped.png", list(JPEG)]), "the browser would open the file"
    window.settle()
    window.page.wait_for_selector("#n2")
    window.settle()
    assert window.texts("#cards .name") == ["pasted.png", "dropped.png"]


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of another server that has a picture, and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/there.png"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(GOOD if found else b"")

        def log_message(self, *_: Any) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{other.server_port}"
    other.shutdown()
    other.server_close()


def test_the_server_fetches_an_address_and_the_browser_does_not(
    visit: Any, server: Running, elsewhere: str, tiny_detector: Detector
) -> None:
    window = visit(server)
    for name in ("there.png", "gone.png"):
        window.page.get_by_label("Address of a picture").fill(f"{elsewhere}/{name}")
        window.page.get_by_role("button", name="Check").click()
    window.settle()
    assert window.texts("#cards .name") == [f"{elsewhere}/there.png", f"{elsewhere}/gone.png"]
    assert window.texts("#n1 .result")[0].endswith(expected(tiny_detector, GOOD))
    assert window.page.locator("#n1 img").count() == 1
    assert "404" in window.card(2).inner_text()
    window.page.get_by_label("Address of a picture").fill("ftp://example.com/a.png")
    window.page.get_by_role("button", name="Check").click()
    assert window.page.locator("#cards .card").count() == 2


def test_evidence_and_copies_are_shown_when_asked_for(visit: Any, server: Running) -> None:
    window = visit(server)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "hills\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 20x20")
    window.choose(file("a.png", encode(shapes(64, 64), pnginfo=info)))
    window.settle()
    assert "Evidence" not in window.card(1).inner_text()
    window.page.get_by_label("Metadata and watermarks").check()
    window.settle()
    window.page.wait_for_selector("#n1 dt:text('Evidence')")
    assert "Re-encoded" not in window.card(1).inner_text()
    window.page.get_by_label("Scores of altered copies").check()
    window.page.wait_for_selector("#n1 .notes dt:text('Re-encoded')")
    window.settle()
    assert "not part of the score" in window.card(1).inner_text()
    before = window.texts("#n1 .result")
    window.page.get_by_label("Speed").select_option("thorough")
    window.page.wait_for_selector("#n1.pending", state="detached")
    window.settle()
    assert window.texts("#n1 .result") != before
    assert window.page.locator("#cards .card").count() == 1


def test_why_by_keyboard(visit: Any, server: Running) -> None:
    window = visit(server)
    window.choose(file("a.png", GOOD))
    window.settle()
    button = window.page.get_by_role("button", name="Why this score?")
    button.focus()
    window.page.keyboard.press("Enter")
    window.page.wait_for_selector("#why1 img")
    assert button.get_attribute("aria-expanded") == "true"
    assert window.page.evaluate("document.activeElement.dataset.do") == "why"
    window.page.wait_for_selector("#why1 img")
    size = "document.querySelector('#why1 img').decode().then(() => 0).catch(() => 1)"
    assert window.page.evaluate(size) == 0
    copies = window.texts("#why1 tbody th")
    assert copies[0] == "as given"
    assert len(copies) == 6
    with window.page.expect_download() as download:
        window.page.get_by_role("link", name="Save the heat map").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    sent = len(window.addresses)
    for shown in (False, True):
        window.page.keyboard.press("Shift+Tab")  # the link had the focus
        button.press("Enter")
        assert window.page.locator("#why1").is_visible() == shown
    assert len(window.addresses) == sent, "what is known is not asked for again"


def test_results_can_be_kept_as_json_csv_and_a_page(visit: Any, server: Running) -> None:
    window = visit(server)
    window.choose(
        file("a.png", GOOD), file("b.jpg", JPEG), file("c.png", BROKEN), file("e", bytes(2**20 + 1))
    )
    window.settle()
    kept = {}
    for format_ in ("JSON", "CSV", "HTML"):
        with window.page.expect_download() as download:
            window.page.get_by_role("button", name=format_).click()
        assert download.value.suggested_filename == f"aidetect-report.{format_.lower()}"
        kept[format_] = Path(download.value.path()).read_bytes().decode("utf-8")
    report = json.loads(kept["JSON"])
    Draft202012Validator(json.loads(schema_text())).validate(report)
    names = ["a.png", "b.jpg", "c.png", "e"]
    assert [record["input"] for record in report["records"]] == names
    assert report["counts"]["images"] == 4
    assert report["counts"]["errors"] == 2
    assert not report["interrupted"]
    rows = list(csv.DictReader(io.StringIO(kept["CSV"], newline="")))
    assert [row["input"] for row in rows] == names
    assert [row["probability"] for row in rows[:2]] == [
        f"{record['type']['ai_generated']:.6f}" for record in report["records"][:2]
    ]
    assert kept["HTML"].count("data:image/jpeg;base64,") == 2
    assert "larger than 1 MiB" in kept["HTML"]


def test_a_page_that_would_be_too_large_has_no_thumbnails(visit: Any, serve: Any) -> None:
    window = visit(serve(max_upload=40_000))
    window.choose(*(file(f"{n}.png", encode(noise(60, 60, n))) for n in range(12)))
    window.settle()
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="HTML").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.count('<article class="card') == 12
    assert "data:image" not in text
    assert window.page.get_by_role("alert").inner_text().startswith("The page has no thumbnails")


def test_results_come_as_they_are_ready_and_few_at_a_time(visit: Any, server: Running) -> None:
    window = visit(server)
    under_way: set[Any] = set()
    most, order = [0], []

    def begun(request: Any) -> None:
        if request.url.endswith("/v1/scan"):
            under_way.add(request)
            most[0] = max(most[0], len(under_way))
            order.append("sent")

    def ended(request: Any) -> None:
        if request in under_way:
            under_way.discard(request)
            order.append("done")

    window.page.on("request", begun)
    window.page.on("requestfinished", ended)
    window.choose(*(file(f"{n}.png", encode(shapes(64, 48, n))) for n in range(24)))
    window.settle()
    assert order.count("sent") == order.count("done") == 24
    assert 1 < most[0] <= 4
    assert order.index("done") < 8
    assert sum(window.totals()) == 24
    assert window.page.title() == "aidetect: is it AI-generated?"


def test_pictures_can_be_stopped_removed_and_cleared(visit: Any, server: Running) -> None:
    window = visit(server)
    window.page.route("**/v1/scan", lambda route: None)  # it never answers
    window.choose(file("a.png", GOOD), file("b.jpg", JPEG))
    window.page.wait_for_selector("#n2.busy")
    window.page.get_by_role("button", name="Stop").click()
    window.settle()
    assert "Stopped before it was scored." in window.card(1).inner_text()
    window.page.unroute("**/v1/scan")
    window.page.get_by_role("button", name="Try again b.jpg").click()
    window.page.wait_for_selector("#n2:not(.pending)")
    window.card(1).get_by_role("button", name="Remove a.png").click()
    assert window.texts("#cards .name") == ["b.jpg"]
    assert window.page.evaluate("document.activeElement.closest('.card').id") == "n2"
    window.page.get_by_role("button", name="Clear").click()
    assert window.page.locator("#results").is_hidden()
    assert window.totals() == [] or window.page.locator(".totals b").first.is_hidden()
    assert window.page.evaluate("document.activeElement.id") == "files"


# --- failures -----------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again(visit: Any, server: Running) -> None:
    window = visit(server)
    answers = iter([503, 429])

    def answer(route: Any) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, headers={"Retry-After": "1"}, json={"error": {"message": "busy"}})

    window.page.route("**/v1/scan", answer)
    window.choose(file("a.png", GOOD))
    window.page.wait_for_selector("#n1 .state:text('The server is busy')")
    window.page.wait_for_selector("#n1:not(.pending)")
    assert sum(window.totals()[:3]) == 1


def test_a_failure_is_on_the_card_and_can_be_tried_again(visit: Any, server: Running) -> None:
    window = visit(server)
    window.page.route("**/v1/scan", lambda route: route.abort())
    window.choose(file("a.png", GOOD))
    window.settle()
    assert "The server cannot be reached." in window.card(1).inner_text()
    assert "Not scored" in window.card(1).inner_text()
    assert window.said() == "a.png: The server cannot be reached."
    window.page.unroute("**/v1/scan")
    window.page.get_by_role("button", name="Try again").click()
    window.page.wait_for_selector("#n1:not(.pending)")
    assert sum(window.totals()[:3]) == 1


def test_a_file_that_is_too_large_is_not_sent(visit: Any, server: Running) -> None:
    window = visit(server)
    window.choose(file("large.png", bytes(2**20 + 1)))
    window.settle()
    assert "larger than 1 MiB" in window.card(1).inner_text()
    assert not [address for address in window.addresses if "/v1/" in address]


def test_credentials_are_asked_for_and_sent(visit: Any, serve: Any) -> None:
    window = visit(serve(credentials=Credentials([(USER, SECRET)])))
    assert window.page.locator("#login").is_hidden()
    window.choose(file("a.png", GOOD), file("b.jpg", JPEG))
    window.page.wait_for_selector("#login:not([hidden])")
    assert window.page.evaluate("document.activeElement.name") == "user"
    for secret in ("wrong", SECRET):
        window.page.get_by_label("User").fill(USER)
        window.page.get_by_label("Secret").fill(secret)
        window.page.get_by_role("button", name="Continue").click()
        if secret == "wrong":
            window.page.wait_for_selector("#login-note:text('did not take these')")
    window.settle()
    assert window.page.locator("#login").is_hidden()
    assert sum(window.totals()[:3]) == 2
    assert window.page.get_by_label("Secret").input_value() == ""


# --- hostile content ----------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>.png"
BIDI = "\u202egnp.exe\u2066.png"


def test_names_and_evidence_are_text(visit: Any, server: Running) -> None:
    window = visit(server)
    claim = f"{HOSTILE} {BIDI}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 20x20"
    claims = png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + claim.encode())
    data = encode(shapes(64, 64))
    window.page.get_by_label("Metadata and watermarks").check()
    window.choose(
        file(HOSTILE, data[:33] + claims + data[33:]), file(BIDI, GOOD), file(f"{BIDI}{HOSTILE}", BROKEN)
    )
    pending = window.texts(".name")
    window.settle()
    names = window.texts("#cards .name")
    assert HOSTILE.rpartition("/")[2] in names[0]
    for shown in (*pending, *names):
        assert "\u202e" not in shown
        assert "\u2066" not in shown
    assert "owned" in window.texts("#n1 details dd")[-1] or "owned" in window.card(1).inner_text()
    window.page.get_by_role("button", name="Why this score?").first.click()
    window.page.wait_for_selector("#why1 img")
    assert window.page.locator("#cards script, #cards [onerror]").count() == 0
    assert window.page.title() == "aidetect: is it AI-generated?"


def test_the_policy_stops_what_would_slip_through(visit: Any, server: Running) -> None:
    window = visit(server)
    put = "const put = (tag, text) => document.body.appendChild(document.createElement(tag)).append(text)"
    gif = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    trials = [
        f"{put}; put('script', 'window.ran = 1')",
        f"{put}; put('style', 'h1 {{ color: red }}')",
        "document.body.insertAdjacentHTML('beforeend', '<img src=blob:x onerror=\"window.ran = 1\">')",
        f"document.body.appendChild(new Image()).src = '{gif}'",
        "fetch('http://127.0.0.1:9/').catch(() => 0)",
    ]
    for code in trials:
        window.complaints.clear()
        window.page.evaluate(f"() => {{ {code} }}")
        window.page.wait_for_timeout(100)
        assert any("Content Security Policy" in text for text in window.complaints), code
    assert window.page.evaluate("window.ran") is None
    assert window.page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    window.complaints.clear()
    window.addresses[:] = [each for each in window.addresses if each.startswith(window.base)]


# --- who can use it -----------------------------------------------------------------------------------


def with_everything(window: Open) -> None:
    """Results of all kinds, an explanation and open details."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "NovelAI")
    window.page.get_by_label("Metadata and watermarks").check()
    window.page.get_by_label("Scores of altered copies").check()
    long = f"{'long' * 40}.png"
    window.choose(
        file("a.png", encode(shapes(64, 64), pnginfo=info)),
        file(long, GOOD),
        file("c", BROKEN),
        file("d", bytes(2**21)),
    )
    window.settle()
    window.page.get_by_role("button", name="Why this score?").first.click()
    window.page.wait_for_selector("#why1 img")
    for summary in window.page.locator("summary").all():
        summary.click()


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Any, server: Running, scheme: str) -> None:
    window = visit(server, DESKTOP | {"height": 6000}, color_scheme=scheme, reduced_motion="reduce")
    assert AXE
    window.page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    for prepare in (
        lambda: None,
        lambda: window.page.evaluate("() => { document.getElementById('login').hidden = false }"),
        lambda: (
            window.page.evaluate("() => { document.getElementById('login').hidden = true }"),
            with_everything(window),
        ),
    ):
        prepare()
        found = window.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        wrong = [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
        assert not wrong
        assert len(found["passes"]) > 20


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_scrolls_in_one_direction_only(visit: Any, server: Running, width: int) -> None:
    window = visit(server, PHONE | {"width": width}, has_touch=True, is_mobile=True)
    for prepare in (lambda: None, lambda: with_everything(window)):
        prepare()
        assert window.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
        rights = "all => all.map((one) => one.getBoundingClientRect().right)"
        seen = "main *:not(.unseen, .wide *)"
        assert max(window.page.eval_on_selector_all(seen, rights)) <= width, "cut off"
    if width == 390:
        heights = "all => all.filter((one) => one.offsetParent).map((one) => one.offsetHeight)"
        assert min(window.page.eval_on_selector_all("button, .button, select", heights)) >= 44


def test_dark_is_dark_and_motion_can_be_reduced(visit: Any, server: Running) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = visit(server, color_scheme="light"), visit(server, color_scheme="dark")
    assert light.page.evaluate(colour) == "rgb(244, 243, 239)"
    assert dark.page.evaluate(colour) == "rgb(18, 20, 22)"
    moving = "getComputedStyle(document.querySelector('.busy .thumb')).animationName"
    for motion, name in (("no-preference", "breathe"), ("reduce", "none")):
        window = visit(server, reduced_motion=motion)
        window.page.route("**/v1/scan", lambda route: None)
        window.choose(file("a.png", GOOD))
        window.page.wait_for_selector(".busy")
        assert window.page.evaluate(moving) == name


def test_the_keyboard_reaches_everything_and_the_focus_is_seen(visit: Any, server: Running) -> None:
    window = visit(server)
    window.choose(file("a.png", GOOD))
    window.settle()
    window.page.evaluate("() => document.activeElement.blur()")
    reached = []
    state = """() => {
      const one = document.activeElement;
      const seen = one.id === "files" ? document.querySelector("[for=files]") : one;
      const style = getComputedStyle(seen);
      const { id, name, dataset, textContent } = one;
      return [id || name || dataset.do || dataset.save || textContent.trim(), style.outlineStyle];
    }"""
    for _ in range(20):
        window.page.keyboard.press("Tab")
        name, outline = window.page.evaluate(state)
        reached.append(name)
        assert outline == "solid", name
        if name == "API":
            break
    assert reached == [
        *("Skip to the results", "files", "address", "Check", "views", "evidence", "stability"),
        *("html", "csv", "json", "clear", "Hashes and views", "why", "remove", "API"),
    ]
