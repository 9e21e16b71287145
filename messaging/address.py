"""Address and credentials of a broker: :class:`BrokerAddress` and its URL form.

``mqtt://user:password@host:1883`` is plain TCP, ``mqtts://user:password@host:8883?ca=/path/ca.pem``
is TLS; without ``ca`` the system's certificates are trusted. A client certificate is named beside
it: ``mqtts://host?ca=ca.pem&cert=pi-01.pem&key=pi-01.key``. Special characters in user name and
password are percent-encoded, as in every URL.

An address that was read from a bundle (:mod:`fimi.messaging.bundle`) holds its certificates itself,
and has no URL that says everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, quote, unquote, urlsplit

from msgspec import Meta, Struct

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883
_FILES = ("ca", "cert", "key")
"""Options of a URL; each is the path of a PEM file."""
_EXAMPLE = "write it as mqtt://user:password@host:1883 (or mqtts://…?ca=/path/to/ca.pem)"


class BrokerAddress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A broker and the credentials for it; printing it never shows the password.

    Attributes:
        host: name or IP address (IPv6 without brackets).
        port: TCP port.
        username: user name; empty for a broker that asks for none.
        password: password of ``username``.
        tls: whether to encrypt, and to check the broker's certificate.
        ca_path: PEM file of the authority to trust; ``None`` for the system's own.
        cert_path: PEM file of the own certificate; ``None`` for none.
        key_path: PEM file of its private key.
        ca_pem: the certificate of the authority itself, in place of ``ca_path``.
        cert_pem: the own certificate itself.
        key_pem: its private key itself.
        expires: day on which the own certificate ends, as ``2028-11-30``; empty: unknown, or never.
        bundle_path: bundle that all this was read from; empty: none.
    """

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = DEFAULT_PORT
    username: str = ""
    password: str = ""
    tls: bool = False
    ca_path: str | None = None
    cert_path: str | None = None
    key_path: str | None = None
    ca_pem: str = ""
    cert_pem: str = ""
    key_pem: str = ""
    expires: str = ""
    bundle_path: str = ""

    @property
    def has_certificate(self) -> bool:
        """Whether the peer shows a certificate of its own."""
        return bool(self.cert_path or self.cert_pem)

    @property
    def on_loopback(self) -> bool:
        """Whether what is sent to it stays on this machine."""
        return is_loopback(self.host)

    def client_id(self, name: str) -> str:
        """An id for a connection, which nobody can tell who does not have these credentials.

        A broker closes the connection of a client, and gives its session away, when another one
        comes with the same id. The same credentials give the same id again, so that a process that
        starts anew takes over what the one before it has left at the broker. Without credentials it
        is ``name``.
        """
        secret = self.password or self.key_pem
        if self.key_path and not secret:
            with contextlib.suppress(OSError):  # said when it is used
                secret = Path(self.key_path).read_text(errors="replace")
        if not secret:
            return name
        digest = hmac.new(secret.encode(), f"client id of {name}".encode(), hashlib.sha256)
        return f"{name}:{digest.hexdigest()[:32]}"

    def exposed(self) -> str:
        """What is open to others on the way to this broker, in words; empty if nothing is."""
        if self.on_loopback:
            return ""
        lacks = []
        if not self.tls:
            lacks.append("without TLS: whoever is in the network reads and changes what is sent")
        if not (self.password or self.has_certificate):
            lacks.append("without a password or certificate: whoever is in the network takes part")
        return "; ".join(lacks)

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Read a broker URL.

        Raises:
            ValueError: says which part of the URL is wrong; never repeats the password.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"broker URL: {error}; {_EXAMPLE}") from None
        if parts.scheme not in ("mqtt", "mqtts"):
            raise ValueError(
                f"broker URL begins with {parts.scheme + '://' if parts.scheme else 'no scheme'}, "
                f"not mqtt:// or mqtts://; {_EXAMPLE}"
            )
        if not host:
            raise ValueError(f"broker URL names no host; {_EXAMPLE}")
        if parts.path not in ("", "/") or parts.fragment:
            raise ValueError(
                f"broker URL has {parts.path + ('#' if parts.fragment else '')!r} behind the host; "
                f"a '/', '#' or '?' inside a password must be percent-encoded; {_EXAMPLE}"
            )
        options = parse_qs(parts.query, keep_blank_values=True)
        tls = parts.scheme == "mqtts"
        if unknown := sorted(set(options) - set(_FILES)):
            raise ValueError(
                f"broker URL: unknown options {', '.join(unknown)}; known: {', '.join(_FILES)}"
            )
        if options and not tls:
            raise ValueError(
                f"broker URL gives {next(iter(options))!r} without TLS; begin it with mqtts://"
            )
        if ("cert" in options) != ("key" in options):
            raise ValueError("broker URL gives one of 'cert' and 'key'; a certificate needs both")
        if port == 0:
            raise ValueError(f"broker URL gives port 0, a port is 1 to 65535; {_EXAMPLE}")
        return cls(
            host=host,
            port=port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            tls=tls,
            ca_path=options["ca"][-1] if "ca" in options else None,
            cert_path=options["cert"][-1] if "cert" in options else None,
            key_path=options["key"][-1] if "key" in options else None,
        )

    def url(self, *, with_password: bool = False) -> str:
        """The URL form; the password is ``***`` unless ``with_password``."""
        login = quote(self.username, safe="")
        if self.password:
            login += ":" + (quote(self.password, safe="") if with_password else "***")
        host = f"[{self.host}]" if ":" in self.host else self.host
        files = zip(_FILES, (self.ca_path, self.cert_path, self.key_path), strict=True)
        named = [f"{key}={quote(path, safe='/')}" for key, path in files if path is not None]
        query = "?" + "&".join(named) if named else ""
        scheme = "mqtts" if self.tls else "mqtt"
        return f"{scheme}://{login}{'@' if login else ''}{host}:{self.port}{query}"

    def __str__(self) -> str:
        return self.url()

    def __repr__(self) -> str:
        return f"BrokerAddress({self.url()!r})"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, reached without any network."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
