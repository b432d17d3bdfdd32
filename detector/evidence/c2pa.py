"""C2PA manifests ("Content Credentials"): what a signed manifest claims, and whether it holds.

Finding one needs no library. Reading and checking one needs the extra ``aidetect[c2pa]``. Nothing is
fetched: neither a manifest kept elsewhere nor a certificate's status. Signers are not compared with any
list of trusted ones, so "intact" means that the named signer's key signed these very bytes, and anyone
may make a key in any name.

Source: C2PA Technical Specification 2 (https://c2pa.org/specifications), sections on embedding, actions
and validation states.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

from .metadata import Metadata

_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff"}
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"}
# Without this the library would ask the addresses that a picture names.
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_LARGEST = 512 * 2**20
_SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{1,60})")


def read_manifest(data: bytes, metadata: Metadata) -> dict[str, Any]:
    """What the manifest in a picture says.

    Args:
        data: the whole file.
        metadata: of that file, with a manifest in it.

    Returns:
        ``checked``: whether the library read it. If so, ``state`` (``Valid``: intact; ``Invalid``;
        ``Trusted``), ``problems`` (codes of the specification), ``generator``, ``signer``,
        ``source_types`` and ``actions`` (of all manifests in the store, the picture's own first). If not,
        ``reason`` (``not installed``, or what went wrong) and the ``source_types`` that the manifest's
        bytes name.
    """
    unread: dict[str, Any] = {"checked": False}
    names = (match.decode() for match in _SOURCE_TYPE.findall(metadata.manifest))
    unread["source_types"] = list(dict.fromkeys(names))
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError):  # the last two: its native part does not load
        return unread | {"reason": "not installed"}
    if len(data) > _LARGEST:
        return unread | {"reason": "the file is too large to check"}
    type_ = _TYPES.get(metadata.format) or _BRANDS.get(data[8:12], "image/heic")
    try:
        with (
            c2pa.Context.from_dict(_OFFLINE) as context,
            c2pa.Reader(type_, io.BytesIO(data), context=context) as reader,
        ):
            return {"checked": True} | _summary(json.loads(reader.json()))
    except Exception as error:  # native code at work on hostile bytes: whatever it says, the run goes on
        return unread | {"reason": " ".join(str(error).split())[:200] or type(error).__name__}


def _summary(store: dict[str, Any]) -> dict[str, Any]:
    manifests = _dict(store.get("manifests"))
    active = _dict(manifests.get(str(store.get("active_manifest"))))
    signature = _dict(active.get("signature_info"))
    others = [_dict(manifest) for manifest in manifests.values() if manifest is not active]
    actions = [action for manifest in (active, *others) for action in _actions(manifest)]
    types = (str(action.get("digitalSourceType", "")).rpartition("/")[2] for action in actions)
    return {
        "state": str(store.get("validation_state", "")),
        "problems": _unique(_dict(status).get("code") for status in _list(store.get("validation_status"))),
        "generator": _generator(active),
        "signer": str(signature.get("issuer") or signature.get("common_name") or ""),
        "source_types": _unique(types),
        "actions": _unique(action.get("action") for action in actions),
    }


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for assertion in map(_dict, _list(manifest.get("assertions"))):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            found += map(_dict, _list(_dict(assertion.get("data")).get("actions")))
    return found


def _generator(manifest: dict[str, Any]) -> str:
    """The claim's generator: its name and version, or the older form of one text."""
    for info in map(_dict, _list(manifest.get("claim_generator_info"))):
        if info.get("name"):
            return f"{info['name']} {info.get('version') or ''}".strip()
    return str(manifest.get("claim_generator") or "")


def _unique(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
