"""Choosing from long listings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import encode, gradient, noise
from packing import tarred

from aidetect.detector.inputs import archives
from aidetect.detector.inputs.expand import expand
from aidetect.detector.inputs.selection import Selection, selected
from aidetect.detector.inputs.source import Source


def choose(sources: list[Source], **options: float) -> list[str]:
    return [s.name for s in selected(sources, Selection(**options), archives.entered)]  # type: ignore[arg-type]


NUMBERED = [Source(str(n), "file", modified=float(n)) for n in range(100)]


def test_by_time() -> None:
    assert choose(NUMBERED, since=98) == ["98", "99"]
    assert choose(NUMBERED, newer_than=98) == ["99"]
    unknown = [Source("http://h/a.png", "url"), *NUMBERED]
    assert choose(unknown, since=99) == ["http://h/a.png", "99"]


def test_limit_draws_no_more_than_it_takes() -> None:
    drawn: list[str] = []

    def listing():  # type: ignore[no-untyped-def]
        for source in NUMBERED:
            drawn.append(source.name)
            yield source

    assert choose(listing(), limit=3) == ["0", "1", "2"]
    assert drawn == ["0", "1", "2"]


def test_a_sample_is_random_in_order_and_repeatable() -> None:
    one = choose(NUMBERED, sample=10, seed=1)
    assert one == choose(NUMBERED, sample=10, seed=1)
    assert one != choose(NUMBERED, sample=10, seed=2)
    assert one == sorted(one, key=int)
    assert len(set(one)) == 10
    assert choose(NUMBERED[:3], sample=10) == ["0", "1", "2"]
    assert choose(NUMBERED, sample=10, limit=4, seed=1) == one[:4]


def test_every_input_has_the_same_chance() -> None:
    counts = Counter(name for seed in range(2000) for name in choose(NUMBERED[:20], sample=5, seed=seed))
    assert len(counts) == 20
    assert min(counts.values()) > 400
    assert max(counts.values()) < 600


@pytest.mark.parametrize("packing", ["", "gz"])
def test_a_sample_of_members_is_read_in_one_more_pass(tmp_path: Path, packing: str) -> None:
    files = {f"{n:02}.png": encode(noise(8, 8, n)) for n in range(30)}
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(tarred(files.items(), packing))
    (tmp_path / "c.png").write_bytes(encode(gradient()))
    given = [str(tmp_path / name) for name in ("a.tar", "b.tar", "c.png")]
    opened: list[str] = []

    def enter(sources):  # type: ignore[no-untyped-def]
        def noting():  # type: ignore[no-untyped-def]
            for source in sources:
                opened.append(Path(source.name).name)
                yield source

        return archives.entered(noting())

    chosen = archives.loaded(selected(enter(expand(given)), Selection(sample=20, seed=3), enter))
    found = [(source.name, source.payload) for source in chosen]
    assert len(found) == 20
    for name, payload in found:
        if "!/" in name:
            assert payload == files[name.rpartition("/")[2]]
    assert [name for name, _ in found] == sorted(name for name, _ in found)
    assert Counter(opened) == {"a.tar": 2, "b.tar": 2, "c.png": 1}


def test_members_that_are_not_chosen_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred((f"{n}.png", b"x") for n in range(9)))
    found = archives.entered(expand([str(tmp_path / "a.tar")]))
    loads: list[str] = []

    def watched():  # type: ignore[no-untyped-def]
        for source in found:
            load = source.load
            assert load is not None

            def noting(name: str = source.name, load=load) -> bytes:  # type: ignore[no-untyped-def]
                loads.append(name)
                return load()

            yield Source(source.name, "member", modified=source.modified, load=noting)

    chosen = archives.loaded(selected(watched(), Selection(limit=2), archives.entered))
    assert len(list(chosen)) == len(loads) == 2
