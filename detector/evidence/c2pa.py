"""C2PA manifests ("Content Credentials"): what a signed manifest claims, and whether it holds.

Finding a manifest needs no library. Checking one needs the extra ``aidetect[c2pa]``. Nothing is fetched:
neither a manifest kept elsewhere nor a certificate's status. Without a trust list anyone may sign in any
name; "intact" then means only that nothing was changed since the named signer's key signed it.

The reader's overall state is not repeated: it is ``Invalid`` for a file that nobody touched once the
signer's certificate has expired. Each status code is read for what it says.

Source: C2PA Technical Specification 2 (https://c2pa.org/specifications), sections on embedding, actions,
validation and status codes.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from typing import Any, BinaryIO

from ..errors import AidetectError
from .metadata import Metadata

_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "AVI": "video/avi",
}
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"}
# Without this the library would ask the addresses that a picture names.
_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
# The whole file is hashed, in parts: about a second for a gigabyte.
_LARGEST = 16 * 2**30
_SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{1,60})")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----")

# What each status code says, the gravest first. Codes that end in a star stand for all that begin so.
CHANGED, FORGED, UNSOUND = "content", "manifest", "unsound"
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    *(
        (
            f"assertion.{hash_}.mismatch",
            CHANGED,
            "the file was changed after signing, or the manifest is another's",
        )
        for hash_ in ("dataHash", "bmffHash", "boxesHash", "collectionHash")
    ),
    ("claimSignature.mismatch", FORGED, "the signature does not fit: the manifest was changed after signing"),
    ("claimSignature.missing", FORGED, "the manifest has no signature"),
    ("assertion.hashedURI.mismatch", FORGED, "a statement in the manifest was changed after signing"),
    ("assertion.missing", FORGED, "a statement that was signed is missing from the manifest"),
    ("assertion.undeclared", FORGED, "the manifest holds a statement that was not signed"),
    ("assertion.action.*", UNSOUND, "the list of actions breaks the specification's rules"),
    ("claim.hardBindings.missing", UNSOUND, "nothing in the manifest ties it to this file"),
    ("assertion.multipleHardBindings", UNSOUND, "the manifest is tied to a file in two ways at once"),
    ("assertion.hardBinding.redacted", UNSOUND, "what tied the manifest to a file was taken out"),
    ("signingCredential.ocsp.revoked", "credential", "the signer's certificate was revoked"),
    ("signingCredential.revoked", "credential", "the signer's certificate was revoked"),
    ("signingCredential.expired", "credential", "the signer's certificate has expired"),
    ("claimSignature.outsideValidity", "credential", "it was signed when the certificate was not valid"),
    ("signingCredential.invalid", "credential", "the certificate is not one for signing manifests"),
    ("signingCredential.untrusted", "trust", "the signer is not on the trust list"),
    ("timeStamp.mismatch", "time", "the time stamp belongs to something else"),
    ("timeStamp.outsideValidity", "time", "the time stamp's certificate was not valid then"),
    ("timeStamp.untrusted", "time", "the time stamp's authority is not known"),
    ("timeStamp.malformed", "time", "the time stamp cannot be read"),
    ("timeStamp.missing", "time", "there is no time stamp"),
    ("algorithm.*", "unchecked", "it uses an algorithm that the reader does not accept"),
    ("ingredient.*", "ingredient", "the record of an earlier file that it was made from does not hold"),
    ("manifest.inaccessible", "unchecked", "a manifest that it names is kept elsewhere and was not fetched"),
    ("claim.*", UNSOUND, "the claim breaks the specification's rules"),
    ("manifest.*", UNSOUND, "the manifest breaks the specification's rules"),
    ("assertion.*", UNSOUND, "a statement in the manifest breaks the specification's rules"),
)
_NOT_APPLIED = "an expired certificate cannot be checked against the trust list"


def checked_trust_list(text: str) -> str:
    """The certificates in a trust list.

    Args:
        text: a file of certificates in PEM form; what lies between them is left out.

    Raises:
        AidetectError: it holds none, or one that cannot be read.
    """
    found = "\n".join(_CERTIFICATE.findall(text))
    if not found:
        raise AidetectError("it holds no certificate in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError) as error:
        raise AidetectError(f"a certificate in it cannot be read ({error})") from None
    return found + "\n"


def read_manifest(data: BinaryIO, metadata: Metadata, trust_list: str | None = None) -> dict[str, Any]:
    """What the manifest in a picture or a video says.

    Args:
        data: the whole file, seekable.
        metadata: of that file, with a manifest in it.
        trust_list: certificates of authorities in PEM form, to check the signer against.

    Returns:
        ``checked``: whether the library read it. If so: ``intact`` (nothing was changed since it was
        signed), ``trusted`` (whether the signer is on the trust list; ``None`` without one, and for a
        certificate that has expired), ``state`` (the
        reader's word), ``findings`` (a sentence for each problem), ``problems`` (their codes),
        ``ingredient_problems`` (codes of the pictures that this one was made from), ``generator``,
        ``signer``, ``source_types``, ``actions`` and ``agents`` (of all manifests in the store, the
        picture's own first). If not, ``reason`` (``not installed``, or what went wrong) and the
        ``source_types`` that the manifest's bytes name.
    """
    unread: dict[str, Any] = {"checked": False}
    names = (match.decode() for match in _SOURCE_TYPE.findall(metadata.manifest))
    unread["source_types"] = list(dict.fromkeys(names))
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError):  # the last two: its native part does not load
        return unread | {"reason": "not installed"}
    if data.seek(0, os.SEEK_END) > _LARGEST:
        return unread | {"reason": "the file is too large to check"}
    data.seek(8)
    type_ = _TYPES.get(metadata.format) or _BRANDS.get(data.read(4), "image/heic")
    data.seek(0)
    settings: dict[str, Any] = {"verify": _OFFLINE | {"verify_trust": True}}
    if trust_list is not None:
        settings["trust"] = {"trust_anchors": trust_list}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(type_, data, context=context) as reader,
        ):
            return {"checked": True} | _summary(json.loads(reader.json()), trust_list is not None)
    except Exception as error:  # native code at work on hostile bytes: whatever it says, the run goes on
        return unread | {"reason": " ".join(str(error).split())[:200] or type(error).__name__}


def _summary(store: dict[str, Any], has_list: bool) -> dict[str, Any]:
    manifests = _dict(store.get("manifests"))
    active = _dict(manifests.get(str(store.get("active_manifest"))))
    signature = _dict(active.get("signature_info"))
    others = [_dict(manifest) for manifest in manifests.values() if manifest is not active]
    actions = [action for manifest in (active, *others) for action in _actions(manifest)]
    types = (str(action.get("digitalSourceType", "")).rpartition("/")[2] for action in actions)
    problems, of_ingredients, good = _codes(store, active)
    kinds = {meaning(code)[0] for code in problems}
    trusted = "signingCredential.trusted" in good if has_list else None
    told = list(problems)
    # Without a list nobody is on it; and the library finds nobody on it whose certificate has expired.
    if not has_list or "signingCredential.expired" in problems:
        told = [code for code in problems if code != "signingCredential.untrusted"]
        trusted = trusted or None
    return {
        "intact": not kinds & {CHANGED, FORGED, UNSOUND, "unchecked", "other"},
        "trusted": trusted,
        "state": str(store.get("validation_state", "")),
        "findings": _unique(
            [meaning(code)[1] for code in sorted(told, key=_rank)]
            + ([_NOT_APPLIED] if has_list and trusted is None else [])
            + ([meaning("ingredient.manifest.mismatch")[1]] if of_ingredients else [])
        ),
        "problems": problems,
        "ingredient_problems": of_ingredients,
        "generator": _generator(active),
        "signer": str(signature.get("issuer") or signature.get("common_name") or ""),
        "source_types": _unique(types),
        "actions": _unique(action.get("action") for action in actions),
        "agents": _unique(_agent(action) for action in actions),
    }


def _codes(store: dict[str, Any], active: dict[str, Any]) -> tuple[list[str], list[str], set[str]]:
    """Failures of the picture's own manifest, those of its ingredients, and what was found good."""
    results = _dict(store.get("validation_results"))
    own = _dict(results.get("activeManifest"))
    if own:
        failures = [_dict(status).get("code") for status in _list(own.get("failure"))]
    else:  # older readers give one list for all
        failures = [_dict(status).get("code") for status in _list(store.get("validation_status"))]
    good = {str(_dict(status).get("code")) for status in _list(own.get("success"))}
    deltas = [_dict(_dict(delta).get("validationDeltas")) for delta in _list(results.get("ingredientDeltas"))]
    for ingredient in map(_dict, _list(active.get("ingredients"))):
        deltas.append(_dict(_dict(ingredient.get("validation_results")).get("activeManifest")))
        deltas.append({"failure": _list(ingredient.get("validation_status"))})
    later = [_dict(status).get("code") for delta in deltas for status in _list(delta.get("failure"))]
    # Whom an ingredient's signer is trusted by is no fault of this picture.
    ingredients = [code for code in _unique(later) if meaning(code)[0] not in ("trust", "credential", "time")]
    own_codes = [code for code in _unique(failures) if not code.startswith("ingredient.")]
    ingredients += [code for code in _unique(failures) if code.startswith("ingredient.")]
    return own_codes, _unique(ingredients), good


def meaning(code: str) -> tuple[str, str]:
    """What a status code is about, and what it says.

    Returns:
        ``content``, ``manifest``, ``unsound``, ``credential``, ``trust``, ``time``, ``ingredient``,
        ``unchecked`` or ``other``; and a phrase.
    """
    rank = _rank(code)
    return _MEANINGS[rank][1:] if rank < len(_MEANINGS) else ("other", f"the check ended with {code[:60]}")


def _rank(code: str) -> int:
    for rank, (pattern, _, _) in enumerate(_MEANINGS):
        if code == pattern or (pattern.endswith("*") and code.startswith(pattern[:-1])):
            return rank
    return len(_MEANINGS)


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for assertion in map(_dict, _list(manifest.get("assertions"))):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            found += map(_dict, _list(_dict(assertion.get("data")).get("actions")))
    return found


def _agent(action: dict[str, Any]) -> str:
    """The program that took an action: a text, or an object with a name."""
    agent = action.get("softwareAgent")
    return str(_dict(agent).get("name") or "") if isinstance(agent, dict) else str(agent or "")


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
