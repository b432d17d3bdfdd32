"""The HTML report: what it says, that nothing in it can do harm, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import gc
import hashlib
import html as escapes
import io
import json
import re
import shutil
import subprocess
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import encode, gradient, noise, shapes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aidetect.cli.formats.html import Writer
from aidetect.cli.main import main
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.record import Record, ViewScore

LIMITS = Thresholds(ai=0.9, real=0.3)
VOID = {"meta", "img", "input", "br"}


def rate(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "n": n, "low": value / 2, "high": value * 1.5}


def header(command: str = "aidetect scan x", **model: Any) -> dict[str, Any]:
    rates = {
        "measured_on": "held-out pictures",
        "false_positive_rate": rate(0.01, 2302),
        "recall": rate(0.5, 2060),
        "missed_as_real": rate(0.12, 2060),
        "by_content": {"art": {"n": 9, "recall": rate(0.4, 213), "fpr": rate(0.03, 276)}, "meme": {"n": 3}},
    }
    about = {
        "name": "aidetect-9",
        "date": "2026-11-22",
        "card_sha256": "c" * 64,
        "tower_sha256": "d" * 64,
        "views": "standard",
        "prior": 0.5,
        "thresholds": {"ai": LIMITS.ai, "real": LIMITS.real},
        "error_rates": rates,
    }
    return {
        "tool": {"name": "aidetect", "version": "9.8.7"},
        "model": about | model,
        "libraries": {"torch": "2.9"},
        "device": {"name": "cpu", "dtype": "float32", "why": "no GPU was found"},
        "command": command,
        "started": "2026-11-23T14:02:11.123Z",
        "note": "",
    }


def record(name: str, probability: float, **more: Any) -> Record:
    found = Record(
        name,
        file_sha256="a" * 64,
        file_bytes=2048,
        pixels_sha256="b" * 64,
        width=640,
        height=480,
        format="JPEG",
        frame=0,
        frames=1,
        logit=1.5,
        probability=probability,
        verdict=LIMITS.verdict(probability),
        thresholds=LIMITS,
        views=[ViewScore("whole", (0, 0, 640, 480), 1.25), ViewScore("native", (8, 8, 232, 232), -0.5)],
    )
    for field, value in more.items():
        setattr(found, field, value)
    return found


def unreadable(name: str, message: str = "the PNG data is truncated", kind: str = "truncated") -> Record:
    return Record(name, status="error", error={"type": kind, "message": message})


def thumbnail(seed: int) -> bytes:
    return encode(shapes(160, 120, seed), "JPEG", quality=60)


STABILITY = {
    "kept": False,
    "verdict": "ai",
    "copies": [
        {"name": "JPEG 90", "logit": 2.5, "probability": 0.95, "verdict": "ai"},
        {"name": "JPEG 50", "logit": 0.5, "probability": 0.6, "verdict": "uncertain"},
    ],
}
EVIDENCE = [
    {
        "kind": "c2pa",
        "where": "JUMBF",
        "says": "A manifest says so.",
        "detail": {"issuer": "A", "uses": ["b", 2]},
    }
]


def some() -> list[Record]:
    """One of everything; in order of probability: b, d, a, f, e, c; by name: a, b, c, d, e, f10, f9."""
    return [
        record("pics/d.jpg", 0.97, thumbnail=thumbnail(1), warnings=["small: 9x9 has little detail"]),
        record("pics/b.jpg", 0.9931, thumbnail=thumbnail(2), generators={"stable_diffusion": 0.61}),
        unreadable("pics/f10.png"),
        record("pics/c.jpg", 0.0312, thumbnail=thumbnail(3)),
        record("pics/a.jpg", 0.55, stability=STABILITY, evidence=EVIDENCE, finding=True),
        record("pics/e.gif", 0.12, accepted={"reason": "our own", "date": "2026-10-02"}, frame=3, frames=8),
        record("pics/f9.jpg", 0.5, cached=True),
    ]


def page(
    records: Sequence[Record],
    head: dict[str, Any] | None = None,
    interrupted: bool = False,
    left_out: int = 0,
) -> str:
    stream = io.StringIO(newline="")
    writer = Writer(stream, False)
    writer.begin(head or header())
    counts = Counter(r.verdict or "errors" for r in records)
    for one in records:
        writer.add(one)
    total = {name: counts[name] for name in ("ai", "uncertain", "real", "errors")}
    writer.end({"images": len(records) + left_out, **total}, interrupted)
    return stream.getvalue()


class Parsed(HTMLParser):
    """Tags with their attributes in order, what is open where, and the text of each card."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.cards: list[str] = []
        self.contents: dict[str, str] = {}
        self.names: list[str] = []
        self._in_name = 0
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag == "article":
            self.cards.append("")
        if tag == "bdi":
            self.names.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" in self.open:
            self.cards[-1] += data
        if "bdi" in self.open:
            self.names[-1] += data
        if self.open:
            self.contents[self.open[-1]] = self.contents.get(self.open[-1], "") + data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags, and names of their attributes."""
        return [(tag, tuple(attrs)) for tag, attrs in self.tags]


# --- what it says -----------------------------------------------------------------------------------


def test_a_card_says_everything_about_its_image() -> None:
    cards = Parsed(page(some())).cards
    d, b, f10, c, a, e, f9 = (" ".join(card.split()) for card in cards)
    assert "pics/d.jpg" in d
    assert "640 \u00d7 480 JPEG, 2.0 KiB" in d
    assert "97.0%" in d
    assert "small: 9x9 has little detail" in d
    assert "a" * 64 in d
    assert "b" * 64 in d
    assert "whole, box 0, 0, 640, 480: logit +1.2500" in d
    assert "stable diffusion 61.0%" in b
    assert "only a hint" in b
    assert "Unreadable" in f10
    assert "the PNG data is truncated (truncated)" in f10
    assert "%" not in f10
    assert "Real" in c
    assert "the verdict was ai, but some copies got uncertain (JPEG 50)." in a
    assert "JPEG 90: ai, 95.0%, logit +2.5000" in a
    assert "A manifest says so. (c2pa, JUMBF; not part of the score)" in a
    assert "issuer: A; uses: b, 2" in a
    assert "--fail-on" in a
    assert "our own (2026-10-02)" in e
    assert "frame 3 of 8" in e
    assert "from the cache" in f9
    assert "--fail-on" not in d + b + f10 + c + e + f9


def test_a_verdict_that_stands_says_so() -> None:
    steady = {**STABILITY, "kept": True}
    assert "1 of 2 copies get the same verdict." in page([record("a", 0.95, stability=steady)])


def test_the_head_says_what_was_run_and_how_far_to_trust_it() -> None:
    text = " ".join(Parsed(page(some())).contents.values())
    for part in ("aidetect 9.8.7", "aidetect-9, fitted 2026-11-22", "c" * 64, "d" * 64, "aidetect scan x"):
        assert part in text
    assert "cpu, float32 (no GPU was found)" in text
    assert "2026-11-23 14:02:11 UTC" in text
    assert "ai from 0.9, real below 0.3" in text
    assert "A probability is not proof." in text
    assert "That does not prove that the image is authentic." in text
    assert "A person should look." in text
    assert "(0.5% to 1.5%, n\xa0=\xa02,302)" in text
    assert "not measured" in text  # memes have no rates


def test_rare_ai_pictures_make_most_accusations_wrong() -> None:
    # Of 10,000 pictures 100 are AI: 50 are found, and 99 of the 9,900 others are accused; 99 / 149.
    assert "about 66% of the <em>ai</em> verdicts" in page(some())


def test_a_model_without_error_rates_says_that() -> None:
    text = page(some(), header(error_rates={}))
    assert "how often its verdicts are wrong is not known" in text
    assert "of the <em>ai</em> verdicts" not in text


def test_totals_and_shares() -> None:
    parsed = Parsed(page(some()))
    numbers = re.findall(r"<dd><b>(\d+)</b></dd>", page(some()))
    assert numbers == ["2", "2", "2", "1"]
    bars = [attrs for tag, attrs in parsed.tags if tag == "rect" and attrs.get("height") == "100%"]
    shares = [attrs for attrs in bars if attrs["class"] != "gap"]
    assert [(a["class"], a["width"]) for a in shares] == [
        ("ai", "28.57%"),
        ("uncertain", "28.57%"),
        ("real", "28.57%"),
        ("error", "14.29%"),
    ]


def test_verdicts_are_told_by_word_and_shape_and_not_by_colour_alone() -> None:
    badge = r'<span class="badge"><svg[^>]*><path d="([^"]+)"/></svg> (\w+)</span>'
    badges = set(re.findall(badge, page(some())))
    assert {word for _, word in badges} == {"AI", "Uncertain", "Real", "Unreadable"}
    assert len({shape for shape, _ in badges}) == 4


def test_the_scale_stands_at_the_probability() -> None:
    parsed = Parsed(page([record("a", 0.1234)]))
    (mark,) = (attrs for tag, attrs in parsed.tags if tag == "circle" and "%" in str(attrs["cx"]))
    assert mark["cx"] == "12.34%"
    ticks = [attrs["x"] for tag, attrs in parsed.tags if tag == "rect" and attrs.get("class") == "tick"]
    assert ticks == ["30.00%", "90.00%"]


def test_thumbnails_are_in_the_page_and_a_drawing_stands_for_a_missing_one() -> None:
    jpeg = thumbnail(5)
    parsed = Parsed(page([record("a", 0.5, thumbnail=jpeg), record("b", 0.5)]))
    (image,) = (attrs for tag, attrs in parsed.tags if tag == "img")
    assert base64.b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,")) == jpeg
    assert sum(attrs.get("class") == "none" for _, attrs in parsed.tags) == 1


@pytest.mark.parametrize("records", [[], some()[:3]])
def test_an_interrupted_report_is_whole_and_says_so(records: list[Record]) -> None:
    text = page(records, interrupted=True)
    assert "<strong>Interrupted.</strong>" in text
    assert text.endswith("</body></html>\n")
    parsed = Parsed(text)
    assert len(parsed.cards) == len(records)
    assert ("There are no images in this report." in text) == (not records)
    assert "Interrupted." not in page(records)


def test_results_left_out_are_mentioned() -> None:
    assert "only some of the results: 7 of 12" in page(some(), left_out=5)
    assert "only some of the results" not in page(some())


def test_only_filters_that_have_a_use_are_offered() -> None:
    text = page([record("a", 0.95)])
    assert 'value="ai"' in text
    for name in ('value="real"', 'name="warnings"', 'name="accepted"'):
        assert name not in text
        assert name in page(some())


def test_a_name_that_is_not_utf8_can_be_found_again() -> None:
    text = page([record("caf\udce9.jpg", 0.5)])
    assert "caf\\xe9.jpg" in "".join(Parsed(text).names)
    assert base64.b64encode(b"caf\xe9.jpg").decode() in text


def test_records_are_not_kept_in_memory() -> None:
    writer = Writer(io.StringIO(), False)
    writer.begin(header())
    one = record("a", 0.5, thumbnail=thumbnail(1))
    gone = weakref.ref(one)
    writer.add(one)
    del one
    gc.collect()
    assert gone() is None
    writer.end({"images": 1, "ai": 0, "uncertain": 1, "real": 0, "errors": 0}, False)


def test_a_card_is_small() -> None:
    short, long = (len(page([record(f"folder/{i}.jpg", 0.5) for i in range(n)])) for n in (10, 210))
    assert (long - short) / 200 < 2500


def test_scan_writes_the_page_by_suffix(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(gradient(64, 48)))
    (tmp_path / "b<i>.jpg").write_bytes(encode(noise(48, 64), "JPEG"))
    (tmp_path / "c.png").write_text("<html>")
    out = tmp_path / "out" / "report.html"
    out.parent.mkdir()
    words = ["scan", tmp_path, "--model", tiny_model_folder, "--device", "cpu", "-o", out]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 3, result.stderr
    parsed = Parsed(out.read_text(encoding="utf-8"))
    assert parsed.names == [str(tmp_path / name) for name in ("a.png", "b<i>.jpg", "c.png")]
    assert "this is an HTML page, not an image" in parsed.cards[2]


# --- that it is one file, and that nothing in it can do harm ------------------------------------------


def policy(text: str) -> dict[str, str]:
    (found,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    return dict(part.strip().split(" ", 1) for part in escapes.unescape(found).split(";"))


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_forbids_the_network_and_foreign_code() -> None:
    text = page(some())
    rules = policy(text)
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert rules["style-src"] == digest(style)
    assert rules["script-src"] == digest(script)
    assert "url(" not in style
    assert "innerHTML" not in script
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_nothing_in_the_page_refers_to_anything_outside() -> None:
    parsed = Parsed(page(some()))
    for _, attrs in parsed.tags:
        assert "style" not in attrs  # the policy would ignore it
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert str(attrs.get(name, "#")).startswith(("#", "data:image/jpeg;base64,"))
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in parsed.tags:
        assert attrs.get("aria-labelledby", ids[0]) in ids


PAYLOADS = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "'><svg onload='document.title=`owned`'>",
    "</style></script></title></textarea><svg/onload=document.title='owned'>",
    "--><script>document.title='owned'</script><!--",
    "{{ 7 * 7 }}{% raw %}&lt;script&gt;&#60;",
    "javascript:document.title='owned'",
    "\u202egnp.exe\u2066\x00\x1b[31m\n\r\t\u2028",
    "\udcff\udc80",
    "\udc3c\udc62\udc3e",
    "half a pair \ud83d, and the wrong way round \udc00\ud800",
    "]]><![CDATA[",
]


def hostile_page(text: str) -> str:
    """A page with a text in every place that comes from outside."""
    bad = record(f"x{text}", 0.5, warnings=[f"x{text}"], accepted={"reason": f"x{text}", "date": f"x{text}"})
    bad.generators = {f"x{text}": 0.5}
    bad.format = f"x{text}"
    bad.evidence = [{"kind": f"x{text}", "where": f"x{text}", "says": f"x{text}", "detail": {f"x{text}": 1}}]
    bad.stability = {
        "kept": False,
        "verdict": f"x{text}",
        "copies": [{"name": f"x{text}", "logit": 0.0, "probability": 0.5, "verdict": "real"}],
    }
    broken = unreadable(f"x{text}", f"x{text}", f"x{text}")
    head = header(f"x{text}", name=f"x{text}", date=f"x{text}")
    head["libraries"] = {f"x{text}": f"x{text}"}
    head["device"]["why"] = f"x{text}"
    return page([bad, broken], head)


HARMLESS = Parsed(hostile_page("harmless"))


_ANYTHING = st.text(st.characters(), max_size=20)  # surrogates too


@given(st.lists(st.one_of(st.sampled_from(PAYLOADS), _ANYTHING)).map("".join))
def test_no_text_becomes_markup(text: str) -> None:
    raw = hostile_page(text)
    raw.encode("utf-8")  # no surrogate is left
    parsed = Parsed(raw)
    names_base64 = {"dt": 0, "dd": 0}
    expected = HARMLESS.structure()
    found = parsed.structure()
    if "Name, base64" in raw:  # one row more, for a name that is not UTF-8
        names_base64 = {"dt": 1, "dd": 1, "code": 1}
        assert Counter(found) - Counter(expected) == {(tag, ()): n for tag, n in names_base64.items()}
        assert not Counter(expected) - Counter(found)
    else:
        assert found == expected
    assert not parsed.comments
    for control in "\x00\x1b\r\u202e\u2066\u2028":
        assert control not in raw


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("<b>&amp;\"'.png", "<b>&amp;\"'.png"),
        ("\u202egnp.exe\u2066\x00\x1b[31m\n", r"\u202egnp.exe\u2066\x00\x1b[31m\n"),
        ("caf\udce9\udc80", r"caf\xe9\x80"),
        ("\ud83d, \udc00\ud800, \udc3c", r"\ud83d, \udc00\ud800, \udc3c"),  # no bytes of any name
        ("\u0645\u0631\u062d\u0628\u0627.png", "\u0645\u0631\u062d\u0628\u0627.png"),
    ],
)
def test_names_are_shown_as_they_are_called(name: str, seen: str) -> None:
    assert Parsed(page([record(name, 0.5)])).names == [seen]


# --- in a real browser ------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=5000"
).split()


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Open a page in a browser with nothing of its own; returns what it prints."""
    count = iter(range(100))

    def call(text: str, *flags: str, state: str = "", size: str = "1280,900") -> str:
        assert BROWSER
        number = next(count)
        path = tmp_path / f"page-{number}.html"
        path.write_text(text, encoding="utf-8", newline="")
        profile = f"--user-data-dir={tmp_path / f'profile-{number}'}"
        command = [BROWSER, *_FLAGS, profile, f"--window-size={size}", *flags, path.as_uri() + state]
        done = subprocess.run(command, capture_output=True, timeout=180, check=True)
        return done.stdout.decode("utf-8")

    return call


def with_script(text: str, code: str) -> str:
    """A page with a script of the test's, which its policy allows too."""
    allowed = escapes.escape(digest(code))
    text = text.replace("script-src ", f"script-src {allowed} ")
    return text.replace("</body>", f"<script>{code}</script></body>")


def shown(dom: str) -> list[str]:
    """Names of the cards that are not hidden, in order."""
    parsed = Parsed(dom)
    cards = [attrs for tag, attrs in parsed.tags if tag == "article"]
    pairs = zip(parsed.names, cards, strict=True)
    return [name.removeprefix("pics/") for name, attrs in pairs if "hidden" not in attrs]


def said(dom: str) -> str:
    (text,) = re.findall(r"<output[^>]*>([^<]*)</output>", dom)
    return str(text)


AS_SCANNED = "d.jpg b.jpg f10.png c.jpg a.jpg e.gif f9.jpg"


STATES = [
    ("", AS_SCANNED, "7 of 7 shown"),
    ("#verdict=ai", "d.jpg b.jpg", "2 of 7 shown"),
    ("#verdict=ai&verdict=error&sort=name", "b.jpg d.jpg f10.png", "3 of 7 shown"),
    ("#sort=probability", "b.jpg d.jpg a.jpg f9.jpg e.gif c.jpg f10.png", "7 of 7 shown"),
    ("#sort=name&q=F", "e.gif f9.jpg f10.png", "3 of 7 shown"),
    ("#accepted=only", "e.gif", "1 of 7 shown"),
    ("#accepted=hide&verdict=real", "c.jpg", "1 of 7 shown"),
    ("#warnings=yes", "d.jpg", "1 of 7 shown"),
    ("#q=nothing-like-it", "", "No image fits these filters."),
    ("#verdict=nonsense&sort=nonsense&q=", AS_SCANNED, "7 of 7 shown"),
    ("#sort=name&verdict=uncertain", "a.jpg f9.jpg", "2 of 7 shown"),
]


@needs_browser
def test_the_address_filters_and_sorts(browse: Any) -> None:
    code = f"""
    const log = [];
    (async () => {{
      for (const state of {json.dumps([state for state, _, _ in STATES])}) {{
        location.hash = state;
        await new Promise((done) => setTimeout(done, 50));
        const names = [...document.querySelectorAll(".card:not([hidden]) .name")].map((e) => e.textContent);
        log.push([state, names.join(" "), document.getElementById("shown").value]);
      }}
      document.title = JSON.stringify(log);
    }})();
    """
    dom = browse(with_script(page(some()), code), "--dump-dom", state="#verdict=error")
    log = json.loads(escapes.unescape(re.findall(r"<title>(.*?)</title>", dom)[0]))
    assert [(state, names.replace("pics/", ""), words) for state, names, words in log] == STATES


@needs_browser
def test_an_address_opens_on_its_view(browse: Any) -> None:
    dom = browse(page(some()), "--dump-dom", state="#verdict=ai&verdict=error&sort=probability")
    assert shown(dom) == ["b.jpg", "d.jpg", "f10.png"]
    assert said(dom) == "3 of 7 shown"


@needs_browser
def test_controls_filter_sort_and_write_the_address(browse: Any) -> None:
    code = """
    const form = document.getElementById("controls"), log = [];
    const change = (name, value) => {
      form[name].value = value;
      form[name].dispatchEvent(new Event("input", { bubbles: true }));
    };
    const note = async () => {
      await new Promise((done) => setTimeout(done, 300));
      const names = [...document.querySelectorAll(".card:not([hidden]) .name")].map((e) => e.textContent);
      log.push([document.getElementById("shown").value, location.hash, names.join(" ")]);
    };
    (async () => {
      document.querySelector("[value=ai]").click(); await note();
      change("sort", "probability"); await note();
      change("q", "D."); await note();
      document.querySelector("[type=reset]").click(); await note();
      location.hash = "#verdict=real"; await note();
      document.title = JSON.stringify(log);
    })();
    """
    dom = browse(with_script(page(some()), code), "--dump-dom")
    title = escapes.unescape(re.findall(r"<title>(.*?)</title>", dom)[0])
    log = [[words, state, names.replace("pics/", "")] for words, state, names in json.loads(title)]
    assert log == [
        ["2 of 7 shown", "#verdict=ai", "d.jpg b.jpg"],
        ["2 of 7 shown", "#verdict=ai&sort=probability", "b.jpg d.jpg"],
        ["1 of 7 shown", "#verdict=ai&q=D.&sort=probability", "d.jpg"],
        ["7 of 7 shown", "", AS_SCANNED],
        ["2 of 7 shown", "#verdict=real", "c.jpg e.gif"],
    ]


@needs_browser
def test_without_javascript_all_is_there_and_no_dead_control(browse: Any) -> None:
    text = page(some())
    silent = re.sub(r"script-src [^;]+;", "script-src &#39;none&#39;;", text)
    assert silent != text
    dom = browse(silent, "--dump-dom", state="#verdict=ai")
    assert len(shown(dom)) == 7
    for found, hidden in ((dom, True), (browse(text, "--dump-dom"), False)):
        form = next(attrs for tag, attrs in Parsed(found).tags if tag == "form")
        assert ("hidden" in form) == hidden


@needs_browser
def test_names_run_nothing(browse: Any) -> None:
    text = hostile_page("".join(PAYLOADS))
    state = "#sort=name&q=%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'owned'%22%3E"
    dom = browse(text, "--dump-dom", state=state)
    assert "<title>aidetect" in dom
    assert Counter(tag for tag, _ in Parsed(dom).tags) == Counter(tag for tag, _ in Parsed(text).tags)

    # The same payload, were it not escaped: the policy stops it, and without the policy it would run.
    raw = text.replace("<main>", f"<main>{PAYLOADS[1]}{PAYLOADS[0]}")
    assert "<title>aidetect" in browse(raw, "--dump-dom")
    unguarded = re.sub(r"<meta http-equiv[^>]*>", "", raw)
    assert "<title>owned</title>" in browse(unguarded, "--dump-dom")


FILLS = {"ai": (184, 68, 47), "uncertain": (176, 133, 42), "real": (74, 134, 159)}


def pixels(picture: Path, colour: tuple[int, int, int]) -> int:
    """How many pixels have a colour."""
    with Image.open(picture) as image:
        counts = image.convert("RGB").getcolors(image.width * image.height)
    assert counts
    return sum(count for count, found in counts if found == colour)


@needs_browser
def test_a_screenshot_shows_the_scales_in_the_verdicts_colours(browse: Any, tmp_path: Path) -> None:
    whole, one = tmp_path / "whole.png", tmp_path / "one.png"
    text = page(some())
    browse(text, f"--screenshot={whole}", size="1280,2400")
    browse(text, f"--screenshot={one}", state="#verdict=real", size="1280,2400")
    for verdict, colour in FILLS.items():
        assert pixels(whole, colour) > 2000, verdict
    # The bar of totals stays, 8 pixels high; the scales of the hidden cards are gone.
    assert pixels(one, FILLS["ai"]) < pixels(whole, FILLS["ai"]) - 4000
    assert pixels(one, FILLS["real"]) == pytest.approx(pixels(whole, FILLS["real"]), abs=200)


@needs_browser
def test_dark_mode_is_dark(browse: Any, tmp_path: Path) -> None:
    light, dark = tmp_path / "light.png", tmp_path / "dark.png"
    browse(page(some()), f"--screenshot={light}", "--blink-settings=preferredColorScheme=1")
    browse(page(some()), f"--screenshot={dark}", "--blink-settings=preferredColorScheme=0")
    means = [Image.open(path).convert("L").resize((1, 1)).getpixel((0, 0)) for path in (light, dark)]
    assert means[0] > 200
    assert means[1] < 70


@needs_browser
def test_a_phone_scrolls_in_one_direction_only(browse: Any) -> None:
    long = record(f"https://example.com/{'long' * 60}.webp", 0.5, warnings=["w" * 300], evidence=EVIDENCE)
    text = page([*some(), long], header("c" * 300)).replace("<details>", "<details open>")
    # A window cannot be as narrow as a phone; a frame can.
    frame = f"""
    <title></title><iframe width="360" height="800" srcdoc="{escapes.escape(text)}"></iframe>
    <script>onload = () => {{
      const inner = document.querySelector("iframe").contentWindow;
      document.title = `${{inner.innerWidth}} ${{inner.document.documentElement.scrollWidth}}`;
    }}</script>
    """
    assert "<title>360 360</title>" in browse(frame, "--dump-dom")


@needs_browser
def test_paper_gets_every_card_that_is_not_filtered_out(browse: Any, tmp_path: Path) -> None:
    records = [record(f"{i}.jpg", 0.95 if i % 2 else 0.1, thumbnail=thumbnail(i)) for i in range(24)]
    counts = []
    for state in ("", "#verdict=ai"):
        browse(page(records), f"--print-to-pdf={tmp_path / 'page.pdf'}", state=state)
        pdf = (tmp_path / "page.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        counts.append(pdf.count(b"/Subtype /Image"))
    assert counts == [24, 12]
