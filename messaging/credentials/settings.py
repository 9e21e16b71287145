"""The configuration of a fleet's Mosquitto, 2.0.11 (Debian 12) and later.

TLS 1.3 only, an identity for each peer, and limits on what one peer can take from the others.

What the broker keeps is written every half minute, and when it ends in order. Not at each change:
Mosquitto writes all that it keeps each time, and each heartbeat of each peer is a change. What a
killed broker lacks then comes again from the peers, which publish their documents when they are
back.

Client ids are not bound to users (``use_username_as_clientid``): Mosquitto then allows one
connection for each user, and a console beside the coordinator would end the coordinator's. Peers
have ids that nobody can guess instead (:mod:`fimi.messaging.client`).
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

MAX_PACKET_BYTES = 2 << 20
MAX_CONNECTIONS = 4000
MAX_QUEUED = 2000
MAX_QUEUED_BYTES = 16 << 20
MEMORY_BYTES = 1 << 30
SAVED_S = 30
"""Time between two writes of what the broker keeps, s."""

CONFIGURATION = "mosquitto.conf"
RULES = "rules"
PASSWORDS = "passwords"
REVOKED = "revoked.pem"
KEPT = "state"
OWN_LINES = "mosquitto.d"


class BrokerSettings(Struct, frozen=True, kw_only=True):
    """What differs between fleets.

    Attributes:
        port: TCP port.
        bind: IP address to listen on; empty for all.
        by_certificate: whether peers show a certificate; else a password.
        user: name of the user as whom it runs, if it is started by root.
    """

    port: int
    bind: str = ""
    by_certificate: bool = True
    user: str = ""


def mosquitto_lines(folder: Path, settings: BrokerSettings) -> str:
    """The configuration, for files in ``folder``."""
    where = folder.resolve()
    lines = [
        "# Written by 'fimi fleet'; own lines go into a file *.conf in mosquitto.d.",
        "allow_anonymous false",
        f"acl_file {where / RULES}",
    ]
    if not settings.by_certificate:
        lines.append(f"password_file {where / PASSWORDS}")
    if settings.user:
        lines += ["# When root starts it, it becomes this user, whose these files are.",
                  f"user {settings.user}"]  # fmt: skip
    lines += [
        "",
        f"listener {settings.port} {settings.bind}".rstrip(),
        "tls_version tlsv1.3",
        f"cafile {where / 'ca.pem'}",
        f"certfile {where / 'broker.pem'}",
        f"keyfile {where / 'broker.key'}",
    ]
    if settings.by_certificate:
        lines += [
            "require_certificate true",
            "use_identity_as_username true",
            f"crlfile {where / REVOKED}",
        ]
    lines += [
        f"max_connections {MAX_CONNECTIONS}",
        "",
        "# What one peer can take from the others.",
        f"max_packet_size {MAX_PACKET_BYTES}",
        f"max_queued_messages {MAX_QUEUED}",
        f"max_queued_bytes {MAX_QUEUED_BYTES}",
        f"memory_limit {MEMORY_BYTES}",
        "max_keepalive 120",
        "persistent_client_expiration 1d",
        "",
        "# What it keeps is on the disk within half a minute; each time, all of it is written.",
        "persistence true",
        f"persistence_location {where / KEPT}/",
        f"autosave_interval {SAVED_S}",
        "autosave_on_changes false",
        "",
        "set_tcp_nodelay true",
        "sys_interval 0",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        f"include_dir {where / OWN_LINES}",
    ]
    return "\n".join(lines) + "\n"
