"""A clip's coded pictures in another file of the same container: nothing is decoded, nothing coded again.

`remux` runs this module as a process of its own, so that a crash of the library ends no more than that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from .container import has_video
from .reader import NEEDED

_MUXERS = {"MP4": "mp4", "MOV": "mov", "WebM": "webm", "MKV": "matroska", "AVI": "avi"}
_KEPT = ("video", "audio")


def remux(source: Path, target: Path, container: str, tags: Mapping[str, str], seconds: float = 120) -> None:
    """Write a clip's pictures and sound to a new file.

    Args:
        source: a clip.
        target: the new file.
        container: the clip's, as `aidetect.detector.clips.container` names it.
        tags: texts that the new file has instead of the old one's.
        seconds: after so long it is given up.

    Raises:
        InputError: ``unsupported``: it cannot be done.
    """
    if not has_video():
        raise InputError("unsupported", NEEDED)
    words = [str(source), str(target), _MUXERS[container], json.dumps(dict(tags))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError("unsupported", "writing its streams anew takes too long") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["the process ended"]
        raise InputError("unsupported", f"its streams cannot be written anew ({lines[-1][:100]})")


def _copy(source: str, target: str, muxer: str, tags: Mapping[str, str]) -> None:
    import av

    keys = {"movflags": "use_metadata_tags"} if muxer in ("mp4", "mov") else {}
    with (
        av.open(source, metadata_errors="replace") as clip,
        av.open(target, "w", format=muxer, options=keys) as output,
    ):
        output.metadata.update(tags)
        copies = {}
        for stream in clip.streams:
            if stream.type in _KEPT:
                copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
                if "title" in tags:
                    copies[stream.index].metadata["handler_name"] = tags["title"]
        for packet in clip.demux([clip.streams[index] for index in copies]):
            if packet.dts is not None:  # the last of a stream is empty
                packet.stream = copies[packet.stream.index]
                output.mux(packet)


if __name__ == "__main__":
    _copy(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
