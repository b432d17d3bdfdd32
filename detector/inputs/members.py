"""What readers of archives have in common: members, and the limits against hostile archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import InputError
from .source import MAX_FILE_BYTES

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        path: its name there. It is only a name: nothing is ever written under it.
        load: reads its bytes. It works until the next member is drawn.
        size: in bytes as the archive states it, or ``None``.
        modified: seconds since the epoch, or ``None``.
        picture: it is a picture whatever its name.
    """

    path: str
    load: Callable[[], bytes]
    size: int | None = None
    modified: float | None = None
    picture: bool = False


@dataclass(frozen=True)
class Limits:
    """Limits of one archive. What is beyond them is not read.

    Attributes:
        members: number of members.
        member_bytes: size of one member.
        total_bytes: size of all that is unpacked.
        ratio: size of all that is unpacked, divided by the archive's. It counts from ``ratio_from`` bytes on.
        ratio_from: in bytes.
        directory_bytes: size of a list of members that must be read at once.
    """

    members: int = 1_000_000
    member_bytes: int = MAX_FILE_BYTES
    total_bytes: int = 2**40
    ratio: int = 250
    ratio_from: int = 2**28
    directory_bytes: int = 2**27


class BeyondLimitsError(InputError):
    """An archive is beyond its limits. Nothing more is read from it."""

    def __init__(self, message: str) -> None:
        super().__init__("too_large", f"{message}; what follows in this archive is left out")


class Budget:
    """How much of its limits an archive has used.

    Args:
        limits: of the archive.
        packed: the archive's size in bytes.
        outer: of the archive that this one lies in; what is used here is used there, too.
    """

    def __init__(self, limits: Limits, packed: int, outer: Budget | None = None) -> None:
        self.limits = limits
        self._packed = packed
        self._outer = outer
        self._unpacked = 0

    def check(self, count: int) -> None:
        """Whether so many members, and all that was unpacked, are within the limits.

        Raises:
            BeyondLimitsError: they are too many.
        """
        if count > self.limits.members:
            raise BeyondLimitsError(f"more than {self.limits.members} members")
        self.spend(0)

    def spend(self, count: int) -> None:
        """Count unpacked bytes.

        Raises:
            BeyondLimitsError: they are too many.
        """
        if self._outer is not None:
            self._outer.spend(count)
        self._unpacked += count
        if self._unpacked > self.limits.total_bytes:
            raise BeyondLimitsError(f"more than {self.limits.total_bytes / 2**30:.3g} GiB of data")
        most = max(self._packed * self.limits.ratio, self.limits.ratio_from)
        if self._unpacked > most:
            raise BeyondLimitsError(f"it unpacks to more than {self.limits.ratio} times its size")

    def read(self, stream: BinaryIO, counted: bool = True) -> bytes:
        """The bytes of a member.

        Args:
            stream: gives them.
            counted: whether they are to be counted here.

        Raises:
            InputError: ``too_large``.
        """
        chunks: list[bytes] = []
        total = 0
        while chunk := stream.read(_CHUNK):
            total += len(chunk)
            if counted:
                self.spend(len(chunk))
            if total > self.limits.member_bytes:
                raise InputError("too_large", f"more than {self.limits.member_bytes / 2**20:.0f} MiB of data")
            chunks.append(chunk)
        return b"".join(chunks)


def damaged(what: str) -> InputError:
    """The error for an archive or a member that is broken."""
    return InputError("damaged_archive", what)
