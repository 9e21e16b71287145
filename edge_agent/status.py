"""How a board is, for people who look after a fleet: what is known without reading its meter."""

from __future__ import annotations

import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
from msgspec.structs import replace

from fimi.edge_agent.line import Line
from fimi.energy.control.journal import default_folder
from fimi.energy.hardware import Hardware
from fimi.learning.data import contract as contracts
from fimi.messaging.client import Peer
from fimi.messaging.questions import BoardStatus, SeenMeter
from fimi.sources import source_digest, version


def board_status(
    peer: Peer,
    line: Line,
    hardware: Hardware | None,
    *,
    contract: str,
    errand: str,
    troubles: tuple[str, ...],
    allows: tuple[str, ...],
    can_calibrate: bool,
    folder: Path,
    update: str = "",
) -> BoardStatus:
    """The status of a device.

    Args:
        peer: its connection.
        line: its conversation.
        hardware: its board; ``None``: an emulated one outside of a run.
        contract: digest of the contract of its own data file; that of a run goes before.
        errand: what it does for a console, in words.
        troubles: what went wrong in the run.
        allows: what it may be told from afar.
        can_calibrate: whether it has a profile.
        folder: on the disk whose room counts.
        update: that the version that was sent last is on trial, or why it was left.
    """
    memory = psutil.virtual_memory()
    desired = line.desired
    invited = desired.invitation if desired is not None and desired.ended is None else None
    board = BoardStatus(
        device=peer.id,
        boot_id=peer.boot_id,
        version=version(),
        sources=source_digest(),
        memory_free_bytes=memory.available,
        memory_bytes=memory.total,
        disk_free_bytes=shutil.disk_usage(folder).free,
        errand=errand,
        contract=contract,
        why_no_power="emulated in a run only",
        troubles=troubles,
        allows=allows,
        can_calibrate=can_calibrate,
        update=update,
        unix_s=time.time(),
    )
    if hardware is not None:
        described, glance = hardware.describe(), hardware.glance()
        meter = described.meter
        board = replace(
            board,
            board=described.board,
            kind=described.kind,
            meter=SeenMeter(source=meter.source, kind=meter.kind, scope=meter.scope),
            power_w=glance.power_w,
            why_no_power=glance.why_no_power,
            temperature_c=glance.temperature_c,
            troubles=tuple(filter(None, (hardware.trouble()[:1000], *troubles))),
        )
    if invited is None or desired is None:
        return board
    return replace(
        board,
        run=invited.run,
        round=desired.start.round if desired.start is not None else 0,
        stage=line.stage,
        waits_for=line.waits_for,
        contract=invited.contract.digest,
    )


def folder_of(cache: Path | None) -> Path:
    """The folder of a device whose disk may become full: its cache, else its state; it exists."""
    folder = (cache or default_folder()).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def contract_of(place: Path | None) -> str:
    """Digest of the contract under which a data file was written; empty if there is none."""
    if place is None or not place.is_file():
        return ""
    try:
        with np.load(place, allow_pickle=False) as file:
            written = str(file["contract"])
        return contracts.read(written, str(place)).digest if written else ""
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile):
        return ""
