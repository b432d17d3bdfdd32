"""Models: folders with a card (``model.json``) and the files that the card lists with their hashes.

A card names its tower: a tower folder beside it (or shipped with the package), open_clip's
architecture and tag, or a local checkpoint. Every hash is checked before anything is scored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import torch

from ..errors import ModelError
from ..images.views import ViewPlan
from .checksum import file_sha256, verify_files
from .orientation import Orientation, load_orientation
from .probe import Calibration, ClassProbe, Probe, calibration_from, load_families, load_probes
from .stages import Stages, stages_from
from .thresholds import Thresholds
from .tower import TOWER_CARD, Tower, load_tower, read_card, read_tower_card

MODEL_CARD = "model.json"
DEFAULT_MODEL = "aidetect-4"
MODES = ("fast", "adaptive", "standard", "thorough")
CARD_SCHEMA = 1


@dataclass(frozen=True)
class Card:
    """A model's card, without the weights.

    Attributes:
        folder: the model's folder.
        data: the whole card as JSON data.
        sha256: SHA-256 of the card file. The card lists the hashes of all other files, so it covers them too.
    """

    folder: Path
    data: Mapping[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.data["name"])

    def plan(self, mode: str, size: int, interpolation: str) -> ViewPlan:
        """The views of a mode.

        Raises:
            ModelError: the model has no such mode.
        """
        views = self._mode(mode)["views"]
        whole_jpeg, spread = int(views.get("whole_jpeg", 0)), bool(views.get("spread", False))
        whole, native, trim = bool(views["whole"]), int(views["native"]), bool(views.get("trim", False))
        staged, turn = "stages" in self._mode(mode), whole and "orientation" in self.data
        return ViewPlan(size, interpolation, whole, native, whole_jpeg, spread, trim, staged, turn)

    def calibration(self, mode: str) -> Calibration:
        """The calibration of a mode."""
        return calibration_from(self._mode(mode)["calibration"])

    def stages(self, mode: str) -> Stages:
        """The stages of a mode."""
        return stages_from(self._mode(mode))

    def thresholds(self, mode: str) -> Thresholds:
        """The thresholds of a mode."""
        data = self._mode(mode)["thresholds"]
        return Thresholds(float(data["ai"]), float(data["real"]))

    def error_rates(self, mode: str) -> dict[str, Any]:
        """The card's error rates at its thresholds."""
        return dict(self._mode(mode).get("error_rates", {}))

    def _mode(self, mode: str) -> Mapping[str, Any]:
        try:
            return self.data["modes"][mode]  # type: ignore[no-any-return]
        except KeyError:
            known = ", ".join(self.data["modes"])
            raise ModelError(f"model {self.name} has no mode {mode!r}; it has {known}") from None


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: card, tower, probes, family probes if it has attribution, and its judge of orientation
    if it has one.
    """

    card: Card
    tower: Tower
    probes: Mapping[str, Probe]
    families: Mapping[str, ClassProbe] = field(default_factory=dict)
    orientation: Orientation | None = None


def shipped_folder() -> Path:
    """The folder of the models that come with the package."""
    from importlib.resources import files

    return Path(str(files("aidetect.weights")))


def search_path() -> list[Path]:
    """Folders searched for a model by name: ``AIDETECT_MODELS``, the user's data folder, the package."""
    extra = [Path(p) for p in os.environ.get("AIDETECT_MODELS", "").split(os.pathsep) if p]
    return [*extra, Path(platformdirs.user_data_dir("aidetect")) / "models", shipped_folder()]


def find_cards() -> Iterator[Path]:
    """Folders on the search path with a model card. Of folders with the same name the first one counts."""
    seen = set()
    for base in search_path():
        if base.is_dir():
            for folder in sorted(base.iterdir()):
                if folder.name not in seen and (folder / MODEL_CARD).is_file():
                    seen.add(folder.name)
                    yield folder


def read_model_card(name: str) -> Card:
    """Find and read a model's card.

    Args:
        name: a model's name, or the path of its folder.

    Raises:
        ModelError: there is no such model, or this version cannot read its card.
    """
    folder = _find(name, MODEL_CARD)
    path = folder / MODEL_CARD
    data = read_card(path)
    if data.get("schema") != CARD_SCHEMA:
        raise ModelError(f"{path} has card schema {data.get('schema')!r}; this version reads {CARD_SCHEMA}")
    missing = {"name", "tower", "probe", "modes", "files"} - set(data)
    if missing:
        raise ModelError(f"{path} lacks {', '.join(sorted(missing))}")
    for part in ("tower", "probe", "modes", "files"):
        if not isinstance(data[part], dict):
            raise ModelError(f"{path}: {part} is not a JSON object")
    if data["probe"].get("file") not in data["files"]:
        raise ModelError(f"{path} gives no hash for its probe")
    return Card(folder, data, file_sha256(path))


def _find(name: str, card: str, beside: Path | None = None) -> Path:
    if os.sep in name or name.startswith("."):
        folder = Path(name)
        if (folder / card).is_file():
            return folder
        raise ModelError(f"no model here: {folder / card} is missing")
    for base in [*([beside] if beside else []), *search_path()]:
        if (base / name / card).is_file():
            return base / name
    known = ", ".join(folder.name for folder in find_cards()) or "none"
    advice = "see: aidetect models list"
    if beside is None and (Path(name) / card).is_file():
        advice = f"for the folder of that name here, write .{os.sep}{name}"
    raise ModelError(f"no model called {name!r}; installed: {known} ({advice})")


def verify_model(card: Card) -> list[tuple[Path, str]]:
    """Check every file of a model and of its tower folder, if it has one.

    Returns:
        The files checked, with their SHA-256.

    Raises:
        ModelError: a file is missing or altered.
    """
    verify_files(card.folder, card.data["files"])
    checked = [(card.folder / name, str(sha)) for name, sha in card.data["files"].items()]
    tower = card.data["tower"]
    if "folder" in tower:
        folder = _find(str(tower["folder"]), TOWER_CARD, card.folder.parent)
        files = read_tower_card(folder)["files"]
        verify_files(folder, files)
        checked += [(folder / name, str(sha)) for name, sha in files.items()]
    return checked


def load_model(name: str = DEFAULT_MODEL, dtype: torch.dtype = torch.float32) -> Model:
    """Load a model on the CPU and verify every hash.

    Args:
        name: a model's name, or the path of its folder.
        dtype: the number format of its tower.

    Raises:
        ModelError: a file is missing, altered, or does not fit the others.
    """
    card = read_model_card(name)
    try:
        verify_files(card.folder, card.data["files"])
        tower = load_card_tower(card.data["tower"], card.folder.parent, dtype)
        tower.patch_mean = bool(card.data["probe"].get("patch_mean", False))
        length = int(card.data["probe"]["length"])
        probes = load_probes(card.folder / card.data["probe"]["file"], length)
        names = tuple(card.data.get("attribution", {}).get("names", ()))
        families = load_families(card.folder / card.data["probe"]["file"], length, names) if names else {}
        orientation = load_orientation(card.folder, card.data, length)
        for mode in card.data["modes"]:
            card.calibration(mode), card.thresholds(mode), card.plan(mode, 224, "bicubic")
            card.stages(mode)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the card {card.folder / MODEL_CARD} is not usable: {error!r}") from None
    return Model(card, tower, probes, families, orientation)


def load_card_tower(data: Mapping[str, Any], beside: Path, dtype: torch.dtype = torch.float32) -> Tower:
    """Load the tower that a card names.

    Args:
        data: ``{"folder", "sha256"}``, or ``{"architecture", "tag", "sha256"}`` where the tag may be a
            checkpoint's path.
        beside: folder that is searched first for the tower folder.
        dtype: the number format of a tower from a folder; others are float32.

    Raises:
        ModelError: the tower is missing, or it is not the one that the probe was fitted on.
    """
    if "folder" not in data:
        from .hub import load_hub_tower  # rare, and open_clip takes seconds to import

        return load_hub_tower(str(data["architecture"]), str(data.get("tag", "")), data.get("sha256"))
    tower = load_tower(_find(str(data["folder"]), TOWER_CARD, beside), dtype)
    if tower.sha256 != data["sha256"]:
        raise ModelError(
            f"tower {data['folder']} has weights {tower.sha256[:12]}..., the card expects "
            f"{str(data['sha256'])[:12]}...: this is not the tower the probe was fitted on"
        )
    return tower


def tower_reference(name: str) -> dict[str, str]:
    """The card's ``tower`` object for a tower folder, or for ``ARCHITECTURE:TAG`` of open_clip.

    Raises:
        ModelError: there is no such tower folder.
    """
    if ":" in name and not Path(name).exists():
        architecture, _, tag = name.partition(":") if not name.startswith("hf-hub:") else (name, "", "")
        return {"architecture": architecture, "tag": tag}
    folder = _find(name, TOWER_CARD)
    card = read_tower_card(folder)
    return {"folder": name, "sha256": str(card["files"][card["weights"]])}
