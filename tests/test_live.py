"""The live engine: scores as in a scan, from many callers at once; limits, errors and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, noise, shapes, wait_until, within

from aidetect.detector.detector import Detector
from aidetect.detector.errors import AidetectError, InputError
from aidetect.detector.inputs.source import Source
from aidetect.detector.live import BusyError, ClosedError, Live
from aidetect.detector.models.probe import Calibration
from aidetect.detector.models.stages import Stage, Stages
from aidetect.detector.pending import Extras
from aidetect.detector.resultcache import ResultCache


def sources(count: int) -> list[Source]:
    pictures = [encode(shapes(60 + 7 * i, 50 + 5 * i, seed=i)) for i in range(count)]
    return [Source(f"{i}.png", "memory", payload=data) for i, data in enumerate(pictures)]


@pytest.fixture
def detectors(tiny_model_folder: Path) -> dict[str, Detector]:
    first = Detector.load(str(tiny_model_folder), "cpu", batch_size=8, workers=2)
    standard = first.model.card.data["modes"]["standard"]
    part = Calibration(standard["calibration"]["share"], 1.0, 0.0)
    stages = Stages((Stage(part, (-0.4, 0.4)), Stage(part, (-0.4, 0.4)), Stage(part)))
    modes = {**first.model.card.data["modes"], "adaptive": {**standard, "stages": stages.to_data()}}
    card = replace(first.model.card, data={**first.model.card.data, "modes": modes})
    model = replace(first.model, card=card)
    options: dict[str, Any] = {"batch_size": 8, "workers": 2}
    names = ("standard", "fast", "adaptive")
    return {name: Detector(model, first.device, name, **options) for name in names}


@pytest.fixture
def live(detectors: dict[str, Detector]) -> Iterator[Live]:
    engine = Live(detectors)
    yield engine
    engine.close()


def hold(live: Live) -> threading.Event:
    """Keep the computing thread busy until the event is set."""
    go, started = threading.Event(), threading.Event()
    live.call(lambda: (started.set(), go.wait(20)))
    assert started.wait(5)
    return go


def test_scores_are_bit_equal_to_those_of_a_scan(live: Live, detectors: dict[str, Detector]) -> None:
    given = sources(24)
    expected = {mode: list(detector.stream(given)) for mode, detector in detectors.items()}
    assert len({len(record.views) for record in expected["adaptive"]}) > 1, "some are clear, some are not"
    jobs = [(mode, i) for i in range(len(given)) for mode in detectors]
    with ThreadPoolExecutor(8) as callers:
        futures = list(callers.map(lambda job: live.submit(given[job[1]], mode=job[0]), jobs))
    for (mode, i), future in zip(jobs, futures, strict=True):
        found, wanted = future.result(20), expected[mode][i]
        assert found.logit == wanted.logit
        assert found.probability == wanted.probability
        assert [view.logit for view in found.views] == [view.logit for view in wanted.views]
        assert (found.input, found.verdict, found.file_sha256) == (
            wanted.input,
            wanted.verdict,
            wanted.file_sha256,
        )


def test_extras_belong_to_one_source(live: Live, detectors: dict[str, Detector]) -> None:
    given = sources(3)
    plain = live.submit(given[0])
    asked = live.submit(given[0], Extras(stability=True, evidence=True, thumbnail=32))
    (expected,) = detectors["standard"].stream([given[0]], extras=Extras(stability=True, evidence=True))
    assert plain.result(20).stability is None
    assert plain.result(20).evidence is None
    assert asked.result(20).stability == expected.stability
    assert asked.result(20).evidence == []
    assert asked.result(20).thumbnail
    assert asked.result(20).logit == plain.result(20).logit == expected.logit


def test_views_of_several_callers_share_batches(detectors: dict[str, Detector]) -> None:
    sizes: list[int] = []

    class Watcher:
        def waited(self, seconds: float) -> None:
            assert seconds >= 0

        def computed(self, views: int, seconds: float) -> None:
            sizes.append(views)

    live = Live(detectors, watcher=Watcher())
    go = hold(live)
    futures = [live.submit(source, mode="fast") for source in sources(8)]  # two views each
    assert wait_until(lambda: live._decoding == 0)
    go.set()
    wait(futures, 20)
    live.close(5)
    assert sizes == [8, 8]


def test_a_single_picture_does_not_wait_for_company(detectors: dict[str, Detector]) -> None:
    live = Live(detectors, linger=30)
    (source,) = sources(1)
    with within(10):
        live.submit(source).result(20)
    live.close(5)


def test_a_picture_that_cannot_be_decoded_is_a_record(live: Live) -> None:
    bad = live.submit(Source("x", "memory", payload=b"no picture")).result(20)
    assert (bad.status, bad.input) == ("error", "x")
    refused = live.submit(Source("y", "error", InputError("timeout", "too late"))).result(20)
    assert refused.error == {"type": "timeout", "message": "too late"}


def test_files_and_addresses_are_not_read(live: Live) -> None:
    record = live.submit(Source("http://127.0.0.1:1/x.png", "url")).result(20)
    assert record.error is not None
    assert record.error["type"] == "network_refused"


def test_equal_pictures_under_way_are_computed_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    views = 0
    detector = live.detectors["standard"]
    run = detector.run

    def counted(batch: Any) -> Any:
        nonlocal views
        views += len(batch)
        return run(batch)

    monkeypatch.setattr(detector, "run", counted)
    go = hold(live)
    (source,) = sources(1)
    futures = [live.submit(source) for _ in range(5)]
    assert wait_until(lambda: live._decoding == 0)
    go.set()
    records = [future.result(20) for future in futures]
    assert views == len(records[0].views)
    assert len({record.logit for record in records}) == 1
    live.submit(source).result(20)
    assert views == 2 * len(records[0].views), "nothing is remembered without a cache"


def test_the_cache_of_scans_is_used(detectors: dict[str, Detector], tmp_path: Path) -> None:
    detector = detectors["standard"]
    cache = ResultCache(tmp_path / "c.sqlite", "tiny", detector.identity)
    (source,) = sources(1)
    (expected,) = detector.stream([source], cache=cache)
    live = Live(detectors, {"standard": cache})
    found = live.submit(source).result(20)
    other = live.submit(source, mode="fast").result(20)
    live.close(5)
    cache.close()
    assert found.cached
    assert not other.cached
    assert found.logit == expected.logit


def test_no_more_than_may_wait(detectors: dict[str, Detector]) -> None:
    live = Live(detectors, waiting=4)
    go = hold(live)
    futures = [live.submit(source) for source in sources(3)]
    with pytest.raises(BusyError):
        live.submit(sources(1)[0])
    with pytest.raises(BusyError):
        live.call(int)
    go.set()
    assert all(future.result(20).status == "ok" for future in futures)
    assert live.submit(sources(1)[0]).result(20).status == "ok"
    live.close(5)


def test_decoding_does_not_run_far_ahead(detectors: dict[str, Detector]) -> None:
    live = Live(detectors)
    go = hold(live)
    futures = [live.submit(source) for source in sources(40)]
    room = max(2 * 2, 2 * 8)
    assert wait_until(lambda: sum(future.running() for future in futures) == room)
    time.sleep(0.1)
    assert sum(future.running() for future in futures) == room
    go.set()
    assert all(future.result(20).status == "ok" for future in futures)
    assert live.close(5)


def test_a_cancelled_source_costs_nothing(live: Live) -> None:
    go = hold(live)
    futures = [live.submit(source) for source in sources(40)]
    assert futures[-1].cancel()
    go.set()
    assert all(future.result(20).status == "ok" for future in futures[:-1])
    assert wait_until(lambda: live.waiting == 0)


def test_an_error_while_computing_reaches_only_those_concerned(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = live.detectors["standard"]
    run = detector.run
    monkeypatch.setattr(detector, "run", lambda batch: (_ for _ in ()).throw(AidetectError("no memory")))
    future = live.submit(sources(1)[0])
    other = live.submit(sources(1)[0], mode="fast")
    with pytest.raises(AidetectError, match="no memory"):
        future.result(20)
    assert other.result(20).status == "ok"
    monkeypatch.setattr(detector, "run", run)
    assert live.submit(sources(1)[0]).result(20).status == "ok"
    assert live.waiting == 0


def test_a_call_runs_between_batches(live: Live) -> None:
    assert live.call(threading.current_thread).result(10) is live._worker
    with pytest.raises(ZeroDivisionError):
        live.call(lambda: 1 // 0).result(10)
    assert live.submit(sources(1)[0]).result(20).status == "ok"


def test_the_end_waits_for_what_is_under_way(detectors: dict[str, Detector]) -> None:
    live = Live(detectors)
    futures = [live.submit(source) for source in sources(20)]
    assert live.close(20)
    assert all(future.result(0).status == "ok" for future in futures)
    with pytest.raises(ClosedError):
        live.submit(sources(1)[0])


def test_what_is_not_finished_in_time_is_told(detectors: dict[str, Detector]) -> None:
    live = Live(detectors)
    go = hold(live)
    futures = [live.submit(source) for source in sources(40)]
    with within(5):
        assert not live.close(0.1)
    for future in futures:
        with pytest.raises(ClosedError):
            future.result(0)
    go.set()
    live._worker.join(5)
    assert not live._worker.is_alive()


def test_hostile_bytes_beside_good_ones(live: Live) -> None:
    good = [live.submit(source) for source in sources(6)]
    data = encode(noise(64, 64))
    bad = [live.submit(Source("b", "memory", payload=data[:n])) for n in range(0, 200, 10)]
    assert all(future.result(20).status == "ok" for future in good)
    assert all(future.result(20).status in ("ok", "error") for future in bad)
