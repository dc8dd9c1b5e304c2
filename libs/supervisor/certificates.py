"""Certificates where no authority is at hand: made once, renewed in time, never in place of given ones.

The folder holds `ca.crt` and `ca.key`, an authority of its own, and `tls.crt` and `tls.key`, which broker and
gateway show. The names are those of Kubernetes' secrets.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from libs.supervisor.errors import UpError, not_writable
from libs.supervisor.files import KeyFile, current

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Every certificate is for these, too."""

AUTHORITY_FOR = timedelta(days=3650)
CERTIFICATE_FOR = timedelta(days=800)
"""Some clients take no certificate that is valid for more than 825 days."""

RENEW_BEFORE = timedelta(days=90)

_SECRET, _PUBLIC = 0o600, 0o644
_ALREADY = timedelta(hours=1)
"""Valid from so long ago on, for clocks that are behind."""


class Signed(Struct, frozen=True):
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def kept(self, folder: Path, name: str) -> list[KeyFile]:
        """Write both, where they are not there already."""
        pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key = self.key.private_bytes(pem, private, serialization.NoEncryption())
        return [
            current(folder / f"{name}.crt", self.certificate.public_bytes(pem).decode(), _PUBLIC),
            current(folder / f"{name}.key", key.decode(), _SECRET),
        ]


def make_certificates(folder: Path, names: tuple[str, ...], now: datetime | None = None) -> list[KeyFile]:
    """Make what is missing, what runs out soon (`RENEW_BEFORE`), what is for other names. Raises `UpError`.

    `names` are host names and addresses. A folder with a `tls.crt` and no `ca.key` holds given certificates:
    nothing is made there.
    """
    now = now or datetime.now(UTC)
    try:
        if (folder / "tls.crt").exists() and not (folder / "ca.key").exists():
            return [KeyFile(file=path.name, status="kept") for path in sorted(folder.iterdir())]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _read(folder, "ca")
        if authority is None or _runs_out(authority, now):
            authority = _authority(now)
        server = _read(folder, "tls")
        wanted = [_name(name) for name in dict.fromkeys((*LOOPBACK, *names))]
        if server is None or _runs_out(server, now) or not _is_of(server.certificate, authority, wanted):
            server = _server(authority, wanted, now)
        return [*authority.kept(folder, "ca"), *server.kept(folder, "tls")]
    except OSError as error:
        raise not_writable(folder, error) from error


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise UpError(f"{name!r} is no host name that a certificate could be for") from None


def _read(folder: Path, name: str) -> Signed | None:
    try:
        certificate = (folder / f"{name}.crt").read_bytes()
        key = (folder / f"{name}.key").read_bytes()
    except FileNotFoundError:
        return None
    try:
        private = serialization.load_pem_private_key(key, None)
        if isinstance(private, ec.EllipticCurvePrivateKey):
            return Signed(x509.load_pem_x509_certificate(certificate), private)
    except ValueError:
        pass
    raise UpError(f"{folder / name}.crt and .key are not those that were made here. Remove them for new ones")


def _runs_out(signed: Signed, now: datetime) -> bool:
    return signed.certificate.not_valid_after_utc < now + RENEW_BEFORE


def _is_of(certificate: x509.Certificate, authority: Signed, wanted: list[x509.GeneralName]) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError):
        return False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names) == set(wanted)


def _authority(now: datetime) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _titled("Perpetua's own authority")
    builder = _begun(name, name, key, now, AUTHORITY_FOR)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return Signed(builder.sign(key, hashes.SHA256()), key)


def _server(authority: Signed, names: list[x509.GeneralName], now: datetime) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    builder = _begun(_titled("Perpetua"), issuer, key, now, CERTIFICATE_FOR)
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (by, False),
    ):
        builder = builder.add_extension(extension, critical)
    return Signed(builder.sign(authority.key, hashes.SHA256()), key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, valid: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _ALREADY)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _titled(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
