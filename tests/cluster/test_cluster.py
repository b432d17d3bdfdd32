"""``scan --engine ray`` on a local cluster of two nodes of one core, with the tiny model.

Starting Ray takes several seconds, so all tests share one cluster. They are slow: `.ci/run` runs them, and
`pytest -m slow`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from bucket import s3_server
from conftest import encode, noise, shapes, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """s3fs for a server on loopback, which the nodes of the cluster know, too."""
    with s3_server() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(store: Any) -> Iterator[str]:
    """The address of a cluster of two nodes on this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    found = Cluster(initialize_head=True, head_node_args=memory | {"include_dashboard": False})
    found.add_node(**memory)
    yield str(found.address)
    found.shutdown()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``in`` of the working directory: pictures, two equal ones, a broken one, an archive."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number in range(8):
        (folder / "deep" / f"{number}.png").write_bytes(encode(noise(60, 40, number)))
    (folder / "a.jpg").write_bytes(encode(shapes(90, 70), "JPEG"))
    (folder / "again.png").write_bytes(encode(noise(60, 40, 1), optimize=True))
    (folder / os.fsdecode(b"odd\xff\n.png")).write_bytes(encode(noise(50, 50, 20)))
    (folder / "broken.png").write_text("<html><body>no picture</body></html>")
    with zipfile.ZipFile(folder / "shard.zip", "w") as archive:
        archive.writestr("x/1.png", encode(noise(60, 40, 30)))
        archive.writestr("2.png", b"nothing")
    monkeypatch.chdir(tmp_path)
    return folder


class Runs:
    """Runs the command with the tiny model in float32."""

    def __init__(self, model: Path, address: str) -> None:
        self.model = model
        self.address = address

    def command(self, *words: object, engine: str = "ray") -> list[str]:
        fixed = ["--model", self.model, "--device", "cpu", "--precision", "float32", "--views", "fast"]
        if engine == "ray":
            fixed += ["--engine", "ray", "--ray-address", self.address, "--actors", "2", "--part-images", "4"]
        return [sys.executable, "-m", "aidetect.cli", "scan", *map(str, [*words, *fixed])]

    def __call__(self, *words: object, engine: str = "ray") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words, engine=engine), check=False, capture_output=True, text=True, timeout=120
        )


@pytest.fixture
def run(tiny_model_folder: Path, cluster: str) -> Runs:
    return Runs(tiny_model_folder, cluster)


def whole(folder: Path) -> list[Path]:
    """The parts that are complete."""
    return [part for part in sorted(folder.glob("*.parquet")) if part.read_bytes()[-4:] == b"PAR1"]


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [row for part in whole(folder) for row in pq.read_table(part).to_pylist()]
    return sorted(found, key=lambda row: (row["input"], row["input_base64"] or ""))


def test_the_records_are_those_of_one_machine(run: Runs, pictures: Path, tmp_path: Path) -> None:
    local = run("in", "--archives", "-o", "local.parquet", "--no-cache", engine="local")
    spread = run("in", "--archives", "-o", "out")
    assert (local.returncode, spread.returncode) == (3, 3), spread.stderr
    one = pq.read_table(tmp_path / "local.parquet").to_pylist()
    many = rows(tmp_path / "out")
    assert len(many) == len(one) == 14
    one.sort(key=lambda row: (row["input"], row["input_base64"] or ""))
    for mine, theirs in zip(many, one, strict=True):
        differ = {name for name in theirs if theirs[name] != mine[name]}
        assert differ <= {"milliseconds"}, (theirs["input"], differ)
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["counts"]["images"] == 14
    assert manifest["counts"]["errors"] == 2
    assert sum(part["images"] for part in manifest["parts"]) == 14
    assert (tmp_path / "out" / "_SUCCESS").read_bytes() == b""
    assert "14 images: " in spread.stderr
    report = subprocess.run(
        [sys.executable, "-m", "aidetect.cli", "report", "out", "--by", "folder", "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    groups = {group["folder"]: group["images"] for group in json.loads(report.stdout)["groups"]}
    assert groups == {"in": 4, "in/deep": 8, "in/shard.zip!": 1, "in/shard.zip!/x": 1}


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The folder ``many`` of the working directory, with pictures that take their time; their names."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(72):
        (folder / f"{number:03}.png").write_bytes(encode(noise(300, 200, number)))
    monkeypatch.chdir(tmp_path)
    return {f"many/{path.name}" for path in folder.iterdir()}


def actors() -> list[psutil.Process]:
    """The processes that hold the model."""
    return [p for p in psutil.process_iter(["cmdline"]) if "Scorer" in " ".join(p.info["cmdline"] or [])]


def inputs(folder: Path) -> Counter[str]:
    return Counter(row["input"] for row in rows(folder))


def test_a_killed_actor_loses_and_doubles_nothing(run: Runs, many: set[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = run.command("many", "--stability", "-o", "out")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert wait_until(lambda: len(list(out.glob("*.parquet"))) >= 2, 90)
        busy = actors()
        assert busy
        busy[0].kill()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert inputs(out) == Counter(many)


def test_a_killed_command_is_continued(run: Runs, many: set[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = run.command("many", "--stability", "-o", "out")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        assert wait_until(lambda: len(list(out.glob("*.parquet"))) >= 3, 90)
        process.kill()
    assert wait_until(lambda: not actors(), 30)
    before = {part.name: part.stat().st_mtime_ns for part in whole(out)}
    assert 0 < sum(inputs(out).values()) < len(many)
    assert not (out / "_SUCCESS").exists()
    (out / "cut-off.parquet").write_bytes(whole(out)[0].read_bytes()[:900])

    again = run("many", "--stability", "-o", "out")
    assert again.returncode == 2
    assert "continue it with --resume" in again.stderr
    other = run("many", "-o", "out", "--resume")
    assert other.returncode == 2
    assert "other options" in other.stderr
    done = run("many", "--stability", "-o", "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert "images are done already" in done.stderr
    assert inputs(out) == Counter(many)
    assert len(whole(out)) == len(list(out.glob("*.parquet")))
    assert before.items() <= {part.name: part.stat().st_mtime_ns for part in out.glob("*.parquet")}.items()
    (tmp_path / "many" / "new.png").write_bytes(encode(noise(30, 20, 999)))
    (tmp_path / "many" / "000.png").write_bytes(encode(noise(30, 20, 998)))
    more = run("many", "--stability", "-o", "out", "--resume")
    assert f"{len(many)} images are done already" in more.stderr
    assert inputs(out) == Counter(many) + Counter(["many/new.png", "many/000.png"])


def test_dedupe_scores_equal_pixels_once(run: Runs, pictures: Path, tmp_path: Path) -> None:
    spread = run("in", "--archives", "--dedupe", "--evidence", "-o", "out")
    local = run("in", "--archives", "--evidence", "-o", "local.parquet", "--no-cache", engine="local")
    assert (local.returncode, spread.returncode) == (3, 3), spread.stderr
    one = pq.read_table(tmp_path / "local.parquet").to_pylist()
    one.sort(key=lambda row: (row["input"], row["input_base64"] or ""))
    many = rows(tmp_path / "out")
    assert len(many) == len(one)
    for mine, theirs in zip(many, one, strict=True):
        assert {name for name in theirs if theirs[name] != mine[name]} <= {"milliseconds"}
    by_pixels = Counter(row["pixels_sha256"] for row in many if row["status"] == "ok")
    assert by_pixels.most_common(1)[0][1] == 2


def test_buckets_are_read_and_written(run: Runs, store: Any) -> None:
    store.mkdir("bucket")
    for number in range(6):
        store.pipe(f"bucket/in/{number}.png", encode(noise(60, 40, number)))
    first = run("s3://bucket/in", "-o", "s3://bucket/out/")
    assert first.returncode == 0, first.stderr
    found = sorted(store.ls("bucket/out", detail=False))
    assert {"bucket/out/_SUCCESS", "bucket/out/_head.json", "bucket/out/_manifest.json"} <= set(found)
    store.pipe("bucket/in/0.png", encode(noise(30, 20, 9)))
    again = run("s3://bucket/in", "-o", "s3://bucket/out/", "--resume")
    assert "6 images are done already" in again.stderr
    report = subprocess.run(
        [sys.executable, "-m", "aidetect.cli", "report", "s3://bucket/out", "--format", "csv"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = [row["input"] for row in csv.DictReader(io.StringIO(report.stdout))]
    assert Counter(names) == Counter([f"s3://bucket/in/{i}.png" for i in range(6)] + ["s3://bucket/in/0.png"])
