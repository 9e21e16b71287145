"""Address and credentials of a broker: :class:`BrokerAddress` and its URL form.

``mqtt://user:password@host:1883`` is plain TCP, ``mqtts://user:password@host:8883?ca=/path/ca.pem``
is TLS; without ``ca`` the system's certificates are trusted. Special characters in user name and
password are percent-encoded, as in every URL.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, quote, unquote, urlsplit

from msgspec import Meta, Struct

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883
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
    """

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] = DEFAULT_PORT
    username: str = ""
    password: str = ""
    tls: bool = False
    ca_path: str | None = None

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
        if unknown := sorted(set(options) - {"ca"}):
            raise ValueError(f"broker URL has unknown options {', '.join(unknown)}; only 'ca' is")
        if "ca" in options and not tls:
            raise ValueError("broker URL gives 'ca' without TLS; begin it with mqtts://")
        if port == 0:
            raise ValueError(f"broker URL gives port 0, a port is 1 to 65535; {_EXAMPLE}")
        return cls(
            host=host,
            port=port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            tls=tls,
            ca_path=options["ca"][-1] if "ca" in options else None,
        )

    def url(self, *, with_password: bool = False) -> str:
        """The URL form; the password is ``***`` unless ``with_password``."""
        login = quote(self.username, safe="")
        if self.password:
            login += ":" + (quote(self.password, safe="") if with_password else "***")
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?ca={quote(self.ca_path, safe='/')}" if self.ca_path is not None else ""
        scheme = "mqtts" if self.tls else "mqtt"
        return f"{scheme}://{login}{'@' if login else ''}{host}:{self.port}{query}"

    def __str__(self) -> str:
        return self.url()

    def __repr__(self) -> str:
        return f"BrokerAddress({self.url()!r})"
