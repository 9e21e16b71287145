"""Rows of a run store as the types that they were written from.

Columns that a store of an earlier version lacks count as unknown.
"""

from __future__ import annotations

import sqlite3

import msgspec

from coordinator.results import ServerRound
from energy.hardware import Observation
from energy.joules import Energy
from energy.ledger import PhaseRecord
from energy.meters.sampler import MonitorCost
from energy.observe.link import LinkState
from learning.classifier import FileCheck
from messaging.messages import Goodput, Trial


def phase_record(row: sqlite3.Row) -> PhaseRecord:
    """A row of ``sample`` that was metered."""
    return PhaseRecord(
        phase=row["phase"],
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        energy=_energy(row),
        sample_count=row["readings"],
        largest_gap_s=row["largest_gap_s"],
        cpu=_energy(row, "cpu_", "cpu_j") if "cpu_j" in row.keys() else None,  # noqa: SIM118
    )


def goodput(row: sqlite3.Row) -> Goodput:
    """A row of ``transfer``."""
    return Goodput(phase=row["phase"], size_bytes=row["size_bytes"], duration_s=row["duration_s"])


def observation(row: sqlite3.Row) -> Observation:
    """A row of ``observation``."""
    link = monitor = None
    if row["link_interface"] is not None:
        link = LinkState(
            interface=row["link_interface"],
            rate_bps=row["link_rate_bps"],
            signal_dbm=row["link_signal_dbm"],
        )
    if row["monitor_cpu_s"] is not None:
        monitor = MonitorCost(
            cpu_s=row["monitor_cpu_s"],
            wall_s=row["monitor_wall_s"],
            looks=row["monitor_looks"],
            failed=row["monitor_failed"],
        )
    counts = row["throttled"]
    return Observation(
        frequency_hz=row["frequency_hz"],
        frequency_source=row["frequency_source"],
        cap_hz=row["cap_hz"],
        throttled=None if counts is None else msgspec.json.decode(counts, type=dict[str, int]),
        link=link,
        rate_limit_bps=row["rate_limit_bps"],
        monitor=monitor,
        monitor_energy=_energy(row, "monitor_", "monitor_j"),
        temperature_c=row["temperature_c"] if "temperature_c" in row.keys() else None,  # noqa: SIM118
    )


def file_check(row: sqlite3.Row) -> FileCheck:
    """A row of ``model_file``."""
    return msgspec.convert({name: row[name] for name in FileCheck.__struct_fields__}, FileCheck)


def trial(row: sqlite3.Row) -> Trial:
    """A row of ``deployment``."""
    if row["accuracy"] is None:
        return Trial(variant=row["variant"], error=row["error"])
    metered = PhaseRecord(
        phase="inference",
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        energy=_energy(row),
        sample_count=row["readings"],
        largest_gap_s=row["largest_gap_s"],
    )
    return Trial(
        variant=row["variant"],
        inferences=row["inferences"],
        images=row["images"],
        accuracy=row["accuracy"],
        latency_median_s=row["latency_median_s"],
        latency_p95_s=row["latency_p95_s"],
        latency_kind=row["latency_kind"],
        metered=metered,
        error=row["error"],
    )


def server_round(row: sqlite3.Row) -> ServerRound:
    """A row of ``server_round``."""
    return ServerRound(
        images=row["images"],
        seconds=row["seconds"],
        energy=_energy(row),
        loss=row["loss"],
        weight=row["weight"],
        federated_accuracy=row["federated_accuracy"],
        augmented_accuracy=row["augmented_accuracy"],
    )


def _energy(row: sqlite3.Row, prefix: str = "", value: str = "energy_j") -> Energy | None:
    if row[value] is None:
        return None
    fields = {name: row[f"{prefix}{name}"] for name in ("kind", "source", "scope", "uncertainty_j")}
    return msgspec.convert({"value_j": row[value], **fields}, Energy)
