"""Formats for continuous integration: SARIF, JUnit XML, and GitHub's workflow commands.

SARIF is checked against a schema of this file's own, which is stricter than the standard's about what is
written here. With ``AIDETECT_SARIF_SCHEMA`` set to the path of the official schema (which may not be copied
here; ``.ci/run`` takes it from a package), every log is checked against that as well.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result
from conftest import encode, noise
from hypothesis import example, given
from hypothesis import strategies as st

from aidetect.cli.common import visible
from aidetect.cli.formats import github, junit, sarif
from aidetect.cli.main import main
from aidetect.detector.models.thresholds import Thresholds
from aidetect.detector.record import Record

FORMATS: dict[str, Any] = {"sarif": sarif.Writer, "junit": junit.Writer, "github": github.Writer}
SHA = "3f9457879797ddd9" * 4
HEADER: dict[str, Any] = {
    "tool": {"name": "aidetect", "version": "0.1.0"},
    "model": {
        "name": "tiny",
        "card_sha256": "ab" * 32,
        "views": "standard",
        "error_rates": {"false_positive_rate": {"value": 0.0117, "n": 2302}},
    },
    "command": "aidetect scan x",
    "started": "2026-11-22T14:58:00.123Z",
}
NASTY = (
    "a\n::error::owned.png",
    "::add-mask::x.png",
    "##[stop-commands]x.png",
    "a,line=1,title=b::c\"'.png",
    "]]><script>alert(1)</script>&amp;.png",
    "bad\udcff\udcfe.png",
    "\u202egnp.exe\x1b[31m\x00.png",
    "\ufffe\uffff\U0001f600 é.png",
    "100%25 %0A%zz?#[x](http://evil){0}.png",
    "a b/../c:d.png",
)
# Any name that a file system may give: no half of a surrogate pair but the escapes of single bytes.
NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\n\r:,%]>\u202e\x1b"))


def scored(name: str = "a.png", verdict: str = "ai", probability: float = 0.9714, **more: Any) -> Record:
    fields: dict[str, Any] = {
        "pixels_sha256": SHA,
        "width": 40,
        "height": 24,
        "format": "PNG",
        "frame": 0,
        "frames": 1,
        "logit": 3.5,
        "probability": probability,
        "verdict": verdict,
        "thresholds": Thresholds(0.9059, 0.3757),
        "milliseconds": 1234.5,
    }
    return Record(name, **fields | more)


def unreadable(name: str = "bad.png", message: str = "this is an HTML page, not an image") -> Record:
    return Record(name, "error", {"type": "not_an_image", "message": message})


def write(format_: str, *records: Record, interrupted: bool = False, **header: Any) -> str:
    stream = io.StringIO()
    writer = FORMATS[format_](stream, False)
    writer.begin(HEADER | header)
    for record in records:
        writer.add(record)
    writer.end({"images": len(records)}, interrupted)
    return stream.getvalue()


def hostile(test: Callable[..., None]) -> Callable[..., None]:
    """Give a test names made to do harm, and then any others."""
    for name in NASTY:
        test = example(name)(test)
    return given(NAMES)(test)


# --- SARIF ------------------------------------------------------------------------------------------


def closed(required: str, **properties: Any) -> dict[str, Any]:
    """Schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def listed(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


# What the standard demands of the parts that are written here, and what GitHub's code scanning adds:
# https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
TEXT = {"type": "string", "minLength": 1}
URI = {"type": "string", "pattern": r"^([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$"}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
BAG = {"type": "object"}
MESSAGE = closed("text", text=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ARTIFACT = closed("uri", uri=URI, uriBaseId={"const": "SRCROOT"}, description=MESSAGE)
PLACE = closed(
    "artifactLocation", artifactLocation=ARTIFACT, region=closed("startLine", startLine={"const": 1})
)
SUPPRESSION = closed(
    "kind status justification",
    kind={"enum": ["inSource", "external"]},
    status={"enum": ["accepted", "underReview", "rejected"]},
    justification=TEXT,
    properties=BAG,
)
RESULT = closed(
    "ruleId ruleIndex level message locations partialFingerprints rank suppressions properties",
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=MESSAGE,
    locations=listed(
        closed("physicalLocation", physicalLocation=PLACE | {"required": ["artifactLocation", "region"]}),
        minItems=1,
        maxItems=1,
    ),
    partialFingerprints={"type": "object", "additionalProperties": TEXT, "minProperties": 1},
    rank={"type": "number", "minimum": 0, "maximum": 100},
    suppressions=listed(SUPPRESSION),
    properties=BAG,
)
RULE = closed(
    "id shortDescription fullDescription help defaultConfiguration",
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=closed("text markdown", text=TEXT, markdown=TEXT),
    defaultConfiguration=closed("level", level=LEVEL),
    properties=BAG,
)
NOTIFICATION = closed(
    "level message",
    level=LEVEL,
    message=MESSAGE,
    descriptor=closed("id", id=TEXT),
    locations=listed(closed("physicalLocation", physicalLocation=PLACE)),
)
INVOCATION = closed(
    "executionSuccessful startTimeUtc endTimeUtc toolExecutionNotifications",
    executionSuccessful={"type": "boolean"},
    startTimeUtc=TIME,
    endTimeUtc=TIME,
    commandLine=TEXT,
    workingDirectory=closed("uri", uri=URI),
    toolExecutionNotifications=listed(NOTIFICATION),
)
DRIVER = closed(
    "name version semanticVersion rules",
    name=TEXT,
    version=TEXT,
    semanticVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
    rules=listed(RULE, minItems=1),
    properties=BAG,
)
RUN = closed(
    "tool originalUriBaseIds results invocations",
    tool=closed("driver", driver=DRIVER),
    originalUriBaseIds=closed(
        "SRCROOT", SRCROOT=closed("uri", uri={"type": "string", "pattern": "^file:///(.*/)?$"})
    ),
    results=listed(RESULT),
    invocations=listed(INVOCATION, minItems=1, maxItems=1),
    properties=BAG,
)
LOG = closed(
    "$schema version runs",
    **{"$schema": URI, "version": {"const": "2.1.0"}, "runs": listed(RUN, minItems=1, maxItems=1)},
)
SCHEMAS = [LOG]
if os.environ.get("AIDETECT_SARIF_SCHEMA"):
    SCHEMAS.append(json.loads(Path(os.environ["AIDETECT_SARIF_SCHEMA"]).read_text(encoding="utf-8")))
VALIDATORS = [jsonschema.validators.validator_for(schema)(schema) for schema in SCHEMAS]


def sarif_run(text: str) -> dict[str, Any]:
    """The run in a log that is valid."""
    assert text.isascii()
    log = json.loads(text)
    for validator in VALIDATORS:
        validator.validate(log)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return dict(run)


def artifact(run: dict[str, Any]) -> dict[str, Any]:
    (result,) = run["results"]
    return dict(result["locations"][0]["physicalLocation"]["artifactLocation"])


def spoil(path: str, value: Any = None) -> Callable[[dict[str, Any]], None]:
    """A change of a log: set what lies at a path, or take it away."""

    def change(log: dict[str, Any]) -> None:
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        place: Any = log
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        spoil("version"),
        spoil("version", "2.0.0"),
        spoil("runs/0/tool"),
        spoil("runs/0/tool/driver/name"),
        spoil("runs/0/tool/driver/rules/0/id"),
        spoil("runs/0/results/0/message"),
        spoil("runs/0/results/0/level", "fatal"),
        spoil("runs/0/results/0/rank", 101),
        spoil("runs/0/results/0/probability", 0.9),
        spoil("runs/0/results/0/locations/0/physicalLocation/region/startLine", 0),
        spoil("runs/0/results/0/partialFingerprints", {"pixelsSha256/v1": 7}),
        spoil("runs/0/results/0/suppressions/0/status", "fine"),
        spoil("runs/0/invocations/0/executionSuccessful"),
        spoil("runs/0/invocations/0/toolExecutionNotifications/0/message"),
    ],
)
def test_the_schemas_notice_what_is_wrong(change: Callable[[dict[str, Any]], None]) -> None:
    accepted = scored(accepted={"reason": "ours", "date": "2026-11-22"})
    log = json.loads(write("sarif", accepted, unreadable()))
    spoilt = copy.deepcopy(log)
    change(spoilt)
    for validator in VALIDATORS:
        validator.validate(log)
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(spoilt)


@pytest.mark.parametrize(
    ("verdict", "finding", "expected"),
    [
        ("ai", True, "error"),
        ("ai", False, "warning"),
        ("uncertain", True, "error"),
        ("uncertain", False, "note"),
        ("real", True, "error"),
        ("real", False, None),
    ],
)
def test_sarif_levels(verdict: str, finding: bool, expected: str | None) -> None:
    run = sarif_run(write("sarif", scored(verdict=verdict, finding=finding)))
    assert [result["level"] for result in run["results"]] == ([expected] if expected else [])


def test_sarif_says_what_the_record_says() -> None:
    record = scored(finding=True, warnings=["small: under 224 pixels"])
    run = sarif_run(write("sarif", record))
    (result,) = run["results"]
    assert result["message"]["text"] == (
        "Likely AI-generated (97.1%; verdict ai; about 1.2% of real images are called ai)"
    )
    assert result["ruleId"] == "ai-generated-image"
    assert result["rank"] == pytest.approx(97.14)
    assert result["partialFingerprints"] == {"pixelsSha256/v1": SHA}
    assert result["properties"] == {
        "verdict": "ai",
        "probability": 0.9714,
        "logit": 3.5,
        "thresholds": {"ai": 0.9059, "real": 0.3757},
        "warnings": ["small: under 224 pixels"],
    }
    assert result["suppressions"] == []
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("aidetect", "0.1.0")
    assert driver["properties"] == {"model": "tiny", "modelCardSha256": "ab" * 32, "views": "standard"}
    assert "not proof" in driver["rules"][0]["help"]["text"]
    assert run["invocations"][0]["startTimeUtc"] == HEADER["started"]
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["properties"]["counts"] == {"images": 1}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (scored(verdict="uncertain", probability=0.6), "Possibly AI-generated, needs human review (60.0%"),
        (scored(frame=3, frames=8), "(97.1%; verdict ai; frame 3 of 8; about 1.2%"),
        (scored(verdict="real", probability=0.25, finding=True), "but at or above --fail-on"),
        (scored(probability=1.0), "(>99.9%;"),
    ],
)
def test_in_words(record: Record, expected: str) -> None:
    assert expected in sarif.in_words(record, HEADER)


def test_a_model_without_error_rates_is_not_given_any() -> None:
    model = HEADER["model"] | {"error_rates": {}}
    assert "Likely AI-generated (97.1%; verdict ai)" in write("sarif", scored(), model=model)


def test_sarif_fingerprints_follow_pixels_not_names() -> None:
    first, second, third = sarif_run(
        write("sarif", scored("a.png"), scored("b.png"), scored("a.png", pixels_sha256="0" * 64))
    )["results"]
    assert first["partialFingerprints"] == second["partialFingerprints"] != third["partialFingerprints"]


def test_sarif_addresses() -> None:
    def of(name: str) -> dict[str, Any]:
        return artifact(sarif_run(write("sarif", scored(name))))

    here = Path.cwd()
    assert of("folder/a b.png") == {"uri": "folder/a%20b.png", "uriBaseId": "SRCROOT"}
    assert of("./x/../a.png") == {"uri": "a.png", "uriBaseId": "SRCROOT"}
    assert of(str(here / "a.png")) == {"uri": "a.png", "uriBaseId": "SRCROOT"}
    assert of("a:b.png")["uri"] == "a%3Ab.png"
    assert of("bad\udcff.png")["uri"] == "bad%FF.png"
    assert of("é.png")["uri"] == "%C3%A9.png"
    assert of("/elsewhere/a b.png") == {"uri": "file:///elsewhere/a%20b.png"}
    assert of("../a.png") == {"uri": (here.parent / "a.png").as_uri()}
    assert of("https://example.com/a b.png?x=1%20&y=5%#z") == {
        "uri": "https://example.com/a%20b.png?x=1%20&y=5%25#z"
    }
    assert of("HTTP://[::1]:80/[a].png") == {"uri": "HTTP://[::1]:80/%5Ba%5D.png"}
    assert of("-")["description"]["text"] == "standard input"


def test_sarif_accepted_findings_are_suppressed() -> None:
    accepted = scored(accepted={"reason": "press kit", "date": "2026-11-22"})
    first, second = sarif_run(write("sarif", accepted, scored(finding=True)))["results"]
    assert first["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": "press kit",
            "properties": {"date": "2026-11-22"},
        }
    ]
    assert first["level"] == "warning"
    assert second["suppressions"] == []


def test_sarif_unreadable_inputs_are_notifications() -> None:
    run = sarif_run(write("sarif", scored(), unreadable("x/bad.png", "no {0} [here](http://evil)")))
    assert len(run["results"]) == 1
    (invocation,) = run["invocations"]
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["message"]["text"] == "x/bad.png: no {{0}} [here] (http://evil)"
    assert notification["descriptor"] == {"id": "not_an_image"}
    assert notification["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "x/bad.png"
    assert invocation["executionSuccessful"] is True


def test_sarif_when_nothing_was_found_and_when_interrupted() -> None:
    assert sarif_run(write("sarif"))["results"] == []
    run = sarif_run(write("sarif", scored(), scored(verdict="real"), interrupted=True))
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "Interrupted after 2 images" in invocation["toolExecutionNotifications"][0]["message"]["text"]
    assert len(run["results"]) == 1


@hostile
def test_sarif_addresses_lead_back_to_the_file(name: str) -> None:
    run = sarif_run(write("sarif", scored(name), unreadable(name, name), command=f"aidetect scan {name}"))
    address = urljoin(run["originalUriBaseIds"]["SRCROOT"]["uri"], artifact(run)["uri"])
    if "://" not in name and name != "-":
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
        path = os.fsencode(os.path.normpath(Path.cwd() / name))
        assert unquote_to_bytes(parts.path).rstrip(b"/") == path.rstrip(b"/")


# --- JUnit ------------------------------------------------------------------------------------------


def suite(text: str) -> ElementTree.Element:
    """The one suite in a report whose numbers are right."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    (found,) = root
    assert (found.tag, found.get("name")) == ("testsuite", "aidetect")
    for number, tag in (("tests", "."), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        count = len(found.findall("testcase" if tag == "." else f"testcase/{tag}"))
        assert int(found.get(number, "")) == int(root.get(number, "")) == count
    return found


def properties(element: ElementTree.Element) -> dict[str, str]:
    return {p.get("name", ""): p.get("value", "") for p in element.findall("properties/property")}


def test_junit_says_what_the_records_say() -> None:
    accepted = scored("d.png", accepted={"reason": "press kit", "date": "2026-11-22"})
    records = [
        scored("x/a.png", finding=True),
        scored("b.png", "uncertain", 0.6),
        unreadable("x/c.png"),
        accepted,
        scored("e.png", "real", 0.1),
        scored("f.png"),
    ]
    found = suite(write("junit", *records))
    failed, uncertain, error, skipped, real, below_limit = found.findall("testcase")
    assert (failed.get("name"), failed.get("classname"), failed.get("time")) == ("x/a.png", "x", "1.234")
    assert uncertain.get("classname") == "aidetect"
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("type") == "ai-generated"
    assert failure.get("message", "").startswith("Likely AI-generated (97.1%; verdict ai;")
    assert "probability: 0.9714" in (failure.text or "")
    assert properties(failed)["probability"] == properties(below_limit)["probability"] == "0.9714"
    broken = error.find("error")
    assert broken is not None
    assert (broken.get("type"), broken.get("message")) == (
        "not_an_image",
        "this is an HTML page, not an image",
    )
    skip = skipped.find("skipped")
    assert skip is not None
    assert skip.get("message") == "accepted: press kit"
    assert [[child.tag for child in case] for case in (uncertain, real, below_limit)] == [["properties"]] * 3
    assert float(found.get("time", "")) == pytest.approx(5 * 1.2345, abs=0.001)
    assert found.get("timestamp") == "2026-11-22T14:58:00"
    assert properties(found) == {"model": "tiny", "card_sha256": "ab" * 32, "views": "standard"}


def test_junit_when_nothing_was_scanned_and_when_interrupted() -> None:
    assert suite(write("junit")).findall("testcase") == []
    note = suite(write("junit", scored(), interrupted=True)).find("system-err")
    assert note is not None
    assert "Interrupted after 1 images" in (note.text or "")


@hostile
def test_junit_is_well_formed_whatever_the_names(name: str) -> None:
    found = suite(
        write(
            "junit",
            scored(name, finding=True),
            unreadable(name, name),
            scored(accepted={"reason": name, "date": ""}),
        )
    )
    first, second, _ = found.findall("testcase")
    shown = re.sub("[\ufffe\uffff]", lambda c: f"\\u{ord(c[0]):x}", visible(name))
    assert first.get("name") == second.get("name") == shown
    assert not re.search("[\n\r\x00-\x1f\u202a-\u202e]", "".join(first.attrib.values()))


# --- GitHub -----------------------------------------------------------------------------------------

# Commands that a runner obeys; any of them from a file's name would be an attack.
OBEYED = frozenset(
    """
    add-mask add-matcher add-path debug echo endgroup error group notice remove-matcher save-state set-env
    set-output stop-commands warning
    """.split()
)


def obeyed(text: str) -> list[tuple[str, dict[str, str], str]]:
    """What a runner makes of a step's output: commands, their properties and data, line by line."""
    found = []
    for line in re.split("\r\n|\r|\n", text):
        new = re.match(r"\s*::([^ ]*?)(?: (.*?))?::(.*)", line)
        old = re.search(r"##\[([^ \]]*)(?: ([^\]]*))?\](.*)", line)
        match = new if new and new[1].lower() in OBEYED else old
        if match and match[1].lower() in OBEYED:
            pairs = (pair.partition("=") for pair in (match[2] or "").split(",") if pair)
            found.append((match[1], {key: _plain(value) for key, _, value in pairs}, _plain(match[3])))
    return found


def _plain(text: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_the_runner_of_these_tests_sees_attacks() -> None:
    assert obeyed("a\n ::add-mask::x\nb ##[set-output name=y]z") == [
        ("add-mask", {}, "x"),
        ("set-output", {"name": "y"}, "z"),
    ]


def test_github_annotations() -> None:
    records = [
        scored("x/a, b:100%.png", finding=True),
        scored("b.png"),
        scored("c.png", "uncertain", 0.6),
        scored("d.png", "real", 0.1),
        unreadable("e.png"),
        scored("f.png", accepted={"reason": "press kit", "date": "2026-11-22"}),
        scored("/elsewhere/g.png"),
        scored("https://example.com/h.png"),
    ]
    text = write("github", *records)
    assert text.splitlines()[0] == (
        "::error file=x/a%2C b%3A100%25.png,title=aidetect%3A ai%2C 97.1%25::x/a, b:100%25.png: "
        "Likely AI-generated (97.1%25; verdict ai; about 1.2%25 of real images are called ai)"
    )
    found = obeyed(text)
    assert len(found) == len(text.splitlines())
    assert [command for command, _, _ in found] == "error warning notice warning warning warning".split()
    assert [keys.get("file") for _, keys, _ in found] == [
        "x/a, b:100%.png",
        "b.png",
        "c.png",
        "e.png",
        None,
        None,
    ]
    assert found[3][1]["title"] == "aidetect: unreadable"
    assert found[3][2] == "e.png: this is an HTML page, not an image"
    assert write("github", interrupted=True) == ""


def test_github_names_files_from_the_root_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    ((_, keys, _),) = obeyed(write("github", scored("a.png")))
    assert keys["file"] == "sub/a.png"


@hostile
def test_no_name_can_issue_a_command(name: str) -> None:
    text = write("github", scored(name, finding=True), unreadable(name, name), scored(name, "uncertain", 0.6))
    assert text.count("\n") == 3
    found = obeyed(text)
    assert [command for command, _, _ in found] == ["error", "warning", "notice"]
    for _, keys, message in found:
        assert set(keys) <= {"file", "title"}
        assert keys["title"].startswith("aidetect: ")
        assert message.startswith(f"{visible(name)}: ")
        inside = sarif.below(name, Path.cwd())
        assert keys.get("file", "") == ("" if inside is None else visible(inside))


# --- all of them, by the command line ---------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: pictures with names made to do harm, and one that is none."""
    base = tmp_path / "work"
    (base / "pictures").mkdir(parents=True)
    names = [os.fsencode(name) for name in NASTY if not re.search("[\x00/]", name)]
    for seed, name in enumerate([b"plain.png", *names]):
        (base / "pictures" / os.fsdecode(name)).write_bytes(encode(noise(seed=seed)))
    (base / "pictures" / "broken.png").write_text("<html><body>no picture</body></html>")
    monkeypatch.chdir(base)
    return base


@pytest.fixture
def run(model_copy: Path) -> Any:
    """Run ``aidetect scan`` with the tiny model."""

    def call(*arguments: object) -> Result:
        words = ["--model", str(model_copy), "--device", "cpu", "-q", *map(str, arguments)]
        return CliRunner().invoke(main, ["scan", *words])

    return call


@pytest.mark.parametrize(
    ("ai", "real", "fails_on"), [(0.0, 0.0, "ai uncertain 0"), (1.0, 0.0, "uncertain 0"), (1.0, 1.0, "0")]
)
def test_a_format_never_changes_the_exit_code(
    run: Any, model_copy: Path, folder: Path, ai: float, real: float, fails_on: str
) -> None:
    """With thresholds that make every image ai, uncertain or real."""
    card = json.loads((model_copy / "model.json").read_text())
    card["modes"]["standard"]["thresholds"] = {"ai": ai, "real": real}
    (model_copy / "model.json").write_text(json.dumps(card))
    for inputs, otherwise in (("pictures/plain.png", 0), ("pictures", 3)):
        for fail_on in ("ai", "uncertain", "0", "1"):
            expected = 1 if fail_on in fails_on.split() else otherwise
            for format_ in ("table", *FORMATS):
                result = run(inputs, "--format", format_, "--fail-on", fail_on)
                assert result.exit_code == expected, (inputs, fail_on, format_, result.output)


def test_the_formats_agree_on_a_folder(run: Any, folder: Path) -> None:
    table = run("pictures", "--format", "json", "--fail-on", "0")
    counts = json.loads(table.stdout)["counts"]
    images, errors = counts["images"], counts["errors"]
    assert errors == 1

    log = sarif_run(run("pictures", "--format", "sarif", "--fail-on", "0").stdout)
    assert len(log["results"]) == images - errors
    assert {result["level"] for result in log["results"]} == {"error"}
    for result in log["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert Path(os.fsdecode(unquote_to_bytes(uri))).is_file()

    cases = suite(run("pictures", "--format", "junit", "--fail-on", "0").stdout)
    assert (cases.get("failures"), cases.get("errors")) == (str(images - errors), str(errors))

    commands = [c for c, _, _ in obeyed(run("pictures", "--format", "github", "--fail-on", "0").stdout)]
    assert (commands.count("error"), commands.count("warning")) == (images - errors, errors)
    assert len(commands) == images


def test_files_by_suffix(run: Any, folder: Path) -> None:
    for name, read in (("report.sarif", sarif_run), ("report.xml", suite)):
        result = run("pictures", "--fail-on", "0", "-o", name)
        assert (result.exit_code, result.stdout) == (1, "")
        read(Path(name).read_text(encoding="utf-8"))


def test_the_documented_jobs_are_yaml_and_their_commands_exist(folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```ya?ml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    commands = [line for block in blocks for line in _lines(yaml.safe_load(block)) if "aidetect scan" in line]
    assert len(commands) >= 2
    Path("aidetect-baseline.json").write_text("{}")
    scan = main.get_command(None, "scan")
    assert scan is not None
    for command in commands:
        words = shlex.split(command)
        scan.make_context("scan", words[words.index("scan") + 1 :])  # raises on an unknown option


def _lines(value: Any) -> list[str]:
    """Every line of text in parsed YAML."""
    if isinstance(value, str):
        return value.splitlines()
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [line for inner in values for line in _lines(inner)]
