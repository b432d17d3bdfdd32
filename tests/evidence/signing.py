"""Signing pictures with C2PA manifests by test certificates of a test authority."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PEM = serialization.Encoding.PEM
_OTHER_USES = (
    "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only"
)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key."""
    return ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Generator Ltd")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass
class Authority:
    """A certificate authority that nobody knows."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.certificate = self.certify("Root", self.key.public_key(), True, datetime.timedelta(days=30))

    @property
    def pem(self) -> str:
        """Its certificate, as a trust list holds it."""
        return self.certificate.public_bytes(_PEM).decode()

    def certify(
        self, subject: str, public: Any, is_authority: bool, lasts: datetime.timedelta
    ) -> x509.Certificate:
        """A certificate that is valid from yesterday on, and for so long from now."""
        now = datetime.datetime.now(datetime.UTC)
        flags = dict.fromkeys(_OTHER_USES.split(), False)
        usage = x509.KeyUsage(
            digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **flags
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("Root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        if not is_authority:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(issuer, critical=False).add_extension(purpose, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @contextmanager
    def signer(self, seconds: float = 30 * 86400) -> Iterator[Signer]:
        """Somebody whom it has certified for so many seconds from now."""
        key = new_key()
        own = self.certify("Signer", key.public_key(), False, datetime.timedelta(seconds=seconds))
        chain = b"".join(part.public_bytes(_PEM) for part in (own, self.certificate)).decode()

        def seal(data: bytes) -> bytes:
            numbers = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return b"".join(number.to_bytes(32, "big") for number in numbers)

        with c2pa.Signer.from_callback(seal, c2pa.C2paSigningAlg.ES256, chain) as signer:
            yield Signer(signer)


@dataclass
class Signer:
    """Somebody who signs pictures."""

    signer: Any

    def sign(
        self,
        data: bytes,
        type_: str,
        source: str = "trainedAlgorithmicMedia",
        remote: str = "",
        made_from: bytes = b"",
        generator: str = "test_generator",
        agent: str = "",
        description: str = "",
    ) -> bytes:
        """A picture's file with a signed manifest in it (or, with ``remote``, only the address of one)."""
        action: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": SOURCES + source}
        action |= {"softwareAgent": {"name": agent}} if agent else {}
        action |= {"description": description} if description else {}
        if made_from:
            action = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["before"]}}
        builder = c2pa.Builder(
            {
                "claim_generator_info": [{"name": generator, "version": "0.1"}],
                "title": "t",
                "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
            }
        )
        if made_from:
            parent = {
                "title": "before",
                "relationship": "parentOf",
                "instance_id": "before",
                "label": "before",
            }
            builder.add_ingredient(parent, type_, io.BytesIO(made_from))
        if remote:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        signed = io.BytesIO()
        builder.sign(self.signer, type_, io.BytesIO(data), signed)
        return signed.getvalue()
