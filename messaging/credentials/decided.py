"""What was decided and issued in a fleet: the content of ``fleet.json``.

* :class:`Decided`      all of it
* :class:`Enrolled`     a peer that has credentials
* :class:`Revoked`      credentials that hold no longer
* :class:`Credential`   one of both, the broker or the authority: who has some, and until when
"""

from __future__ import annotations

from datetime import date

from msgspec import Struct

from fimi.messaging.bundle import BundleRole

DAYS = 730
"""How long certificates of broker and peers are valid, days."""


class Enrolled(Struct, frozen=True, kw_only=True):
    """A peer that has credentials.

    Attributes:
        name: its id, and its user name at the broker.
        role: what it may be.
        serial: of its certificate, hexadecimal; empty with a password.
        expires: last day of its certificate, UTC; ``None`` with a password.
        hashed: its password as Mosquitto stores it; empty with a certificate.
    """

    name: str
    role: BundleRole
    serial: str = ""
    expires: date | None = None
    hashed: str = ""


class Revoked(Struct, frozen=True, kw_only=True):
    """Credentials that hold no longer.

    Attributes:
        name: whose.
        serial: of the certificate; empty for a password.
        on: since when, UTC.
        expires: last day of the certificate, after which it need not be remembered.
    """

    name: str
    serial: str = ""
    on: date
    expires: date | None = None


class Decided(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of ``fleet.json``.

    Attributes:
        fleet: its name.
        hosts: names and addresses of the broker; peers use the first one.
        port: of the broker.
        bind: IP address on which it listens; empty for all.
        by_certificate: whether peers show certificates; else passwords.
        days: how long certificates are valid.
        broker_expires: last day of the broker's certificate, UTC.
        update_key: public half of ``update.key``.
        peers: who has credentials.
        revoked: who had some.
    """

    fleet: str
    hosts: tuple[str, ...]
    port: int
    bind: str = ""
    by_certificate: bool = True
    days: int = DAYS
    broker_expires: date
    update_key: str = ""
    peers: tuple[Enrolled, ...] = ()
    revoked: tuple[Revoked, ...] = ()


class Credential(Struct, frozen=True, kw_only=True):
    """Who has credentials, and until when.

    Attributes:
        name: a peer, ``broker``, or ``authority``.
        role: its role; for those two their name.
        expires: last day, UTC; ``None``: it does not end.
        revoked: since when it holds no longer; ``None``: it holds.
    """

    name: str
    role: str
    expires: date | None
    revoked: date | None = None

    def days_left(self, today: date) -> int | None:
        """Days until its end, negative afterwards; ``None`` if it has none."""
        return None if self.expires is None else (self.expires - today).days
