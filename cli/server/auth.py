"""Credentials: pairs of a user and a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from starlette.requests import Request

from aidetect.detector.errors import AidetectError

from .refusal import Refusal

_SHORTEST_SECRET = 16
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="aidetect", charset="UTF-8"'}
# What an unknown user's secret is compared with: no secret has this hash.
_NOTHING = b"\0" * 32


class Credentials:
    """Users, and the SHA-256 of their secrets. The secrets themselves are not kept.

    Secrets are long and random, so a fast hash is enough: nobody can try them all.

    Args:
        pairs: user, and secret or ``sha256:`` and the secret's SHA-256 in hexadecimal.

    Raises:
        AidetectError: there are none, a user comes twice, or a secret is short.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._hashes: dict[str, bytes] = {}
        for user, secret in pairs:
            if not user or user in self._hashes:
                raise AidetectError(f"the user {user!r} is empty or comes twice")
            hashed = _HASHED.fullmatch(secret)
            if hashed is None and len(secret) < _SHORTEST_SECRET:
                raise AidetectError(
                    f"the secret of {user!r} is short; take {_SHORTEST_SECRET} random characters or more"
                )
            self._hashes[user] = bytes.fromhex(hashed[1]) if hashed else _hash(secret)
        if not self._hashes:
            raise AidetectError("there are no credentials")

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """Credentials from a file: one ``user:secret`` a line. Empty lines and those with ``#`` are skipped.

        Raises:
            AidetectError: the file cannot be read or used.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AidetectError(f"cannot read the credentials {path}: {error}") from None
        pairs = []
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, secret = line.strip().partition(":")
            if not colon:
                raise AidetectError(f"{path}, line {number}: not of the form user:secret")
            pairs.append((user, secret))
        try:
            return cls(pairs)
        except AidetectError as error:
            raise AidetectError(f"{path}: {error}") from None

    def accept(self, user: str, secret: str) -> bool:
        """Whether this is a user with this secret. It takes as long for an unknown user."""
        return hmac.compare_digest(self._hashes.get(user, _NOTHING), _hash(secret))


def check_fields(credentials: Credentials | None, request: Request, user: str, secret: str) -> None:
    """Check the fields ``api_user`` and ``api_secret``.

    Raises:
        Refusal: ``credentials``.
    """
    if credentials is None:
        return
    if not credentials.accept(user, secret):
        raise Refusal("credentials", "Incorrect API user or API secret")
    request.state.user = user


def check_header(credentials: Credentials | None, request: Request) -> None:
    """Check HTTP basic authentication.

    Raises:
        Refusal: ``credentials``, with the challenge that lets a browser ask for them.
    """
    if credentials is None:
        return
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        decoded = ""
    user, _, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not credentials.accept(user, secret):
        raise Refusal(
            "credentials", "a user and a secret are needed, by HTTP basic authentication", _CHALLENGE
        )
    request.state.user = user


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
