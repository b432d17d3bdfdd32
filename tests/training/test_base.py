"""Base features: what a model carries so that it can be extended."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import encode, noise

from aidetect.cli.main import main
from aidetect.detector.errors import ModelError
from aidetect.detector.models.model import read_model_card
from aidetect.detector.models.orientation import NAMES, load_orientation
from aidetect.detector.models.probe import write_tensors
from aidetect.detector.training.base import FILE, Joined, read_base, write_base
from aidetect.detector.training.dataset import Example
from aidetect.detector.training.features import Sample


class Table:
    """Vectors in memory."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors = vectors

    def rows(self, keys: Any, used: np.ndarray | None = None) -> np.ndarray:
        found = np.stack([self.vectors[key] for key in keys]).astype(np.float16)
        return found if used is None else found[:, used]


def some(count: int, rank: int, length: int = 60) -> tuple[list[Example], list[Sample], Table]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (rank, length)) * 5
    examples = [Example(Path(f"/secret/{i}.png"), i % 2, "g", f"s{i % 7}", f"s{i % 7}") for i in range(count)]
    samples = [Sample(i, kind, 0, f"{kind}{i}") for i in range(count) for kind in ("whole", "native")]
    vectors = {s.key: rng.normal(0, 1, rank) @ mixing + 3 for s in samples}
    return examples, samples, Table(vectors)


def test_features_come_back_nearly_as_they_were(tmp_path: Path) -> None:
    examples, samples, table = some(200, rank=10)
    write_base(tmp_path / FILE, examples, samples, table, np.ones(60, bool), 12)
    base = read_base(tmp_path / FILE)
    keys = [s.key for s in samples]
    before, after = table.rows(keys).astype(float), base.rows(keys).astype(float)
    assert np.abs(before - after).std() < 0.03 * before.std()
    assert [base.examples[s.example].source for s in base.samples if s.kind == "whole"] == [
        e.source for e in examples
    ]
    assert b"secret" not in (tmp_path / FILE).read_bytes()
    assert "secret" not in str(base.examples)


def test_components_left_out_are_lost_and_no_others(tmp_path: Path) -> None:
    examples, samples, table = some(200, rank=20)
    keys = [s.key for s in samples]
    errors = []
    for components in (5, 15, 20):
        write_base(tmp_path / FILE, examples, samples, table, np.ones(60, bool), components)
        errors.append(float(np.abs(table.rows(keys) - read_base(tmp_path / FILE).rows(keys)).mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_only_used_features_are_kept(tmp_path: Path) -> None:
    examples, samples, table = some(60, rank=6)
    used = np.arange(60) % 3 == 0
    write_base(tmp_path / "part", examples, samples, table, used, 12)
    write_base(tmp_path / "all", examples, samples, table, np.ones(60, bool), 12)
    assert (tmp_path / "part").stat().st_size < (tmp_path / "all").stat().st_size
    keys = [s.key for s in samples]
    before, after = table.rows(keys).astype(float), read_base(tmp_path / "part").rows(keys).astype(float)
    assert not after[:, ~used].any()
    assert np.abs(before - after)[:, used].std() < 0.03 * before.std()
    for wanted in (used, np.arange(60) % 2 == 0):
        assert np.array_equal(read_base(tmp_path / "part").rows(keys, wanted), after[:, wanted])


def test_joined_vectors_keep_their_order(tmp_path: Path) -> None:
    examples, samples, table = some(40, rank=5)
    write_base(tmp_path / FILE, examples, samples, table, np.ones(60, bool), 8)
    base = read_base(tmp_path / FILE)
    fresh = Table({f"new{i}": np.full(60, float(i)) for i in range(3)})
    rows = Joined(base, fresh).rows(["new2", samples[5].key, "new0", samples[0].key])
    assert np.array_equal(rows[[0, 2]], [[2.0] * 60, [0.0] * 60])
    assert np.array_equal(rows[[1, 3]], base.rows([samples[5].key, samples[0].key]))
    with pytest.raises(KeyError):
        base.rows(["unknown"])


def test_pictures_left_out_take_their_samples_along(tmp_path: Path) -> None:
    examples, samples, table = some(40, rank=5)
    examples = [replace(example, original=f"{i}.png") for i, example in enumerate(examples)]
    write_base(tmp_path / FILE, examples, samples, table, np.ones(60, bool), 8)
    base = read_base(tmp_path / FILE)
    fewer = base.without({"s0|0.png", "s3|10.png", "s3|unknown.png"})
    assert [example.original for example in fewer.examples] == [
        f"{i}.png" for i in range(40) if i not in (0, 10)
    ]
    kept = [s for s in base.samples if s.example not in (0, 10)]
    assert [s.key for s in fewer.samples] == [s.key for s in kept]
    assert [fewer.examples[s.example] for s in fewer.samples] == [base.examples[s.example] for s in kept]
    keys = [s.key for s in kept]
    assert np.array_equal(fewer.rows(keys), base.rows(keys))


@pytest.mark.parametrize("damage", ["cut", "index", "missing", "used"])
def test_a_damaged_base_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    examples, samples, table = some(40, rank=5)
    path = tmp_path / FILE
    write_base(path, examples, samples, table, np.ones(60, bool), 8)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        tensors = dict(load_file(path))
        if damage == "index":
            tensors["index"] = tensors["index"][:-3]
        elif damage == "used":
            tensors["used"][3] = 0
        else:
            del tensors["native.features"]
        save_file(tensors, path)
    with pytest.raises(ModelError, match="cannot read"):
        read_base(path)


# --- the command ------------------------------------------------------------------------------------


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, words), "--device", "cpu", "-q"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ramps as AI, noise as real; and a new generator of stripes that looks like neither."""
    base = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in ("ai", "real", "new"):
        for group in range(3):
            folder = base / label / f"{label}{group}"
            folder.mkdir(parents=True)
            for i in range(8):
                if label == "real":
                    rgb = noise(48, 40, seed=int(rng.integers(1 << 30)))
                elif label == "ai":
                    rgb = np.linspace(0, rng.uniform(100, 250), 48)[None, :, None] * np.ones((40, 1, 3))
                else:
                    rgb = noise(48, 40, seed=int(rng.integers(1 << 30)))
                    rgb[::4] = rng.integers(200, 255)
                (folder / f"{i}.png").write_bytes(encode(np.asarray(rgb).astype(np.uint8)))
    return base


def give_judge(folder: Path) -> None:
    """Give a model a judge of orientation that takes every picture for upright."""
    card = json.loads((folder / "model.json").read_text())
    path = folder / "orientation.safetensors"
    weight = np.zeros((len(NAMES), card["probe"]["length"]), np.float32)
    write_tensors(path, {"weight": weight, "bias": np.array([9, 0, 0, 0], np.float32)})
    names = ("upright_at_once", "upright_turned", "turned_back")
    measured = {"pictures": 8, "owners": 2, **dict.fromkeys(names, 0.5)}
    card["orientation"] = {"file": path.name, "upright": 0.6, "turned": 0.9, "measured": measured}
    card["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))


def test_a_model_is_extended_by_a_new_generator(
    pictures: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDETECT_MODELS", f"{tiny_model_folder.parent}:{tmp_path}")
    first = run(
        *("--ai", pictures / "ai", "--real", pictures / "real", "-o", tmp_path / "first", "--folds", 2),
        *("--tower", tiny_model_folder.parent / "tiny-tower", "--extendable"),
        *("--cache", tmp_path / "f.sqlite"),
    )
    assert first.exit_code == 0, first.output
    card = first_card = json.loads((tmp_path / "first" / "model.json").read_text())
    assert FILE in card["files"]
    modes = {path.name: oct(path.stat().st_mode) for path in (tmp_path / "first").iterdir()}
    assert set(modes.values()) == {modes["model.json"]}, "whoever may read the card may read the model"
    (tmp_path / "f.sqlite").unlink()
    give_judge(tmp_path / "first")
    known = ("--ai", pictures / "ai")  # the base has these: nothing is added
    words = ("--base", "first", *known, "--ai", pictures / "new", "-o", tmp_path / "second", "--folds", 2)
    second = run(*words, "--cache", tmp_path / "g.sqlite")
    assert second.exit_code == 0, second.output
    card = json.loads((tmp_path / "second" / "model.json").read_text())
    assert card["base"]["name"] == "first"
    assert card["base"]["examples_added"] == 24
    assert card["training"]["groups"] == 9
    length = int(card["probe"]["length"])
    judges = [
        load_orientation(tmp_path / name, read_model_card(str(tmp_path / name)).data, length)
        for name in ("first", "second")
    ]
    assert judges[0] is not None and judges[1] is not None, "turned pictures are still turned back"
    assert np.array_equal(judges[0].probe.weight, judges[1].probe.weight)
    assert "turned back" in (tmp_path / "second" / "MODEL_CARD.md").read_text()
    assert card["recipe"]["class_blocks"] == first_card["recipe"]["class_blocks"]
    found = {}
    for name in ("first", "second"):
        scan = ["scan", str(pictures), "--model", str(tmp_path / name), "--device", "cpu", "--format", "json"]
        records = json.loads(CliRunner().invoke(main, scan).stdout)["records"]
        for label in ("ai", "real", "new"):
            mine = [r["logit"] for r in records if f"/{label}/" in r["input"]]
            found[name, label] = float(np.mean(mine))
    assert found["first", "new"] < 0 < found["second", "new"], "the new generator is learnt"
    assert found["second", "ai"] > 0 > found["second", "real"], "and the old ones are not forgotten"
    again = run(*words[:-3], tmp_path / "third", "--folds", 2, "--cache", tmp_path / "g.sqlite")
    assert again.exit_code == 0
    hashes = [(tmp_path / name / "probe.safetensors").read_bytes() for name in ("second", "third")]
    assert hashes[0] == hashes[1], "the same command gives the same probe"


def test_pictures_may_be_left_out(pictures: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    tower = ("--tower", tiny_model_folder.parent / "tiny-tower")
    words = ("--ai", pictures / "ai", "--real", pictures / "real", "--folds", 2, "--cache", tmp_path / "f")
    first = run(*words, *tower, "--extendable", "-o", tmp_path / "first")
    assert first.exit_code == 0, first.output
    listed = tmp_path / "wrong.csv"
    listed.write_text("repo,path,reason\nai/ai0,ai0/3.png,a photograph\nreal/real1,real1/0.png,drawn\n")
    second = run(*words, *tower, "--without", listed, "-o", tmp_path / "second")
    assert second.exit_code == 0, second.output
    new = ("--ai", pictures / "new", "--folds", 2, "--cache", tmp_path / "f")
    third = run("--base", tmp_path / "first", *new, "--without", listed, "-o", tmp_path / "third")
    assert third.exit_code == 0, third.output
    names = []
    for name in ("first", "second", "third"):
        text = gzip.decompress((tmp_path / name / "held-out.csv.gz").read_bytes()).decode()
        rows = list(csv.DictReader(text.splitlines()))
        names.append({row["name"] for row in rows})
    assert names[0] - names[1] == {"ai/ai0/ai0/3.png", "real/real1/real1/0.png"}
    assert {name for name in names[2] if "new" not in name} == names[1]
    listed.write_text("repo,file\nai/ai0,ai0/3.png\n")
    result = run(*words, *tower, "--without", listed, "-o", tmp_path / "m")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"aidetect: error: {listed}, line 2: needs the columns repo and path"
    ]


def test_what_cannot_be_extended_says_so(pictures: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    result = run("--base", tiny_model_folder, "--ai", pictures / "new", "-o", tmp_path / "m")
    assert result.exit_code == 5
    assert "cannot be extended" in result.stderr
    assert run("--base", tiny_model_folder, "-o", tmp_path / "m").exit_code == 2
    card = json.loads((tiny_model_folder / "model.json").read_text())
    old = tmp_path / "old"
    shutil.copytree(tiny_model_folder, old)
    (old / FILE).write_bytes(b"")
    card["files"][FILE] = hashlib.sha256(b"").hexdigest()
    (old / "model.json").write_text(json.dumps(card))
    result = run("--base", old, "--ai", pictures / "new", "-o", tmp_path / "m")
    assert result.exit_code == 5, "its card does not say which features it kept"
    assert len(result.stderr.splitlines()) == 1
    both = run("--base", "x", "--tower", "y", "--ai", pictures / "new", "-o", tmp_path / "m")
    assert both.exit_code == 2
