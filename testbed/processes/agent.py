"""One device in this process: on an emulated board, or on the machine it runs on."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.answering import LogTail, Remote
from fimi.edge_agent.outbox import DurableOutbox
from fimi.edge_agent.own_profile import OwnProfile
from fimi.edge_agent.service.notify import Notifier
from fimi.edge_agent.service.versions import Versions
from fimi.errors import InputError
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.errors import IdentityTaken
from fimi.messaging.questions import Allowed
from fimi.messaging.transfers.parts import PartFiles
from fimi.testbed.processes.errands import Errands, OwnBoard

PARTS_BYTES = 64_000_000
"""Most bytes of payloads that are on their way or have come, bytes, unless one is larger."""
_ID_MAX = 64

Ending = Literal["stopped", "again", "updated"]
"""How an agent has ended: it was stopped; it was told from afar to start again; it makes room for
another version, which the service manager starts."""


class AgentNameError(InputError, ValueError):
    """The id of a device cannot be used; the message says what to give instead."""

    code = "F014"


def serve(
    address: BrokerAddress,
    *,
    fleet: str,
    name: str | None,
    host_profile: Path | None = None,
    calibrated: Path | None = None,
    place: Path | None = None,
    root: Path = Path("/"),
    cache: Path | None = None,
    state: Path | None = None,
    allow: Sequence[Allowed] = (),
    telemetry_s: float = 0.0,
    looked_s: float = 0.0,
    stop: threading.Event,
    notifier: Notifier | None = None,
    versions: Versions | None = None,
) -> Ending:
    """Run a device until ``stop`` is set, or it is told from afar to start again.

    Args:
        address: address of the broker.
        fleet: name of the fleet.
        name: its id; ``None``: the name of this machine (:func:`own_name`).
        host_profile: profile of this machine, which is then metered and controlled; ``None`` for an
            emulated board.
        calibrated: folder for the profiles that calibrations from afar find; ``None``: they replace
            ``host_profile``.
        place: where its data lie; see :func:`fimi.edge_agent.share.take`.
        root: root of this machine's file system.
        cache: folder for what is fetched once; in memory only if ``None``.
        state: folder for what the coordinator has not stored; in memory only if ``None``.
        allow: what may change the machine when it is told so from afar, beside what its profile
            allows.
        telemetry_s: time between two messages that say how it is, s; 0 for none.
        looked_s: the same while somebody looks at the fleet, s; 0 for no others.
        stop: when set, the device ends.
        notifier: tells the service manager how it is.
        versions: of the agent on this machine; ``None``: it cannot be updated from afar.

    Returns:
        How it has ended.

    Raises:
        AgentNameError: the id or the fleet's name cannot be used.
        IdentityTaken: another process has this id.
        fimi.energy.host_profile.ProfileError: the profile cannot be used.
        fimi.energy.meters.MeterUnavailableError: the host has no meter and declares no power.
    """
    device = own_name() if name is None else _checked(name, "--id")
    peer = Peer(address, fleet=_checked(fleet, "--fleet"), peer=device, role="device")
    profile = None if host_profile is None else OwnProfile(host_profile, calibrated)
    board = None if profile is None else OwnBoard(profile, root, peer, address)
    errands = Errands(address, root=root, board=board, cache=cache, stop=stop, versions=versions)

    def update() -> str:
        outcome = None if versions is None else versions.outcome
        return "" if outcome is None or outcome.stays else outcome.words

    with ExitStack() as stack:
        tail = stack.enter_context(_log_tail())
        allows = dict.fromkeys(allow)
        if board is not None:
            stack.enter_context(board)
            allows |= dict.fromkeys(board.profile.allows())
        try:
            stack.enter_context(peer)
        except IdentityTaken as error:
            raise IdentityTaken(f"{error} ({_hint(name, address)})", error.holder) from error
        errands.agent = Agent(
            peer,
            hardware=None if board is None else board.hardware,
            place=place,
            cache=cache,
            telemetry_s=telemetry_s,
            looked_s=looked_s,
            parts=_parts(cache, device),
            outbox=None if state is None else DurableOutbox(state, fleet, device),
            remote=Remote(
                errands=errands.by_question(),
                allows=tuple(allows),
                tail=tail,
                notifier=notifier,
                reported=None if versions is None else errands.reported,
                update=update,
            ),
        )
        errands.agent.run(stop)
        if notifier is not None and not errands.again:  # else it would be killed as it starts
            notifier.stopping()
    if errands.failure is not None:
        raise errands.failure
    return "updated" if errands.updated else "again" if errands.again else "stopped"


def _parts(cache: Path | None, device: str) -> PartFiles | None:
    """Where payloads are put together: in the cache, if there is one.

    Devices that share a cache have a folder each: two processes must not write one file.
    A service may have a folder in memory (systemd's ``RuntimeDirectory``), which is taken then: no
    card is to be written in every round.
    """
    if run := os.environ.get("RUNTIME_DIRECTORY"):
        return PartFiles(Path(run.split(":")[0]) / "parts", PARTS_BYTES)
    return None if cache is None else PartFiles(cache / "parts" / device, PARTS_BYTES)


@contextmanager
def _log_tail() -> Iterator[LogTail]:
    """The last lines of the log of this process, kept in memory."""
    tail, root = LogTail(), logging.getLogger()
    root.addHandler(tail)
    try:
        yield tail
    finally:
        root.removeHandler(tail)


def own_name() -> str:
    """The id of a device that was given none: the name of this machine, made fit for a topic.

    Raises:
        AgentNameError: nothing of it is fit.
    """
    host = socket.gethostname()
    found = re.sub(r"[^A-Za-z0-9_.-]+", "-", host.split(".")[0])
    found = re.sub(r"^[^A-Za-z0-9]+", "", found)[:_ID_MAX].rstrip("-")
    if not found:
        raise AgentNameError(f"the name of this machine, {host!r}, is no id: give one with --id")
    return _checked(found, "--id")


def _checked(name: str, option: str) -> str:
    try:
        topics.check_name(name, option)
    except ValueError as error:
        raise AgentNameError(str(error)) from error
    if option == "--id" and name == topics.COORDINATOR:
        raise AgentNameError(f"--id {name}: this is the id of the coordinator; take another")
    return name


def _hint(name: str | None, address: BrokerAddress) -> str:
    if address.has_certificate or address.username == name:
        return "another id needs credentials of its own: 'fimi fleet enroll NAME'"
    if name is None:
        return "the id is the name of this machine; '--id NAME' gives it another"
    return "'--id NAME' gives it another"
