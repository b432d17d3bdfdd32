"""The tag command: what it writes, what it keeps, and what it refuses. Tags are read back with exiftool."""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import encode, gradient, jpeg_with, noise, png_with, shapes, within
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from aidetect.cli import files as files_module
from aidetect.cli.commands import tag as tag_module
from aidetect.cli.main import main
from aidetect.detector.errors import InputError
from aidetect.detector.evidence import provenance, xmp
from aidetect.detector.record import Record

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

DC = "http://purl.org/dc/elements/1.1/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
AI = provenance.AI_SOURCE
CAMERA = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="a camera's maker">
 <!-- a comment <rdf:RDF> that must not be taken for more -->
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about="uuid:1&amp;2" xmlns:dc="{DC}" xmlns:xmp='http://ns.adobe.com/xap/1.0/'
    xmp:CreatorTool="Some &quot;Editor&quot; 1.0>2&#xA;second line">
   <dc:creator><rdf:Seq><rdf:li>Ada Ümläut</rdf:li></rdf:Seq></dc:creator>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default"><![CDATA[1 < 2 </rdf:RDF>]]></rdf:li></rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>{" " * 100}
<?xpacket end="w"?>""".encode()
# The same without what exiftool's own parser stumbles over.
PLAIN_XMP = re.sub(rb"<!\[CDATA.*\]\]>", b"a text", XMP.replace(b"<rdf:RDF> that", b"that"))


def record(verdict: str = "ai", probability: float = 0.97) -> Record:
    return Record("a.png", pixels_sha256="12" * 32, verdict=verdict, probability=probability)


def properties(verdict: str = "ai", minute: int = 0, model: str = "tiny") -> dict[str, str]:
    when = datetime(2026, 1, 2, 3, minute, tzinfo=UTC)
    return provenance.statement(record(verdict), model, "ab" * 32, "fast", when)


def ours(name: str) -> str:
    return f"{{{provenance.OURS}}}{name}"


def every(data: bytes) -> dict[str, list[str]]:
    """All properties of a packet by an independent parser: name to canonical texts."""
    body = re.sub(rb"<\?.*?\?>", b"", data, flags=re.S)
    root = next(ElementTree.fromstring(body).iter(f"{{{RDF}}}RDF"))
    found: dict[str, list[str]] = {}
    for node in root:
        for name, value in node.attrib.items():
            if not name.startswith(f"{{{RDF}}}"):
                found.setdefault(name, []).append(value)
        for child in node:
            child.tail = None
            plain = child.text if not len(child) and not child.attrib else None
            text = plain if plain is not None else ElementTree.canonicalize(ElementTree.tostring(child))
            found.setdefault(child.tag, []).append(text)
    return found


# --- containers -------------------------------------------------------------------------------------


@functools.cache  # it holds the time of its making
def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[274] = "Maker", "Model 1", 6
    return tags


def rgba() -> Image.Image:
    alpha = np.linspace(0, 255, 37 * 23).reshape(23, 37).astype(np.uint8)
    return Image.fromarray(np.dstack([gradient(37, 23), alpha]))


def animation() -> dict[str, Any]:
    frames = [Image.fromarray(noise(30, 20, seed)) for seed in (1, 2)]
    return {"save_all": True, "append_images": frames, "duration": 50}


def text_chunk() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", PLAIN_XMP.decode(), zip=True)
    text.add_text("Comment", "stays")
    return text


FILES: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: encode(shapes(), "JPEG"),
    "progressive.jpg": lambda: encode(shapes(), "JPEG", progressive=True, comment=b"stays"),
    "grey.jpg": lambda: encode(Image.fromarray(gradient()).convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encode(Image.fromarray(gradient()).convert("CMYK"), "JPEG"),
    "full.jpg": lambda: encode(shapes(), "JPEG", exif=camera(), icc_profile=icc(), xmp=PLAIN_XMP),
    "trailing.jpg": lambda: encode(shapes(), "JPEG") + b"\xff\xd8 more bytes",
    "plain.png": lambda: encode(shapes()),
    "alpha.png": lambda: encode(rgba()),
    "palette.png": lambda: encode(Image.fromarray(shapes()).quantize(16), transparency=0),
    "animated.png": lambda: encode(gradient(30, 20), **animation()),
    "full.png": lambda: encode(shapes(), exif=camera(), icc_profile=icc(), pnginfo=text_chunk()),
    "lossy.webp": lambda: encode(shapes(161, 121), "WEBP", quality=50),
    "lossless.webp": lambda: encode(shapes(31, 17), "WEBP", lossless=True),
    "alpha.webp": lambda: encode(rgba(), "WEBP", lossless=True, exact=True),
    "lossy-alpha.webp": lambda: encode(rgba(), "WEBP", quality=50),
    "animated.webp": lambda: encode(gradient(30, 20), "WEBP", **animation()),
    "full.webp": lambda: encode(rgba(), "WEBP", exif=camera(), icc_profile=icc(), xmp=PLAIN_XMP),
}
BESIDE: dict[str, Callable[[], bytes]] = {
    "a.tif": lambda: encode(shapes(), "TIFF", icc_profile=icc()),
    "a.gif": lambda: encode(shapes(), "GIF"),
    "a.bmp": lambda: encode(shapes(), "BMP"),
    "a.avif": lambda: encode(shapes(64, 64), "AVIF"),
}
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


def frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every frame's pixels, alpha included."""
    with Image.open(io.BytesIO(data)) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            yield image.mode, image.convert("RGBA").tobytes()


def exiftool(*paths: Path) -> list[dict[str, Any]]:
    words = ["exiftool", "-j", "-G1", "-struct", "-a", *map(str, paths)]
    done = subprocess.run(words, check=False, capture_output=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture
def tagging_model(model_copy: Path) -> Path:
    """The tiny model, with thresholds that call everything ``ai``."""
    set_thresholds(model_copy, 0.0, 0.0)
    return model_copy


def set_thresholds(model: Path, ai: float, real: float) -> None:
    card = json.loads((model / "model.json").read_text())
    for mode in card["modes"].values():
        mode["thresholds"] = {"ai": ai, "real": real}
    (model / "model.json").write_text(json.dumps(card))


@pytest.fixture
def run(tagging_model: Path) -> Callable[..., Result]:
    """Run ``aidetect tag`` with the model that calls everything ``ai``."""

    def call(*arguments: object) -> Result:
        words = ["--model", str(tagging_model), "--device", "cpu", "--views", "fast", *map(str, arguments)]
        return CliRunner().invoke(main, ["tag", *words])

    return call


def folder_of(path: Path, files: dict[str, Callable[[], bytes]]) -> Path:
    path.mkdir()
    for name, make in files.items():
        (path / name).write_bytes(make())
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what is written, as others read it -------------------------------------------------------------

EXPECTED = {
    "XMP-iptcExt:DigitalSourceType": AI,
    "XMP-aidetect:Tool": "aidetect",
    "XMP-aidetect:DetectionModel": "tiny",
    "XMP-aidetect:Views": "fast",
    "XMP-aidetect:Verdict": "ai",
}
# What must change when a file is written anew and a WebP gets its extended header.
MAY_CHANGE = re.compile(r"SourceFile|System:|XMP-aidetect:|XMP-iptcExt:|File:FileType|RIFF:|XMP-x:")


@needs_exiftool
def test_exiftool_reads_the_tag_and_all_that_was_there(run: Any, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "in", FILES), tmp_path / "out"
    before = snapshot(folder)
    result = run(folder, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"{len(FILES)} tagged" in result.stderr
    assert snapshot(folder) == before
    old = exiftool(*(folder / name for name in FILES))
    new = exiftool(*(out / name for name in FILES))
    for name, was, now in zip(FILES, old, new, strict=True):
        assert now.items() >= EXPECTED.items(), name
        assert re.fullmatch(r"[0-9a-f]{64}", now["XMP-aidetect:PixelsSHA256"]), name
        assert re.fullmatch(r"[0-9a-f]{64}", now["XMP-aidetect:ModelCardSHA256"]), name
        assert 0 <= float(now["XMP-aidetect:Probability"]) <= 1
        kept = {key: value for key, value in was.items() if not MAY_CHANGE.match(key)}
        assert now.items() >= kept.items(), name
        assert now.get("ExifTool:Warning") == was.get("ExifTool:Warning"), name
        assert "ExifTool:Error" not in now, name
        assert len(kept) >= 4  # the check above had something to check
        if name.startswith("full"):
            assert now["XMP-dc:Creator"] == ["Ada Ümläut"], name
            assert "ICC-header:ProfileCMMType" in now, name
            assert now["IFD0:Model"] == "Model 1", name


def test_pixels_alpha_and_frames_are_bit_equal(run: Any, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "in", FILES), tmp_path / "out"
    assert run(folder, "-o", out).exit_code == 0
    for name in FILES:
        before, after = (folder / name).read_bytes(), (out / name).read_bytes()
        assert before != after, name
        assert list(frames(before)) == list(frames(after)), name


@needs_exiftool
def test_other_formats_get_a_sidecar_and_equal_bytes(run: Any, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "in", BESIDE), tmp_path / "out"
    result = run(folder, "-o", out)
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"sidecar  .* files get a sidecar", result.stdout)) == len(BESIDE)
    assert {name: (out / name).read_bytes() for name in BESIDE} == snapshot(folder)
    for tags in exiftool(*(out / f"{name}.xmp" for name in BESIDE)):
        assert tags.items() >= EXPECTED.items()


def test_in_place_a_sidecar_is_merged_with_the_one_there(run: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a.gif": BESIDE["a.gif"]})
    image = (folder / "a.gif").read_bytes()
    (folder / "a.gif.xmp").write_bytes(XMP)
    assert run(folder, "--in-place").exit_code == 0
    assert (folder / "a.gif").read_bytes() == image
    merged = every((folder / "a.gif.xmp").read_bytes())
    assert merged.items() >= every(XMP).items()
    assert merged[provenance.SOURCE_TYPE] == [AI]
    again = (folder / "a.gif.xmp").read_bytes()
    result = run(folder, "--in-place")
    assert " there " in result.stdout
    assert (folder / "a.gif.xmp").read_bytes() == again


# --- the command ------------------------------------------------------------------------------------


def test_tagging_again_changes_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "in", FILES | BESIDE)
    assert run(folder, "--in-place").exit_code == 0
    tagged = snapshot(folder)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2040, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(tag_module, "datetime", Later)
    result = run(folder, "--in-place")
    assert result.exit_code == 0
    assert f"{len(FILES) + len(BESIDE)} tagged already" in result.stderr
    assert snapshot(folder) == tagged


def test_copies_again_are_found_there_and_others_are_not_overwritten(run: Any, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"], **BESIDE}), tmp_path / "out"
    assert run(folder, "-o", out).exit_code == 0
    made = snapshot(out)
    again = run(folder, "-o", out)
    assert again.exit_code == 0
    assert again.stdout.count(" there ") == 1 + len(BESIDE)
    assert snapshot(out) == made
    (out / "a.png").write_bytes(b"somebody's")
    (out / "a.gif.xmp").write_bytes(b"somebody's")
    refused = run(folder, "-o", out)
    assert refused.exit_code == 3
    assert refused.stderr.count("exists (see --overwrite)") == 2
    assert (out / "a.png").read_bytes() == (out / "a.gif.xmp").read_bytes() == b"somebody's"
    assert run(folder, "-o", out, "--overwrite").exit_code == 0
    assert provenance.read((out / "a.png").read_bytes(), "PNG")[provenance.SOURCE_TYPE] == AI
    assert provenance.read((out / "a.gif.xmp").read_bytes(), "XMP")[provenance.SOURCE_TYPE] == AI


def test_the_tree_is_mirrored_and_the_output_is_not_read(run: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]})
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "a.png").write_bytes(FILES["alpha.png"]())
    out = folder / "out"
    assert run(folder, "-o", out).exit_code == 0
    assert sorted(snapshot(out)) == ["a.png", "deep/er/a.png"]
    assert run(folder, "-o", out).exit_code == 0
    assert sorted(snapshot(out)) == ["a.png", "deep/er/a.png"]
    assert run(folder, "-o", folder).exit_code == 4
    assert run(folder / "a.png", "-o", tmp_path / "one").exit_code == 0
    assert sorted(snapshot(tmp_path / "one")) == ["a.png"]
    some = tmp_path / "some"
    assert run(folder, "-o", some, "--no-recursive").exit_code == 0
    assert run(folder, "-o", some / "x", "--exclude", "out", "--include", "*er/a.png").exit_code == 0
    assert sorted(snapshot(some)) == ["a.png", "x/deep/er/a.png"]


def test_two_inputs_for_one_place_do_not_overwrite_each_other(run: Any, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", {"a.png": FILES["plain.png"]})
    two = folder_of(tmp_path / "two", {"a.png": FILES["alpha.png"]})
    result = run(one, two, "-o", tmp_path / "out", "--overwrite")
    assert result.exit_code == 3
    assert "has just been written from another file" in result.stderr
    written = (tmp_path / "out" / "a.png").read_bytes()
    assert list(frames(written)) == list(frames((one / "a.png").read_bytes()))


def test_only_the_verdict_asked_for_is_tagged(run: Any, tagging_model: Path, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]}), tmp_path / "out"
    set_thresholds(tagging_model, 1.1, 0.0)  # all uncertain
    result = run(folder, "-o", out)
    assert result.exit_code == 0
    assert "uncertain  -  " in result.stdout
    assert snapshot(out) == {}
    assert run(folder, "-o", out, "--at-least", "uncertain").exit_code == 0
    tag = provenance.read((out / "a.png").read_bytes(), "PNG")
    assert tag[ours("Verdict")] == "uncertain"
    assert provenance.SOURCE_TYPE not in tag
    set_thresholds(tagging_model, 1.1, 1.1)  # all real
    assert "real       -  " in run(folder, "-o", tmp_path / "no", "--at-least", "uncertain").stdout
    assert snapshot(tmp_path / "no") == {}


def test_json_tells_what_became_of_each_file(run: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"], "b.gif": BESIDE["a.gif"]})
    (folder / "broken.png").write_bytes(b"<html>")
    raw = Path(os.fsdecode(os.fsencode(folder) + b"/c\xff.png"))
    raw.write_bytes(FILES["alpha.png"]())
    out = tmp_path / "out"
    result = run(folder, "-o", out, "--format", "json")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert report["model"]["name"] == "tiny"
    assert report["interrupted"] is False
    a, b, broken, c = report["images"]
    assert (a["action"], a["output"], a["sidecar"]) == ("tagged", str(out / "a.png"), None)
    assert (b["action"], b["sidecar"]) == ("sidecar", str(out / "b.gif.xmp"))
    assert broken["action"] == "error"
    assert "HTML page" in broken["error"]
    assert broken["output"] is None
    assert (c["action"], c["output"]) == ("tagged", f"{out}/c\\xff.png")
    assert c["input_base64"] is not None
    assert len(list(out.iterdir())) == 4


def test_odd_names_are_harmless(run: Any, tmp_path: Path) -> None:
    names = ["new\nline.png", "\x1b[31mred.png", "<script>.png", "=cmd.png", "\u202egnp.png", "-o.png"]
    folder = folder_of(tmp_path / "in", dict.fromkeys(names, FILES["plain.png"]))
    result = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + len(names)
    assert not re.search("[\x1b\u202e]", result.stdout + result.stderr)
    assert sorted(snapshot(tmp_path / "out")) == sorted(names)


@pytest.mark.parametrize(
    "words",
    [
        ["https://example.com/a.png", "--in-place"],
        ["-", "--in-place"],
        ["in"],
        ["in", "-o", "out", "--in-place"],
        ["in", "--in-place", "--overwrite"],
        ["--in-place"],
        ["in", "-o", "in/a.png"],
    ],
)
def test_misuse_is_one_line_and_nothing_is_done(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]})
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path / "in")
    result = run(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert snapshot(tmp_path / "in") == before
    assert not (tmp_path / "out").exists()


def test_exit_codes_for_nothing_and_for_a_missing_model(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--in-place").exit_code == 4
    assert run(tmp_path / "absent.png", "--in-place").exit_code == 3
    image = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]}) / "a.png"
    missing = CliRunner().invoke(main, ["tag", str(image), "--in-place", "--model", str(tmp_path / "no")])
    assert missing.exit_code == 5
    assert missing.stderr.count("\n") == 1
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    result = run(fifo, "--in-place")
    assert result.exit_code == 3
    assert "not a regular file" in result.stderr


def test_in_place_keeps_the_mode_and_links_and_takes_a_new_time(run: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]})
    image, link = folder / "a.png", folder / "b.png"
    link.symlink_to("a.png")
    image.chmod(0o640)
    os.utime(image, (10, 10))
    result = run(folder, "--in-place")
    assert result.exit_code == 0, result.stderr
    assert link.is_symlink()
    assert image.stat().st_mode & 0o777 == 0o640
    assert image.stat().st_mtime > 1e9
    assert provenance.SOURCE_TYPE in provenance.read(image.read_bytes(), "PNG")
    assert sorted(p.name for p in folder.iterdir()) == ["a.png", "b.png"]


def test_a_write_protected_file_is_left_alone(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]})
    before = snapshot(folder)
    # Not by its mode: the superuser may write to any file.
    monkeypatch.setattr(tag_module.os, "access", lambda path, how: False)
    result = run(folder, "--in-place")
    assert result.exit_code == 3
    assert "write-protected" in result.stderr
    assert snapshot(folder) == before


# --- when something goes wrong in between ------------------------------------------------------------


def test_nothing_appears_when_the_pixels_would_differ(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"]}), tmp_path / "out"
    before = snapshot(folder)

    def other_picture(data: bytes) -> Any:
        return provenance._Opened(None, lambda packet: FILES["alpha.png"]())

    monkeypatch.setitem(provenance._OPENERS, "PNG", other_picture)
    for words in (["--in-place"], ["-o", out]):
        result = run(folder, *words)
        assert result.exit_code == 3
        assert "the pixels would change" in result.stderr
    assert snapshot(folder) == before
    assert snapshot(out) == {}


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_crash_before_the_last_step_leaves_everything_as_it_was(
    tagging_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any, name: str
) -> None:
    folder = folder_of(tmp_path / "in", {"a.png": FILES["plain.png"], "a.gif": BESIDE["a.gif"]})
    before = snapshot(folder)
    calls = itertools.count()

    def publish(part: Path, target: Path, overwrite: bool = False) -> None:
        # In the output folder the sidecar is written first; then the image fails.
        if next(calls) == 0 and target.suffix == ".xmp" and target.parent != folder:
            return files_module.publish(part, target, overwrite)
        raise failure

    monkeypatch.setattr(tag_module, "publish", publish)
    options = {"max_pixels": 200, "model": str(tagging_model), "device": "cpu", "mode": "fast"}
    options |= {"batch_size": None, "workers": 1, "precision": "auto"}
    detector = files_module.detector_for(options)
    options |= dict.fromkeys(("hidden", "all_files", "recursive", "no_ignore", "no_cache"), False)
    options |= {"include": (), "exclude": ()}
    (file,) = files_module.local_files([str(folder / name)], options)
    ((_, record),) = files_module.scored(detector, [file], options)
    for out in (None, tmp_path / "out"):
        tagger = tag_module._Tagger(
            detector, {"output": out, "overwrite": False, "force": False, "at_least": "ai"}
        )
        with pytest.raises(failure if isinstance(failure, type) else type(failure)):
            tagger.tag(file, record)
    assert snapshot(folder) == before
    assert snapshot(tmp_path / "out") == {}
    monkeypatch.undo()
    (folder / name).write_bytes(FILES["alpha.png"]())
    with pytest.raises(InputError, match="changed after it was scored"):
        tagger.tag(file, record)


# --- merging packets ---------------------------------------------------------------------------------


def merge(packet: bytes | None, **options: Any) -> bytes:
    return provenance._merged(packet, properties(**options))[0]


def test_a_merged_packet_keeps_every_byte_and_gains_one_node() -> None:
    merged = merge(XMP)
    node = re.search(rb"\n  <rdf:Description (?:(?!<rdf:Description ).)*?</rdf:Description>(?=\s*</rdf:RDF>)",
                     merged, re.S)  # fmt: skip
    assert node is not None
    assert merged.replace(node[0], b"") == XMP
    assert b'rdf:about="uuid:1&amp;2"' in node[0]  # all nodes are about one resource
    found = every(merged)
    assert found.items() >= every(XMP).items()
    assert found[provenance.SOURCE_TYPE] == [AI]
    assert {name: found[name] for name in properties()} == {n: [v] for n, v in properties().items()}


@pytest.mark.parametrize(
    "claim",
    [
        'e:DigitalSourceType="{}"/>',
        "e:DigitalSourceType='{}'><dc:format>image/png</dc:format></rdf:Description>",
        "><e:DigitalSourceType> {} </e:DigitalSourceType></rdf:Description>",
        '><e:DigitalSourceType rdf:resource="{}"/></rdf:Description>',
        "><e:DigitalSourceType><![CDATA[{}]]></e:DigitalSourceType><dc:x/></rdf:Description>",
    ],
)
def test_another_source_type_is_replaced_kept_in_mind_and_put_back(claim: str) -> None:
    packet = (
        f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:dc="{DC}" xmlns:e="{provenance.IPTC}">'
        f'<rdf:Description dc:title="t" {claim.format(CAMERA)}</rdf:RDF>'
    ).encode()
    tagged, note = provenance._merged(packet, properties())
    found = every(tagged)
    assert CAMERA in note
    assert found[provenance.SOURCE_TYPE] == [AI]
    assert found[ours("EarlierSourceType")] == [CAMERA]
    assert found[f"{{{DC}}}title"] == ["t"]
    assert merge(tagged, minute=9) == tagged
    newer = every(merge(tagged, model="other"))
    assert newer[ours("EarlierSourceType")] == [CAMERA]
    assert newer[ours("DetectionModel")] == ["other"]
    back = merge(tagged, verdict="uncertain")
    assert every(back)[provenance.SOURCE_TYPE] == [CAMERA]
    assert ours("EarlierSourceType") not in every(back)
    # A claim that this tool did not make is not its to take away.
    unsure = merge(packet, verdict="uncertain")
    assert xmp.read(unsure, provenance._is_tag)[provenance.SOURCE_TYPE] == CAMERA
    assert xmp.read(merge(unsure, verdict="uncertain", model="b"), provenance._is_tag)[
        provenance.SOURCE_TYPE
    ] == CAMERA  # fmt: skip


def test_a_claim_of_our_own_goes_when_the_verdict_does() -> None:
    assert provenance.SOURCE_TYPE not in every(merge(merge(None), verdict="uncertain"))


def test_only_properties_of_the_image_itself_are_replaced() -> None:
    """An ingredient's source type, inside a structure, is about another image."""
    inner = f'<e:DigitalSourceType xmlns:e="{provenance.IPTC}">{CAMERA}</e:DigitalSourceType>'
    body = f'<m:part xmlns:m="urn:m"><rdf:Description>{inner}</rdf:Description></m:part>'
    packet = f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description>{body}</rdf:Description></rdf:RDF>'.encode()
    merged, note = provenance._merged(packet, properties())
    assert note == ""
    assert merged.replace(b"\n", b"").startswith(packet.removesuffix(b"</rdf:RDF>"))


@pytest.mark.parametrize(
    "packet",
    [
        f'<rdf:RDF xmlns:rdf="{RDF}"/>',
        f'<r:RDF  xmlns:r = "{RDF}"  />',
        f'<RDF xmlns="{RDF}"></RDF>',
        f'\ufeff<?xml version="1.0" encoding="UTF-8"?><a><q:RDF xmlns:q="{RDF}"> </q:RDF></a>\0\0',
    ],
)
def test_unusual_but_valid_packets(packet: str) -> None:
    merged = merge(packet.encode())
    assert every(merged.removeprefix(b"\xef\xbb\xbf")) == {n: [v] for n, v in properties().items()}
    assert merge(merged, minute=1) == merged
    assert merge(merge(merged, verdict="uncertain")) == merge(packet.encode())


DEEP = "<a>" * 5000 + "</a>" * 5000
LAUGHS = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "not well-formed"),
        (b"no XML", "not well-formed"),
        (b"<a/>", "no rdf:RDF"),
        (XMP[:-400], "not well-formed"),
        (LAUGHS.encode() + XMP[XMP.index(b"<x:") :], "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (f'<rdf:RDF xmlns:rdf="{RDF}">&laughs;</rdf:RDF>'.encode(), "not well-formed"),
        (f'<rdf:RDF xmlns:rdf="{RDF}">{DEEP}</rdf:RDF>'.encode(), "too deeply"),
        (b"<a>" + f'<rdf:RDF xmlns:rdf="{RDF}"/>'.encode() * 2 + b"</a>", "more than one"),
        (XMP.decode().encode("utf-16"), "not UTF-8"),
        (b"<?xml version='1.0' encoding='latin-1'?>" + XMP[XMP.index(b"<x:") :], "not UTF-8"),
        (b"<a>\xff</a>", "not well-formed"),
        (b"<a>" + b" " * xmp.MAX_BYTES + b"</a>", "larger than"),
    ],
)
def test_hostile_packets_are_refused_and_the_file_is_left_alone(
    packet: bytes, why: str, run: Any, tmp_path: Path
) -> None:
    with within(2), pytest.raises(InputError, match=why):
        merge(packet)
    image = tmp_path / "a.png"
    image.write_bytes(png_with(FILES["plain.png"](), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)))
    before = image.read_bytes()
    result = run(image, "--in-place")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 2  # the error and the summary
    assert image.read_bytes() == before
    assert list(tmp_path.glob("*.part")) == []


def test_a_packet_full_of_our_properties_is_merged_in_good_time() -> None:
    props = f'<t:A xmlns:t="{provenance.OURS}">1</t:A>   ' * 40_000
    nodes = f'<rdf:Description xmlns:t="{provenance.OURS}" t:B="1"/>' * 10_000
    packet = f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description>{props}</rdf:Description>{nodes}</rdf:RDF>'
    with within(10):
        assert every(merge(packet.encode())) == {n: [v] for n, v in properties().items()}


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
SPACES = st.sampled_from([DC, provenance.OURS, provenance.IPTC, "http://ns.adobe.com/xap/1.0/", "urn:a b"])
NAMES = st.sampled_from(
    ["DigitalSourceType", "Tool", "Verdict", "DetectionDate", "title", "EarlierSourceType"]
)
GAP = st.sampled_from(["", " ", "\n\t ", "<!-- <rdf:RDF> '\" -->", "<?pi <a> ?>"])


@st.composite
def packets(draw: Any) -> str:
    """Well-formed packets in many spellings."""
    nodes = []
    for _ in range(draw(st.integers(0, 3))):
        attributes, children, used = [], [], set()
        for index in range(draw(st.integers(0, 4))):
            space, name, value = draw(SPACES), draw(NAMES), draw(TEXT)
            if draw(st.booleans()):
                if (space, name) not in used:
                    attributes.append(
                        f"xmlns:p{index}={quoteattr(space)} p{index}:{name} = {quoteattr(value)}"
                    )
                used.add((space, name))
            else:
                text = f"<![CDATA[{value}]]>" if draw(st.booleans()) and "]]>" not in value else escape(value)
                children.append(f"<p:{name} xmlns:p={quoteattr(space)}>{draw(GAP)}{text}</p:{name} >")
        about = draw(st.sampled_from(['rdf:about=""', "rdf:about='a'", ""]))
        inner = draw(GAP) + draw(GAP).join(children)
        end = f">{inner}</rdf:Description>" if inner or draw(st.booleans()) else "/>"
        nodes.append(f"<rdf:Description {about} {chr(10).join(attributes)}{end}")
    inner = draw(GAP).join(["", *nodes, ""])
    root = f'<rdf:RDF xmlns:rdf="{RDF}">{inner}</rdf:RDF>'
    return f'{draw(GAP)}<x:xmpmeta xmlns:x="adobe:ns:meta/">{root}</x:xmpmeta>'


@given(packets(), st.sampled_from(["ai", "uncertain"]))
def test_whatever_the_spelling_others_stay_and_ours_is_there_once(packet: str, verdict: str) -> None:
    before = every(packet.encode())
    merged = merge(packet.encode(), verdict=verdict)
    after = every(merged)
    wanted = properties(verdict)
    assert {name: after[name] for name in wanted} == {name: [value] for name, value in wanted.items()}
    others = {name: values for name, values in before.items() if not provenance._is_tag(name)}
    assert {name: values for name, values in after.items() if not provenance._is_tag(name)} == others
    extra = {name for name in after if provenance._is_ours(name)} - set(wanted)
    assert extra <= {ours("EarlierSourceType")}
    assert merge(merged, verdict=verdict, minute=7) == merged


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_model_name_gives_well_formed_xml(model: str, verdict: str) -> None:
    wanted = properties() | {ours("DetectionModel"): model, ours("Verdict"): verdict}
    merged = provenance._merged(None, wanted)[0]
    assert set(every(merged)) == set(wanted)


# --- containers, hostile and special ------------------------------------------------------------------


def hostile_container(name: str, packet: bytes) -> bytes:
    """A small picture that holds a packet."""
    if name == "JPEG":
        return jpeg_with(encode(gradient(8, 8), "JPEG"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    if name == "PNG":
        return png_with(encode(gradient(8, 8)), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    return encode(gradient(8, 8), "WEBP", xmp=packet or b" ")


@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.integers(0, len(XMP)), st.binary(max_size=6), st.integers(0, 6)).map(
            lambda cut: XMP[: cut[0]] + cut[1] + XMP[cut[0] + cut[2] :]
        ),
    ),
)
def test_hostile_xmp_is_merged_or_refused(name: str, packet: bytes) -> None:
    data = hostile_container(name, packet)
    try:
        tagged = provenance.tag(data, name, properties())
    except InputError as error:
        assert error.kind == "bad_xmp"
        return
    assert provenance.same_pixels(data, tagged.data)
    assert provenance.read(tagged.data, name).items() >= properties().items()
    assert not provenance.tag(tagged.data, name, properties(minute=5)).changed


SMALL = {name: make for name, make in FILES.items() if not name.startswith(("plain", "trailing"))}


@pytest.mark.parametrize("name", SMALL)
@given(data=st.data())
def test_damaged_containers_are_refused_or_stay_the_same_picture(name: str, data: Any) -> None:
    whole = SMALL[name]()
    cut = data.draw(st.integers(0, len(whole)))
    broken = data.draw(
        st.sampled_from(
            [whole[:cut], whole[:cut] + b"\0\xff" + whole[cut + 2 :], whole[:cut] + whole[cut + 1 :]]
        )
    )
    format = FORMATS[Path(name).suffix]
    try:
        tagged = provenance.tag(broken, format, properties())
    except InputError as error:
        assert error.kind in ("damaged", "bad_xmp")
        return
    assert provenance.same_pixels(broken, broken) is provenance.same_pixels(broken, tagged.data)


@pytest.mark.parametrize("name", ["full.jpg", "full.png", "animated.webp", "lossless.webp"])
def test_truncated_files_never_change_and_never_trace_back(run: Any, tmp_path: Path, name: str) -> None:
    whole = FILES[name]()
    folder = tmp_path / "in"
    folder.mkdir()
    for cut in range(0, len(whole), max(1, len(whole) // 25)):
        (folder / f"{cut}{Path(name).suffix}").write_bytes(whole[:cut])
    before = snapshot(folder)
    result = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert snapshot(folder) == before


def segments(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at + 4 : end]))
        at = end
    return found


def test_a_jpeg_segment_goes_after_jfif_and_exif_and_extended_xmp_stays() -> None:
    extended = (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"<more/>")
    plain = encode(shapes(), "JPEG", exif=camera())
    data = plain[:2] + jpeg_with(b"\xff\xd8", extended)[2:]
    at = plain.index(b"Exif\0") - 4
    end = at + 2 + int.from_bytes(plain[at + 2 : at + 4], "big")
    data = plain[:end] + jpeg_with(b"\xff\xd8", extended)[2:] + plain[end:]
    before, after = segments(data), segments(provenance.tag(data, "JPEG", properties()).data)
    new = [segment for segment in after if segment not in before]
    assert len(new) == 1
    at = after.index(new[0])
    assert after[at - 1][1].startswith(b"Exif\0")
    assert after[at + 1] == extended
    assert [segment for segment in after if segment != new[0]] == before


def test_a_packet_there_is_replaced_where_it_is() -> None:
    data = jpeg_with(encode(shapes(), "JPEG"), (0xFE, b"c"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))
    after = segments(provenance.tag(data, "JPEG", properties()).data)
    assert [marker for marker, _ in after[:3]] == [0xFE, 0xE1, 0xE0]
    assert sum(body.startswith(b"http://ns.adobe.com/xap") for _, body in after) == 1


def test_jpegs_with_an_index_or_without_room_get_a_sidecar() -> None:
    indexed = jpeg_with(encode(shapes(), "JPEG"), (0xE2, b"MPF\0II*\0"))
    tagged = provenance.tag(indexed, "JPEG", properties())
    assert tagged.data == indexed
    assert tagged.sidecar is not None
    assert "index" in tagged.note
    full = XMP.replace(b" " * 100, b" " * (65500 - len(XMP)))
    data = jpeg_with(encode(shapes(), "JPEG"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + full))
    tagged = provenance.tag(data, "JPEG", properties())
    assert (tagged.data, "no room" in tagged.note) == (data, True)
    assert every(tagged.sidecar or b"")[provenance.SOURCE_TYPE] == [AI]
    less = jpeg_with(
        encode(shapes(), "JPEG"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + full[:-2500] + full[-60:])
    )
    assert b"xpacket end" in full[-60:]
    assert provenance.tag(less, "JPEG", properties()).sidecar is None


def signed(format: str) -> bytes:
    if format == "JPEG":
        return jpeg_with(encode(shapes(), "JPEG"), (0xEB, b"JP\0\1\0\0\0\1\0\0\0\x40jumb\0\0\0\x26jumdc2pa"))
    if format == "PNG":
        return png_with(encode(shapes()), (b"caBX", b"jumb"))
    data = encode(shapes(), "WEBP", xmp=XMP) + b"C2PA" + (4).to_bytes(4, "little") + b"jumb"
    return data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_signed_file_gets_a_sidecar_unless_forced(format: str, run: Any, tmp_path: Path) -> None:
    data = signed(format)
    folder = tmp_path / "in"
    folder.mkdir()
    image = folder / f"a.{format.lower()}"
    image.write_bytes(data)
    result = run(folder, "--in-place")
    assert result.exit_code == 0
    assert "C2PA manifest" in result.stderr
    assert image.read_bytes() == data
    assert (folder / f"{image.name}.xmp").exists()
    forced = run(folder, "-o", tmp_path / "out", "--force")
    assert forced.exit_code == 0
    assert "signature no longer holds" in forced.stderr
    written = (tmp_path / "out" / image.name).read_bytes()
    assert provenance.read(written, format)[provenance.SOURCE_TYPE] == AI
    assert (b"jumb" in written) == (b"jumb" in data)


def test_compressed_png_text_is_bounded_and_two_packets_are_refused() -> None:
    head = b"XML:com.adobe.xmp\0\1\0\0\0"
    bomb = png_with(encode(gradient()), (b"iTXt", head + zlib.compress(bytes(50_000_000))))
    with within(5), pytest.raises(InputError, match="larger than"):
        provenance.tag(bomb, "PNG", properties())
    junk = png_with(encode(gradient()), (b"iTXt", head + b"not deflated"))
    with pytest.raises(InputError, match="cannot be followed"):
        provenance.tag(junk, "PNG", properties())
    chunk = (b"iTXt", head + zlib.compress(XMP))
    with pytest.raises(InputError, match="more than one"):
        provenance.tag(png_with(encode(gradient()), chunk, chunk), "PNG", properties())
    segment = (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    with pytest.raises(InputError, match="more than one"):
        provenance.tag(jpeg_with(encode(gradient(), "JPEG"), segment, segment), "JPEG", properties())


@pytest.mark.parametrize(("name", "alpha"), [("lossy", False), ("lossless", False), ("alpha", True)])
def test_a_simple_webp_becomes_an_extended_one(name: str, alpha: bool) -> None:
    data = FILES[f"{name}.webp"]()
    if alpha:  # Pillow writes VP8X for it; take the image chunk alone, which says itself that it has alpha
        at = data.index(b"VP8L")
        chunk = data[at : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]
        chunk += bytes(len(chunk) % 2)
        data = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
    assert data[12:15] == b"VP8"
    assert data[15:16] != b"X"
    tagged = provenance.tag(data, "WEBP", properties()).data
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
    assert tagged[12:16] == b"VP8X"
    assert tagged[20] == 0x04 | (0x10 if alpha else 0)
    assert int.from_bytes(tagged[24:27], "little") + 1 == size[0]
    assert int.from_bytes(tagged[27:30], "little") + 1 == size[1]
    assert int.from_bytes(tagged[4:8], "little") == len(tagged) - 8
    assert list(frames(tagged)) == list(frames(data))
    assert data[12:] in tagged
