"""A small certificate authority for one fleet: EC P-256, nothing but what a broker needs.

* :class:`Authority`  issues certificates to broker and peers, and says which are revoked
* :class:`Issued`     a certificate with its private key
* :func:`serials_of`  which certificates a list says are revoked
* :func:`signing_key` a key pair that updates of agents are signed with

Certificates are valid from a day before they are issued: a board without a battery for its clock
may be behind. The list of what is revoked ends with the authority itself: a broker refuses
everybody once such a list is out of date.

Source: RFC 5280. ``cryptography`` makes them; it is needed here only, not where a peer runs.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

from msgspec import Struct

from fimi.errors import SurroundingsError

AUTHORITY_DAYS = 3653
"""How long an authority is valid, days."""

EARLIER = timedelta(days=1)


class LibraryMissing(SurroundingsError):  # noqa: N818 - it says what has happened
    """The library that makes certificates is not installed here."""

    code = "U007"


class Issued(Struct, frozen=True, kw_only=True):
    """A certificate with its private key.

    Attributes:
        cert_pem: the certificate.
        key_pem: its private key.
        serial: its number, hexadecimal.
        expires: its last day, UTC.
    """

    cert_pem: str
    key_pem: str
    serial: str
    expires: date


def _x509() -> Any:
    """The parts of ``cryptography`` that are needed; loaded late, because only here it is there.

    Raises:
        LibraryMissing: it is not installed.
    """
    try:
        from cryptography import x509
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            "certificates are made with the library 'cryptography', which is not installed; say: "
            "pip install 'fimi-testbed[fleet]'"
        ) from error
    return x509


class Authority:
    """The authority of a fleet.

    Args:
        cert_pem: its certificate.
        key_pem: its private key.

    Raises:
        LibraryMissing: ``cryptography`` is not installed.
        ValueError: these are no certificate and key.
    """

    def __init__(self, cert_pem: str, key_pem: str) -> None:
        x509 = _x509()
        from cryptography.hazmat.primitives import serialization

        self.cert_pem, self.key_pem = cert_pem, key_pem
        self._certificate = x509.load_pem_x509_certificate(cert_pem.encode())
        self._key: Any = serialization.load_pem_private_key(key_pem.encode(), password=None)

    @classmethod
    def begin(cls, fleet: str) -> Authority:
        """A new authority for a fleet.

        Raises:
            LibraryMissing: ``cryptography`` is not installed.
        """
        x509 = _x509()
        key = _new_key()
        name = _name(f"FIMI fleet {fleet}"[:64])
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        extensions = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(key_cert_sign=True, crl_sign=True), True),
            (own, False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), False),
        ]
        made, _ = _signed(name, name, key.public_key(), key, AUTHORITY_DAYS, extensions)
        return cls(_pem(made), _key_pem(key))

    @property
    def expires(self) -> date:
        """Its last day, UTC."""
        end: datetime = self._certificate.not_valid_after_utc
        return end.date()

    def for_broker(self, hosts: Sequence[str], days: int) -> Issued:
        """A certificate for the broker.

        Args:
            hosts: names and IP addresses under which peers reach it.
            days: how long it is valid.
        """
        x509 = _x509()
        names = [_general_name(host) for host in hosts]
        return self._issue(
            hosts[0],
            days,
            x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
            [(x509.SubjectAlternativeName(names), False)],
        )

    def for_peer(self, name: str, days: int) -> Issued:
        """A certificate for a peer; its common name is the peer's user name at the broker."""
        return self._issue(name, days, _x509().oid.ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def revoked_list(self, revoked: Iterable[tuple[str, date]]) -> str:
        """The list of revoked certificates, PEM.

        Args:
            revoked: serial of each, hexadecimal, and the day on which it was revoked.
        """
        x509 = _x509()
        from cryptography.hazmat.primitives import hashes, serialization

        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - EARLIER)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for serial, on in revoked:
            when = datetime(on.year, on.month, on.day, tzinfo=timezone.utc)
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(when)
                .build()
            )
        signed = builder.sign(self._key, hashes.SHA256())
        text: bytes = signed.public_bytes(serialization.Encoding.PEM)
        return text.decode()

    def _issue(self, name: str, days: int, use: Any, more: list[tuple[Any, bool]]) -> Issued:
        x509 = _x509()
        key = _new_key()
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([use]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), False),
            *more,
        ]
        latest = self._certificate.not_valid_after_utc
        made, end = _signed(
            _name(name[:64]),
            self._certificate.subject,
            key.public_key(),
            self._key,
            days,
            extensions,
            latest,
        )
        return Issued(
            cert_pem=_pem(made),
            key_pem=_key_pem(key),
            serial=f"{made.serial_number:x}",
            expires=end.date(),
        )


def serials_of(revoked_list: str) -> frozenset[str]:
    """Numbers of the certificates of a list of revoked ones, hexadecimal.

    Args:
        revoked_list: PEM.

    Raises:
        LibraryMissing: ``cryptography`` is not installed.
        ValueError: it is no such list.
    """
    read = _x509().load_pem_x509_crl(revoked_list.encode())
    return frozenset(f"{each.serial_number:x}" for each in read)


def signing_key() -> tuple[str, str]:
    """A new Ed25519 key pair for updates of agents.

    Returns:
        The private key as PEM, and the 32 bytes of the public key as base64.
    """
    _x509()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    return _key_pem(key), base64.b64encode(public).decode()


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> Any:
    x509 = _x509()
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> Any:
    x509 = _x509()
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _usage(**used: bool) -> Any:
    return _x509().KeyUsage(**{name: used.get(name, False) for name in _USES})


def _signed(
    subject: Any,
    issuer: Any,
    public_key: Any,
    key: Any,
    days: int,
    extensions: list[tuple[Any, bool]],
    latest: datetime | None = None,
) -> tuple[Any, datetime]:
    """A certificate, and its end."""
    x509 = _x509()
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(timezone.utc).replace(microsecond=0)
    end = now + timedelta(days=days)
    end = end if latest is None else min(end, latest)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256()), end


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    text: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return text.decode()


def _key_pem(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    text: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text.decode()
