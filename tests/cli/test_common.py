"""Files appear whole, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from aidetect.cli import common
from aidetect.cli.common import CommandError, atomic_file, part_beside


@pytest.mark.parametrize("opened", [part_beside, atomic_file])
def test_an_interruption_right_after_the_making_leaves_nothing(
    opened: Callable[[Path], AbstractContextManager[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(handle: int) -> None:
        assert len(list(tmp_path.iterdir())) == 1, "made, and not yet in anyone's hands"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(common.os, "close", interrupted)
        with pytest.raises(KeyboardInterrupt), opened(tmp_path / "report.csv"):
            pytest.fail("nothing may be written")
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_for_its_owner_alone_and_goes(tmp_path: Path) -> None:
    with part_beside(tmp_path / "a.png") as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        assert part.parent == tmp_path
        part.write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_has_the_usual_mode_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with atomic_file(path) as stream:
        stream.write("one\r\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"one\r\n"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_text_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as stream:
        stream.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_file_can_be_made_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot write .*: No such file"):
        atomic_file(tmp_path / "no" / "report.csv").__enter__()


def test_false_positives_are_those_of_the_worst_condition() -> None:
    mix, worst = {"value": 0.005, "n": 100}, {"condition": "smaller", "value": 0.0123, "n": 100}
    assert common.false_positives({"false_positive_rate": mix, "false_positive_rate_at_most": worst}) == (
        "about 1.2% of real images are called ai"
    )
    assert common.false_positives({"false_positive_rate": mix}) == "about 0.5% of real images are called ai"
    assert common.false_positives({}) == ""
    assert common.false_positives({"false_positive_rate": {"value": None, "n": 0}}) == ""
