"""Models: found by name or path, verified before use, and every defect told in one line."""

from __future__ import annotations

import http.server
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import open_clip
import pytest
import torch
from conftest import TINY_BLOCKS, TINY_SIZE, TINY_WIDTH, noise, write_model, write_tower
from safetensors.torch import save_file

from aidetect.detector.errors import ModelError
from aidetect.detector.models.checksum import file_sha256, verify_files
from aidetect.detector.models.hub import load_hub_tower, tensors_sha256
from aidetect.detector.models.model import (
    Thresholds,
    find_cards,
    load_card_tower,
    load_model,
    read_model_card,
    search_path,
    verify_model,
)
from aidetect.detector.models.probe import Calibration, Probe, load_probes, sigmoid
from aidetect.detector.models.tower import Preprocess, Tower, build_module, load_tower, read_weights


def refused(name: Path | str) -> str:
    """The one-line message of the `ModelError` that loading gives."""
    with pytest.raises(ModelError) as caught:
        load_model(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a card."""
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def views(count: int = 3) -> np.ndarray:
    return np.stack([noise(TINY_SIZE, TINY_SIZE, seed) for seed in range(count)])


# --- loading and verifying --------------------------------------------------------------------------


def test_model_loads(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder))
    assert model.card.name == "tiny"
    assert model.card.sha256 == file_sha256(tiny_model_folder / "model.json")
    assert model.tower.preprocess == Preprocess(32, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), "bicubic")
    assert set(model.probes) == {"whole", "native"}
    assert model.card.plan("standard", 32, "bicubic").native == 3
    assert model.card.calibration("fast") == Calibration(0.4, 1.5, -0.1)
    assert model.card.thresholds("thorough") == Thresholds(ai=0.8, real=0.3)
    assert "false_positive_rate" in model.card.error_rates("fast")
    with pytest.raises(ModelError, match=r"no mode 'slow'.*fast, standard, thorough"):
        model.card.plan("slow", 32, "bicubic")


def test_every_file_is_verified(tiny_model_folder: Path) -> None:
    checked = verify_model(read_model_card(str(tiny_model_folder)))
    assert [path.name for path, _ in checked] == ["probe.safetensors", "tower.safetensors"]
    assert all(file_sha256(path) == sha for path, sha in checked)


FILES = ["probe.safetensors", "../tiny-tower/tower.safetensors"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0, -1, 500])
def test_altered_file_is_refused(model_copy: Path, name: str, at: int) -> None:
    path = model_copy / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert "does not match its card" in refused(model_copy)
    with pytest.raises(ModelError, match="does not match its card"):
        verify_model(read_model_card(str(model_copy)))


@pytest.mark.parametrize("name", FILES)
def test_missing_or_cut_file_is_refused(model_copy: Path, name: str) -> None:
    path = model_copy / name
    path.write_bytes(path.read_bytes()[:-1])
    assert path.name in refused(model_copy)
    path.unlink()
    assert path.name in refused(model_copy)
    with pytest.raises(ModelError, match="cannot be read"):
        verify_model(read_model_card(str(model_copy)))


@pytest.mark.parametrize("name", ["model.json", "../tiny-tower/tower.json"])
@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", "null", "\udcff", "{}"])
def test_missing_or_damaged_card_is_refused(model_copy: Path, name: str, text: str | None) -> None:
    path = model_copy / name
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(model_copy)


def test_another_tower_is_refused(model_copy: Path, tiny_architecture: str) -> None:
    # Complete, undamaged, of the same shape; but not the tower the probe was fitted on.
    shutil.rmtree(model_copy.parent / "tiny-tower")
    write_tower(model_copy.parent / "tiny-tower", tiny_architecture, seed=1)
    assert "not the tower the probe was fitted on" in refused(model_copy)


def test_swapped_probe_is_refused(model_copy: Path) -> None:
    other = write_model(model_copy.parent / "other", {"folder": "tiny-tower", "sha256": "0"}, seed=5)
    shutil.copy(other / "probe.safetensors", model_copy / "probe.safetensors")
    assert "does not match its card" in refused(model_copy)


def test_probe_of_another_length_is_refused(model_copy: Path) -> None:
    edit(model_copy / "model.json", lambda card: card["probe"].update(length=64))
    assert "takes 128 features, the tower gives 64" in refused(model_copy)


def test_probe_without_a_tensor_is_refused(model_copy: Path) -> None:
    save_file({"whole.weight": torch.zeros(128)}, model_copy / "probe.safetensors")
    sha = file_sha256(model_copy / "probe.safetensors")
    edit(model_copy / "model.json", lambda card: card.update(files={"probe.safetensors": sha}))
    assert "lacks the tensor" in refused(model_copy)


def test_file_that_is_no_safetensors_is_refused(model_copy: Path) -> None:
    (model_copy / "probe.safetensors").write_bytes(b"not tensors")
    sha = file_sha256(model_copy / "probe.safetensors")
    edit(model_copy / "model.json", lambda card: card.update(files={"probe.safetensors": sha}))
    assert "cannot read" in refused(model_copy)


def test_file_outside_the_hashes_is_refused(model_copy: Path) -> None:
    # Otherwise an altered probe would be loaded unseen.
    edit(model_copy / "model.json", lambda card: card.update(files={}))
    assert "no hash for its probe" in refused(model_copy)
    edit(model_copy.parent / "tiny-tower" / "tower.json", lambda card: card.update(files={}))
    with pytest.raises((ModelError, KeyError)):
        load_tower(model_copy.parent / "tiny-tower")


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.update(schema=2),
        lambda card: card.pop("schema"),
        lambda card: card.pop("name"),
        lambda card: card.pop("probe"),
        lambda card: card.update(files=[]),
        lambda card: card.update(tower={}),
        lambda card: card.update(tower="tiny-tower"),
        lambda card: card.update(tower={"folder": "elsewhere", "sha256": "0"}),
        lambda card: card["tower"].pop("sha256"),
        lambda card: card.update(probe={"file": "other", "length": 128}),
        lambda card: card["probe"].update(length="long"),
        lambda card: card.update(modes={"fast": {}}),
        lambda card: card.update(modes=7),
        lambda card: card["modes"]["fast"]["views"].update(native=6),
        lambda card: card["modes"]["fast"]["views"].update(whole=False, native=0),
        lambda card: card["modes"]["fast"]["calibration"].update(slope="steep"),
        lambda card: card["modes"]["thorough"].pop("thresholds"),
    ],
)
def test_unusable_card_is_refused(model_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(model_copy / "model.json", change)
    refused(model_copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: (card.update(architecture="ViT-unheard-of"), card.pop("config", None)),
        lambda card: (card.update(architecture="RN50"), card.pop("config", None)),
        lambda card: (card.update(architecture="ViT-B-32"), card.pop("config", None)),
        lambda card: card.pop("preprocess"),
        lambda card: card.pop("weights"),
        lambda card: card["preprocess"].pop("mean"),
        lambda card: card.update(weights="missing.safetensors"),
    ],
)
def test_unusable_tower_card_is_refused(model_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(model_copy.parent / "tiny-tower" / "tower.json", change)
    refused(model_copy)


def test_verify_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "a") == good
    verify_files(tmp_path, {"a": good})
    for files in ({"a": good[:-1] + "e"}, {"a": ""}, {"a": good, "b": good}):
        with pytest.raises(ModelError):
            verify_files(tmp_path, files)


# --- finding ----------------------------------------------------------------------------------------


def test_name_is_found_on_the_search_path(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no model called 'tiny'" in refused("tiny")
    monkeypatch.setenv("AIDETECT_MODELS", os.pathsep.join([str(tmp_path), str(tiny_model_folder.parent)]))
    assert search_path()[:2] == [tmp_path, tiny_model_folder.parent]
    assert load_model("tiny").card.folder == tiny_model_folder
    assert tiny_model_folder in list(find_cards())
    assert "tiny" in refused("tinny")


def test_a_folder_here_is_no_name_and_the_error_says_how_to_mean_it(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model_folder.parent)
    assert f"write .{os.sep}tiny)" in refused("tiny")
    assert load_model(f".{os.sep}tiny").card.name == "tiny"


def test_name_is_found_in_the_users_data_folder(
    model_copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / name))
    (tmp_path / "aidetect").mkdir()
    model_copy.parent.rename(tmp_path / "aidetect" / "models")
    assert load_model("tiny").card.folder == tmp_path / "aidetect" / "models" / "tiny"


def test_earlier_folder_hides_later_ones(
    tiny_model_folder: Path, model_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [model_copy.parent, tiny_model_folder.parent]
    monkeypatch.setenv("AIDETECT_MODELS", os.pathsep.join(map(str, folders)))
    assert read_model_card("tiny").folder == model_copy
    assert [folder for folder in find_cards() if folder.name == "tiny"] == [model_copy]


def test_path_is_not_searched_for(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIDETECT_MODELS", str(tiny_model_folder.parent))
    assert "is missing" in refused(tmp_path / "tiny")
    monkeypatch.chdir(tiny_model_folder)
    assert load_model(".").card.name == "tiny"
    monkeypatch.chdir(tiny_model_folder.parent)
    assert load_model("./tiny").card.name == "tiny"


def test_tower_shipped_elsewhere_is_found_by_name(
    model_copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (model_copy.parent / "tiny-tower").rename(tmp_path / "tiny-tower")
    assert "tiny-tower" in refused(model_copy)
    monkeypatch.chdir(tmp_path)  # whoever asks for the model cannot change what its card calls the tower
    assert "write" not in refused(model_copy).rpartition(" (")[2]
    monkeypatch.setenv("AIDETECT_MODELS", str(tmp_path))
    assert load_model(str(model_copy)).card.name == "tiny"


# --- the tower --------------------------------------------------------------------------------------


def test_features_are_the_class_tokens_of_every_block(
    tiny_model_folder: Path, tiny_architecture: str
) -> None:
    tower = load_tower(tiny_model_folder.parent / "tiny-tower")
    found = tower.features(views())
    assert found.shape == (3, TINY_BLOCKS, TINY_WIDTH)
    assert found.dtype == np.float32

    # The same, block by block, by hooks on open_clip's own forward pass.
    visual = open_clip.create_model(tiny_architecture).visual.eval()
    visual.load_state_dict(read_weights(tiny_model_folder.parent / "tiny-tower" / "tower.safetensors"))
    tokens: list[torch.Tensor] = []
    for block in visual.transformer.resblocks:
        block.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    mean, std = torch.tensor(tower.preprocess.mean), torch.tensor(tower.preprocess.std)
    pixels = (torch.from_numpy(views()).float() / 255 - mean) / std
    with torch.inference_mode():
        visual(pixels.permute(0, 3, 1, 2))
    expected = torch.stack([token[:, 0] for token in tokens], dim=1).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_patch_means_follow_the_class_tokens(tiny_model_folder: Path) -> None:
    tower = load_tower(tiny_model_folder.parent / "tiny-tower")
    both = tower.features(views(), patch_mean=True)
    assert both.shape == (3, 2 * TINY_BLOCKS, TINY_WIDTH)
    assert np.array_equal(both[:, :TINY_BLOCKS], tower.features(views()))
    assert not np.allclose(both[:, :TINY_BLOCKS], both[:, TINY_BLOCKS:])


def test_int8_weights_are_scaled_back(tmp_path: Path) -> None:
    matrix = torch.tensor([[1, -2, 127], [0, 3, -128]], dtype=torch.int8)
    path = tmp_path / "w.safetensors"
    stored = {
        "layer.weight": matrix,
        "layer.weight.scale": torch.tensor([0.5, 2.0]),
        "proj": matrix.clone(),
        "proj.scale": torch.tensor([1.0, 10.0, 0.1]),
        "bias": torch.tensor([1.5], dtype=torch.float16),
    }
    save_file(stored, path)
    found = read_weights(path)
    assert set(found) == {"layer.weight", "proj", "bias"}
    assert found["layer.weight"].tolist() == [[0.5, -1.0, 63.5], [0.0, 6.0, -256.0]]
    assert torch.allclose(found["proj"], torch.tensor([[1.0, -20.0, 12.7], [0.0, 30.0, -12.8]]))
    assert found["bias"].dtype == torch.float32


def test_weights_that_do_not_fit(tiny_model_folder: Path, tiny_architecture: str) -> None:
    weights = read_weights(tiny_model_folder.parent / "tiny-tower" / "tower.safetensors")
    build_module(tiny_architecture, weights)
    for wrong in (
        {k: v for k, v in weights.items() if k != "proj"},
        {**weights, "extra": torch.zeros(1)},
        {**weights, "proj": torch.zeros(2, 2)},
    ):
        with pytest.raises(ModelError, match="do not fit") as caught:
            build_module(tiny_architecture, wrong)
        assert "\n" not in str(caught.value)


def test_quick_gelu_is_another_function(tiny_model_folder: Path, tiny_architecture: str) -> None:
    weights = read_weights(tiny_model_folder.parent / "tiny-tower" / "tower.safetensors")
    preprocess = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    plain, quick, default = (
        Tower(build_module(tiny_architecture, weights, q), preprocess, "").features(views(1))
        for q in (False, True, None)
    )
    assert not np.allclose(plain, quick)
    assert np.array_equal(plain, default)


def test_tensor_hash_sees_names_shapes_and_values() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2)}
    others = [
        {"a": torch.arange(6.0), "c": torch.ones(2)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)},
        {"a": torch.arange(6.0) + 1e-6, "b": torch.ones(2)},
    ]
    assert tensors_sha256(base) == tensors_sha256({"b": torch.ones(2).half(), "a": torch.arange(6.0)})
    assert len({tensors_sha256(state) for state in (base, *others)}) == 4


def test_preprocess_reads_open_clips_forms() -> None:
    data = {"size": (32, 32), "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"}
    assert Preprocess.from_dict(data) == Preprocess(32, (0, 0, 0), (1, 1, 1), "bilinear")


# --- towers from elsewhere --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tiny_architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny CLIP as a local checkpoint."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    state = open_clip.create_model(tiny_architecture).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def test_local_checkpoint(checkpoint: Path, tiny_architecture: str) -> None:
    tower = load_hub_tower(tiny_architecture, str(checkpoint))
    assert tower.preprocess.size == TINY_SIZE
    assert tower.features(views()).shape == (3, TINY_BLOCKS, TINY_WIDTH)
    prefix = "visual."
    with_prefix = read_weights(checkpoint)
    visual = {k.removeprefix(prefix): v for k, v in with_prefix.items() if k.startswith(prefix)}
    assert tower.sha256 == tensors_sha256(visual)
    direct = Tower(build_module(tiny_architecture, visual), tower.preprocess, "")
    assert np.allclose(direct.features(views()), tower.features(views()), atol=1e-5)

    assert load_hub_tower(tiny_architecture, str(checkpoint), tower.sha256).sha256 == tower.sha256
    with pytest.raises(ModelError, match="not the tower the probe was fitted on"):
        load_hub_tower(tiny_architecture, str(checkpoint), "0" * 64)


def test_card_may_name_a_checkpoint(checkpoint: Path, tiny_architecture: str, model_copy: Path) -> None:
    sha = load_hub_tower(tiny_architecture, str(checkpoint)).sha256
    named = {"architecture": tiny_architecture, "tag": str(checkpoint), "sha256": sha}
    edit(model_copy / "model.json", lambda card: card.update(tower=named))
    assert load_model(str(model_copy)).tower.sha256 == sha
    assert [path.name for path, _ in verify_model(read_model_card(str(model_copy)))] == ["probe.safetensors"]
    named["sha256"] = "0" * 64
    edit(model_copy / "model.json", lambda card: card.update(tower=named))
    assert "not the tower the probe was fitted on" in refused(model_copy)


@pytest.mark.parametrize("tag", ["/nowhere/tiny.safetensors", "no-such-tag", ""])
def test_checkpoint_that_is_not_there(tag: str, tiny_architecture: str) -> None:
    with pytest.raises(ModelError, match="cannot load the tower") as caught:
        load_hub_tower(tiny_architecture, tag)
    assert "\n" not in str(caught.value)


def test_tag_is_handed_to_open_clip(monkeypatch: pytest.MonkeyPatch, tiny_architecture: str) -> None:
    model = open_clip.create_model(tiny_architecture)
    asked: list[tuple[str, dict[str, Any]]] = []

    def create_model(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return model

    monkeypatch.setattr(open_clip, "create_model", create_model)
    tower = load_card_tower({"architecture": "ViT-B-16", "tag": "openai"}, Path())
    load_card_tower({"architecture": "hf-hub:owner/name", "sha256": tower.sha256}, Path())
    assert asked == [
        ("ViT-B-16", {"require_pretrained": True, "pretrained": "openai"}),
        ("hf-hub:owner/name", {"require_pretrained": True}),
    ]


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the Hugging Face hub, with one repository."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.split("?")[0].rpartition("/")[2]
        body = self.files.get(name) if "/owner/tiny/resolve/" in self.path else None
        self.send_response(200 if body is not None else 404)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{name}-1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(checkpoint: Path, tiny_architecture: str) -> Iterator[str]:
    config = {"model_cfg": open_clip.get_model_config(tiny_architecture), "preprocess_cfg": {"size": 32}}
    Hub.files = {
        "open_clip_config.json": json.dumps(config).encode(),
        "open_clip_model.safetensors": checkpoint.read_bytes(),
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_tower_from_a_hub(hub: str, checkpoint: Path, tiny_architecture: str, tmp_path: Path) -> None:
    # In a process of its own: the hub's client reads its settings when it is imported.
    code = (
        "from aidetect.detector.models.hub import load_hub_tower\n"
        "tower = load_hub_tower('hf-hub:owner/tiny', '')\n"
        "print(tower.sha256, tower.preprocess.size)\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = load_hub_tower(tiny_architecture, str(checkpoint)).sha256
    assert done.stdout.split() == [expected, "32"]


# --- probe and calibration --------------------------------------------------------------------------


def test_probe_is_a_dot_product() -> None:
    probe = Probe(np.array([1, -2, 0.5, 0], np.float32), 0.25)
    features = np.array([[[1, 1], [2, 9]], [[0, -1], [0, 0]]], np.float16)
    assert probe.logits(features).tolist() == [0.25, 2.25]
    assert probe.logits(features.reshape(2, 4)).tolist() == [0.25, 2.25]
    assert probe.logits(features).dtype == np.float64


def test_views_are_joined_by_kind() -> None:
    calibration = Calibration(share=0.25, slope=2.0, intercept=-1.0)
    assert calibration.join(["whole", "native", "native"], [4.0, 1.0, 3.0]) == 2.5
    assert calibration.join(["native", "whole"], [2.0, 4.0]) == 2.5
    assert calibration.join(["whole"], [4.0]) == 4.0
    assert calibration.join(["native", "native"], [1.0, 3.0]) == 2.0
    assert calibration.probability(0.5) == 0.5
    assert calibration.probability(1.0) == pytest.approx(1 / (1 + math.exp(-1)))


def test_sigmoid_at_the_ends() -> None:
    assert sigmoid(0) == 0.5
    assert sigmoid(1e6) == 1.0
    assert sigmoid(-1e6) == 0.0
    assert sigmoid(3) + sigmoid(-3) == pytest.approx(1)


def test_verdicts_at_the_thresholds() -> None:
    thresholds = Thresholds(ai=0.8, real=0.3)
    assert [thresholds.verdict(p) for p in (0.0, 0.2999, 0.3, 0.7999, 0.8, 1.0)] == [
        *("real", "real", "uncertain", "uncertain", "ai", "ai")
    ]


def test_load_probes_reads_what_was_written(tiny_model_folder: Path) -> None:
    probes = load_probes(tiny_model_folder / "probe.safetensors", TINY_BLOCKS * TINY_WIDTH)
    assert probes["whole"].weight.shape == (128,)
    assert probes["whole"].bias != probes["native"].bias
