"""Who may look at a dashboard, and who may act.

A server has a random key. Whoever opens the page with it (``/?key=…``) gets a cookie and may act.
Commands send it as a header. On loopback everybody on the machine may look without it; elsewhere
nobody may. A page of another site can do neither: its requests carry another ``Host`` (DNS
rebinding) or ``Origin``, and no cookie (``SameSite=Strict``).
"""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from fimi.monitor.server.door import HEADER

_NAMES = ("localhost", "localhost.")


def is_loopback(host: str) -> bool:
    """Whether an address or name is of this machine only."""
    if host.lower() in _NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Decides about requests.

    Args:
        host: the address that the server listens on.
        port: its port; part of the cookie's name, because cookies do not tell ports apart.
        key: the key; drawn if left out.
    """

    def __init__(self, host: str, port: int, key: str = "") -> None:
        self.key = key or secrets.token_urlsafe(18)
        self.cookie = f"fimi-{port}"
        self._local = is_loopback(host)

    def is_key(self, given: str | None) -> bool:
        """Whether this is the key."""
        return given is not None and secrets.compare_digest(given.encode(), self.key.encode())

    def may_look(self, request: HTTPConnection) -> bool:
        """Whether a request may read."""
        if not self.is_at_home(request):
            return False
        return self._local or self.has_key(request)

    def may_act(self, request: HTTPConnection) -> bool:
        """Whether a request may change the run."""
        return self.is_at_home(request) and self.has_key(request) and _is_own(request)

    def is_at_home(self, request: HTTPConnection) -> bool:
        """Whether it names this server as people on this machine do."""
        if not self._local:
            return True
        return is_loopback(_host_of(request.headers.get("host", "")))

    def has_key(self, request: HTTPConnection) -> bool:
        """Whether it comes with the key."""
        return self.is_key(request.headers.get(HEADER)) or self.is_key(
            request.cookies.get(self.cookie)
        )


def _host_of(named: str) -> str:
    """The name or address without its port; empty for what is none."""
    try:
        return urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return ""


def _is_own(request: HTTPConnection) -> bool:
    """Whether a browser sends it from a page of this server; commands send no origin."""
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False
