"""The process that decodes a clip. It may be ended at any time, and takes a crash of a decoder with it.

It reads the clip from standard input, which must be a file, and writes messages to standard output: a line of
JSON each, followed by the RGB bytes if the message is a frame. See `reader` for the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from .sampling import Sampling

_DEMUXERS = {"MP4": "mov", "MOV": "mov", "WebM": "matroska", "MKV": "matroska", "AVI": "avi"}
_HOW = (
    Interpolation.BILINEAR
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
_UNSPECIFIED = 2
_NEAR = 1e-6  # seconds: equal but for rounding
# Lines from which on a stream that states no colour matrix is taken for BT.709, as players do.
_HD_LINES = 720


class _GivenUpError(Exception):
    """The clip cannot be used: a slug and a text."""

    def __init__(self, slug: str, text: str) -> None:
        super().__init__(text)
        self.slug = slug


def to_rgb(frame: VideoFrame) -> bytes:
    """A frame as RGB bytes, row by row: the one rule for colour.

    The matrix and the range are those that the stream states. Without a matrix it is BT.709 from 720 lines
    on and BT.601 below; without a range it is limited, but full for formats that say so by their names.
    Chroma is interpolated bilinearly. No rotation, aspect ratio, transfer function or primaries are applied.
    """
    matrix = None
    if frame.colorspace == _UNSPECIFIED:
        matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    rgb = frame.reformat(
        format="rgb24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG, interpolation=_HOW, threads=1
    )
    plane, row = rgb.planes[0], 3 * rgb.width
    samples = memoryview(plane)
    if plane.line_size == row:
        return bytes(samples[: row * rgb.height])
    starts = range(0, plane.line_size * rgb.height, plane.line_size)
    return b"".join(samples[at : at + row] for at in starts)


class _Clip:
    """A clip that is being decoded."""

    def __init__(self, container: InputContainer, name: str, max_pixels: int) -> None:
        self.container = container
        self.stream = self._video(name)
        self.max_pixels = max_pixels
        self.broken = 0  # packets that could not be decoded
        self.encrypted = False
        self.frames = 0  # decoded since the last seek
        self.position = float("-inf")  # time of the last frame that was decoded
        self.start = 0.0
        base = self.stream.time_base
        if self.stream.start_time is not None and base is not None:
            self.start = float(self.stream.start_time * base)
        self._decoded = self._decode()

    def _video(self, name: str) -> VideoStream:
        streams = self.container.streams
        pictures = [s for s in streams.video if not s.disposition & type(s.disposition).attached_pic]
        if not pictures:
            kind = "sound only" if streams.audio else "no pictures"
            raise _GivenUpError("no_video", f"this {name} file has {kind}")
        for stream in streams:
            if stream is not pictures[0]:
                stream.discard = Discard.all
        return pictures[0]

    def open(self) -> None:
        """Open the decoder.

        Raises:
            _GivenUpError: it cannot be opened, or the frames are too large.
        """
        codec = self.stream.codec_context
        if codec is None:
            raise _GivenUpError("unsupported", "no decoder for this clip's coding")
        self.check(codec.width, codec.height)
        codec.options = {"max_pixels": str(self.max_pixels)}
        codec.thread_type = "AUTO"
        codec.thread_count = 0

    def check(self, width: int, height: int) -> None:
        """Refuse frames with too many pixels."""
        if width * height > self.max_pixels:
            raise _GivenUpError(
                "too_large", f"{width}x{height} pixels a frame are more than {self.max_pixels}"
            )

    def seconds(self) -> float:
        """The clip's length; where the container does not state it, all packets are read to find it."""
        stream, base = self.stream, self.stream.time_base
        if stream.duration and base is not None:
            return float(stream.duration * base)
        if self.container.duration:
            return self.container.duration / av.time_base
        return self._last_packet()

    def stated(self, seconds: float) -> float:
        """The clip's length by its number of frames, where the container states it, if that is longer."""
        rate = float(self.stream.average_rate or 0)
        return max(seconds, self.stream.frames / rate if rate else 0.0)

    def there(self, seconds: float) -> float:
        """How much of a clip of a stated length is really there, in seconds."""
        near = round((seconds + self.start) / (self.stream.time_base or 1))
        end = self._last_packet() if self._seek(near) else 0.0
        if not end:  # what the index says lies beyond the end of the file
            self.rewind()
            end = self._last_packet()
        return end

    def _last_packet(self) -> float:
        """Read all packets from here on; when the last one ends, in seconds."""
        base, last = self.stream.time_base, 0.0
        with contextlib.suppress(av.error.FFmpegError, OSError):
            for packet in self.container.demux(self.stream):
                if packet.pts is not None and base is not None:
                    last = max(last, float((packet.pts + (packet.duration or 0)) * base) - self.start)
        return last

    def rewind(self) -> None:
        """Go back to the beginning."""
        self._seek(0)

    def _seek(self, at: int) -> bool:
        try:
            self.container.seek(at, stream=self.stream)
        except (av.error.FFmpegError, OSError):
            return False
        self._decoded = self._decode()
        self.frames = 0
        self.position = float("-inf")
        return True

    def _decode(self) -> Iterator[VideoFrame]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError):  # the rest of the file cannot be read
                self.broken += 1
                packet = None
            if packet is None:
                return
            yield from self._decode_packet(packet)

    def _decode_packet(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        if packet.has_sidedata("encryption_info"):  # a decoder makes frames of noise from some of these
            self.encrypted = True
            self.broken += 1
            return
        try:
            yield from packet.decode()
        except (av.error.FFmpegError, OSError):
            self.broken += 1

    def next(self) -> tuple[float, VideoFrame] | None:
        """The next frame and its time in seconds; ``None`` at the end."""
        for frame in self._decoded:
            if frame.time is None:
                rate = float(self.stream.average_rate or 25)
                time = max(0.0, self.position) + (1 / rate if self.frames else 0.0)
            else:
                time = frame.time - self.start
            self.frames += 1
            self.position = time
            self.check(frame.width, frame.height)
            return time, frame
        return None

    def key_before(self, time: float) -> float | None:
        """Time of the last key frame up to a time, by the container's index; ``None`` without one."""
        base = self.stream.time_base
        if base is None:
            return None
        entries = self.stream.index_entries
        found = entries.search_timestamp(round((time + self.start) / base))
        return None if found < 0 else float(entries[found].timestamp * base) - self.start

    def of_slot(self, begin: float, middle: float) -> tuple[float, VideoFrame] | None:
        """The frame that stands for a part of the clip; ``None`` if no further frame can be decoded.

        A key frame from the first half of the part, where it has one: it is reached fast, and was compressed
        least. The one that begins the clip is none of these. Else the first frame from the middle on.
        """
        before = self.position
        key = self.key_before(middle)
        if key is not None and key > self.position:
            self._seek(round((middle + self.start) / (self.stream.time_base or 1)))
        found = None
        while (got := self.next()) is not None:
            found = got
            time, frame = got
            if time >= middle - _NEAR or (frame.key_frame and 0 < begin <= time):
                break
        return found if found is not None and found[0] > before else None


class _Output:
    """Where messages go."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def send(self, kind: str, body: bytes = b"", **values: Any) -> None:
        """Send a message."""
        self._stream.write(json.dumps({"kind": kind, **values}).encode() + b"\n")
        self._stream.write(body)
        self._stream.flush()


def _run(job: dict[str, Any], file: IO[bytes], out: _Output) -> None:
    name = job["container"]
    with _opened(file, name) as container:
        clip = _Clip(container, name, job["max_pixels"])
        clip.open()
        seconds = clip.seconds()
        codec = clip.stream.codec_context
        rate = float(clip.stream.average_rate or 0)
        out.send("clip", codec=codec.codec.canonical_name, seconds=seconds, fps=rate)
        there = min(seconds, clip.there(seconds))
        length = min(there, job["max_seconds"])
        if length < there:
            out.send("note", slug="long", text=f"only the first {length:.0f} of {there:.0f} s were judged")
        if any(not 0 <= t <= seconds for t in job["at"]):
            raise _GivenUpError("no_such_time", f"the clip is {seconds:.1f} s long")
        slots = [(t, t) for t in job["at"]] or Sampling(job["fps"], job["frames"]).slots(length)
        clip.rewind()  # the index of a Matroska file is read by the first seek
        last, sent, interlaced = float("-inf"), 0, False
        for begin, middle in slots:
            if middle <= last:  # a frame that is shown long stands for this part too
                continue
            got = clip.of_slot(begin, middle)
            if got is None:
                break
            last, frame = got
            sent += 1
            clip.broken += frame.is_corrupt
            interlaced = interlaced or frame.interlaced_frame
            out.send("frame", to_rgb(frame), time=last, width=frame.width, height=frame.height)
        if not sent:
            raise _nothing(clip, name)
        if clip.broken:
            parts = "1 part" if clip.broken == 1 else f"{clip.broken} parts"
            text = f"{parts} could not be decoded; the last frame judged is at {last:.1f} of {seconds:.1f} s"
            out.send("note", slug="damaged", text=text)
        elif there < (stated := clip.stated(seconds)) - _tolerance(name, stated, rate):
            out.send("note", slug="truncated", text=f"only {there:.1f} of {stated:.1f} s are there")
        if interlaced:
            out.send("note", slug="interlaced", text="frames hold two fields each; they were not separated")


def _tolerance(name: str, seconds: float, rate: float) -> float:
    """By how many seconds a whole clip may end before its stated length.

    Matroska does not say how long the last frame is shown, which may be long.
    """
    frames = 2 / (rate or 25)
    return max(1.0, seconds / 20, frames) if name in ("WebM", "MKV") else frames


def _nothing(clip: _Clip, name: str) -> _GivenUpError:
    """Why no frame was decoded."""
    if clip.encrypted:
        return _GivenUpError("encrypted", "the clip is encrypted")
    if clip.broken:
        return _GivenUpError(
            "damaged", f"no frame of this {name} file can be decoded: it is damaged or encrypted"
        )
    return _GivenUpError("empty", f"this {name} file holds no frame")


@contextlib.contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator[InputContainer]:
    def refused(*of: Any) -> Any:
        raise OSError("a clip may not name other files")

    try:
        container = av.open(
            file, "r", format=_DEMUXERS[name], metadata_errors="replace", buffer_size=1 << 18, io_open=refused
        )
    except av.error.FFmpegError as error:
        raise _GivenUpError("damaged", f"the {name} file is truncated or damaged ({_first(error)})") from None
    with container:
        yield container


def _first(error: Exception) -> str:
    return str(error).split("] ")[-1].split(":")[0][:100]


def _limit(limits: dict[str, int]) -> None:
    """Limit what this process may take: seconds of computing, bytes of address space; no core file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds, memory = limits["cpu_seconds"], limits["bytes"]
    # At the lower limit of computing comes SIGXCPU, which tells why the process ended.
    wanted = {"RLIMIT_CPU": (seconds, seconds + 5), "RLIMIT_AS": (memory, memory), "RLIMIT_CORE": (0, 0)}
    for name, pair in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), pair)


def main() -> None:
    """Decode the clip on standard input as the job in the first argument says."""
    job = json.loads(sys.argv[1])
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but messages may go to standard output
    _limit(job["limits"])
    av.logging.set_level(None)
    out = _Output(stream)
    try:
        with os.fdopen(0, "rb", closefd=False) as file:
            _run(job, file, out)
    except _GivenUpError as error:
        out.send("error", slug=error.slug, text=str(error))
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        out.send("error", slug="damaged", text=f"the clip cannot be decoded ({_first(error)})")
    else:
        out.send("end")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
