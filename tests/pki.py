"""Certificates for tests: an authority, one below it, and what they sign. Made in memory, of any dates and names."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self, password: str = "") -> str:
        form: Any = serialization.NoEncryption()
        if password:
            form = serialization.BestAvailableEncryption(password.encode())
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form).decode()


def sign(
    name: str, by: Signed | None = None, names: tuple[str, ...] = (), begins: float = -1, ends: float = 90
) -> Signed:
    """Return a certificate, valid by days from now. Without names it is an authority, without `by` signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        by.certificate.subject if by else subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        NOW + begins * DAY,
        NOW + ends * DAY,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    # strict readers (Python 3.13) ask for these
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    usage |= {"encipher_only": False, "decipher_only": False}
    usage |= {"digital_signature": bool(names), "key_cert_sign": not names, "crl_sign": not names}
    builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    issuer = (by.key if by else key).public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)


ROOT = sign("A root")
ISSUER = sign("An issuer", ROOT)
