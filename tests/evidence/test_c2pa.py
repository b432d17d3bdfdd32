"""C2PA manifests: what the status codes say is what is said, one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import signing
from click.testing import CliRunner
from conftest import encode, shapes

from aidetect.cli.main import main
from aidetect.detector.errors import AidetectError
from aidetect.detector.evidence.c2pa import _summary, checked_trust_list, meaning
from aidetect.detector.evidence.evidence import find_evidence

JPEG = encode(shapes(), "JPEG", quality=90)


@pytest.fixture(scope="module")
def authority() -> signing.Authority:
    return signing.Authority()


@pytest.fixture(scope="module")
def signer(authority: signing.Authority) -> Iterator[signing.Signer]:
    with authority.signer() as one:
        yield one


@pytest.fixture(scope="module")
def signed(signer: signing.Signer) -> bytes:
    return signer.sign(JPEG, "image/jpeg")


@pytest.fixture(scope="module")
def expired(authority: signing.Authority) -> bytes:
    """A file signed while the certificate was good, read when it no longer is."""
    with authority.signer(seconds=2) as one:
        data = one.sign(JPEG, "image/jpeg")
    time.sleep(3)
    return data


def said(data: bytes, trust_list: str | None = None) -> dict[str, Any]:
    (entry,) = (e for e in find_evidence(data, None, trust_list) if e["kind"] == "c2pa")
    assert entry["detail"]["checked"] is True
    assert len(entry["says"]) < 240
    assert not entry["says"].endswith("…")
    return entry


def flipped(data: bytes, what: bytes) -> bytes:
    """The file with one bit of the first such text changed."""
    at = data.index(what)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def manifest_segments(data: bytes) -> bytes:
    """The JPEG segments that hold a manifest."""
    found, at = b"", 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xEB:
            found += data[at:end]
        at = end
    return found


def test_a_good_manifest(signed: bytes) -> None:
    entry = said(signed)
    assert entry["says"] == (
        "a C2PA manifest signed by Test Generator Ltd (name not verified), intact; "
        "it claims a generative model (trainedAlgorithmicMedia)"
    )
    assert entry["detail"]["intact"] is True
    assert entry["detail"]["problems"] == ["signingCredential.untrusted"]
    assert "findings" not in entry["detail"]


def test_an_expired_certificate_is_no_change(expired: bytes) -> None:
    entry = said(expired)
    assert entry["detail"]["state"] == "Invalid"
    assert "signingCredential.expired" in entry["detail"]["problems"]
    assert entry["detail"]["intact"] is True
    assert entry["detail"]["findings"] == ["the signer's certificate has expired"]
    assert ", intact; it claims a generative model" in entry["says"]
    assert entry["says"].endswith("; the signer's certificate has expired")
    assert "changed" not in entry["says"]
    assert "match" not in entry["says"]


def test_an_expired_certificate_says_nothing_of_the_trust_list(
    expired: bytes, authority: signing.Authority
) -> None:
    for trust_list in (authority.pem, signing.Authority().pem):
        entry = said(expired, trust_list)
        assert "signingCredential.untrusted" in entry["detail"]["problems"]
        assert "not on the trust list" not in entry["says"]
        assert entry["says"].endswith("an expired certificate cannot be checked against the trust list")
        assert "(name not verified)" in entry["says"]
        assert "trusted" not in entry["detail"]


def test_a_file_changed_after_signing(signed: bytes) -> None:
    changed = bytearray(signed)
    changed[-100] ^= 1
    entry = said(bytes(changed))
    assert entry["detail"]["intact"] is False
    assert "assertion.dataHash.mismatch" in entry["detail"]["problems"]
    assert "but the file was changed after signing" in entry["says"]


def test_a_file_changed_and_expired(expired: bytes) -> None:
    changed = bytearray(expired)
    changed[-100] ^= 1
    entry = said(bytes(changed))
    assert "but the file was changed after signing" in entry["says"]
    assert entry["says"].endswith("the signer's certificate has expired")


def test_a_manifest_copied_from_another_file(signed: bytes) -> None:
    other = encode(shapes(seed=5), "JPEG")
    entry = said(other[:2] + manifest_segments(signed) + other[2:])
    assert entry["detail"]["intact"] is False
    assert "or the manifest is another's" in entry["says"]


def test_a_claim_changed_after_signing(signed: bytes, authority: signing.Authority) -> None:
    for trust_list in (None, authority.pem):
        entry = said(flipped(signed, b"test_generator"), trust_list)
        assert "claimSignature.mismatch" in entry["detail"]["problems"]
        assert "but the signature does not fit" in entry["says"]
        assert "(name not verified)" in entry["says"]


def test_a_statement_changed_after_signing(signed: bytes) -> None:
    entry = said(flipped(signed, b"trainedAlgorithmicMedia"))
    assert "assertion.hashedURI.mismatch" in entry["detail"]["problems"]
    assert "but a statement in the manifest was changed after signing" in entry["says"]


def test_a_signer_on_the_trust_list(signed: bytes, authority: signing.Authority) -> None:
    entry = said(signed, authority.pem)
    assert entry["detail"]["trusted"] is True
    assert entry["says"].startswith(
        "a C2PA manifest signed by Test Generator Ltd (on the trust list), intact"
    )
    assert "problems" not in entry["detail"]


def test_a_signer_of_an_unknown_authority(signed: bytes) -> None:
    entry = said(signed, signing.Authority().pem)
    assert entry["detail"]["trusted"] is False
    assert entry["detail"]["intact"] is True
    assert entry["says"].endswith("the signer is not on the trust list")


def test_an_expired_signer_on_the_trust_list(expired: bytes, authority: signing.Authority) -> None:
    entry = said(expired, authority.pem)
    assert entry["detail"]["intact"] is True
    assert "signingCredential.expired" in entry["detail"]["problems"]
    assert "the signer's certificate has expired" in entry["says"]


def test_a_fault_of_an_earlier_picture_is_not_laid_on_this_one(signed: bytes, signer: signing.Signer) -> None:
    changed = bytearray(signed)
    changed[-100] ^= 1
    entry = said(signer.sign(JPEG, "image/jpeg", made_from=bytes(changed)))
    detail = entry["detail"]
    assert detail["intact"] is True
    assert "assertion.dataHash.mismatch" in detail["ingredient_problems"]
    assert "assertion.dataHash.mismatch" not in detail["problems"]
    assert ", intact; " in entry["says"]
    assert "earlier file" in entry["says"]
    good = said(signer.sign(JPEG, "image/jpeg", made_from=signed))
    assert "ingredient_problems" not in good["detail"]
    assert "earlier file" not in good["says"]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_other_containers_changed_after_signing(format: str, signer: signing.Signer) -> None:
    data = signer.sign(encode(shapes(), format), f"image/{format.lower()}")
    assert said(data)["detail"]["intact"] is True
    place = {"PNG": b"IDAT", "WEBP": b"VP8", "TIFF": None, "AVIF": b"mdat"}[format]
    at = data.index(place) + 400 if place else 400
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert said(changed)["detail"]["intact"] is False


# --- who made it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "agent", "maker"),
    [
        ("ChatGPT", "GPT-4o", "OpenAI"),
        ("Truepic_Lens_CLI_in_Sora", "", "OpenAI Sora"),
        ("Google C2PA Core Generator Library", "", "Google AI"),
        ("Adobe_Firefly", "Adobe Firefly", "Adobe Firefly"),
        ("Microsoft_Responsible_AI/1.0", "Bing Image Creator", "Microsoft"),
        ("Black_Forest_Labs_API", "", "FLUX"),
        ("some_library", "Canva", "Canva AI"),
        ("some_library", "Dreamina", "ByteDance"),
        ("some_library", "Ideogram 3", "Ideogram"),
        ("some_library", "Stability AI", "Stability AI"),
    ],
)
def test_the_maker_is_named(generator: str, agent: str, maker: str, signer: signing.Signer) -> None:
    entry = said(signer.sign(JPEG, "image/jpeg", generator=generator, agent=agent))
    assert entry["detail"]["made_by"] == maker
    assert f"a generative model (trainedAlgorithmicMedia) of {maker}" in entry["says"]


def test_no_maker_of_a_photograph_is_named(signer: signing.Signer) -> None:
    # A phone's photograph is signed by its maker too.
    entry = said(signer.sign(JPEG, "image/jpeg", "digitalCapture", generator="Google Pixel Camera"))
    assert "made_by" not in entry["detail"]
    assert entry["says"].endswith("it claims no generative model")


def test_a_statement_on_synthid(signer: signing.Signer) -> None:
    data = signer.sign(JPEG, "image/jpeg", description="Applied imperceptible SynthID watermark.")
    _, statement = find_evidence(data, None)
    assert statement["kind"] == "generator-metadata"
    assert statement["detail"] == {"generator": "Google AI"}
    assert "which only Google can read" in statement["says"]


# --- codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "about"),
    [
        ("assertion.dataHash.mismatch", "content"),
        ("assertion.bmffHash.mismatch", "content"),
        ("assertion.boxesHash.mismatch", "content"),
        ("assertion.collectionHash.mismatch", "content"),
        ("assertion.hashedURI.mismatch", "manifest"),
        ("claimSignature.mismatch", "manifest"),
        ("signingCredential.expired", "credential"),
        ("signingCredential.ocsp.revoked", "credential"),
        ("signingCredential.invalid", "credential"),
        ("signingCredential.untrusted", "trust"),
        ("timeStamp.mismatch", "time"),
        ("timeStamp.untrusted", "time"),
        ("timeStamp.outsideValidity", "time"),
        ("ingredient.manifest.mismatch", "ingredient"),
        ("algorithm.unsupported", "unchecked"),
        ("claim.malformed", "unsound"),
        ("assertion.cbor.invalid", "unsound"),
        ("general.error", "other"),
        ("tomorrow.newCode", "other"),
    ],
)
def test_meaning_of_a_code(code: str, about: str) -> None:
    assert meaning(code)[0] == about
    assert len(meaning(code)[1]) <= 120


def store(*codes: str) -> dict[str, Any]:
    failures = [{"code": code} for code in codes]
    results = {"activeManifest": {"success": [], "failure": failures}}
    return {"active_manifest": "a", "manifests": {"a": {}}, "validation_results": results}


@pytest.mark.parametrize(
    ("codes", "intact"),
    [
        (["signingCredential.expired", "signingCredential.untrusted"], True),
        (["signingCredential.ocsp.revoked"], True),
        (["timeStamp.untrusted", "timeStamp.mismatch"], True),
        (["ingredient.manifest.missing"], True),
        (["assertion.dataHash.mismatch"], False),
        (["assertion.missing"], False),
        (["algorithm.unsupported"], False),
        (["general.error"], False),
    ],
)
def test_only_what_does_not_match_is_not_intact(codes: list[str], intact: bool) -> None:
    summary = _summary(store(*codes), False)
    assert summary["intact"] is intact
    older = {
        "active_manifest": "a",
        "manifests": {"a": {}},
        "validation_status": [{"code": c} for c in codes],
    }
    assert _summary(older, False)["intact"] is intact


def test_the_gravest_comes_first() -> None:
    codes = ("signingCredential.expired", "timeStamp.untrusted", "assertion.dataHash.mismatch")
    findings = _summary(store(*codes), False)["findings"]
    assert "changed after signing" in findings[0]
    assert "expired" in findings[1]


# --- the trust list ---------------------------------------------------------------------------------


def test_a_trust_list_may_have_notes_in_it(authority: signing.Authority) -> None:
    text = f"# the authority\n{authority.pem}\nnötes\n{signing.Authority().pem}"
    assert checked_trust_list(text).count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_trust_list_that_is_none(text: str) -> None:
    with pytest.raises(AidetectError):
        checked_trust_list(text)


def test_scan_takes_a_trust_list(
    signed: bytes, authority: signing.Authority, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(signed)
    (tmp_path / "trust.pem").write_text(authority.pem)
    (tmp_path / "none.pem").write_text("none")
    scan = ["scan", str(tmp_path / "a.jpg"), "--model", str(tiny_model_folder), "--format", "json"]

    def run(*more: str) -> Any:
        return CliRunner().invoke(main, [*scan, *more])

    record = json.loads(run("--evidence", "--trust-list", str(tmp_path / "trust.pem")).stdout)["records"][0]
    assert record["evidence"][0]["detail"]["trusted"] is True
    for more in (
        ["--trust-list", str(tmp_path / "trust.pem")],
        ["--evidence", "--trust-list", str(tmp_path / "none.pem")],
    ):
        done = run(*more)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert "trust" in done.stderr


# --- files that cannot be decoded -------------------------------------------------------------------


def test_evidence_of_a_file_that_cannot_be_decoded(
    signed: bytes, tiny_model_folder: Path, tmp_path: Path
) -> None:
    scan = len(manifest_segments(signed)) + 200
    for data in (signed[:scan], signed.replace(b"\xff\xdb", b"\xff\xfd")):
        (tmp_path / "a.jpg").write_bytes(data)
        command = ["scan", str(tmp_path / "a.jpg"), "--model", str(tiny_model_folder), "--evidence"]
        done = CliRunner().invoke(main, [*command, "--format", "json"])
        assert done.exit_code == 3
        (record,) = json.loads(done.stdout)["records"]
        assert record["status"] == "error"
        (entry,) = record["evidence"]
        assert entry["detail"]["source_types"] == ["trainedAlgorithmicMedia"]
        assert "evidence: a C2PA manifest" in CliRunner().invoke(main, command).stdout
