"""The folder of a fleet: everything that its broker needs, and the bundle of each peer.

::

    FOLDER/                 mode 700
      fleet.json            what was decided and issued; from it the broker's files are written
      ca.pem, ca.key        the authority
      broker.pem, .key      certificate of the broker
      update.key            signs updates of agents; its public half is in every bundle
      mosquitto.conf        with rules, passwords or revoked.pem: the broker's configuration
      mosquitto.d/          further lines of one's own
      state/                what the broker keeps
      bundles/NAME.bundle   credentials of each peer, to be brought there

* :class:`FleetFolder`   begins it, opens it, enrols, rotates, revokes
* :class:`Credential`    one of its rows: who has credentials, and until when

A command holds the lock of the folder as long as it changes it. A broker that runs reads the files
again when it is told so (SIGHUP; ``fimi broker --config`` does it by itself).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.errors import InputError
from fimi.files import FileInUse, FileLock, write_whole
from fimi.messaging import topics
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.bundle import Bundle, BundleRole
from fimi.messaging.credentials import settings as conf
from fimi.messaging.credentials.authority import Authority, Issued, signing_key
from fimi.messaging.credentials.rules import access_rules
from fimi.messaging.credentials.settings import BrokerSettings, mosquitto_lines
from fimi.messaging.topics import COORDINATOR

GENERATOR = "generator"
BROKER = "broker"
DAYS = 730
"""How long certificates of broker and peers are valid, days."""

WARN_DAYS = 30
"""So long before its end a certificate is warned of, days."""

DEFAULT_PORT = 8883
_DECIDED = "fleet.json"
_LOCK = ".lock"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class FolderError(InputError, ValueError):
    """A fleet's folder cannot be used, or does not allow what is asked for."""


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


class FleetFolder:
    """A fleet's folder. :meth:`begin` makes one, :meth:`open` takes one that is there."""

    def __init__(self, path: Path, decided: Decided) -> None:
        self.path, self.decided = path, decided

    @classmethod
    def begin(
        cls,
        path: Path,
        *,
        fleet: str,
        hosts: Sequence[str],
        port: int = DEFAULT_PORT,
        bind: str = "",
        by_certificate: bool = True,
        days: int = DAYS,
    ) -> FleetFolder:
        """Make the folder, with the authority, the broker's files, and the first two bundles.

        Raises:
            FolderError: it is there already, or a name cannot be used.
            LibraryMissing: ``cryptography`` is not installed.
            OSError: it cannot be written.
        """
        try:
            topics.check_name(fleet, "fleet")
        except ValueError as error:
            raise FolderError(str(error)) from error
        hosts = _checked_hosts(hosts)
        _check_days(days)
        if path.exists() or path.is_symlink():
            raise FolderError(
                f"{path} is there already, and may hold the keys of a fleet; name another folder"
            )
        authority = Authority.begin(fleet)
        private, public = signing_key()
        decided = Decided(
            fleet=fleet,
            hosts=hosts,
            port=port,
            bind=bind,
            by_certificate=by_certificate,
            days=days,
            broker_expires=authority.expires,
            update_key=public,
        )
        made = cls(path, decided)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        try:
            path.chmod(0o700)
            for name in ("bundles", conf.KEPT, conf.OWN_LINES):
                (path / name).mkdir(mode=0o700)
            _write(path / "ca.pem", authority.cert_pem)
            _write(path / "ca.key", authority.key_pem)
            _write(path / "update.key", private)
            made._rotate_broker(authority, hosts)
            made._issue(authority, COORDINATOR, "coordinator")
            made._issue(authority, GENERATOR, "generator")
            made._store()
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # it was made here, and nobody has its keys
            raise
        return made

    @classmethod
    def open(cls, path: Path) -> FleetFolder:
        """Take a folder that is there.

        Raises:
            FolderError: it is none, or is damaged.
        """
        file = path / _DECIDED
        try:
            return cls(path, msgspec.json.decode(file.read_bytes(), type=Decided))
        except OSError as error:
            raise FolderError(
                f"{path} is no folder of a fleet ({file.name}: {error.strerror or error}); "
                "'fimi fleet init FOLDER' makes one"
            ) from error
        except msgspec.MsgspecError as error:
            raise FolderError(f"{file}: {error}; take it from a backup") from error

    @contextlib.contextmanager
    def changed(self) -> Iterator[FleetFolder]:
        """The folder as it is now, for one change; nobody else changes it meanwhile.

        Raises:
            FolderError: somebody else does.
        """
        try:
            lock = FileLock(self.path / _LOCK)
        except FileInUse as error:
            raise FolderError(f"{self.path}: another command changes it ({error})") from error
        try:
            self.decided = FleetFolder.open(self.path).decided
            yield self
        finally:
            lock.release()

    def enroll(self, name: str, role: BundleRole = "device") -> Path:
        """Issue credentials to a new peer.

        Returns:
            Its bundle.

        Raises:
            FolderError: it has some, or the name cannot be used.
        """
        try:
            topics.check_name(name, "name")
        except ValueError as error:
            raise FolderError(str(error)) from error
        if name in (COORDINATOR, BROKER, topics.SHARED) or (role == "coordinator"):
            raise FolderError(f"{name!r} is no name for a peer that is enrolled; take another")
        with self.changed():
            if self._peer(name) is not None:
                raise FolderError(
                    f"{name} has credentials in fleet {self.decided.fleet!r}; 'fimi fleet rotate "
                    f"{name}' issues new ones, 'fimi fleet revoke {name}' ends them"
                )
            bundle = self._issue(self._authority(), name, role)
            self._store()
        return bundle

    def rotate(self, name: str, hosts: Sequence[str] = ()) -> Path:
        """Issue new credentials to a peer, or a new certificate to the broker; the old ones end.

        Args:
            name: a peer, or ``broker``.
            hosts: of the broker: further names and addresses, which new bundles take first. It
                keeps those it has: bundles of boards name one of them.

        Returns:
            The bundle, or the broker's certificate.

        Raises:
            FolderError: there is no such peer.
        """
        with self.changed():
            if name == BROKER:
                named = _checked_hosts((*hosts, *self.decided.hosts))
                self._rotate_broker(self._authority(), named)
                self._store()
                return self.path / "broker.pem"
            if hosts:
                raise FolderError("names of the broker go with: fimi fleet rotate broker")
            peer = self._required(name)
            self._end(peer)
            bundle = self._issue(self._authority(), name, peer.role)
            self._store()
        return bundle

    def revoke(self, name: str) -> None:
        """End the credentials of a peer.

        Raises:
            FolderError: there is no such peer, or it is the coordinator, which no fleet is without.
        """
        if name == COORDINATOR:
            raise FolderError(
                "a fleet has one coordinator, and it cannot be enrolled again: 'fimi fleet rotate "
                "coordinator' ends its credentials and issues new ones"
            )
        with self.changed():
            self._end(self._required(name))
            self._store()
            self.bundle(name).unlink(missing_ok=True)

    def bundle(self, name: str) -> Path:
        """Where the bundle of a peer is written."""
        return self.path / "bundles" / f"{name}.bundle"

    def credentials(self) -> tuple[Credential, ...]:
        """Who has credentials: broker and authority first, then peers, then who was revoked."""
        decided = self.decided
        there = {peer.name for peer in decided.peers}
        gone = {each.name: each for each in decided.revoked if each.name not in there}
        return (
            Credential(name="authority", role="authority", expires=self._authority().expires),
            Credential(name=BROKER, role=BROKER, expires=decided.broker_expires),
            *(
                Credential(name=peer.name, role=peer.role, expires=peer.expires)
                for peer in decided.peers
            ),
            *(
                Credential(name=name, role="", expires=None, revoked=each.on)
                for name, each in sorted(gone.items())
            ),
        )

    def ending(self, days: int = WARN_DAYS, today: date | None = None) -> tuple[Credential, ...]:
        """The credentials that end within some days, or have ended."""
        now = today or _today()
        return tuple(
            each
            for each in self.credentials()
            if (left := each.days_left(now)) is not None and left < days
        )

    def write_broker_files(self) -> None:
        """Write what the broker reads: configuration, rules, passwords, revoked certificates."""
        decided = self.decided
        there = {peer.name for peer in decided.peers}
        rules = access_rules(
            decided.fleet,
            [peer.name for peer in decided.peers if peer.role == "generator"],
            sorted({each.name for each in decided.revoked} - there),
        )
        _write(self.path / conf.RULES, rules)
        if decided.by_certificate:
            ended = [(each.serial, each.on) for each in decided.revoked if each.serial]
            _write(self.path / conf.REVOKED, self._authority().revoked_list(ended))
        else:
            users = [f"{peer.name}:{peer.hashed}\n" for peer in decided.peers]
            _write(self.path / conf.PASSWORDS, "".join(users))
        settings = BrokerSettings(
            port=decided.port,
            bind=decided.bind,
            by_certificate=decided.by_certificate,
            user=_owner(self.path),
        )
        _write(self.path / conf.CONFIGURATION, mosquitto_lines(self.path, settings))

    def read_by_broker(self) -> tuple[Path, ...]:
        """The files that a running broker reads again when it is told so."""
        names = (conf.RULES, conf.PASSWORDS, conf.REVOKED, "broker.pem", "broker.key")
        return tuple(self.path / name for name in names)

    def _authority(self) -> Authority:
        try:
            certificate = (self.path / "ca.pem").read_text()
            key = (self.path / "ca.key").read_text()
            return Authority(certificate, key)
        except (OSError, ValueError) as error:
            raise FolderError(
                f"{self.path}: ca.pem and ca.key cannot be used ({error}); take them from a backup"
            ) from error

    def _peer(self, name: str) -> Enrolled | None:
        return next((peer for peer in self.decided.peers if peer.name == name), None)

    def _required(self, name: str) -> Enrolled:
        peer = self._peer(name)
        if peer is None:
            known = ", ".join(each.name for each in self.decided.peers)
            raise FolderError(
                f"{name} has no credentials in fleet {self.decided.fleet!r}; these have: {known}"
            )
        return peer

    def _issue(self, authority: Authority, name: str, role: BundleRole) -> Path:
        """Credentials for a peer, noted in ``decided``; stored by the caller."""
        decided = self.decided
        issued: Issued | None = None
        password = ""
        if decided.by_certificate:
            issued = authority.for_peer(name, decided.days)
        else:
            password = secrets.token_urlsafe(32)
        peer = Enrolled(
            name=name,
            role=role,
            serial="" if issued is None else issued.serial,
            expires=None if issued is None else issued.expires,
            hashed=password and password_hash(password, secrets.token_bytes(12)),
        )
        Bundle(
            fleet=decided.fleet,
            name=name,
            role=role,
            host=decided.hosts[0],
            port=decided.port,
            password=password,
            ca_pem=authority.cert_pem,
            cert_pem="" if issued is None else issued.cert_pem,
            key_pem="" if issued is None else issued.key_pem,
            update_key=decided.update_key,
            expires="" if issued is None else issued.expires.isoformat(),
        ).write(self.bundle(name))
        peers = [each for each in decided.peers if each.name != name]
        self.decided = msgspec.structs.replace(decided, peers=(*peers, peer))
        return self.bundle(name)

    def _end(self, peer: Enrolled) -> None:
        """Take a peer's credentials away; stored by the caller."""
        today = _today()
        ended = Revoked(name=peer.name, serial=peer.serial, on=today, expires=peer.expires)
        kept = [each for each in self.decided.revoked if _still_matters(each, today)]
        self.decided = msgspec.structs.replace(
            self.decided,
            peers=tuple(each for each in self.decided.peers if each.name != peer.name),
            revoked=(*kept, ended),
        )

    def _rotate_broker(self, authority: Authority, hosts: tuple[str, ...]) -> None:
        here = tuple(dict.fromkeys((*hosts, "localhost", "127.0.0.1", "::1")))
        issued = authority.for_broker(here, self.decided.days)
        _write(self.path / "broker.key", issued.key_pem)
        _write(self.path / "broker.pem", issued.cert_pem)
        self.decided = msgspec.structs.replace(
            self.decided, hosts=hosts, broker_expires=issued.expires
        )

    def _store(self) -> None:
        """What was decided first, then the files that follow from it."""
        _write(
            self.path / _DECIDED, msgspec.json.format(msgspec.json.encode(self.decided)).decode()
        )
        self.write_broker_files()


def _still_matters(ended: Revoked, today: date) -> bool:
    return ended.expires is None or ended.expires >= today - timedelta(days=1)


def _today() -> date:
    return datetime.now(timezone.utc).date()


def _write(path: Path, text: str) -> None:
    write_whole(path, text, mode=0o600)


def _owner(path: Path) -> str:
    """Name of the user whom the folder belongs to; empty where users have none."""
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(path.stat().st_uid).pw_name
    return ""


def _check_days(days: int) -> None:
    if not 1 <= days <= 3650:
        raise FolderError(f"certificates of {days} days: give 1 to 3650")


def _checked_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """The hosts, each once.

    Raises:
        FolderError: there is none, or one is no name or address of a machine.
    """
    found = tuple(dict.fromkeys(host.strip().strip("[]") for host in hosts))
    if not found:
        raise FolderError(
            "under which name or address do peers reach the broker? Give --host, once for each"
        )
    for host in found:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if not _HOST.fullmatch(host):
                raise FolderError(f"host {host!r} is no name or IP address of a machine") from None
    return found
