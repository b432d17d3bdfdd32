"""Fitting, calibration, folds, and the train command with the tiny tower."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import encode

from aidetect.cli.main import main
from aidetect.detector.models.model import load_card_tower
from aidetect.detector.models.probe import Calibration, sigmoid
from aidetect.detector.training.dataset import Example, read_index
from aidetect.detector.training.features import FeatureCache, extract
from aidetect.detector.training.fit import balanced_weights, fit_probe, group_folds, platt
from aidetect.detector.training.recipe import Recipe


def test_fit_probe_finds_a_separating_direction() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    features = rng.normal(0, 1, (400, 20))
    features[:, 3] += 3 * labels
    features[:, 7] = features[:, 7] * 1000 + 5  # scale must not matter
    probe = fit_probe(features, labels, np.ones(400), 1e-2)
    assert ((probe.logits(features) > 0) == labels).mean() > 0.9
    scaled = np.abs(probe.weight * features.std(axis=0))
    assert scaled.argmax() == 3


def test_fit_probe_is_reproducible_and_weights_count() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(0, 1, (60, 5)), rng.integers(0, 2, 60)
    one, two = (fit_probe(features, labels, np.ones(60), 1e-2) for _ in range(2))
    assert np.array_equal(one.weight, two.weight)
    weights = np.where(labels == 1, 50.0, 1.0)
    assert fit_probe(features, labels, weights, 1e-2).bias > one.bias + 1


def test_platt_recovers_a_known_slope() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(0, 3, 20000)
    labels = (rng.random(20000) < 1 / (1 + np.exp(-(0.5 * z)))).astype(int)
    slope, intercept = platt(z, labels, np.ones(len(z)))
    assert slope == pytest.approx(0.5, abs=0.03)
    assert intercept == pytest.approx(0, abs=0.06)


def grouped() -> tuple[list[str], list[int]]:
    """Groups of 1,000 samples, and their labels."""
    groups = [f"g{i}" for i in np.random.default_rng(3).integers(0, 40, 1000)]
    return groups, [int(g[1:]) % 2 for g in groups]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_group_folds_never_split_a_group_and_spread_labels(seed: int) -> None:
    groups, labels = grouped()
    folds = group_folds(groups, labels, 5, seed)
    for group in set(groups):
        assert len({int(f) for f, g in zip(folds, groups, strict=True) if g == group}) == 1
    for k in range(5):
        assert {labels[i] for i in np.flatnonzero(folds == k)} == {0, 1}
    counts = np.bincount(folds, labels)
    assert counts.max() < 1.5 * counts.min()
    assert np.array_equal(folds, group_folds(groups, labels, 5, seed))
    assert seed or np.array_equal(folds, group_folds(groups, labels, 5))


def test_a_seed_gives_another_partition() -> None:
    groups, labels = grouped()
    partitions = set()
    for seed in range(3):
        folds = group_folds(groups, labels, 5, seed)
        # Which groups leave together, however the folds are numbered.
        together = [{g for g, f in zip(groups, folds, strict=True) if f == k} for k in range(5)]
        partitions.add(frozenset(map(frozenset, together)))
    assert len(partitions) == 3


def test_balanced_weights_give_each_class_half() -> None:
    labels = np.array([1] * 90 + [0] * 10)
    weights = balanced_weights(labels, ["a"] * 80 + ["b"] * 10 + ["c"] * 10, ["r"] * 100, power=1.0)
    assert weights[labels == 1].sum() == pytest.approx(50)
    assert weights[:80].sum() == pytest.approx(weights[80:90].sum())


def test_large_families_of_generators_weigh_less_than_their_share() -> None:
    labels = np.array([1] * 160 + [0] * 40)
    families = ["a"] * 90 + ["b"] * 10 + [None] * 60 + ["a"] * 40  # a real picture's is not looked at
    given = labels, ["s"] * 200, ["r"] * 200, 0.0
    plain, rooted, alike = (balanced_weights(*given, families, power) for power in (0.0, 0.5, 1.0))
    assert np.array_equal(plain, balanced_weights(*given))
    for weights in (rooted, alike):
        assert weights[labels == 1].sum() == pytest.approx(100)
        assert weights[labels == 0].sum() == pytest.approx(100)
        assert len(set(weights[labels == 0])) == 1
    assert rooted[:90].sum() == pytest.approx(3 * rooted[90:100].sum())
    assert alike[:90].sum() == pytest.approx(alike[90:100].sum())
    assert alike[:90].sum() == pytest.approx(alike[100:160].sum())
    single = balanced_weights(*given, [None] * 200, 0.5)
    assert single == pytest.approx(balanced_weights(*given))


def test_calibration_joins_means_of_each_kind() -> None:
    calibration = Calibration(0.25, 2.0, -1.0)
    assert calibration.join(["whole", "native", "native"], [4.0, 1.0, 3.0]) == pytest.approx(2.5)
    assert calibration.join(["native"], [3.0]) == 3.0
    assert calibration.probability(0.5) == pytest.approx(0.5)
    assert sigmoid(-1000) == 0.0
    assert sigmoid(1000) == 1.0


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures as AI and noisy ones as real, four groups each, and an index of a tar shard."""
    base = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows = []
    with tarfile.open(base / "shard.tar", "w") as shard:
        for label in ("ai", "real"):
            for group in range(4):
                folder = base / label / f"g{group}"
                folder.mkdir(parents=True)
                for i in range(6):
                    ramp = np.linspace(0, rng.uniform(100, 250), 48)[None, :, None] * np.ones((40, 1, 3))
                    rgb = ramp if label == "ai" else rng.integers(0, 255, (40, 48, 3)) * rng.uniform(0.5, 1)
                    path = folder / f"{i}.png"
                    path.write_bytes(encode(rgb.astype(np.uint8)))
                    name = f"{label}-{group}-{i}.png"
                    shard.add(path, name)
                    rows.append(
                        {"shard": "shard.tar", "member": name, "label": label, "repo": f"{label}{group}"}
                    )
    with (base / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return base


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, words), "--device", "cpu", "-q"])


def test_train_writes_a_model_that_scan_uses(labelled: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    tower = tiny_model_folder.parent / "tiny-tower"
    cache = tmp_path / "cache.sqlite"
    common = ["--tower", tower, "--cache", cache, "--folds", "2"]
    first = run("--ai", labelled / "ai", "--real", labelled / "real", "-o", tmp_path / "mine", *common)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["modes"]["fast"]["auc"] == 1.0
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert card["training"]["copies"] == [0, 1]
    assert card["training"]["groups"] == 8
    again = run("--ai", labelled / "ai", "--real", labelled / "real", "-o", tmp_path / "again", *common)
    assert again.exit_code == 0
    other = json.loads((tmp_path / "again" / "model.json").read_text())
    assert other["files"]["probe.safetensors"] == card["files"]["probe.safetensors"]
    text = (tmp_path / "mine" / "MODEL_CARD.md").read_text()
    assert card["measured_by"]["rows"] == 2 * 48
    assert "`standard` adds 3 native crops" in text
    assert "Of 96 pictures and copies measured for `standard`" in text
    assert "# mine" in text
    assert "24 AI, 24 real" in text
    speed = card["speed"]["images_per_second"]
    assert set(speed) == {"fast", "standard", "thorough"}
    assert min(speed.values()) > 0
    assert f"| thorough | {speed['thorough']:.2f} |" in text
    assert CliRunner().invoke(main, ["models", "card", str(tmp_path / "mine")]).stdout == text
    doctor = CliRunner().invoke(main, ["doctor", "--model", str(tmp_path / "mine"), "--device", "cpu"])
    assert "self-test    ok" in doctor.stdout
    words = ["scan", str(labelled), "--model", str(tmp_path / "mine"), "--format", "jsonl"]
    scanned = CliRunner().invoke(main, words)
    records: list[Any] = [json.loads(line) for line in scanned.stdout.splitlines()]
    by_label = {
        label: [r["logit"] for r in records if f"/{label}/" in r["input"]] for label in ("ai", "real")
    }
    assert min(by_label["ai"]) > max(by_label["real"])


def test_held_out_scores_travel_with_the_model(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    words = ["--index", labelled / "index.csv", "--tower", tiny_model_folder.parent / "tiny-tower"]
    words += ["--folds", "2", "--cache", tmp_path / "cache.sqlite", "-o", tmp_path / "mine"]
    assert run(*words).exit_code == 0

    def evaluate(*more: object) -> Result:
        return CliRunner().invoke(main, ["evaluate", "--held-out", *map(str, more)])

    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    for mode in ("fast", "standard", "thorough"):
        result = evaluate("--model", tmp_path / "mine", "--views", mode, "--format", "json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        stated = card["modes"][mode]["error_rates"]
        mix = report["evaluation"]["conditions"]["mix"]
        assert mix["fpr"] == stated["false_positive_rate"]
        assert mix["recall"] == stated["recall"]
        assert mix["auc"] == pytest.approx(stated["auc"], abs=1e-6)
        assert report["model"]["card_sha256"]
    table = evaluate("--model", tmp_path / "mine").stdout
    assert "24 AI and 24 real pictures each" in table
    assert "had not seen their repository" in table
    for extra in (("--ai", labelled / "ai"), ("--condition", "clean"), ("--limit", "3"), ("--sweep",)):
        wrong = evaluate("--model", tmp_path / "mine", *extra)
        assert wrong.exit_code == 2
        assert "leave them out" in wrong.stderr
    none = evaluate("--model", tiny_model_folder)
    assert none.exit_code == 5
    assert "has no held-out scores" in none.stderr
    held_out = tmp_path / "mine" / "held-out.csv.gz"
    held_out.write_bytes(held_out.read_bytes()[:-20])
    assert evaluate("--model", tmp_path / "mine").exit_code == 5
    card["files"]["held-out.csv.gz"] = hashlib.sha256(held_out.read_bytes()).hexdigest()
    (tmp_path / "mine" / "model.json").write_text(json.dumps(card))
    broken = evaluate("--model", tmp_path / "mine")
    assert broken.exit_code == 5
    assert len(broken.stderr.splitlines()) == 1 and "cannot read" in broken.stderr


def test_train_reads_an_index_of_a_shard_and_resumes(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aidetect.detector.models.tower import Tower

    calls = []
    compute = Tower.features

    def counted(self: Tower, views: np.ndarray, patch_mean: bool | None = None) -> np.ndarray:
        if patch_mean:  # asked for by the extraction alone
            calls.append(len(views))
        return compute(self, views, patch_mean)

    monkeypatch.setattr(Tower, "features", counted)
    words = ["--index", labelled / "index.csv", "--tower", tiny_model_folder.parent / "tiny-tower"]
    words += ["--folds", "2", "--copies", "0", "--cache", tmp_path / "cache.sqlite"]
    assert run(*words, "-o", tmp_path / "one").exit_code == 0
    assert sum(calls) > 90
    calls.clear()
    assert run(*words, "-o", tmp_path / "two").exit_code == 0
    assert sum(calls) == 1  # a blank view, for the features' shape


def trained_with(
    labelled: Path, tower: Path, out: Path, column: str, value: str
) -> tuple[int, dict[str, Any]]:
    """Train on the index with a further column in every second row: how many those are, and what the card
    says of the training, with the number of pictures' copies that were looked at.
    """
    with (labelled / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    index = labelled / f"{column}.csv"
    with index.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], column])
        writer.writeheader()
        writer.writerows({**row, column: value if i % 2 else ""} for i, row in enumerate(rows))
    words = ["--index", index, "--tower", tower, "--folds", "2", "--cache", out / "cache.sqlite"]
    result = run(*words, "-o", out / "m")
    assert result.exit_code == 0, result.output
    with closing(sqlite3.connect(out / "cache.sqlite")) as db:
        ((looked_at,),) = db.execute("SELECT COUNT(*) FROM samples")
    training = json.loads((out / "m" / "model.json").read_text())["training"]
    return len(rows) // 2, {**training, "looked_at": looked_at}


@pytest.mark.parametrize(("copies", "looked_at"), [("1", 2), ("0", 1), ("", 2)])
def test_an_index_may_ask_for_fewer_laundered_copies(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path, copies: str, looked_at: int
) -> None:
    tower = tiny_model_folder.parent / "tiny-tower"
    half, training = trained_with(labelled, tower, tmp_path, "copies", copies)
    assert training["looked_at"] == (2 + looked_at) * half


def test_a_wrong_count_in_an_index_is_one_line(tmp_path: Path) -> None:
    for column in ("copies", "laundered"):
        index = tmp_path / "index.csv"
        index.write_text(f"file,label,{column}\nx.png,ai,many\n")
        result = run("--index", index, "-o", tmp_path / "m")
        assert result.exit_code == 2
        assert "line 2" in result.stderr and f"{column} is 'many'" in result.stderr


@pytest.mark.parametrize(("laundered", "looked_at"), [("1", 1), ("0", 2), ("", 2), ("2", 1)])
def test_pictures_laundered_already_count_as_the_copy_they_are(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path, laundered: str, looked_at: int
) -> None:
    tower = tiny_model_folder.parent / "tiny-tower"
    half, training = trained_with(labelled, tower, tmp_path, "laundered", laundered)
    assert training["looked_at"] == (2 + looked_at) * half
    assert training["copies"] == sorted({0, 1, int(laundered or 0)})


def test_a_laundered_picture_is_not_laundered_again(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    one = Example(labelled / "ai" / "g0" / "0.png", 1, "g", "s", "s")
    assert one.wanted([0, 1, 2]) == [0, 1, 2]
    assert replace(one, copies=1).wanted([0, 1, 2]) == [0, 1]
    assert replace(one, laundered=1).wanted([0, 1, 2]) == replace(one, laundered=1).wanted([0]) == [1]
    reference = json.loads((tiny_model_folder / "model.json").read_text())["tower"]
    tower = load_card_tower(reference, tiny_model_folder.parent)
    cache = FeatureCache(tmp_path / "cache2.sqlite")
    clean = extract([one], [0], tower, cache)
    same = extract([replace(one, laundered=1)], [0, 1], tower, cache)
    assert [(s.copy, s.key) for s in same] == [(1, s.key) for s in clean]


def test_held_out_scores_say_nothing_of_where_pictures_lay(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    words = ["--tower", tiny_model_folder.parent / "tiny-tower", "--folds", "2", "--copies", "0"]
    words += ["--ai", labelled / "ai", "--real", labelled / "real", "--cache", tmp_path / "cache.sqlite"]
    assert run(*words, "-o", tmp_path / "m").exit_code == 0
    text = gzip.decompress((tmp_path / "m" / "held-out.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["name"] for row in rows} >= {"ai/g0/g0/0.png", "real/g3/g3/5.png"}
    assert len({row["name"] for row in rows}) == len(rows) == 48
    assert str(labelled.parent) not in text


def test_an_index_s_names_do_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_text(
        "file,label,path\nin/x.png,ai,\n../../home/me/y.png,ai,\n/home/me/z.png,ai,\nw.png,ai,their/w.png\n"
    )
    assert [example.original for example in read_index(index)] == [
        "in/x.png",
        "y.png",
        "z.png",
        "their/w.png",
    ]


def test_the_probe_looks_at_the_recipe_s_tokens_alone() -> None:
    used = Recipe().tokens(12)
    assert used[:12].tolist() == [False] * 5 + [True] * 7
    assert used[12:].tolist() == [False] * 3 + [True] * 5 + [False] * 4
    for blocks in range(1, 40):
        assert Recipe().tokens(blocks).any()
    assert Recipe().features(12) == (
        "class tokens of blocks 6 to 12 and means of the patch tokens of blocks 4 to 8, of 12, "
        "before projection"
    )


def test_train_says_what_is_missing(labelled: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    tower = tiny_model_folder.parent / "tiny-tower"
    assert run("-o", tmp_path / "x").exit_code == 2
    assert run("--ai", labelled / "ai", "-o", tmp_path / "x").exit_code == 2
    (tmp_path / "none").mkdir()
    empty = run("--ai", labelled / "ai", "--real", tmp_path / "none", "-o", tmp_path / "x", "--tower", tower)
    assert empty.exit_code == 2
    assert "no pictures" in empty.stderr
    few = ["--ai", labelled / "ai" / "g0", "--real", labelled / "real", "--cache", tmp_path / "c"]
    result = run(*few, "-o", tmp_path / "x", "--tower", tower)
    assert result.exit_code == 2
    assert "too few groups" in result.stderr
