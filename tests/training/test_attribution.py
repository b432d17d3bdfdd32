"""Families of generators: naming, fitting, joining, and the whole way from training to a record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import encode

from aidetect.cli.formats.writers import schema_text
from aidetect.cli.main import main
from aidetect.detector.models.attribution import FLOOR, generators, joined
from aidetect.detector.models.families import family_of
from aidetect.detector.training.familyfit import fit_classes


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
    probe = fit_classes(x, [names[t] for t in truth], np.ones(300), l2=0.01)
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


def test_kinds_of_views_count_alike_however_many_views_they_have() -> None:
    rows = [np.array(row) for row in ([-1.0, -3.0], [-5.0, -1.0], [-7.0, -1.0], [-9.0, -1.0])]
    assert joined(["whole", "native", "native", "native"], rows).tolist() == [-4.0, -2.0]
    assert joined(["native", "native"], rows[:2]).tolist() == [-3.0, -2.0]


def trained(tiny_model_folder: Path, folder: Path, group_of: Callable[[int], str]) -> dict[str, Any]:
    """Train on coloured pictures of two families and a camera, in six lots: the card.

    Args:
        group_of: repository of a lot, by its number.
    """
    rng = np.random.default_rng(0)
    rows = []
    for lot in range(6):
        for i in range(6):
            name = f"{lot}-{i}.png"
            colour = {0: (250, 10, 10), 1: (10, 10, 250), 2: (128, 128, 128)}[lot % 3]
            rgb = np.clip(np.array(colour) + rng.normal(0, 8, (40, 48, 3)), 0, 255).astype(np.uint8)
            (folder / name).write_bytes(encode(rgb))
            label = "real" if lot % 3 == 2 else "ai"
            generator = ("gan", "flux", "camera")[lot % 3]
            rows.append({"file": name, "label": label, "generator": generator, "repo": group_of(lot)})
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = ["train", "--index", folder / "index.csv", "--tower", tiny_model_folder.parent / "tiny-tower"]
    words += ["--cache", folder / "cache", "-o", folder / "mine", "--folds", "2", "-q", "--device", "cpu"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    card: dict[str, Any] = json.loads((folder / "mine" / "model.json").read_text())
    return card


def test_families_from_one_repository_each_are_not_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    card = trained(tiny_model_folder, tmp_path, lambda lot: f"r{lot}" if lot % 3 == 2 else f"r{lot % 3}")
    assert "attribution" not in card  # nothing could be measured
    assert "Generator families" not in (tmp_path / "mine" / "MODEL_CARD.md").read_text()


def test_from_training_to_the_record(tiny_model_folder: Path, tmp_path: Path) -> None:
    card = trained(tiny_model_folder, tmp_path, lambda lot: f"r{lot}")
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
