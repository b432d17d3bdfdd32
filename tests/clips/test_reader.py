"""Frames of clips: which, when, and in which colours."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import encode, shapes
from drawnclips import KINDS, SCENES, clip, pictures, scene, sound_only
from hypothesis import given
from hypothesis import strategies as st

from aidetect.detector.clips import reader
from aidetect.detector.clips.container import container, container_of
from aidetect.detector.clips.reader import Bounds, Still, stills
from aidetect.detector.clips.sampling import Sampling
from aidetect.detector.clips.shots import Sorter
from aidetect.detector.errors import InputError

SECONDS, RATE = 6, 8
CONTAINERS = {"mp4": "MP4", "mov": "MOV", "webm": "WebM", "mkv": "MKV", "avi": "AVI"}


@cache
def three_shots(kind: str = "h264.mp4", **more: Any) -> bytes:
    options = {name.removeprefix("x_"): dict([value]) for name, value in more.items()}
    return clip(kind, pictures(SECONDS, RATE, shots=3), rate=RATE, **options)  # type: ignore[arg-type]


def times(found: list[Still]) -> list[float]:
    return [round(still.time, 2) for still in found]


def failure(media: bytes | Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        list(stills(media, **options))
    assert "\n" not in str(caught.value)
    return caught.value


# --- codecs, containers, colours ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_clip_gives_its_pictures(kind: str) -> None:
    data = three_shots(kind)
    notes: list[str] = []
    found = list(stills(data, notes=notes))
    assert notes == []
    assert [still.shot for still in found] == [0, 0, 1, 1, 2, 2]
    codec, _, suffix = kind.partition(".")
    about = found[0].about
    assert about.container == CONTAINERS[suffix]
    assert about.codec == codec
    assert (about.seconds, about.fps) == (SECONDS, RATE)
    for number, still in enumerate(found):
        assert abs(still.time - (number + 0.5)) <= 0.5
        assert still.rgb.shape == (96, 160, 3)
        drawn = scene(int(still.time * 3 / SECONDS + 1e-6), round(still.time * RATE) / (SECONDS * RATE) * 3)
        assert np.abs(still.rgb.astype(int) - drawn.astype(int)).mean() < 11, (kind, still.time)


@pytest.mark.parametrize(("kind", "worst"), [("h264.mp4", 3), ("vp9.webm", 3), ("mjpeg.avi", 8)])
def test_flat_colours_come_back(kind: str, worst: int) -> None:
    for colour in SCENES:
        flat = np.full((64, 64, 3), colour, np.uint8)
        (still,) = stills(clip(kind, [flat], options={"crf": "4", "qscale": "2"}))
        assert np.abs(still.rgb.astype(int) - flat).max() <= worst, (kind, colour)


@pytest.mark.parametrize("stated", ["bt709", "smpte170m", "full", None])
def test_matrix_and_range_are_those_that_the_stream_states(stated: str | None) -> None:
    grey = np.full((64, 64), 150, np.uint8)
    chroma = np.stack([np.full((32, 32), 90, np.uint8), np.full((32, 32), 180, np.uint8)])
    planes = np.concatenate([grey.ravel(), chroma.ravel()]).reshape(96, 64)

    def state(stream: Any) -> None:
        stream.codec_context.colorspace = {"bt709": 1, "smpte170m": 6}.get(str(stated), 2)
        stream.codec_context.color_range = 2 if stated == "full" else 1

    data = clip("h264.mp4", [planes], prepare=state, source="yuv420p", options={"qp": "1"})
    (still,) = stills(data)
    (red, blue), (kr, kb) = (180 - 128, 90 - 128), (0.2126, 0.0722) if stated == "bt709" else (0.299, 0.114)
    light = 150.0 if stated == "full" else (150 - 16) * 255 / 219
    scale = 1.0 if stated == "full" else 255 / 224
    r, b = light + 2 * (1 - kr) * red * scale, light + 2 * (1 - kb) * blue * scale
    expected = np.clip([r, (light - kr * r - kb * b) / (1 - kr - kb), b], 0, 255)
    assert np.abs(still.rgb.reshape(-1, 3).mean(0) - expected).max() < 4, stated


def test_a_high_picture_without_a_matrix_is_bt709() -> None:
    flat = np.full((720, 32, 3), (200, 60, 40), np.uint8)
    (low,) = stills(clip("h264.mp4", [flat[:64]]))
    (high,) = stills(clip("h264.mp4", [flat]))  # written as BT.601, and not stated
    assert np.abs(low.rgb.reshape(-1, 3).mean(0) - (200, 60, 40)).max() < 3
    assert 68 < high.rgb.reshape(-1, 3).mean(0)[1] < 78, "BT.709 gives more green"


def test_a_rotation_tag_and_an_aspect_ratio_change_nothing(tmp_path: Path) -> None:
    data = three_shots()
    plain = list(stills(data))
    matrix = data.index(b"\x00\x01\x00\x00" + bytes(12) + b"\x00\x01\x00\x00", data.index(b"tkhd"))
    turned = bytearray(data)
    turned[matrix : matrix + 20] = b"".join(
        v.to_bytes(4, "big", signed=True) for v in (0, 65536, 0, -65536, 0)
    )
    (tmp_path / "turned.mp4").write_bytes(turned)
    with av.open(str(tmp_path / "turned.mp4")) as source:
        assert next(source.decode(video=0)).rotation != 0
    again = list(stills(tmp_path / "turned.mp4"))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(plain, again, strict=True))


# --- sampling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
        (Sampling(2, 64), [round(0.25 + i / 2, 2) for i in range(12)]),
        (Sampling(4, 3), [1, 3, 5]),
        (Sampling(1, 1), [3]),
        (Sampling(0.01, 64), [3]),
    ],
)
def test_frames_are_evenly_spaced(sampling: Sampling, expected: list[float]) -> None:
    assert times(list(stills(three_shots(), sampling=sampling))) == pytest.approx(expected, abs=1 / RATE)


def test_seeking_gives_the_frames_that_decoding_all_gives() -> None:
    data = three_shots(x_options=("g", "6"))
    every: dict[float, np.ndarray] = {}
    for still in stills(data, at=[i / RATE for i in range(SECONDS * RATE)]):
        every[round(still.time, 3)] = still.rgb
    assert len(every) == SECONDS * RATE
    for sampling in (Sampling(1, 2), Sampling(1, 4), Sampling(3, 64)):
        for still in stills(data, sampling=sampling):
            assert np.array_equal(still.rgb, every[round(still.time, 3)])


def test_near_equal_frames_are_skipped_and_the_same_picture_later_too() -> None:
    flat = [np.full((48, 64, 3), colour, np.uint8) for colour in SCENES]
    frames = [flat[i] for i in (0, 0, 0, 1, 1, 0, 0, 2)]
    found = list(stills(clip("h264.mp4", frames, rate=1), sampling=Sampling(1, 8)))
    assert [still.shot for still in found] == [0, 1, 3]
    assert len(found) == 3


def test_frames_at_given_times_are_all_given() -> None:
    still_life = clip("h264.mp4", [scene(0, 0)] * 16)
    assert times(list(stills(still_life, at=(0.0, 1.0, 1.01)))) == [0, 1, 1.12]
    assert failure(still_life, at=(9.0,)).kind == "no_such_time"


def test_a_variable_rate_is_no_damage() -> None:
    moments = [0, 0.1, 0.15, 2, 2.05, 2.1, 5, 5.5]
    notes: list[str] = []
    found = list(stills(clip("h264.mp4", list(pictures(1, 8)), times=moments), notes=notes))
    assert set(times(found)) <= set(moments)
    assert len(found) >= 3
    assert notes == []


def test_slots_cover_the_clip() -> None:
    assert Sampling(1, 64).slots(0.2) == [(0.0, 0.1)]
    assert Sampling(1, 64).slots(0.0) == [(0.0, 0.0)]
    slots = Sampling(1, 64).slots(600)
    assert len(slots) == 64
    assert slots[-1] == (600 * 63 / 64, 600 * 63.5 / 64)


def test_shots_begin_where_the_colours_change() -> None:
    sorter = Sorter()
    shots = []
    for number in (0, 0, 1, 1, 0):
        sorter.is_new(scene(number, number / 5))
        shots.append(sorter.shot)
    assert shots == [0, 0, 1, 1, 2]


# --- what is a clip -------------------------------------------------------------------------------------


def test_clips_are_found_by_content(tmp_path: Path) -> None:
    for kind in ("h264.mp4", "h264.mov", "vp9.webm", "vp8.mkv", "mjpeg.avi"):
        (tmp_path / "picture.png").write_bytes(three_shots(kind))
        assert container_of(tmp_path / "picture.png") == CONTAINERS[kind.partition(".")[2]]
    for name in ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF", "BMP"):
        assert container(encode(shapes(40, 30), name)) is None, name
    for data in (b"", b"RIFF", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavis", b"<html>", b"\x1aE", bytes(64)):
        assert container(data) is None
    assert container_of(tmp_path) is None
    assert container_of(tmp_path / "missing.mp4") is None
    os.mkfifo(tmp_path / "pipe.mp4")
    assert container_of(tmp_path / "pipe.mp4") is None


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x1aE\xdf\xa3", b"RIFF", b"\0\0\0\x20ftyp", b"moov"]))
def test_any_bytes_are_a_clip_or_not(data: bytes, begin: bytes) -> None:
    assert container(begin + data) in {None, *CONTAINERS.values()}


# --- damage and bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"not a clip", "not_a_clip"),
        (b"", "not_a_clip"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), "damaged"),
        (b"\x1aE\xdf\xa3" + bytes(100), "damaged"),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "damaged"),
    ],
)
def test_what_holds_no_clip_is_one_error(data: bytes, kind: str) -> None:
    assert failure(data).kind == kind


def test_sound_alone_is_an_error_and_sound_beside_pictures_is_none() -> None:
    error = failure(sound_only())
    assert (error.kind, str(error)) == ("no_video", "this MP4 file has sound only")
    with_sound = clip("h264.mp4", pictures(SECONDS, RATE, shots=3), rate=RATE, sound=True)
    assert len(list(stills(with_sound))) == SECONDS


@pytest.mark.parametrize("key", [f"{number:032x}" for number in range(12)])
def test_an_encrypted_clip_says_so(key: str) -> None:
    """Whatever the key: a decoder makes frames of noise from some encrypted clips."""
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    assert failure(clip("h264.mp4", pictures(1, 8), container_options=options)).kind == "encrypted"


def test_a_truncated_clip_is_judged_as_far_as_it_goes() -> None:
    assert failure(three_shots()[:20_000]).kind == "damaged", "its index is at the end"
    whole = three_shots(x_container_options=("movflags", "faststart"))
    for data in (
        whole[: len(whole) // 2],
        three_shots("vp9.webm")[:9_000],
        three_shots("mjpeg.avi")[:30_000],
    ):
        notes: list[str] = []
        found = list(stills(data, notes=notes))
        assert 0 < len(found) < SECONDS
        assert [note.partition(":")[0] for note in notes] == ["truncated"]
        assert failure(data, strict=True).kind == "truncated"


def test_bad_parts_of_a_clip_are_passed_over() -> None:
    data = bytearray(three_shots(x_container_options=("movflags", "faststart")))
    for at in np.random.default_rng(0).integers(3000, len(data), 60):
        data[at] ^= 255
    notes: list[str] = []
    assert list(stills(bytes(data), notes=notes))
    assert notes[0].startswith("damaged: ")
    assert failure(bytes(data), strict=True).kind == "damaged"


def test_damaged_clips_give_frames_or_one_error() -> None:
    """A few of what `benchmarks/fuzz_clips.py` does."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from fuzz_clips import damaged, outcome

    sources = [three_shots("h264.mp4"), three_shots("vp9.webm"), three_shots("mjpeg.avi")]
    for number in range(18):
        chance = random.Random(number)
        name, _ = outcome(damaged(sources[number % 3], chance))
        assert name.startswith(("frames", "error")), (number, name)


def test_a_clip_without_a_length_is_read_to_find_it() -> None:
    live = clip("vp9.webm", pictures(SECONDS, RATE, shots=3), rate=RATE, container_options={"live": "1"})
    found = list(stills(live))
    assert (len(found), found[0].about.seconds) == (SECONDS, SECONDS)


def test_a_length_that_is_too_long_does_not_thin_the_samples() -> None:
    data = three_shots("vp9.webm")
    at = data.index(b"\x44\x89\x88") + 3
    (stated,) = struct.unpack(">d", data[at : at + 8])
    assert stated == 1000 * SECONDS
    notes: list[str] = []
    found = list(stills(data[:at] + struct.pack(">d", 4e7) + data[at + 8 :], notes=notes))
    assert len(found) == SECONDS
    assert notes == ["truncated: only 6.0 of 40000.0 s are there"]


def test_bounds() -> None:
    data = three_shots()
    assert failure(data, bounds=Bounds(bytes=1000)).kind == "too_large"
    assert failure(data, bounds=Bounds(pixels=1000)).kind == "too_large"
    notes: list[str] = []
    assert len(list(stills(data, bounds=Bounds(length=3), notes=notes))) == 3
    assert notes == ["long: only the first 3 of 6 s were judged"]


def instead_of_the_child(monkeypatch: pytest.MonkeyPatch, code: str) -> list[subprocess.Popen[bytes]]:
    """Have another program run where clips are decoded; the processes started."""
    real, started = subprocess.Popen, []

    def other(command: list[str], **options: Any) -> Any:
        started.append(real([sys.executable, "-c", code], **options))
        return started[-1]

    monkeypatch.setattr(reader.subprocess, "Popen", other)
    return started


def test_a_decoder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started = instead_of_the_child(monkeypatch, "import time; time.sleep(600)")
    start = time.monotonic()
    assert failure(three_shots(), bounds=Bounds(seconds=0.1)).kind == "slow"
    assert time.monotonic() - start < 5
    assert started[0].poll() is not None


def test_a_decoder_that_computes_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"cpu_seconds": 1, "bytes": Bounds.memory}
    endless = f"from aidetect.detector.clips import child\nchild._limit({limits})\nwhile True: pass"
    instead_of_the_child(monkeypatch, endless)
    assert failure(three_shots()).kind == "slow"


def test_a_decoder_that_crashes_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    dies = "import os, sys; sys.stdout.write('{}\\n'); sys.stdout.flush(); os.kill(os.getpid(), 11)"
    started = instead_of_the_child(monkeypatch, dies)
    error = failure(three_shots())
    assert (error.kind, "stops its decoder" in str(error)) == ("damaged", True)
    assert started[0].poll() is not None


def test_the_child_ends_with_whoever_stops_reading() -> None:
    frames = stills(three_shots(), sampling=Sampling(8, 64))
    next(frames)
    frames.close()
    family = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], check=False, capture_output=True, text=True
    )
    assert "clips.child" not in family.stdout


def test_a_clip_names_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(three_shots())
    for text in (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:1,\n{secret}\n"):
        assert failure(text.encode()).kind == "not_a_clip"
        disguised = b"\0\0\0\x18ftypmp42" + text.encode()
        assert failure(disguised).kind == "damaged"


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    error = failure(three_shots())
    assert (error.kind, "pip install 'aidetect[video]'" in str(error)) == ("unsupported", True)


def test_this_process_never_loads_the_libraries() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom aidetect.detector.clips.reader import stills\n"
        "print(len(list(stills(Path(sys.argv[1]).read_bytes()))), 'av' in sys.modules)"
    )
    path = Path(os.environ["XDG_DATA_HOME"]).parent / "clip.mp4"
    path.write_bytes(three_shots())
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(SECONDS), "False"]
