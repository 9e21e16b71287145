"""Why a broker does not let a client in, in words, and what to do about it."""

from __future__ import annotations

import re

from paho.mqtt.reasoncodes import ReasonCode

from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerError, NotAuthorised


def refused(where: BrokerAddress, reason: ReasonCode) -> BrokerError:
    """That a broker has answered a connection with a refusal."""
    name = str(reason)
    if name in ("Not authorized", "Bad user name or password"):
        user = f"user {where.username!r}" if where.username else "a client without user name"
        return NotAuthorised(
            f"{where}: the broker refuses {user} ({name.lower()}); check user name and password, "
            "and get a new bundle if they were revoked (fimi fleet rotate or enroll)"
        )
    return BrokerError(f"{where}: the broker refuses the connection ({name.lower()})")


def certificate_refused(where: BrokerAddress, said: str) -> str:
    """That a broker has ended a connection in TLS 1.3, which it does after the client is done.

    Args:
        where: the broker.
        said: what OpenSSL says of it, as paho logs it.
    """
    found = re.search(r"\[SSL: ([A-Z0-9_]+)\]", said)
    why = found.group(1).replace("_", " ").lower() if found else said
    why = re.sub(r"^(sslv3|tlsv1|tlsv13) alert ", "", why)
    if "revoked" in why:
        cure = "it was revoked or replaced: get a new bundle (fimi fleet rotate or enroll)"
    elif "expired" in why:
        cure = "get a new bundle (fimi fleet rotate), and check the clocks of both machines"
    elif "required" in why:
        cure = "it wants one: use this peer's bundle, or name cert and key in the broker URL"
    else:
        cure = "use the bundle of this fleet, and check its broker's log"
    return f"{where}: the broker refuses the certificate of this client ({why}); {cure}"
