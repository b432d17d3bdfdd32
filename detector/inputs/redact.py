"""Addresses without the secrets in them, for reports, logs and messages."""

from __future__ import annotations

import re
from urllib.parse import unquote

_HIDDEN = "***"
# Where these stand before an @, there is a container's name, unless a colon says that a password follows.
_CONTAINERS = frozenset("abfs abfss adl az wasb wasbs".split())
_USER = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s/?#'\"]*)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"""([?&;](?:
        x-(?:amz|goog|oss|cos|obs)-(?:signature|credential|security-token)|security-token|signature|sig|hmac
        |awsaccesskeyid|ossaccesskeyid|googleaccessid|key-pair-id|policy
        |(?:access|auth|refresh|id|session|api)?[_-]?(?:token|key)|auth|authorization|code|jwt
        |(?:client[_-]?)?secret|password|passwd|pwd|credentials?
    )=)[^\s&;\#'"]+""",
    re.IGNORECASE | re.VERBOSE,
)


def without_secrets(text: str, address: str) -> str:
    """A message about an address, which may quote parts of it, without its secrets."""
    text = redacted(text)
    secrets = [found[2] for found in _USER.finditer(address)]
    secrets += [found[0].removeprefix(found[1]) for found in _PARAMETER.finditer(address)]
    parts = {part for secret in secrets for part in (secret, *secret.split(":"), unquote(secret))}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) > 2:
            text = text.replace(part, _HIDDEN)
    return text


def redacted(text: str) -> str:
    """A text, or an address, without user names, passwords and signatures in its addresses."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\1{_HIDDEN}", _USER.sub(_without_user, text))


def _without_user(found: re.Match[str]) -> str:
    scheme, user = found[1], found[2]
    if scheme.lower() in _CONTAINERS and ":" not in user:
        return found[0]
    return f"{scheme}://{_HIDDEN}@"
