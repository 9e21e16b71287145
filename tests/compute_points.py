"""Measured operating points for tests."""

from __future__ import annotations

from fimi.energy.cost_model import ComputeModel, ComputePoint, ComputeSetting


def measured(compute: ComputeModel, power_w: dict[float, float]) -> tuple[ComputePoint, ...]:
    """Points of a processor that follows its clock, from clock, Hz, to power above idle, W."""
    return tuple(
        ComputePoint(
            name=f"{hertz / 1e9:g} GHz",
            seconds_per_sample=compute.cycles_per_sample / hertz,
            power_w=watts,
            setting=ComputeSetting(cpu_hz={"policy0": hertz}),
        )
        for hertz, watts in power_w.items()
    )
