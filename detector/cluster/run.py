"""A run on a cluster: listing, decoding, scoring, writing, as one Ray Data pipeline.

Ray Data streams blocks through these steps, limits how many bytes wait between them, repeats what a lost
process had under way, and writes the parts. Nothing here does any of this.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..errors import AidetectError
from .parts import Parts
from .workers import Choice, Description, Scorer, Settings, decode, describe

# Shares of a core, so that an actor and what feeds it fit on a machine of one core.
_LISTING, _WRITING, _DECODING, _SCORING = 0.02, 0.02, 0.2, 0.75
# With a GPU the cores are there for decoding.
_DECODING_FOR_GPU, _SCORING_ON_GPU = 0.5, 0.25
# Bytes of a block, which is what waits between two steps, and what an actor scores in one call.
_BLOCK, _BLOCK_FOR_GPU = 2**22, 2**24
# Pieces of a listing for each core.
_PIECES = 4


@dataclass(frozen=True)
class Cluster:
    """Where and how wide to run.

    Attributes:
        address: of a Ray cluster; ``None`` for ``RAY_ADDRESS`` if it is set, else a new one on this machine.
        actors: least and largest number of actors; ``None`` for one up to as many as fit now.
        gpus: GPUs of an actor; 0 for none.
        part_images: images in a part, at least.
        dedupe: score pictures with equal pixels once.
        bars: show Ray's progress bars.
    """

    address: str | None = None
    actors: tuple[int, int] | None = None
    gpus: float = 0.0
    part_images: int = 1000
    dedupe: bool = False
    bars: bool = False


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """A connection to a cluster.

    Raises:
        AidetectError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster tells nobody anything
    try:
        import ray
    except ImportError:
        raise AidetectError("--engine ray needs another package: pip install 'aidetect[ray]'") from None
    import ray.data

    if not cluster.bars:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AidetectError(f"cannot use the Ray cluster {cluster.address or ''}: {first}") from None
    try:
        yield
    finally:
        ray.shutdown()


def described(settings: Settings, cluster: Cluster, started: datetime, command: str) -> Description:
    """What a worker of the cluster says about the detector.

    Raises:
        ModelError: the model is missing or damaged there.
        AidetectError: the device or the precision cannot be used there.
    """
    import ray

    # Its process ends with it, and with that the model in its memory.
    once = ray.remote(max_calls=1, num_cpus=_share(cluster), num_gpus=cluster.gpus)
    task = once(describe)
    try:
        found: Description = ray.get(task.remote(settings, started, command))
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from None
    return found


def scan(
    inputs: Sequence[str],
    choice: Choice,
    settings: Settings,
    description: Description,
    cluster: Cluster,
    parts: Parts,
    done: Any,
) -> None:
    """Score all that is under the inputs and not done yet, and write it as parts.

    Args:
        inputs: paths and addresses.
        choice: which of what is found there.
        settings: of the run.
        description: of the detector.
        cluster: where and how wide.
        parts: where to write.
        done: the `Done` keys of finished parts.

    Raises:
        AidetectError, ModelError: a worker cannot work, or nothing can be written.
    """
    import ray
    import ray.data.exceptions

    from .listing import Listing

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = _BLOCK_FOR_GPU if cluster.gpus else _BLOCK
    context.enable_progress_bars = cluster.bars
    keys = ray.put(done)
    cores = int(_resources().get("CPU", 1))
    settings = replace(settings, threads=1)
    listing = ray.data.read_datasource(
        Listing(inputs, choice, keys), num_cpus=_LISTING, override_num_blocks=_PIECES * cores
    )
    on_cores: dict[str, Any] = {
        "batch_size": None,
        "batch_format": "pyarrow",
        "num_cpus": _DECODING_FOR_GPU if cluster.gpus else _DECODING,
    }
    known = {"settings": settings, "description": description, "choice": choice}
    if cluster.dedupe:
        from .dedupe import PICTURE, decode_groups, grouped, look

        looked = listing.map_batches(look, fn_kwargs={**known, "done": keys}, **on_cores)
        groups = looked.groupby(PICTURE, num_partitions=_PIECES * cores)
        pictures = groups.map_groups(grouped, batch_format="pyarrow").materialize()
        decoded = pictures.map_batches(decode_groups, fn_kwargs=known, **on_cores)
    else:
        decoded = listing.map_batches(decode, fn_kwargs={**known, "done": keys}, **on_cores)
    least, most = cluster.actors or (1, _fitting(cluster))
    scored = decoded.map_batches(
        Scorer,
        fn_constructor_args=(settings, description),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=_share(cluster),
        num_gpus=cluster.gpus or None,
    )
    try:
        scored.write_parquet(
            parts.path,
            filesystem=parts.arrow_filesystem(),
            min_rows_per_file=cluster.part_images,
            ray_remote_args={"num_cpus": _WRITING},
            compression="zstd",
        )
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        raise _cause(error) from None


@contextmanager
def reporting(parts: Parts, say: Callable[[int], None], every: float = 60.0) -> Iterator[None]:
    """Say now and then how many images the finished parts hold.

    Args:
        parts: of the run.
        say: is called with that number.
        every: seconds.
    """
    stop = threading.Event()
    seen: dict[str, int] = {}

    def run() -> None:
        while not stop.wait(every):
            say(parts.written(seen))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _share(cluster: Cluster) -> float:
    return _SCORING_ON_GPU if cluster.gpus else _SCORING


def _resources() -> dict[str, float]:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _fitting(cluster: Cluster) -> int:
    """How many actors fit on the cluster as it is."""
    there = _resources()
    if cluster.gpus:
        return max(1, int(there.get("GPU", 0) / cluster.gpus))
    return max(1, int(there.get("CPU", 1)))


def _cause(error: BaseException) -> AidetectError:
    """What happened in a worker, as an error of this package."""
    found: BaseException | None = error
    while found is not None:
        inner = getattr(found, "cause", None) or found.__cause__
        if inner is None and isinstance(found, AidetectError):
            return found
        found = inner if isinstance(inner, BaseException) else None
    lines = [line for line in str(error).splitlines() if line.strip()]
    return AidetectError(f"the work on the cluster failed: {lines[-1].strip() if lines else error!r}")
