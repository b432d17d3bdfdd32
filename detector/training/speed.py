"""Speed of the modes in images per second, for the card."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..images.pixels import decode
from ..images.testcard import picture
from ..images.views import ViewPlan, make_views
from ..models.tower import Tower

SIZE = (1216, 832)  # width and height; most pictures are not square
_BATCH = 8


def images_per_second(tower: Tower, plan: ViewPlan, images: int = 3) -> float:
    """Images per second from JPEG bytes to features, in one process, for a drawn 1216 x 832 picture.

    Args:
        tower: the tower to time.
        plan: the views that are cut.
        images: number of images that are timed, after one untimed batch.
    """
    out = io.BytesIO()
    Image.fromarray(picture()).resize(SIZE).save(out, "JPEG", quality=90)
    data = out.getvalue()
    tower.features(np.zeros((_BATCH, plan.size, plan.size, 3), np.uint8))
    start = time.perf_counter()
    views = [view.rgb for _ in range(images) for view in make_views(next(decode(data)).rgb, plan)]
    for at in range(0, len(views), _BATCH):
        tower.features(np.stack(views[at : at + _BATCH]))
    return images / (time.perf_counter() - start)


def measured(tower: Tower, plans: dict[str, ViewPlan]) -> dict[str, Any]:
    """The card's ``speed``: images per second by mode, and what they were measured on."""
    threads = f", {torch.get_num_threads()} threads" if tower.device.type == "cpu" else ""
    return {
        "measured_on": f"{tower.device.type}, {str(tower.dtype).removeprefix('torch.')}{threads}; "
        f"JPEG pictures of {SIZE[0]} x {SIZE[1]} pixels, decoding included",
        "images_per_second": {mode: round(images_per_second(tower, plan), 2) for mode, plan in plans.items()},
    }
