"""Refusals: why a request gets no result, as an HTTP status and in the words of both APIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """An HTTP status, and the cloud API's type and code of the error."""

    status: int
    type: str
    code: int


REASONS = {
    "credentials": Reason(401, "argument_error", 1),
    "argument": Reason(400, "argument_error", 2),
    "request": Reason(400, "request_error", 3),
    "not_found": Reason(404, "request_error", 4),
    "method": Reason(405, "request_error", 5),
    "origin": Reason(403, "request_error", 6),
    "host": Reason(421, "request_error", 7),
    "slow": Reason(408, "request_error", 8),
    "late": Reason(503, "api_error", 20),
    "busy": Reason(503, "api_error", 21),
    "starting": Reason(503, "api_error", 22),
    "closing": Reason(503, "api_error", 23),
    "internal": Reason(500, "unknown_error", 99),
    "media": Reason(400, "media_error", 1000),
    "too_large": Reason(413, "media_error", 1001),
}
# Seconds after which a client may try again.
_AGAIN = {"busy": "2", "late": "5", "starting": "5", "closing": "10"}


class Refusal(Exception):  # noqa: N818
    """A request that gets no result.

    Attributes:
        kind: one of `REASONS`.
        message: one sentence for whoever sent the request.
        headers: of the reply.
    """

    def __init__(self, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.headers = dict(headers or {})
        if kind in _AGAIN:
            self.headers["Retry-After"] = _AGAIN[kind]

    @property
    def reason(self) -> Reason:
        """Its HTTP status, and the cloud API's type and code."""
        return REASONS[self.kind]
