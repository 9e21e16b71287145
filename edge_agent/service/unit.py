"""The systemd unit of an agent, with a comment beside everything that is granted.

The agent is an ordinary user that may write its state, its cache and nothing else. What its meters
and its control need beyond that is granted line by line (:mod:`fimi.edge_agent.service.needs`).
Only keys that systemd 247 knows are used, so that the unit is the same on Debian 11 and later.

Three things are run as root, from the code that was installed by hand and never from an update:
``fimi agent switch`` before each start takes over an update that the agent has received, or goes
back to the version before; ``fimi agent confirm`` behind it waits until a new version has reported
(:mod:`fimi.edge_agent.service.versions`). Neither is there where no update is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from fimi.edge_agent.service.needs import USER, Grant, Needs, in_home

UNIT = "fimi-agent.service"

WATCHDOG_S = 60
"""The agent is ended if it stands still for so long, s."""

AGAIN_S = 15
"""Between two starts of an agent that failed, s: it never gives up, and does no harm meanwhile."""

START_S = 90
"""Within this the agent is ready, and a new version has reported, s."""

LOG_EVERY_S, LOG_LINES = 600, 500
"""No more lines than this go to the journal in such a time, s: 72,000 a day."""

STOP_S = 40
"""Room to put the board back and to say goodbye before it is killed, s."""


class Service(Struct, frozen=True, kw_only=True):
    """How the agent is run.

    Attributes:
        fimi: the command, as words.
        config: its configuration.
        needs: what it needs beyond an ordinary user's rights.
        updates: folder of the versions that come over the broker; ``None``: none is accepted.
        prefix: folders of the interpreter and its packages.
        compiles: whether its training backend makes machine code while it runs (PyTorch).
    """

    fimi: tuple[str, ...]
    config: Path
    needs: Needs = Needs()
    updates: Path | None = None
    prefix: tuple[Path, ...] = ()
    compiles: bool = False


def unit(service: Service) -> str:
    """The text of the unit."""
    needs = service.needs
    lines = [
        "# Written by 'fimi agent install'; 'fimi agent uninstall' removes it. Changes of your own",
        f"# belong into a drop-in, which stays: systemctl edit {UNIT}",
        "",
        "[Unit]",
        "Description=FIMI edge agent",
        "Documentation=man:systemd.exec(5)",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        "# It is started again for ever, and not given up after a few tries.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"User={USER}",
        f"Group={USER}",
        "WorkingDirectory=/",
        *_commands(service),
        f"WatchdogSec={WATCHDOG_S}",
        "Restart=on-failure",
        f"RestartSec={AGAIN_S}",
        f"TimeoutStartSec={START_S}",
        "# Room to put the clocks back before it is killed.",
        f"TimeoutStopSec={STOP_S}",
        "",
        "# Where it writes: a journal of changed clocks, calibrations, what is not reported yet in",
        "# the first; what it fetches once in the second; what changes often in memory.",
        "StateDirectory=fimi",
        "StateDirectoryMode=0700",
        "CacheDirectory=fimi",
        "CacheDirectoryMode=0700",
        "RuntimeDirectory=fimi",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=restart",
        "Environment=XDG_STATE_HOME=/var/lib TMPDIR=/run/fimi HOME=/var/lib/fimi",
        "# No code is taken from the home folder: the agent writes there, and root runs code.",
        "Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1",
        "UMask=0077",
        "# It says a few lines an hour. Whatever goes wrong, the card holds the log of a week.",
        f"LogRateLimitIntervalSec={LOG_EVERY_S}",
        f"LogRateLimitBurst={LOG_LINES}",
        "",
        "# What it may do to the machine: nothing.",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "PrivateMounts=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "RemoveIPC=yes",
        "KeyringMode=private",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "# Plans choose the number of cores, and libraries place their threads.",
        "SystemCallFilter=sched_setaffinity sched_setscheduler",
        *_each("SystemCallFilter={}", needs.system_calls),
        "# The broker; the service manager; the routes and the state of the link.",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        *_memory(service),
        *_processes(needs),
        *_homes(service),
        *_capabilities(needs.capabilities),
        *_devices(needs),
        *_paths(service),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _commands(service: Service) -> list[str]:
    """What is run, before it, and after it."""
    fimi = " ".join(service.fimi)
    run = f"{fimi} agent run --config {service.config}"
    back = [
        "# Puts the clocks back, also if the agent was killed.",
        f"ExecStopPost={fimi} agent restore",
    ]
    if service.updates is None:
        return [f"ExecStart={run}", *back]
    current = service.updates / "current"
    return [
        "# As root, from the code that was installed by hand: takes over a signed update, or goes",
        "# back to the version before if the new one has not reported.",
        f"ExecStartPre=+{fimi} agent switch --versions {service.updates}",
        f"ExecStart=/usr/bin/env PYTHONPATH={current} {run}",
        f"ExecStartPost=+{fimi} agent confirm --versions {service.updates}",
        *back,
        "# The agent ends with this number when an update is there.",
        "SuccessExitStatus=75",
        "RestartForceExitStatus=75",
    ]


def _memory(service: Service) -> list[str]:
    if service.compiles:
        return ["# PyTorch makes machine code while it runs.", "MemoryDenyWriteExecute=no"]
    return ["MemoryDenyWriteExecute=yes"]


def _processes(needs: Needs) -> list[str]:
    if needs.sees_others:
        return ["# It names the program that overrules its clocks.", "ProtectProc=default"]
    return ["ProtectProc=invisible"]


def _homes(service: Service) -> list[str]:
    """Home folders are hidden, but for the installation and a recording."""
    code = (path for path in service.prefix if in_home(path))
    grants = [Grant(what=str(path), why="fimi is installed there") for path in code]
    if not (grants := [*grants, *service.needs.visible]):
        return ["ProtectHome=yes"]
    return ["ProtectHome=tmpfs", *_each("BindReadOnlyPaths={}", grants)]


def _capabilities(granted: Sequence[Grant]) -> list[str]:
    if not granted:
        return ["CapabilityBoundingSet="]
    names = " ".join(grant.what for grant in granted)
    comments = [f"# {grant.what}: {grant.why}." for grant in granted]
    return [*comments, f"CapabilityBoundingSet={names}", f"AmbientCapabilities={names}"]


def _devices(needs: Needs) -> list[str]:
    """Device files; and whether there are other users at all (``PrivateUsers``).

    In a user namespace a capability has no effect, and what belongs to others belongs to nobody. So
    a board with anything of the machine's is in none.
    """
    together = [
        "# PrivateUsers is left out: what is granted is of the machine's own users and groups.",
    ]
    if needs.devices:
        return [
            *together,
            "# The device files below, and no others.",
            "DevicePolicy=closed",
            *_each("DeviceAllow={} rw", needs.devices),
            *_each("SupplementaryGroups={}", needs.groups),
        ]
    if not (needs.capabilities or needs.files or needs.groups):
        together = ["# Of other users, only that they are not itself.", "PrivateUsers=yes"]
    return [*together, "PrivateDevices=yes", "DevicePolicy=closed"]


def _paths(service: Service) -> list[str]:
    """Folders that stay writable."""
    return _each("ReadWritePaths=-{}", service.needs.writable)


def _each(line: str, grants: Sequence[Grant]) -> list[str]:
    """A line for each, below a comment that says what it is for."""
    lines = []
    for grant in grants:
        comment = f"# {grant.why[:1].upper()}{grant.why[1:]}."
        if comment not in lines:
            lines.append(comment)
        lines.append(line.format(grant.what))
    return lines
