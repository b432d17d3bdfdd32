"""The shortcut guards and the drift of a detector, on tiny drawn pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import encode, noise, shapes
from PIL import Image

from aidetect.cli.main import main
from aidetect.detector.errors import AidetectError, InputError
from aidetect.detector.images.pixels import decode
from aidetect.detector.training import guards
from aidetect.detector.training.dataset import Example, read_folder
from aidetect.detector.training.scoring import pictures

GROUPS, EACH = 4, 10
# Drawn alike for both classes; then each test lets one thing tell them apart.
SEEDS = np.random.default_rng(5)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring on fits this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(width: int = 64, height: int = 64) -> np.ndarray:
    return shapes(width, height, seed=int(SEEDS.integers(10**6)))


def place(folder: Path, label: int, group: int, number: int, data: bytes) -> None:
    path = folder / ("ai" if label else "real") / f"g{group}" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def draw(folder: Path, make: Any) -> list[Example]:
    """Pictures of both classes in four groups each; ``make(label, number)`` gives a file."""
    for label in (0, 1):
        for group in range(GROUPS):
            for number in range(EACH):
                place(folder, label, group, number, make(label, number))
    return read_folder(folder / "ai", 1) + read_folder(folder / "real", 0)


def aucs(examples: list[Example]) -> dict[str, float]:
    return {guard.name: guard.auc for guard in guards.measure(guards.look(examples))}


def seen(name: str, data: bytes) -> np.ndarray:
    return guards.GUARDS[name](data, next(decode(data)))


# --- what each guard sees ---------------------------------------------------------------------------


def test_jpeg_tables_are_those_of_the_file() -> None:
    luma, chroma = list(range(1, 65)), list(range(101, 165))
    data = encode(picture(), "JPEG", qtables=[luma, chroma], subsampling=2)
    found = seen("jpeg-tables", data)
    assert found.shape == (132,)
    assert found[:64].tolist() == luma
    assert found[64:128].tolist() == chroma
    assert found[128:].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("subsampling", "flags"), [(0, [0, 0, 0, 0]), (1, [1, 0, 0, 0]), (2, [0, 1, 0, 0])])
def test_subsampling_is_flagged(subsampling: int, flags: list[int]) -> None:
    assert seen("jpeg-tables", encode(picture(), "JPEG", subsampling=subsampling))[128:].tolist() == flags


def test_grey_jpeg_has_one_table() -> None:
    found = seen("jpeg-tables", encode(Image.fromarray(picture()).convert("L"), "JPEG"))
    assert found[:64].all()
    assert not found[64:128].any()
    assert found[128:].tolist() == [0, 0, 1, 0]


def test_jpeg_of_several_pictures_counts_as_jpeg() -> None:
    image = Image.fromarray(picture())
    data = encode(image, "MPO", save_all=True, append_images=[image], quality=75)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    alone = seen("jpeg-tables", encode(image, "JPEG", quality=75))
    assert alone.any()
    assert np.array_equal(seen("jpeg-tables", data), alone)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_other_containers_have_no_tables(format: str) -> None:
    assert seen("jpeg-tables", encode(picture(), format)).tolist() == [0] * 131 + [1]


def test_size_and_dimensions() -> None:
    data = encode(picture(128, 64))
    expected = [math.log(len(data)), math.log(len(data) / (128 * 64))]
    assert seen("file-size", data) == pytest.approx(expected)
    assert seen("dimensions", data) == pytest.approx([math.log(128), math.log(64), math.log(2), 0, 1, 1, 1])
    assert seen("dimensions", encode(picture(24, 24)))[2:].tolist() == [0, 1, 1, 0, 0]
    assert seen("dimensions", encode(picture(48, 12)))[3:].tolist() == [0, 0, 0, 0]


def test_thumbnail_and_mean_colour() -> None:
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:, 24:] = (200, 100, 50)
    small = seen("thumbnail", encode(rgb)).reshape(16, 16, 3)
    assert not small[:, :8].any()
    assert (small[:, 8:] == (200, 100, 50)).all()
    assert seen("mean-colour", encode(rgb)) == pytest.approx([100, 50, 25, 100, 50, 25])


def test_unreadable_pictures_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(picture()))
    (tmp_path / "b.png").write_bytes(b"no picture")
    failed: list[tuple[str, str]] = []
    done: list[int] = []
    looks = guards.look(
        read_folder(tmp_path, 1), done.append, lambda e, error: failed.append((e.path.name, error.kind))
    )
    assert [e.path.name for e in looks.examples] == ["a.png"]
    assert {len(rows) for rows in looks.vectors.values()} == {1}
    assert failed == [("b.png", "not_an_image")]
    assert done == [1, 2]


def test_members_of_an_archive_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(encode(picture(), "JPEG"))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(file, "inside.jpg")
    alone = Example(file, 1, "g", "s", "s")
    packed = Example(tmp_path / "x.tar", 1, "g", "s", "s", member="inside.jpg")
    looks = guards.look([alone, packed])
    for rows in looks.vectors.values():
        assert np.array_equal(rows[0], rows[1])


# --- what each guard learns -------------------------------------------------------------------------


def test_nothing_to_learn_is_near_one_half(tmp_path: Path) -> None:
    found = aucs(draw(tmp_path, lambda label, number: encode(picture())))
    assert set(found) == set(guards.GUARDS)
    for name, auc in found.items():
        assert 0.3 < auc < 0.7, (name, auc)


def test_dimensions_alone(tmp_path: Path) -> None:
    def make(label: int, number: int) -> bytes:
        side = 64 if label else 60
        rgb = np.asarray(Image.fromarray(picture()).resize((side, side)))
        # Uncompressed and padded to one length, so that the bytes do not tell.
        data = encode(rgb, "BMP")
        return data + bytes(13_000 - len(data))

    found = aucs(draw(tmp_path, make))
    assert found.pop("dimensions") > 0.99
    found.pop("file-size")  # bytes a pixel tell the dimensions here
    for name, auc in found.items():
        assert 0.3 < auc < 0.7, (name, auc)


def test_jpeg_tables_alone(tmp_path: Path) -> None:
    def make(label: int, number: int) -> bytes:
        data = encode(picture(), "JPEG", quality=90 if label else 86, subsampling=0)
        return data + bytes(20_000 - len(data))

    found = aucs(draw(tmp_path, make))
    assert found.pop("jpeg-tables") > 0.99
    assert found["file-size"] == found["dimensions"] == 0.5
    for name, auc in found.items():
        assert 0.3 < auc < 0.7, (name, auc)


def test_colour_alone(tmp_path: Path) -> None:
    found = aucs(draw(tmp_path, lambda label, number: encode(noise(64, 64, number) // (1 + label), "BMP")))
    assert found["mean-colour"] > 0.99
    assert found["thumbnail"] > 0.99
    assert found["file-size"] == found["dimensions"] == found["jpeg-tables"] == 0.5


def test_file_size_alone(tmp_path: Path) -> None:
    def make(label: int, number: int) -> bytes:
        return encode(picture(), "BMP") + bytes(1000 * label + number)

    found = aucs(draw(tmp_path, make))
    assert found["file-size"] > 0.99
    assert found["dimensions"] == found["jpeg-tables"] == 0.5


def test_what_marks_a_group_does_not_count(tmp_path: Path) -> None:
    """Each group has dimensions of its own, which tell nothing of a group that was never seen."""
    sizes = iter([65, 71, 73, 79, 67, 69, 75, 77])
    for label, first in ((0, 0), (1, 1)):
        for group in range(GROUPS):
            side = next(sizes)
            for number in range(EACH):
                place(tmp_path, label, 2 * group + first, number, encode(picture(side, side)))
    examples = read_folder(tmp_path / "ai", 1) + read_folder(tmp_path / "real", 0)
    assert aucs(examples)["dimensions"] < 0.8


def test_a_value_only_held_out_pictures_have_does_no_harm() -> None:
    """A column without variation in the training part is not blown up."""
    rng = np.random.default_rng(0)
    labels = [label for label in (0, 1) for _ in range(40)]
    examples = [
        Example(Path(str(i)), label, "g", f"{label}{i % 4}", f"{label}{i % 4}")
        for i, label in enumerate(labels)
    ]
    vectors = np.stack([np.array(labels) + rng.normal(0, 0.1, 80), np.full(80, 87.3)], axis=1)
    vectors[[i for i, e in enumerate(examples) if e.group == "01"], 1] = 9000.0
    logits = guards.held_out(vectors, examples, folds=4, l2=0.01)
    assert ((logits > 0) == np.array(labels)).all()
    assert np.abs(logits).max() < 50


def test_views_are_judged_apart(tmp_path: Path) -> None:
    examples = []
    for view in ("tile", "whole"):
        folder = tmp_path / view

        def make(label: int, number: int, view: str = view) -> bytes:
            return encode(picture(64 if label or view == "tile" else 48, 64))

        examples += [
            Example(e.path, e.label, e.generator, e.source, e.group, view=view) for e in draw(folder, make)
        ]
    found = {(g.view, g.name): g for g in guards.measure(guards.look(examples))}
    assert len(found) == 2 * len(guards.GUARDS)
    assert found["tile", "dimensions"].auc == 0.5
    assert found["whole", "dimensions"].auc > 0.99
    assert {(g.n_ai, g.n_real) for g in found.values()} == {(GROUPS * EACH, GROUPS * EACH)}


def test_too_few_groups_is_said(tmp_path: Path) -> None:
    examples = draw(tmp_path, lambda label, number: encode(picture()))
    looks = guards.look([e for e in examples if e.label == 0 or e.group == "ai/g0"])
    with pytest.raises(AidetectError, match="two groups"):
        guards.measure(looks)
    both = guards.look(examples)
    both.examples[:] = [
        Example(e.path, e.label, e.generator, e.source, e.group, view="whole" if "g3" in e.group else "full")
        for e in both.examples
    ]
    found = {(g.view, g.name): g for g in guards.measure(both)}
    assert math.isnan(found["whole", "thumbnail"].auc)
    assert found["whole", "thumbnail"].to_dict()["auc"] is None
    assert not math.isnan(found["full", "thumbnail"].auc)


# --- drift ------------------------------------------------------------------------------------------


def test_saving_as_png_moves_nothing(tiny_detector: Any, tmp_path: Path) -> None:
    for number, format in enumerate(("PNG", "JPEG", "WEBP", "GIF")):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(80, 48), format))
    frames = [Image.fromarray(picture()) for _ in range(3)]
    (tmp_path / "moving.gif").write_bytes(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    done: list[int] = []
    found = {row.name: row for row in guards.drift(tiny_detector, read_folder(tmp_path, 0), done.append)}
    assert list(found) == list(guards.DRIFT)
    assert found["as is"].change == found["as is"].largest == 0
    assert found["png"].change == found["png"].largest == 0
    assert found["png"].logit == found["as is"].logit
    assert found["png"].called_ai == found["as is"].called_ai
    assert all(row.called_ai.n == 5 for row in found.values())
    assert all(row.largest > 0 for name, row in found.items() if name not in ("as is", "png"))
    assert done[-1] == 5 * len(guards.DRIFT)


def test_drift_states_what_the_detector_says(tiny_detector: Any, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(80, 48)))
    examples = read_folder(tmp_path, 0)
    found = {row.name: row for row in guards.drift(tiny_detector, examples)}
    records = tiny_detector.score([e.path for e in examples])
    assert found["as is"].logit == pytest.approx(np.mean([r.logit for r in records]), abs=1e-5)
    assert found["as is"].called_ai.value == np.mean([r.verdict == "ai" for r in records])
    squares = [
        np.asarray(Image.open(e.path).convert("RGB").resize((1024, 1024), Image.Resampling.BICUBIC))
        for e in examples
    ]
    expected = np.mean([r.logit for r in tiny_detector.score(squares)])
    assert found["square-1024"].logit == pytest.approx(expected, abs=1e-5)


def test_drift_leaves_out_what_cannot_be_read(tiny_detector: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(picture()))
    (tmp_path / "b.png").write_bytes(b"")
    failed: list[str] = []

    def note(example: Example, error: InputError) -> None:
        failed.append(f"{example.path.name} {error.kind}")

    found = guards.drift(tiny_detector, read_folder(tmp_path, 0), on_error=note)
    assert {row.called_ai.n for row in found} == {1}
    assert failed == ["b.png empty"]
    with pytest.raises(AidetectError, match="no real picture"):
        guards.drift(tiny_detector, [])


def test_chosen_pictures_are_spread_over_sources() -> None:
    def example(source: str, number: int, label: int = 0, view: str = "full") -> Example:
        original = "" if view == "full" else str(number)
        return Example(
            Path(f"{source}{number}{view}"), label, "g", source, source, view=view, original=original
        )

    examples = [example("large", n) for n in range(50)] + [example("small", n) for n in range(2)]
    examples += [example("made", n, label=1) for n in range(9)]
    examples += [example("cut", 0, view=view) for view in ("whole", "tile")]
    found = pictures(examples)
    chosen = guards.spread(found, 7)
    assert chosen == guards.spread(found, 7)
    assert sorted(e.source for e in chosen) == ["cut", "large", "large", "large", "large", "small", "small"]
    assert {e.view for e in chosen if e.source == "cut"} == {"tile"}
    assert len(set(chosen)) == 7
    assert guards.spread(found, 7, seed=1) != chosen
    assert len(guards.spread(found, 1000)) == 53
    assert guards.spread([], 3) == []


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """An index in which the square pictures are AI."""
    draw(tmp_path, lambda label, number: encode(picture(64, 64 if label else 56)))
    index = tmp_path / "index.csv"
    with index.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label", "source", "repo"])
        for path in sorted(tmp_path.rglob("*.png")):
            label, group = path.parts[-3:-1]
            rows.writerow([path.relative_to(tmp_path), label, f"{label}-{group}", f"{label}-{group}"])
    return index


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["guards", *map(str, words)])


def test_table(corpus: Path) -> None:
    result = run("--index", corpus)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["guard", "full"]
    rows = {line[:14].strip(): line.split()[-1] for line in lines[2:]}
    assert list(rows) == [*guards.GUARDS, "AI pictures", "real pictures"]
    assert rows["dimensions"] == "1.000"
    assert rows["AI pictures"] == rows["real pictures"] == str(GROUPS * EACH)
    assert "80 pictures, 80 files or crops, 0 failures" in result.stderr
    assert run("--index", corpus, "-q").stderr == ""


def test_folders_limit_and_json(corpus: Path) -> None:
    words = ("--ai", corpus.parent / "ai", "--real", corpus.parent / "real", "--limit", 3)
    result = run(*words, "--format", "json", "-q")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["kind"] == "guards"
    assert found["tool"]["name"] == "aidetect"
    assert found["asked"] == {"limit": 3, "drift": None}
    assert found["drift"] == found["errors"] == []
    assert [g["guard"] for g in found["guards"]] == list(guards.GUARDS)
    assert {(g["view"], g["pictures"]["ai"], g["pictures"]["real"]) for g in found["guards"]} == {
        ("full", 12, 12)
    }
    assert json.loads(run(*words, "--format", "json", "-q").stdout) == found


def test_drift_by_command(corpus: Path, tiny_model_folder: Path) -> None:
    words = (
        "--index",
        corpus,
        "--drift",
        4,
        "--model",
        tiny_model_folder,
        "--device",
        "cpu",
        "--views",
        "fast",
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    _, table = result.stdout.split("\n\n")
    head, columns, *rows = table.splitlines()
    assert head.startswith("Scores of 4 real pictures")
    assert "views fast" in head
    assert columns.split()[0] == "saved"
    assert len(rows) == len(guards.DRIFT)
    png = next(row for row in rows if row.startswith("png"))
    assert "+0.000" in png
    found = json.loads(run(*words, "--format", "json", "-q").stdout)
    assert found["model"]["name"] == "tiny"
    assert [row["condition"] for row in found["drift"]] == list(guards.DRIFT)
    assert found["drift"][1]["largest_change"] == 0
    assert found["drift"][0]["called_ai"]["n"] == 4


def test_unreadable_picture_is_told_and_exits_3(corpus: Path, tiny_model_folder: Path) -> None:
    for path in (corpus.parent / "real" / "g0").iterdir():
        path.write_bytes(b"broken")
    result = run("--index", corpus, "--drift", 100, "--model", tiny_model_folder, "--device", "cpu")
    assert result.exit_code == 3, result.output
    assert result.stderr.count("aidetect: ") == EACH  # once each, not again by the drift
    assert "Scores of 30 real pictures" in result.stdout


def test_errors_are_one_line(corpus: Path, tmp_path: Path) -> None:
    ai = corpus.parent / "ai"
    for words, code, text in (
        ((), 2, "give --index"),
        (("--ai", ai), 2, "give --index"),
        (("--index", corpus, "--drift", 1, "--model", tmp_path / "none"), 5, "none"),
        (("--ai", ai / "g0", "--real", corpus.parent / "real" / "g0"), 2, "too few groups"),
    ):
        result = run(*words)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_nothing_readable_exits_4(corpus: Path) -> None:
    for path in corpus.parent.rglob("*.png"):
        path.write_bytes(b"broken")
    result = run("--index", corpus)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "nothing to measure" in result.stderr


def test_help_shows_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "aidetect guards --index corpus/index.csv" in result.stdout
    listing = CliRunner().invoke(main, ["--help"]).stdout
    assert "Check labelled pictures for shortcuts that a classifier could learn" in " ".join(listing.split())
