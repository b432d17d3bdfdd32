"""The kernel half of a probe: what it computes, how it is fitted, stored and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aidetect.detector.errors import ModelError
from aidetect.detector.models.probe import Kernel, Probe, load_probes, probe_tensors, rounded
from aidetect.detector.training import crossfit
from aidetect.detector.training.conditions import CUTS, MIX, REWORK
from aidetect.detector.training.crossfit import condition_of
from aidetect.detector.training.dataset import REWORKED, Example
from aidetect.detector.training.features import Sample
from aidetect.detector.training.fit import fit_pair
from aidetect.detector.training.recipe import Recipe

LENGTH, USED, RANK, CENTRES = 40, 30, 6, 11


def a_kernel(seed: int = 0) -> Kernel:
    rng = np.random.default_rng(seed)
    used = np.arange(LENGTH) % 4 != 0
    return Kernel(
        used=used,
        mean=rng.normal(0, 1, USED).astype(np.float32),
        std=rng.uniform(0.5, 2, USED).astype(np.float32),
        basis=rounded(np.linalg.qr(rng.normal(0, 1, (USED, RANK)))[0]),
        centres=rounded(rng.normal(0, 1, (CENTRES, RANK))),
        weight=rng.normal(0, 1, CENTRES).astype(np.float32),
        gamma=0.2,
    )


def a_probe(seed: int = 0) -> Probe:
    weight = np.random.default_rng(seed + 1).normal(0, 0.3, LENGTH).astype(np.float32)
    return Probe(weight, 0.25, a_kernel(seed))


def rows(n: int = 7, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, LENGTH)).astype(np.float32)


def test_its_value_is_the_sum_of_its_bumps() -> None:
    kernel, (row,) = a_kernel(), rows(1)
    z = ((row[kernel.used] - kernel.mean) / kernel.std) @ kernel.basis
    bumps = [
        w * np.exp(-0.2 * sum((a - b) ** 2 for a, b in zip(z, c, strict=True)))
        for w, c in zip(kernel.weight, kernel.centres, strict=True)
    ]
    assert kernel.value(row) == pytest.approx(sum(bumps), abs=1e-5)
    probe = a_probe()
    expected = row.astype(float) @ probe.weight + 0.25 + sum(bumps)
    assert probe.logits(row[None])[0] == pytest.approx(expected, abs=1e-5)


def test_company_does_not_move_a_logit() -> None:
    probe, many = a_probe(), rows(9)
    together = probe.logits(many)
    assert [probe.logits(row[None])[0] for row in many] == together.tolist()
    assert a_kernel().values(many) == pytest.approx([a_kernel().value(row) for row in many], abs=1e-5)


def test_unused_features_do_not_count() -> None:
    kernel, (row,) = a_kernel(), rows(1)
    changed = np.where(kernel.used, row, row + 9)
    assert kernel.value(changed) == kernel.value(row)
    assert not kernel.slope(row)[~kernel.used].any()


def test_the_linear_function_gives_the_logit_and_its_slope_the_difference_to_the_mean_view() -> None:
    probe, kernel = a_probe(), a_kernel()
    centre = np.zeros(LENGTH)
    centre[kernel.used] = kernel.mean
    for row in rows(5):
        weight, bias = probe.linear_at(row)
        assert weight @ row + bias == pytest.approx(probe.logits(row[None])[0], abs=1e-9)
        difference = kernel.value(row) - kernel.value(centre)
        assert kernel.slope(row) @ (row - centre) == pytest.approx(difference, abs=1e-5)
    plain = Probe(probe.weight, 0.25)
    weight, bias = plain.linear_at(rows(1)[0])
    assert np.array_equal(weight, plain.weight)
    assert bias == pytest.approx(0.25)


def test_what_was_stored_scores_the_same(tmp_path: Path) -> None:
    probes = {"whole": a_probe(1), "native": a_probe(2)}
    tensors = {}
    for kind, probe in probes.items():
        tensors |= probe_tensors(kind, probe)
    save_file(tensors, tmp_path / "probe")
    for kind, probe in load_probes(tmp_path / "probe", LENGTH).items():
        assert probe.logits(rows()) == pytest.approx(probes[kind].logits(rows()), abs=1e-5)


@pytest.mark.parametrize("name", ["used", "mean", "basis", "basis.scale", "centres", "weight", "gamma"])
def test_a_kernel_that_lacks_something_is_a_clear_error(tmp_path: Path, name: str) -> None:
    tensors = probe_tensors("whole", a_probe()) | probe_tensors("native", a_probe())
    del tensors[f"native.kernel.{name}"]
    save_file(tensors, tmp_path / "probe")
    with pytest.raises(ModelError, match="lacks the tensor"):
        load_probes(tmp_path / "probe", LENGTH)


@pytest.mark.parametrize("name", ["used", "mean", "std", "weight"])
def test_a_kernel_whose_tensors_do_not_fit_is_a_clear_error(tmp_path: Path, name: str) -> None:
    save_file(probe_tensors("whole", a_probe()) | probe_tensors("native", a_probe()), tmp_path / "probe")
    tensors = dict(load_file(tmp_path / "probe"))
    tensors[f"whole.kernel.{name}"] = tensors[f"whole.kernel.{name}"][:-1].copy()
    save_file(tensors, tmp_path / "other")
    with pytest.raises(ModelError, match="do not fit"):
        load_probes(tmp_path / "other", LENGTH)


def fitted(x: np.ndarray, labels: np.ndarray, weights: np.ndarray, centres: int = 50) -> tuple[Probe, Probe]:
    return fit_pair(x, labels, weights, l2=0.01, components=8, centres=centres, width=1.0, ridge=0.1)


def test_the_kernel_finds_what_no_line_parts_and_the_linear_probe_does_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (800, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    linear, kernel = fitted(x[:400], labels[:400], np.ones(400))
    right = [(probe.logits(x[400:]) > 0) == labels[400:] for probe in (linear, kernel)]
    assert np.mean(right[0]) < 0.65
    assert np.mean(right[1]) > 0.9


def test_a_pair_is_reproducible_and_weights_count() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(0, 1, (90, 5)), rng.integers(0, 2, 90)
    one, two = (fitted(x, labels, np.ones(90)) for _ in range(2))
    assert np.array_equal(one[1].logits(x), two[1].logits(x))
    assert np.array_equal(one[0].weight, two[0].weight)
    heavy = fitted(x, labels, np.where(labels == 1, 50.0, 1.0))
    assert heavy[1].logits(x).mean() > one[1].logits(x).mean() + 0.2
    few = fitted(x, labels, np.ones(90), centres=10)[1].kernel
    assert few is not None and len(few.centres) == 10


def test_the_kernel_probe_is_at_the_least_of_its_squared_hinge() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (300, 4))
    labels = (x[:, 0] + 0.5 * rng.normal(0, 1, 300) > 0).astype(int)
    weights = rng.uniform(0.5, 2, 300)
    probe = fitted(x, labels, weights)[1]
    kernel = probe.kernel
    assert kernel is not None
    z = ((x - kernel.mean) / kernel.std) @ kernel.basis
    near, among = (
        np.exp(-kernel.gamma * ((rows[:, None] - kernel.centres[None]) ** 2).sum(axis=2))
        for rows in (z, kernel.centres)
    )

    def loss(bumps: np.ndarray, bias: float) -> float:
        short = np.maximum(0, 1 - np.where(labels > 0, 1, -1) * (near @ bumps + bias))
        return float((weights / weights.mean() * short**2).sum() + 0.1 * bumps @ among @ bumps)

    least = loss(kernel.weight, probe.bias)
    for scale in (0.03, 0.1, 0.3):
        for _ in range(20):
            assert loss(kernel.weight + scale * rng.normal(0, 1, 50), probe.bias) > least
        assert min(loss(kernel.weight, probe.bias + way * scale) for way in (-1, 1)) > least
        assert min(loss(kernel.weight * (1 + way * scale), probe.bias) for way in (-1, 1)) > least


def test_conditions_of_copies(tmp_path: Path) -> None:
    full = Example(tmp_path / "x.png", 1, "g", "s", "s")
    cut = Example(tmp_path / "x.png", 1, "g", "s", "s", view="tile")
    file = Example(tmp_path / "x.png", 1, "g", "s", "s", view="tile", laundered=2)
    assert [condition_of(e, 0) for e in (full, cut)] == ["clean", "clean"]
    assert [condition_of(e, 2) for e in (full, cut, file)] == [MIX, CUTS, MIX]
    changed = replace(file, laundered=REWORKED)
    assert [condition_of(e, REWORKED) for e in (full, changed)] == [MIX, REWORK]


class Noise:
    """Feature vectors of any key."""

    def rows(self, keys: Sequence[str], used: np.ndarray | None = None) -> np.ndarray:
        each = [np.random.default_rng(list(key.encode())).normal(0, 1, LENGTH) for key in keys]
        return np.stack(each).astype(np.float16)[:, slice(None) if used is None else used]


def test_reworked_copies_move_no_repository_to_another_fold(tmp_path: Path) -> None:
    clean = [
        Example(tmp_path / f"{i}.png", i % 2, "g", f"s{i % 9}", f"s{i % 9}", original=str(i))
        for i in range(60)
    ]
    # Of few repositories, and many of each.
    changed = [replace(e, view="tile", laundered=REWORKED) for e in clean if e.group in ("s1", "s4")] * 3
    recipe = Recipe(components=4, centres=8, folds=3)
    found = []
    for examples in (clean, clean + changed):
        samples = [
            Sample(i, kind, e.laundered, f"{i}/{kind}")
            for i, e in enumerate(examples)
            for kind in ("whole", "native")
        ]
        seen: list[frozenset[str]] = []
        with pytest.MonkeyPatch.context() as patch:

            def note(
                kind: str,
                x: np.ndarray,
                rows: Sequence[Sample],
                *rest: Any,
                seen: list[frozenset[str]] = seen,
                fit_kind: Any = crossfit.fit_kind,
            ) -> Any:
                seen.append(frozenset(rest[0][s.example].group for s in rows))
                return fit_kind(kind, x, rows, *rest)

            patch.setattr(crossfit, "fit_kind", note)
            used = np.ones(LENGTH, bool)
            emphasis = dict.fromkeys(("whole", "native"), np.ones(LENGTH))
            _, pictures = crossfit.held_out(examples, samples, Noise(), recipe, used, emphasis)
        found.append(seen)
    assert found[0] == found[1]
    assert REWORK in pictures.conditions
