"""User data that encoders put between the pictures of H.264 and HEVC streams.

Source: ITU-T H.264 (7.3.1, 7.3.2.3, D.1.7) and H.265 (7.3.1.2, D.2.7): a unit of type 6, or 39 and 40,
holds messages; a message of type 5 is a UUID and bytes of the encoder's choice. Every length may be a lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, pairwise

AVC, HEVC = "H.264", "HEVC"
_USER_DATA = 5
_LONGEST = 4096  # bytes of one message
_MOST_UNITS = 4096
_MOST_MESSAGES = 64
_START = re.compile(b"\0\0\1")


def user_data(data: bytes, codec: str, length_size: int = 0) -> Iterator[tuple[str, bytes]]:
    """Unregistered user data at the start of a stream.

    Args:
        data: coded pictures.
        codec: `AVC` or `HEVC`.
        length_size: bytes of the length before each unit, 1 to 4; 0 where start codes are between them.

    Yields:
        The UUID in hexadecimal digits, and at most 4096 bytes of what follows it; at most 64.
    """
    left = _MOST_MESSAGES
    for unit in _with_lengths(data, length_size) if length_size else _with_start_codes(data):
        head = unit[0]
        is_message = head & 0x1F == 6 if codec == AVC else head >> 1 & 0x3F in (39, 40)
        if is_message:
            body = unit[1 if codec == AVC else 2 :][: 16 * _LONGEST].replace(b"\0\0\3", b"\0\0")
            for type_, payload in _messages(body):
                if type_ == _USER_DATA and len(payload) >= 16:
                    yield payload[:16].hex(), payload[16 : 16 + _LONGEST]
                left -= 1
                if left <= 0:
                    return


def _with_lengths(data: bytes, length_size: int) -> Iterator[bytes]:
    at = 0
    for _ in range(_MOST_UNITS):
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        if at == start or start >= len(data):
            return
        yield data[start : min(at, start + 16 * _LONGEST)]


def _with_start_codes(data: bytes) -> Iterator[bytes]:
    starts = [match.end() for match in islice(_START.finditer(data), _MOST_UNITS)]
    for start, end in pairwise([*starts, len(data) + 3]):
        if start < end - 3:
            yield data[start : min(end - 3, start + 16 * _LONGEST)]


def _messages(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(body) and body[at] != 0x80:  # 0x80: the bits that end a unit
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(body) and body[at] == 0xFF:
                number, at = number + 255, at + 1
            if at >= len(body):
                return
            numbers.append(number + body[at])
            at += 1
        yield numbers[0], body[at : at + numbers[1]]
        at += numbers[1]
