"""The folder of a fleet: everything that its broker needs, and the bundle of each peer.

::

    FOLDER/                 mode 700, or 710 (:mod:`fimi.messaging.credentials.ownership`)
      fleet.json            what was decided and issued; from it the broker's files are written
      ca.pem, ca.key        the authority
      broker.pem, .key      certificate of the broker
      update.key            signs updates of agents; its public half is in every bundle
      keeper.key            with passwords: that of whoever has the folder, at the broker
      mosquitto.conf        with rules, passwords or revoked.pem: the broker's configuration
      mosquitto.d/          further lines of one's own
      state/                what the broker keeps
      bundles/NAME.bundle   credentials of each peer, to be brought there
      .gitignore            keeps all of it out of a repository that it lies in

* :class:`FleetFolder`   begins it, opens it, enrols, rotates, revokes
* :class:`FolderError`   why it cannot be used

A command holds the lock of the folder as long as it changes it. A broker that runs reads the files
again when it is told so (SIGHUP); those who have a connection with a revoked certificate keep it
until the broker is started again. ``fimi broker --config`` does both by itself, and holds a lock of
its own (:meth:`FleetFolder.run_by`).

Whoever has the folder can be any peer. So it has a user of its own at the broker, which may clear
what others have left there (:meth:`FleetFolder.keeper`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import msgspec

from fimi.errors import InputError
from fimi.files import FileInUse, FileLock, write_whole
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.bundle import Bundle, BundleRole
from fimi.messaging.credentials import settings as conf
from fimi.messaging.credentials.authority import Authority, Issued, serials_of, signing_key
from fimi.messaging.credentials.decided import DAYS, Credential, Decided, Enrolled, Revoked
from fimi.messaging.credentials.ownership import Ownership, caller_of_sudo, is_root
from fimi.messaging.credentials.rules import KEEPER, access_rules
from fimi.messaging.credentials.settings import BrokerSettings, mosquitto_lines
from fimi.messaging.topics import COORDINATOR

GENERATOR = "generator"
BROKER = "broker"

WARN_DAYS = 30
"""So long before its end a certificate is warned of, days."""

DEFAULT_PORT = 8883
_DECIDED = "fleet.json"
_KEEPER_KEY = "keeper.key"
_LOCK = ".lock"
_RUN_LOCK = ".broker"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class FolderError(InputError, ValueError):
    """A fleet's folder cannot be used, or does not allow what is asked for."""

    code = "F002"


class FleetFolder:
    """A fleet's folder. :meth:`begin` makes one, :meth:`open` takes one that is there."""

    def __init__(self, path: Path, decided: Decided) -> None:
        self.path, self.decided = path, decided
        self.ownership = Ownership(path)

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
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        try:
            path.chmod(0o700)
            if (caller := caller_of_sudo(path)) is not None:
                os.chown(path, caller.uid, caller.gid)
            for name in ("bundles", conf.KEPT, conf.OWN_LINES):
                (path / name).mkdir(mode=0o700)
            made = cls(path, decided)
            made._write(".gitignore", "*\n")
            made._write("ca.pem", authority.cert_pem)
            made._write("ca.key", authority.key_pem)
            made._write("update.key", private)
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
        with self.changed():
            self.require_new([name], role)
            bundle = self._issue(self._authority(), name, role)
            self._store()
        return bundle

    def require_new(self, names: Sequence[str], role: BundleRole = "device") -> None:
        """Make sure that all of some names can be enrolled.

        Raises:
            FolderError: one has credentials, stands twice, or cannot be used.
        """
        for name in names:
            try:
                topics.check_name(name, "name")
            except ValueError as error:
                raise FolderError(str(error)) from error
            if name in (COORDINATOR, BROKER, topics.SHARED) or (role == "coordinator"):
                raise FolderError(f"{name!r} is no name for a peer that is enrolled; take another")
            if names.count(name) > 1:
                raise FolderError(f"{name} is named twice; name it once")
        if there := [name for name in names if self._peer(name) is not None]:
            have = "has" if len(there) == 1 else "have"
            name = there[0] if len(there) == 1 else "NAME"
            raise FolderError(
                f"{', '.join(there)} {have} credentials in fleet {self.decided.fleet!r}; 'fimi "
                f"fleet rotate {name}' issues new ones, 'fimi fleet revoke {name}' ends them"
            )

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
        """End the credentials of a peer; once more, if that was broken off.

        Raises:
            FolderError: there is no such peer, or it is the coordinator, which no fleet is without.
        """
        if name == COORDINATOR:
            raise FolderError(
                "a fleet has one coordinator, and it cannot be enrolled again: 'fimi fleet rotate "
                "coordinator' ends its credentials and issues new ones"
            )
        with self.changed():
            if not self._is_revoked(name):
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
        self._write(conf.RULES, rules)
        if decided.by_certificate:
            ended = [(each.serial, each.on) for each in decided.revoked if each.serial]
            self._write(conf.REVOKED, self._authority().revoked_list(ended))
        else:
            users = {peer.name: peer.hashed for peer in decided.peers}
            users[KEEPER] = password_hash(self._keeper_password(), secrets.token_bytes(12))
            lines = [f"{name}:{hashed}\n" for name, hashed in users.items()]
            self._write(conf.PASSWORDS, "".join(lines))
        account = self.ownership.account
        settings = BrokerSettings(
            port=decided.port,
            bind=decided.bind,
            by_certificate=decided.by_certificate,
            user="" if account is None else account.name,
        )
        self._write(conf.CONFIGURATION, mosquitto_lines(self.path, settings))
        self.ownership.settle()

    def revoked_serials(self) -> frozenset[str]:
        """Numbers of the certificates that the broker is told to refuse, hexadecimal.

        Raises:
            FolderError: their list cannot be read.
        """
        if not self.decided.by_certificate:
            return frozenset()
        try:
            return serials_of((self.path / conf.REVOKED).read_text())
        except (OSError, ValueError) as error:
            raise FolderError(
                f"{self.path / conf.REVOKED} cannot be used ({error}); 'fimi broker --config' "
                "writes it when it starts"
            ) from error

    def keeper(self, host: str = "") -> BrokerAddress:
        """How whoever has this folder reaches the broker, with the right to write everything.

        With certificates one is issued each time, for a day, and its key is in no file.

        Args:
            host: where the broker is; left out: as bundles say.
        """
        decided = self.decided
        address = BrokerAddress(
            host=host or decided.hosts[0],
            port=decided.port,
            username=KEEPER,
            tls=True,
            ca_pem=self._authority().cert_pem,
        )
        if not decided.by_certificate:
            return msgspec.structs.replace(address, password=self._keeper_password())
        issued = self._authority().for_peer(KEEPER, 1)
        return msgspec.structs.replace(address, cert_pem=issued.cert_pem, key_pem=issued.key_pem)

    def local_host(self) -> str:
        """Where the broker is reached on its own machine."""
        bind = self.decided.bind
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)

    def run_by(self) -> str:
        """Which process runs its broker on this machine by ``fimi broker --config``.

        Returns:
            It in words; empty if none does, as where Mosquitto is a service of its own.
        """
        with contextlib.suppress(OSError):
            return FileLock.holder(self.path / _RUN_LOCK)
        return ""

    def run_lock(self) -> FileLock:
        """Held by whoever runs its broker.

        Raises:
            FileInUse: somebody does.
            OSError: it cannot be made.
        """
        return FileLock(self.path / _RUN_LOCK)

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

    def _is_revoked(self, name: str) -> bool:
        """Whether a peer has had credentials, and has none any more."""
        return self._peer(name) is None and any(each.name == name for each in self.decided.revoked)

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
        ).write(self.bundle(name), owner=self.ownership.of(f"bundles/{name}.bundle"))
        peers = [each for each in decided.peers if each.name != name]
        self.decided = msgspec.structs.replace(decided, peers=(*peers, peer))
        return self.bundle(name)

    def _end(self, peer: Enrolled) -> None:
        """Take a peer's credentials away; stored by the caller."""
        today = _today()
        ended = Revoked(name=peer.name, serial=peer.serial, on=today, expires=peer.expires)
        kept = [
            each
            for each in self.decided.revoked
            if _still_matters(each, today) and (each.serial or each.name != peer.name)
        ]
        self.decided = msgspec.structs.replace(
            self.decided,
            peers=tuple(each for each in self.decided.peers if each.name != peer.name),
            revoked=(*kept, ended),
        )

    def _rotate_broker(self, authority: Authority, hosts: tuple[str, ...]) -> None:
        local = (self.local_host(), "localhost", "127.0.0.1", "::1")
        issued = authority.for_broker(tuple(dict.fromkeys((*hosts, *local))), self.decided.days)
        self._write("broker.key", issued.key_pem)
        self._write("broker.pem", issued.cert_pem)
        self.decided = msgspec.structs.replace(
            self.decided, hosts=hosts, broker_expires=issued.expires
        )

    def _store(self) -> None:
        """What was decided first, then the files that follow from it."""
        self._write(_DECIDED, msgspec.json.format(msgspec.json.encode(self.decided)).decode())
        self.write_broker_files()

    def _keeper_password(self) -> str:
        """That of the keeper where peers have passwords; made if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / _KEEPER_KEY).read_text().strip()
        password = secrets.token_urlsafe(32)
        self._write(_KEEPER_KEY, password + "\n")
        return password

    def _write(self, name: str, text: str) -> None:
        path, owner = self.path / name, self.ownership.of(name)
        if is_root() and path.is_symlink():  # root would follow it into a folder of its own
            raise FolderError(f"{path} is a link: root writes no file of a fleet through one")
        write_whole(path, text, mode=self.ownership.mode(name), owner=owner)


def _still_matters(ended: Revoked, today: date) -> bool:
    return ended.expires is None or ended.expires >= today - timedelta(days=1)


def _today() -> date:
    return datetime.now(timezone.utc).date()


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
