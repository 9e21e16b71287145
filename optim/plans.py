"""A plan as values: each device's share, energy, bound, and the search that found it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import OperatingPoint
from fimi.optim.cross_entropy import Iteration

SearchName = Literal[
    "cross-entropy",
    "cross-entropy, refined from the certificate",
    "dual decomposition",
    "no split to search",
    "no search",
]
PlanStatus = Literal["optimal", "feasible", "uncertified"]
"""``optimal``: the plan as it will run is within the gap tolerance of the bound. ``feasible``: it
is not, because of the search or of whole samples and settable frequencies. ``uncertified``: no
bound was asked for."""


class DeviceShare(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device's share of a plan.

    Attributes:
        device: id of the device.
        synthetic_counts: synthetic samples per class.
        samples: D, local and synthetic.
        point: frequency, bandwidth, power, time split.
        compute_s: predicted time of training in a round.
        upload_s: predicted time of the upload.
        compute_j: predicted dynamic energy of training.
        upload_j: predicted dynamic energy of the upload.
    """

    device: str
    synthetic_counts: tuple[int, ...]
    samples: int
    point: OperatingPoint
    compute_s: float
    upload_s: float
    compute_j: float
    upload_j: float


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan for every device, with its bound.

    Attributes:
        devices: the devices' shares, in the problem's order.
        status: whether it is proved to be optimal.
        search: the search that found it.
        energy_j: dynamic energy of the fleet in one round, as it will run.
        bound_j: certified lower bound on the energy of every plan; ``None`` if not asked for.
        gap_percent: distance of ``energy_j`` from the bound, in percent of the bound.
        search_energy_j: energy before rounding to whole samples and settable frequencies.
        search_gap_percent: its distance from the bound.
        error: mean learning error Σ w Δ of the whole samples, synthetic ones counted as
            ``synthetic_value``; ``None`` without a learning constraint.
        error_max: the constraint on it; ``None`` for none.
        learning_multiplier: λ: joules that a round would save per unit by which Δ_max is raised.
        band_multiplier: μ: joules that a round would save per additional hertz.
        history: history of the search, one entry per iteration.
        stop: why the search ended.
        evaluations: number of candidates that it evaluated.
        search_s: wall time of the search, s.
        certificate_s: wall time of the certificate, s.
        synthetic_value: q: the worth of a synthetic sample in real ones that was assumed.
    """

    devices: tuple[DeviceShare, ...]
    status: PlanStatus
    search: SearchName
    energy_j: float
    bound_j: float | None
    gap_percent: float | None
    search_energy_j: float
    search_gap_percent: float | None
    error: float | None
    error_max: float | None
    learning_multiplier: float
    band_multiplier: float
    history: tuple[Iteration, ...]
    stop: str
    evaluations: int
    search_s: float
    certificate_s: float
    synthetic_value: float = 1.0

    @property
    def iterations(self) -> int:
        """How many iterations the search took."""
        return len(self.history)
