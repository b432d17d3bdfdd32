"""The scoring stream: order, batching, repeats, frames, errors, memory and an early end."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encode, exif, gradient, noise, sha256, shapes, wait_until, within
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aidetect.detector import Detector as LazyDetector
from aidetect.detector.detector import Detector
from aidetect.detector.errors import AidetectError, InputError, ModelError
from aidetect.detector.images.caution import cautions
from aidetect.detector.images.views import ViewPlan, make_views
from aidetect.detector.inputs.fetch import FetchOptions
from aidetect.detector.inputs.source import Source
from aidetect.detector.models.device import Device, choose, cpu_bfloat16
from aidetect.detector.models.model import Model, load_model
from aidetect.detector.models.transfer import Waiting
from aidetect.detector.record import Record, ViewScore, printable, raw_name
from aidetect.detector.resources import PixelGate
from aidetect.detector.versions import library_versions, tool

CPU = Device("cpu", torch.float32, "test")
PICTURES = [shapes(150 + 7 * i, 90 + 11 * i, seed=i) for i in range(7)] + [noise(20, 20), gradient(33, 900)]


class CountingTower:
    """A tower that notes the batches it is given, and can run out of memory."""

    def __init__(
        self, tower: object, room: int = 10**9, error: type[Exception] = torch.OutOfMemoryError
    ) -> None:
        self._tower = tower
        self.room = room
        self.error = error
        self.batches: list[int] = []
        self.tried: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._tower, name)

    def begin(self, views: np.ndarray) -> Waiting:
        self.tried.append(len(views))
        if len(views) > self.room:
            raise self.error("out of memory")
        self.batches.append(len(views))
        return self._tower.begin(views)


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Model:
    return load_model(str(tiny_model_folder))


@pytest.fixture
def tower(model: Model) -> CountingTower:
    return CountingTower(model.tower)


@pytest.fixture
def make(model: Model, tower: CountingTower) -> Callable[..., Detector]:
    """Detectors on the counting tower."""

    def make(mode: str = "standard", device: Device = CPU, **options: int) -> Detector:
        counted = Model(model.card, tower, model.probes)
        return Detector(counted, device, mode, **{"workers": 2, "batch_size": 8, **options})

    return make


def memory(data: bytes, name: str = "<bytes>") -> Source:
    return Source(name, "memory", payload=data)


def ends(before: int) -> bool:
    """Whether no more threads than before remain soon."""
    return wait_until(lambda: threading.active_count() <= before)


# --- the score itself -------------------------------------------------------------------------------


def test_record_says_what_was_scored(make: Callable[..., Detector], model: Model, tmp_path: Path) -> None:
    rgb = shapes(300, 200)
    path = tmp_path / "a.png"
    path.write_bytes(encode(rgb, "PNG"))
    (record,) = make().score([path])
    assert (record.input, record.status, record.error) == (str(path), "ok", None)
    assert (record.width, record.height, record.format) == (300, 200, "PNG")
    assert (record.frame, record.frames) == (0, 1)
    assert record.pixels_sha256 == sha256(rgb)
    assert record.file_bytes == path.stat().st_size
    assert record.milliseconds > 0

    # The score, computed without the stream.
    views = make_views(rgb, ViewPlan(32, "bicubic", True, 3))
    features = model.tower.features(np.stack([view.rgb for view in views])).reshape(len(views), -1)
    logits = [
        float(f @ model.probes[v.kind].weight + model.probes[v.kind].bias)
        for f, v in zip(features, views, strict=True)
    ]
    expected = 0.4 * logits[0] + 0.6 * sum(logits[1:]) / 3
    assert record.logit == pytest.approx(expected, abs=1e-4)
    assert record.probability == pytest.approx(1 / (1 + np.exp(-(1.5 * expected + 0.1))), abs=1e-5)
    assert [(view.kind, view.box) for view in record.views] == [(view.kind, view.box) for view in views]
    assert [view.logit for view in record.views] == pytest.approx(logits, abs=1e-4)
    assert record.thresholds is not None
    assert record.verdict == record.thresholds.verdict(record.probability or 0)


def test_scores_differ_between_pictures(make: Callable[..., Detector]) -> None:
    # Otherwise the tests of sameness below would show nothing.
    logits = [record.logit for record in make().score(PICTURES)]
    assert min(abs(a - b) for a, b in itertools.combinations(logits, 2)) > 0.01


def test_modes_look_at_different_views(make: Callable[..., Detector]) -> None:
    counts = {m: len(make(m).score([PICTURES[0]])[0].views) for m in ("fast", "standard", "thorough")}
    assert counts == {"fast": 2, "standard": 4, "thorough": 6}
    with pytest.raises(ModelError, match="no mode"):
        make("slow")


def test_paths_bytes_and_arrays_score_alike(make: Callable[..., Detector], tmp_path: Path) -> None:
    rgb = PICTURES[1]
    data = encode(rgb, "PNG")
    (tmp_path / "a.bin").write_bytes(data)
    records = make().score(
        [str(tmp_path / "a.bin"), tmp_path / "a.bin", data, rgb, encode(rgb, "TIFF", exif=exif(6))]
    )
    assert [record.status for record in records] == ["ok"] * 5
    assert len({record.logit for record in records}) == 1
    assert len({record.pixels_sha256 for record in records}) == 1
    assert [record.input for record in records[2:4]] == ["<bytes>", "<array>"]
    assert records[3].file_sha256 is None


def test_load(tiny_model_folder: Path) -> None:
    assert LazyDetector is Detector
    detector = Detector.load(str(tiny_model_folder), "cpu", "fast", batch_size=3)
    assert detector.batch_size == 3
    assert detector.score([PICTURES[0]])[0].status == "ok"
    with pytest.raises(AidetectError, match="mps"):
        Detector.load(str(tiny_model_folder), "mps")


@pytest.mark.parametrize(
    ("amx", "avx512", "named"), [(True, True, "AMX"), (False, True, "AVX512-BF16"), (False, False, None)]
)
def test_precision(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, named: str | None) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert cpu_bfloat16() == named
    assert choose("cpu", "float32").dtype_name == "float32"
    if named:
        assert choose("cpu").dtype_name == choose("cpu", "bfloat16").dtype_name == "bfloat16"
    else:
        assert choose("cpu").dtype_name == "float32"
        with pytest.raises(AidetectError, match="no fast bfloat16; use --precision float32"):
            choose("cpu", "bfloat16")


def test_auto_is_float32_where_the_batch_would_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("aidetect.detector.models.device.depends_on_batch", lambda dtype: True)
    assert choose("cpu").dtype_name == "float32"
    assert choose("cpu", "bfloat16").dtype_name == "bfloat16"


def test_rounded_weights_are_not_taken_for_exact_ones(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder))
    Detector(model, Device("cpu", torch.float32, ""))
    Detector(model, Device("cpu", torch.bfloat16, ""))
    with pytest.raises(ModelError, match="load the model again"):
        Detector(model, Device("cpu", torch.float32, ""))


def test_scores_in_bfloat16_are_near(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    formats = ("float32", "bfloat16")
    found = [Detector.load(str(tiny_model_folder), "cpu", precision=p) for p in formats]
    assert found[0].identity != found[1].identity
    exact, near = (detector.score(PICTURES[:3]) for detector in found)
    for a, b in zip(exact, near, strict=True):
        assert a.pixels_sha256 == b.pixels_sha256
        assert a.logit is not None and b.logit is not None
        assert 0 < abs(a.logit - b.logit) < 0.5


def test_defaults(model: Model) -> None:
    detector = Detector(model, CPU)
    assert detector.batch_size == 8
    assert 1 <= detector.workers <= 4


# --- order and sameness -----------------------------------------------------------------------------


def test_order_is_kept_when_later_inputs_are_faster(make: Callable[..., Detector]) -> None:
    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            time.sleep(0.3)
            return super().read(count)

    detector = make(workers=3)
    first = Source("-", "stdin")
    rest = [memory(encode(picture, "PNG"), str(i)) for i, picture in enumerate(PICTURES)]
    records = list(detector.stream([first, *rest], stdin=Slow(encode(PICTURES[0], "PNG"))))
    assert [record.input for record in records] == ["-", *map(str, range(len(PICTURES)))]
    assert records[0].logit == records[1].logit


@settings(max_examples=15)
@given(data=st.data())
def test_same_score_in_any_company(tiny_model_folder: Path, data: st.DataObject) -> None:
    model = load_model(str(tiny_model_folder))
    alone = [Detector(model, CPU, batch_size=1, workers=1).score([picture])[0] for picture in PICTURES]
    order = data.draw(st.lists(st.integers(0, len(PICTURES) - 1), min_size=1, max_size=12))
    batch_size, workers = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 3))
    detector = Detector(model, CPU, batch_size=batch_size, workers=workers)
    records = list(
        detector.stream(
            [Source(str(i), "memory", payload=PICTURES[i]) for i in order], remember=data.draw(st.booleans())
        )
    )
    assert [record.input for record in records] == [str(i) for i in order]
    for record in records:
        expected = alone[int(record.input)]
        assert record.logit == pytest.approx(expected.logit, abs=1e-4)
        assert [view.logit for view in record.views] == pytest.approx(
            [v.logit for v in expected.views], abs=1e-4
        )
        assert [view.box for view in record.views] == [view.box for view in expected.views]


def test_batches_are_never_larger_than_asked(make: Callable[..., Detector], tower: CountingTower) -> None:
    make(batch_size=5).score(PICTURES)
    assert max(tower.batches) <= 5
    assert sum(tower.batches) == sum(len(make_views(p, ViewPlan(32, native=3))) for p in PICTURES)


def test_equal_pixels_are_computed_once(make: Callable[..., Detector], tower: CountingTower) -> None:
    rgb = PICTURES[2]
    files = [
        encode(rgb, "PNG"),
        encode(rgb, "BMP"),
        encode(rgb, "TIFF", exif=exif(3)),
        encode(rgb, "PNG") + b"tail",
    ]
    records = make().score([*files, PICTURES[3], *files])
    assert sum(tower.batches) == 8
    assert len({record.logit for i, record in enumerate(records) if i != 4}) == 1
    assert [record.format for record in records[:3]] == ["PNG", "BMP", "TIFF"]
    assert records[0].file_sha256 != records[3].file_sha256

    tower.batches.clear()
    list(make().stream([memory(data) for data in files], remember=False))
    assert sum(tower.batches) == 16


def test_same_bytes_of_another_shape_are_another_picture(
    make: Callable[..., Detector], tower: CountingTower
) -> None:
    rgb = noise(60, 40)
    first, second = make().score([rgb, rgb.reshape(60, 40, 3)])
    assert first.pixels_sha256 == second.pixels_sha256
    assert (first.width, second.width) == (60, 40)
    assert first.logit != second.logit


def test_forgotten_pictures_are_computed_again(
    make: Callable[..., Detector], tower: CountingTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aidetect.detector.detector._REMEMBERED", 2)
    given = [PICTURES[i] for i in (0, 1, 2, 3, 0, 3)]
    records = make(batch_size=1, workers=1).score(given)
    assert len(records) == 6
    assert records[0].logit == pytest.approx(records[4].logit, abs=1e-4)
    assert sum(tower.batches) == 5 * 4


# --- frames -----------------------------------------------------------------------------------------


def test_highest_frame_counts(make: Callable[..., Detector], tower: CountingTower) -> None:
    frames = [shapes(120, 80, seed=s) for s in range(5)]
    detector = make()
    each = [record.logit or 0 for record in detector.score(frames)]
    for format in ("TIFF", "PNG"):
        for turn in range(5):
            turned = frames[turn:] + frames[:turn]
            first, *rest = [Image.fromarray(frame) for frame in turned]
            data = encode(first, format, save_all=True, append_images=rest)
            (record,) = detector.score([data])
            best = (int(np.argmax(each)) - turn) % 5
            assert (record.frame, record.frames) == (best, 5)
            assert record.logit == pytest.approx(max(each), abs=1e-4)
            assert record.pixels_sha256 == sha256(turned[best])

    tower.batches.clear()
    (record,) = make(frames=2).score([data])
    assert record.frame in (0, 2)
    assert sum(tower.batches) == 8


def test_still_frames_of_an_animation_are_computed_once(
    make: Callable[..., Detector], tower: CountingTower
) -> None:
    page = Image.fromarray(shapes())
    (record,) = make().score([encode(page, "TIFF", save_all=True, append_images=[page] * 4)])
    assert (record.frame, record.frames) == (0, 5)
    assert sum(tower.batches) == 4


def test_one_bad_frame_makes_an_error_when_strict(make: Callable[..., Detector]) -> None:
    first, second = Image.fromarray(noise(64, 64)), Image.fromarray(noise(64, 64, 1))
    data = encode(first, "PNG", save_all=True, append_images=[second])
    bad, good = make(strict=True).score([data[:-3000], PICTURES[0]])
    assert bad.status == "error"
    assert bad.logit is None
    assert good.status == "ok"
    (judged,) = make().score([data[:-3000]])
    assert judged.status == "ok"
    assert any(warning.startswith("truncated: ") for warning in judged.warnings)


# --- bad inputs -------------------------------------------------------------------------------------


def test_bad_inputs_give_records_and_the_others_go_on(make: Callable[..., Detector], tmp_path: Path) -> None:
    good = encode(PICTURES[0], "PNG")
    (tmp_path / "good.png").write_bytes(good)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<!doctype html><html></html>")
    (tmp_path / "cut.png").write_bytes(good[: len(good) // 50])
    sources = [
        Source(str(tmp_path / "good.png"), "file"),
        Source(str(tmp_path / "empty.jpg"), "file"),
        Source(str(tmp_path / "missing.jpg"), "file"),
        Source(str(tmp_path), "file"),
        Source(str(tmp_path / "page.jpg"), "file"),
        Source(str(tmp_path / "cut.png"), "file"),
        Source("ftp://x/y", "error", InputError("unsupported_scheme", "no")),
        Source("-", "stdin"),
        Source("nul\0", "file"),
        Source("<array>", "memory", payload=np.zeros((4, 4), np.uint8)),
        Source("<array>", "memory", payload=np.zeros((4, 4, 3), np.float32)),
        Source(str(tmp_path / "good.png"), "file"),
    ]
    records = list(make().stream(sources))
    assert [record.input for record in records] == [source.name for source in sources]
    kinds = [record.error["type"] if record.error else "ok" for record in records]
    assert kinds == [
        *("ok", "empty", "not_found", "not_a_file", "not_an_image", "truncated"),
        *("unsupported_scheme", "unreadable", "not_found", "bad_array", "bad_array", "ok"),
    ]
    for record in records[1:-1]:
        assert record.status == "error"
        assert record.error is not None
        assert record.error["message"]
        assert (record.logit, record.probability, record.verdict) == (None, None, None)
        assert (record.width, record.frame, record.views) == (None, None, [])
        json.dumps(record.to_dict(), allow_nan=False)
    assert records[5].file_sha256 is not None
    assert records[2].file_sha256 is None


def test_only_bad_inputs(make: Callable[..., Detector], tower: CountingTower) -> None:
    assert [record.status for record in make().score([b"", b"x", "missing"])] == ["error"] * 3
    assert make().score([]) == []
    assert tower.batches == []


def test_fetching_refused(make: Callable[..., Detector]) -> None:
    (record,) = make().stream([Source("http://127.0.0.1:9/x", "url")], fetch=FetchOptions(allowed=False))
    assert record.error is not None
    assert record.error["type"] == "network_refused"


def test_too_many_pixels(make: Callable[..., Detector]) -> None:
    small, large = make(max_pixels=1000).score(
        [encode(gradient(40, 25), "PNG"), encode(gradient(41, 25), "PNG")]
    )
    assert small.status == "ok"
    assert large.error is not None
    assert large.error["type"] == "too_large"


# --- running out of memory --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize("room", [1, 3, 7])
def test_batch_is_halved_for_good(
    make: Callable[..., Detector], tower: CountingTower, model: Model, room: int, error: type[Exception]
) -> None:
    expected = Detector(model, CPU, batch_size=8, workers=2).score(PICTURES)
    tower.room, tower.error = room, error
    detector = make(batch_size=16)
    records = detector.score(PICTURES)
    assert [record.logit for record in records] == pytest.approx([r.logit for r in expected], abs=1e-4)
    assert [len(record.views) for record in records] == [len(r.views) for r in expected]
    assert detector.batch_size <= room
    assert sum(size > room for size in tower.tried) <= 4  # 16, 8, 4, 2: halved, not nibbled at
    assert max(tower.batches) <= room
    assert sum(tower.batches) == sum(len(r.views) for r in expected)

    tower.tried.clear()
    detector.score([noise(90, 90, 5)])
    assert max(tower.tried) <= room


def test_no_memory_for_a_single_view(make: Callable[..., Detector], tower: CountingTower) -> None:
    tower.room = 0
    before = threading.active_count()
    with pytest.raises(AidetectError, match="single view") as caught:
        make(batch_size=8).score(PICTURES)
    assert "cpu" in str(caught.value)
    assert ends(before)


def test_filled_up_batch_is_halved_too(make: Callable[..., Detector], tower: CountingTower) -> None:
    # One view alone, filled up to the batch size: it is the batch that has no room, not the view.
    tower.to = lambda device, dtype: tower
    tower.room = 4
    detector = make(batch_size=16, device=Device("meta", torch.float32, "test"))
    assert detector.score([noise(8, 8), noise(9, 9)])[0].status == "ok"
    assert detector.batch_size == 4
    assert set(tower.batches) == {4}


def test_short_batches_are_filled_up_off_the_cpu(make: Callable[..., Detector], tower: CountingTower) -> None:
    # "meta" stands for an accelerator: the tower itself stays on the CPU.
    tower.to = lambda device, dtype: tower
    detector = make(batch_size=6, device=Device("meta", torch.float32, "test"))
    records = detector.score(PICTURES)
    assert set(tower.batches) == {6}
    expected = make(batch_size=6).score(PICTURES)
    assert [record.logit for record in records] == pytest.approx([r.logit for r in expected], abs=1e-4)


# --- streaming --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "order"), [("cpu", "b1 w1 b2 w2 b3 w3 b4 w4"), ("cuda", "b1 b2 w1 b3 w2 b4 w3 w4")]
)
def test_gpu_has_the_next_batch_before_the_last_one_is_read(
    make: Callable[..., Detector], tower: CountingTower, device: str, order: str
) -> None:
    picture = shapes(100, 100)  # of four views
    (expected,) = make(batch_size=1).score([picture])
    log: list[str] = []
    begin = tower.begin

    def noted(views: np.ndarray) -> Waiting:
        number = 1 + sum(word[0] == "b" for word in log)
        log.append(f"b{number}")
        wait = begin(views)

        def note() -> np.ndarray:
            log.append(f"w{number}")
            return wait()

        return note

    tower.begin = noted  # type: ignore[method-assign]
    tower.to = lambda *moved: tower  # type: ignore[attr-defined]
    (record,) = make(device=Device(device, torch.float32, "test"), batch_size=1).score([picture])
    assert record.logit == expected.logit
    assert " ".join(log) == order


def test_endless_sources_are_taken_a_little_ahead(make: Callable[..., Detector]) -> None:
    taken = 0

    def endless() -> Iterator[Source]:
        nonlocal taken
        while True:
            taken += 1
            yield memory(encode(noise(40, 40, taken), "PNG"), str(taken))

    before = threading.active_count()
    detector = make(batch_size=4, workers=2)
    with within(30):
        stream = detector.stream(endless())
        for count, record in enumerate(itertools.islice(stream, 40), start=1):
            assert record.input == str(count)
            assert taken <= count + 3 * max(2 * 4, 2 * 2)
        stream.close()
    assert ends(before)


def test_last_records_do_not_wait_for_a_full_batch(make: Callable[..., Detector]) -> None:
    with within(20):
        assert len(make(batch_size=64).score(PICTURES[:2])) == 2


def test_closing_early_ends_the_threads(make: Callable[..., Detector]) -> None:
    before = threading.active_count()
    stream = make(workers=3).stream(memory(encode(noise(64, 64, i), "PNG")) for i in range(500))
    assert next(stream).status == "ok"
    assert threading.active_count() > before
    with within(5):
        stream.close()
        assert ends(before)


def test_closing_early_drops_the_queued_work(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aidetect.detector import prepare as module

    begun = 0
    real = module.decode

    def decode(data: bytes, **options: int) -> Iterator[object]:
        nonlocal begun
        begun += 1
        if begun > 1:
            time.sleep(0.3)
        return real(data, **options)

    monkeypatch.setattr(module, "decode", decode)
    before = threading.active_count()
    fetch = FetchOptions(at_once=1)
    sources = (memory(encode(noise(20, 20, i), "PNG")) for i in range(500))
    stream = make(workers=1, batch_size=30).stream(sources, fetch=fetch)
    next(stream)
    stream.close()
    assert ends(before)
    assert begun < 15


def test_failing_source_iterator_ends_the_threads(make: Callable[..., Detector]) -> None:
    def failing() -> Iterator[Source]:
        yield memory(encode(PICTURES[0], "PNG"))
        raise RuntimeError("the list broke off")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="broke off"):
        list(make().stream(failing()))
    assert ends(before)


def test_pixel_gate_bounds_what_is_decoded_at_once() -> None:
    gate = PixelGate(100)
    now = most = 0
    lock = threading.Lock()

    def work(pixels: int) -> None:
        nonlocal now, most
        with gate.hold(pixels):
            with lock:
                now += pixels
                most = max(most, now)
            time.sleep(0.005)
            with lock:
                now -= pixels

    threads = [threading.Thread(target=work, args=(30 + i % 3 * 10,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert 50 < most <= 100


def test_picture_over_the_gate_is_decoded_alone() -> None:
    gate = PixelGate(100)
    inside = threading.Event()

    def small() -> None:
        with gate.hold(1):
            inside.set()

    with within(5):
        with gate.hold(1000):
            thread = threading.Thread(target=small)
            thread.start()
            assert not inside.wait(0.1)
        assert inside.wait(2)
        thread.join(2)


def test_gate_opens_after_an_error() -> None:
    gate = PixelGate(10)
    with pytest.raises(InputError), gate.hold(10):
        raise InputError("damaged", "x")
    with within(2), gate.hold(10):
        pass


def test_stream_holds_the_gate_while_decoding(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aidetect.detector import prepare as module

    monkeypatch.setattr(module, "_DECODING_AT_ONCE", 64 * 64)
    now = most = 0
    lock = threading.Lock()
    real = module.decode

    def decode(data: bytes, **options: int) -> Iterator[object]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        yield from real(data, **options)
        with lock:
            now -= 1

    monkeypatch.setattr(module, "decode", decode)
    records = make(workers=4).score([encode(noise(64, 64, i), "PNG") for i in range(12)])
    assert [record.status for record in records] == ["ok"] * 12
    assert most == 1


# --- records ----------------------------------------------------------------------------------------


def test_record_of_a_name_that_is_not_utf8(make: Callable[..., Detector], tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9-\xf0\x9f\x98\x80.png"
    Path(os.fsdecode(raw)).write_bytes(encode(PICTURES[0], "PNG"))
    (record,) = make().score([os.fsdecode(raw)])
    said = json.loads(json.dumps(record.to_dict(), ensure_ascii=False).encode("utf-8"))
    assert said["status"] == "ok"
    assert said["input"].endswith("/caf\\xe9-\N{GRINNING FACE}.png")
    assert base64.b64decode(said["input_base64"]) == raw


@given(st.binary(max_size=30))
def test_any_name_can_be_printed_and_found_again(raw: bytes) -> None:
    name = os.fsdecode(raw)
    shown, kept = printable(name), raw_name(name)
    shown.encode("utf-8")
    assert (base64.b64decode(kept) if kept else shown.encode("utf-8")) == raw


def test_to_dict_is_plain_json() -> None:
    record = Record(
        "a.png", views=[ViewScore("whole", (0, 0, 5, 5), 1.5)], warnings=["tiny: x"], milliseconds=1.26
    )
    said = record.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["views"] == [{"kind": "whole", "box": [0, 0, 5, 5], "logit": 1.5}]
    assert said["thresholds"] is None
    assert said["milliseconds"] == 1.3
    assert {"input", "input_base64", "status", "error", "file", "pixels", "logit", "type", "verdict"} <= set(
        said
    )


def test_versions_are_told() -> None:
    assert {"python", "torch", "numpy", "pillow", "lib:jpg"} <= set(library_versions())
    assert tool()["name"] == "aidetect"


# --- warnings ---------------------------------------------------------------------------------------


def slugs(width: int, height: int, whole: np.ndarray) -> list[str]:
    found = cautions(width, height, whole)
    assert all(": " in text for text in found)
    return [text.split(":")[0] for text in found]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1000, 800, []),
        (224, 224, []),
        (223, 1000, ["small", "strip"]),
        (223, 300, ["small"]),
        (64, 64, ["small"]),
        (63, 64, ["tiny"]),
        (1, 1, ["tiny"]),
        (300, 1201, ["strip"]),
        (300, 1200, []),
    ],
)
def test_warnings_of_shape(width: int, height: int, expected: list[str]) -> None:
    assert slugs(width, height, noise(32, 32)) == expected


def test_warnings_of_content() -> None:
    assert slugs(500, 500, np.full((32, 32, 3), 90, np.uint8)) == ["flat"]
    page = np.full((32, 32, 3), 250, np.uint8)
    page[::4, ::2] = 10
    assert slugs(500, 500, page) == ["document"]
    assert slugs(500, 500, shapes(32, 32)) == []
    grey_photo = np.repeat(gradient(32, 32)[:, :, :1], 3, axis=2)
    assert slugs(500, 500, grey_photo) == []
    assert slugs(10, 10, np.zeros((32, 32, 3), np.uint8)) == ["tiny", "flat"]


def test_warnings_reach_the_record_and_move_no_score(make: Callable[..., Detector]) -> None:
    flat, fine = make().score([np.full((300, 300, 3), 7, np.uint8), shapes(300, 300)])
    assert [text.split(":")[0] for text in flat.warnings] == ["flat"]
    assert flat.logit is not None
    assert fine.warnings == []
