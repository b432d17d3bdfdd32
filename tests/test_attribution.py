"""Families of generators: naming, fitting, joining, and the whole way from training to a record."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import encode

from aidetect.cli.main import main
from aidetect.cli.writers import schema_text
from aidetect.detector.attribution import FLOOR, family_of, fit_families, generators


@pytest.mark.parametrize(
    ("slug", "family"),
    [
        ("sdxl-ft", "stable_diffusion"),
        ("sd-unknown", "stable_diffusion"),
        ("flux-krea", "flux"),
        ("nano-banana", "imagen"),
        ("midjourney", "midjourney"),
        ("pixart-alpha", "other"),
        ("unknown-ai", None),
        ("diffusion-unknown", None),
    ],
)
def test_families_of_slugs(slug: str, family: str | None) -> None:
    assert family_of(slug) == family


def test_fit_families_tells_three_apart() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    x = rng.normal(0, 1, (300, 12))
    x[np.arange(300), truth] += 5
    names = ["gan", "flux", "dalle"]
    probe = fit_families(x, [names[t] for t in truth], np.ones(300), l2=0.01)
    found = probe.log_probabilities(x)
    assert probe.names == ("dalle", "flux", "gan")
    assert np.allclose(np.exp(found).sum(axis=1), 1)
    assert np.mean([probe.names[i] == names[t] for i, t in zip(found.argmax(1), truth, strict=True)]) > 0.95


def test_generators_stay_below_the_probability() -> None:
    rows = [np.log([0.7, 0.29, 0.01]), np.log([0.6, 0.39, 0.01])]
    found = generators(0.8, ["whole", "native"], rows, ["a", "b", "c"])
    assert list(found) == ["a", "b"]
    assert sum(found.values()) <= 0.8
    assert min(found.values()) >= FLOOR
    assert generators(0.01, ["whole"], rows[:1], ["a", "b", "c"]) == {}


def test_from_training_to_the_record(tiny_model_folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for repo in range(6):
        for i in range(6):
            name = f"{repo}-{i}.png"
            colour = {0: (250, 10, 10), 1: (10, 10, 250), 2: (128, 128, 128)}[repo % 3]
            rgb = np.clip(np.array(colour) + rng.normal(0, 8, (40, 48, 3)), 0, 255).astype(np.uint8)
            (tmp_path / name).write_bytes(encode(rgb))
            label = "real" if repo % 3 == 2 else "ai"
            generator = ("gan", "flux", "camera")[repo % 3]
            rows.append({"file": name, "label": label, "generator": generator, "repo": f"r{repo}"})
    with (tmp_path / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = ["train", "--index", tmp_path / "index.csv", "--tower", tiny_model_folder.parent / "tiny-tower"]
    words += ["--cache", tmp_path / "cache", "-o", tmp_path / "mine", "--folds", "2", "-q", "--device", "cpu"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert card["attribution"]["names"] == ["flux", "gan"]
    assert card["attribution"]["top_1"]["value"] > 0.8
    assert "Generator families" in (tmp_path / "mine" / "MODEL_CARD.md").read_text()
    words = ["scan", str(tmp_path), "--no-recursive", "--model", str(tmp_path / "mine"), "--format", "json"]
    report = json.loads(CliRunner().invoke(main, words).stdout)
    jsonschema.validate(report, json.loads(schema_text()))
    for record in report["records"]:
        found = record["type"]["ai_generators"]
        assert sum(found.values()) <= record["type"]["ai_generated"] + 1e-3
        repo = int(Path(record["input"]).name[0])
        if repo % 3 < 2:
            assert next(iter(found)) == ("gan", "flux")[repo % 3]
