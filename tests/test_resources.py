"""Settings for long runs reach what they are for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import wait_until

from aidetect.detector.resources import Places, wait_asleep

# All that `scan` loads before it does its work; then torch, whose OpenMP says on stderr what it has read.
_SCRIPT = """
from aidetect.cli.main import main
main(["scan", "--print-schema"], standalone_mode=False)
import torch
"""
_NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize("name", _NAMES)
def test_a_choice_of_the_user_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in _NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "7")
    assert not wait_asleep()
    assert [other for other in _NAMES if other in os.environ] == [name] and os.environ[name] == "7"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems' torch has another OpenMP")
@pytest.mark.parametrize(("chosen", "turns"), [({}, "0"), ({"GOMP_SPINCOUNT": "123"}, "123")])
def test_the_command_sets_it_before_torch_is_loaded(chosen: dict[str, str], turns: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in _NAMES}
    environment = {**kept, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP")
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr


def test_places_hold_back_all_but_the_one_whose_turn_it_is() -> None:
    passed: list[int] = []

    def enter(places: Places, number: int) -> None:
        places.enter(number)
        passed.append(number)

    with Places(1) as places:
        places.call(0)
        threads = [threading.Thread(target=enter, args=(places, number)) for number in (3, 2, 0)]
        threads[0].start()
        assert wait_until(lambda: passed == [3])
        threads[1].start()
        time.sleep(0.05)
        assert passed == [3]
        threads[2].start()
        assert wait_until(lambda: passed == [3, 0]), "its turn, though the place is taken"
        places.leave()
        places.leave()
        assert wait_until(lambda: passed == [3, 0, 2])
        late = threading.Thread(target=enter, args=(places, 9))
        late.start()
    late.join(10)
    assert passed[-1] == 9, "at the end all pass"
