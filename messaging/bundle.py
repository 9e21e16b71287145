"""A peer's bundle: one file with everything that it needs to take part in a fleet.

A bundle is TOML, and a secret: it holds the password or the private key of one peer. It is written
by ``fimi fleet init`` and ``fimi fleet enroll``, brought to the machine of the peer, and named
there with ``--bundle FILE`` or in ``FIMI_BUNDLE``.

* :class:`Bundle`       what it says; :meth:`Bundle.read`, :meth:`Bundle.write`
* :class:`BundleError`  why it cannot be used
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fimi.energy.toml_text import quoted
from fimi.errors import InputError
from fimi.files import write_whole
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BundleRole = Literal["device", "generator", "coordinator"]

MAX_BYTES = 64 << 10
"""A larger file is no bundle."""

_OTHERS = 0o027
"""Rights that nobody but the owner may have; the group of the owner may read."""

_AGAIN = "copy the file again, or make a new one: fimi fleet rotate NAME"


class BundleError(InputError, ValueError):
    """A bundle cannot be used; the message says which one, what is wrong, and what to do."""

    code = "F001"


class Bundle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The credentials of one peer of one fleet.

    Attributes:
        fleet: name of the fleet.
        name: id of the peer, which is its user name at the broker.
        role: what the peer may be.
        host: name or IP address of the broker.
        port: its TCP port.
        password: password of ``name``; empty where a certificate takes its place.
        ca_pem: certificate of the authority that the broker's certificate is from; empty: no TLS.
        cert_pem: certificate of the peer; empty where a password takes its place.
        key_pem: private key of that certificate.
        update_key: public Ed25519 key that updates of the agent are signed with, 32 bytes as
            base64; empty: no update is accepted.
        expires: day on which ``cert_pem`` ends, as ``2028-11-30``; empty: it does not.
    """

    fleet: str
    name: str
    role: BundleRole
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    password: str = ""
    ca_pem: str = ""
    cert_pem: str = ""
    key_pem: str = ""
    update_key: str = ""
    expires: str = ""

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Read a bundle.

        Raises:
            BundleError: it cannot be read, others may read it, or it is not a valid bundle. The
                message never repeats a secret.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BundleError(
                f"bundle {path}: {error.strerror or error}; 'fimi fleet enroll NAME' writes one"
            ) from error
        if os.name == "posix" and stat.S_ISREG(mode) and mode & _OTHERS:
            raise BundleError(
                f"bundle {path}: others on this machine may use it (mode {mode & 0o777:03o}), and "
                f"it holds a secret; say: chmod 600 {path}"
            )
        if len(data) > MAX_BYTES:
            raise BundleError(f"bundle {path}: larger than {MAX_BYTES} B: this is no bundle")
        try:
            bundle = msgspec.convert(tomllib.loads(data.decode()), type=cls)
            bundle._check()
        except tomllib.TOMLDecodeError as error:
            raise BundleError(f"bundle {path}: no TOML ({error}); {_AGAIN}") from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise BundleError(
                f"bundle {path}: no TOML ({type(error).__name__}); {_AGAIN}"
            ) from None
        except ValueError as error:  # of msgspec, too
            raise BundleError(f"bundle {path}: {error}; {_AGAIN}") from None
        return bundle

    def _check(self) -> None:
        topics.check_name(self.fleet, "fleet")
        topics.check_name(self.name, "name")
        if (self.role == "coordinator") != (self.name == topics.COORDINATOR):
            raise ValueError(f"a {self.role} cannot have the name {self.name!r}")
        if not self.host:
            raise ValueError("host is empty")
        if bool(self.cert_pem) != bool(self.key_pem):
            raise ValueError("cert_pem and key_pem go together")
        if self.cert_pem and not self.ca_pem:
            raise ValueError("cert_pem needs ca_pem: a certificate is of use with TLS only")

    def write(self, path: Path, *, owner: tuple[int, int] | None = None) -> None:
        """Write it, readable for the owner only; a file that is there is replaced.

        Args:
            path: where.
            owner: numbers of the user and group whose it is; ``None``: those of this process.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(path, self.text(), mode=0o600, owner=owner)

    def text(self) -> str:
        """What stands in its file."""
        lines = [
            f"# Credentials of {self.role} {self.name} in fleet {self.fleet}. Keep them secret:",
            "# this file lies on that peer's machine only, mode 600; --bundle FILE names it.",
        ]
        for name, value in msgspec.structs.asdict(self).items():
            if value == "":
                continue
            lines.append(f"{name} = {value if isinstance(value, int) else _text(value)}")
        return "\n".join(lines) + "\n"

    def address(self) -> BrokerAddress:
        """The broker, with these credentials."""
        return BrokerAddress(
            host=self.host,
            port=self.port,
            username=self.name,
            password=self.password,
            tls=bool(self.ca_pem),
            ca_pem=self.ca_pem,
            cert_pem=self.cert_pem,
            key_pem=self.key_pem,
            expires=self.expires,
        )

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"Bundle(fleet={self.fleet!r}, name={self.name!r}, role={self.role!r})"


def _text(value: str) -> str:
    """A TOML string; what has several lines stands in several lines."""
    if "\n" in value and "'" not in value and value.replace("\n", "").isprintable():
        return f"'''\n{value}'''"
    return quoted(value)
