"""What metrics there are: a table. A further one is one more entry.

Names follow Prometheus: ``fimi_``, what it is, the base unit (joules, watts, hertz, celsius,
seconds, bytes, ratio), and ``_total`` behind a counter. Joules and watts have the labels
``device``, ``kind``, ``scope`` and ``source``, predicted ones ``device`` and ``kind``: joules of
another kind are another series. There is
no sum over devices, which would have to mix them; a query makes one:
``sum by (kind, scope) (fimi_device_energy_joules_total)``.

What is unknown has no series. What was true at an instant (power, temperature, clock) has none for
a device that is not connected, so that nobody takes an old value for the present one.

* :class:`Family`    one metric
* :data:`FAMILIES`   all of them
* :data:`Rows`       its present values, by the values of its labels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

from msgspec import Struct

from fimi.energy.joules import Energy, Kind
from fimi.monitor.snapshot import PROBLEMS, DeviceNow, RunState, Snapshot

Rows = Iterable[tuple[tuple[str, ...], float]]

ENERGY_LABELS = ("kind", "scope", "source")
_MODELLED: Kind = "modelled"
"""What every prediction is."""


class Family(Struct, frozen=True, kw_only=True):
    """One metric.

    Attributes:
        name: without ``_total`` and ``_info``.
        type: ``counter`` grows only, ``info`` is 1 with labels that say something, ``stateset`` is
            1 for the state of now and 0 for all others.
        unit: the base unit, which is also the end of the name; empty for none.
        help: what it is, in one sentence.
        labels: of its series.
        rows: its values.
    """

    name: str
    type: Literal["gauge", "counter", "info", "stateset"] = "gauge"
    unit: str = ""
    help: str
    labels: tuple[str, ...] = ()
    rows: Callable[[Snapshot], Rows]


def single(value: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Rows]:
    """One value without labels; none where it is unknown."""

    def rows(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
        if (found := value(snapshot)) is not None:
            yield (), float(found)

    return rows


def _of_device(
    value: Callable[[DeviceNow], float | None], *, now: bool = False
) -> Callable[[Snapshot], Rows]:
    """A value of each device; ``now``: only of those that are connected."""

    def rows(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, device in snapshot.devices.items():
            if (device.online or not now) and (found := value(device)) is not None:
                yield (name,), float(found)

    return rows


def _joules(energy: Callable[[DeviceNow], Energy | None]) -> Callable[[Snapshot], Rows]:
    def rows(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, device in snapshot.devices.items():
            if (found := energy(device)) is not None:
                yield (name, *_labels(found)), found.value_j

    return rows


def _predicted(joules: Callable[[DeviceNow], float | None]) -> Callable[[Snapshot], Rows]:
    def rows(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, device in snapshot.devices.items():
            if (found := joules(device)) is not None:
                yield (name, _MODELLED), float(found)

    return rows


def _labels(energy: Energy) -> tuple[str, str, str]:
    return energy.kind, energy.scope, energy.source


def _of_energy(energy: Callable[[Snapshot], Energy | None]) -> Callable[[Snapshot], Rows]:
    def rows(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
        if (found := energy(snapshot)) is not None:
            yield _labels(found), found.value_j

    return rows


def _power(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, device in snapshot.devices.items():
        if device.online and device.power_w is not None and device.power_kind is not None:
            labels = (name, device.power_kind, device.power_scope or "board", device.meter)
            yield labels, device.power_w


def _samples(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, device in snapshot.devices.items():
        for origin, count in (("real", device.samples), ("synthetic", device.synthetic)):
            if count is not None:
                yield (name, origin), float(count)


def _bytes(bits: float | None) -> float | None:
    return None if bits is None else bits / 8.0


def _last(snapshot: Snapshot, field: str) -> float | None:
    """A figure of the last round."""
    number = max(map(int, snapshot.rounds), default=None)
    value: float | None = None if number is None else getattr(snapshot.rounds[str(number)], field)
    return value


_DEVICE = ("device",)
_METERED = ("device", *ENERGY_LABELS)

FAMILIES: tuple[Family, ...] = (
    Family(
        name="fimi_run",
        type="info",
        help="The run that is going on.",
        labels=("run", "strategy", "dataset", "model", "seed", "boards", "broker"),
        rows=lambda s: [
            (
                (
                    *(s.run.name, s.run.strategy, s.run.dataset, s.run.model),
                    *("" if s.run.seed is None else str(s.run.seed), s.run.kind, s.run.broker),
                ),
                1.0,
            )
        ],
    ),
    Family(
        name="fimi_run_state",
        type="stateset",
        help="What the run does.",
        labels=("fimi_run_state",),
        rows=lambda s: [((state,), float(state == s.run.state)) for state in get_args(RunState)],
    ),
    Family(
        name="fimi_run_start_timestamp_seconds",
        unit="seconds",
        help="When the coordinator's process began, UNIX time.",
        rows=single(lambda s: s.run.began_unix_s),
    ),
    Family(
        name="fimi_run_round",
        help="The round of now; 0 before the first.",
        rows=single(lambda s: s.run.round),
    ),
    Family(
        name="fimi_run_rounds_planned",
        help="Rounds that the run is to have.",
        rows=single(lambda s: s.run.rounds),
    ),
    Family(
        name="fimi_run_rounds_finished",
        type="counter",
        help="Rounds that are over, those of earlier processes of the run included.",
        rows=single(lambda s: len(s.rounds)),
    ),
    Family(
        name="fimi_run_updates_accepted",
        type="counter",
        help="Updates of devices that are in a model.",
        rows=single(lambda s: sum(each.accepted for each in s.rounds.values())),
    ),
    Family(
        name="fimi_run_accuracy_ratio",
        unit="ratio",
        help="Accuracy of the global model on the test set after the last round.",
        rows=single(lambda s: s.run.accuracy),
    ),
    Family(
        name="fimi_run_validation_accuracy_ratio",
        unit="ratio",
        help="The same on public images for validation.",
        rows=single(lambda s: _last(s, "validation_accuracy")),
    ),
    Family(
        name="fimi_run_target_accuracy_ratio",
        unit="ratio",
        help="Accuracy that the plan aims at.",
        rows=single(lambda s: s.run.target),
    ),
    Family(
        name="fimi_run_loss",
        help="Loss of the global model on the test set after the last round.",
        rows=single(lambda s: _last(s, "loss")),
    ),
    Family(
        name="fimi_run_round_duration_seconds",
        unit="seconds",
        help="Length of the last round on the fleet's clock, which is virtual in a dry run.",
        rows=single(lambda s: _last(s, "duration_s")),
    ),
    Family(
        name="fimi_run_fleet_clock_seconds",
        unit="seconds",
        help="Time on the fleet's clock at the end of the last round.",
        rows=single(lambda s: _last(s, "elapsed_s")),
    ),
    Family(
        name="fimi_run_deadline_seconds",
        unit="seconds",
        help="How long a round may take, on the fleet's clock.",
        rows=single(lambda s: s.run.deadline_s),
    ),
    Family(
        name="fimi_plan_round_energy_joules",
        unit="joules",
        help="Joules of one round by the plan in force, of the energy that it makes least.",
        labels=("objective", "kind"),
        rows=lambda s: (
            []
            if s.run.plan_round_j is None
            else [((s.run.plan_objective, _MODELLED), s.run.plan_round_j)]
        ),
    ),
    Family(
        name="fimi_broker_up",
        help="Whether the broker is connected.",
        rows=single(lambda s: s.run.broker_away_s is None),
    ),
    Family(
        name="fimi_device",
        type="info",
        help="A device of the run.",
        labels=("device", "board", "hardware"),
        rows=lambda s: [
            ((name, device.board, device.kind), 1.0) for name, device in s.devices.items()
        ],
    ),
    Family(
        name="fimi_device_up",
        help="Whether a device is connected.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.online),
    ),
    Family(
        name="fimi_device_problem",
        help="Whether something is wrong with a device.",
        labels=_DEVICE,
        rows=_of_device(lambda d: bool(d.problem) or d.state in PROBLEMS),
    ),
    Family(
        name="fimi_device_last_seen_timestamp_seconds",
        unit="seconds",
        help="When anything was heard of a device last, UNIX time.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.seen_unix_s),
    ),
    Family(
        name="fimi_device_energy_joules",
        type="counter",
        unit="joules",
        help="Joules of a device in this run, as far as they are known.",
        labels=_METERED,
        rows=_joules(lambda d: d.total.energy),
    ),
    Family(
        name="fimi_device_energy_complete",
        help="Whether nothing of a device's joules is missing.",
        labels=_DEVICE,
        rows=_of_device(
            lambda d: d.total.whole if d.total.energy is not None or d.total.missing else None
        ),
    ),
    Family(
        name="fimi_device_energy_compared_joules",
        type="counter",
        unit="joules",
        help="The part of a device's joules that was predicted as well.",
        labels=_METERED,
        rows=_joules(lambda d: d.total.compared),
    ),
    Family(
        name="fimi_device_energy_predicted_joules",
        type="counter",
        unit="joules",
        help="The prediction of fimi_device_energy_compared_joules_total; always modelled.",
        labels=("device", "kind"),
        rows=_predicted(lambda d: d.total.predicted_j),
    ),
    Family(
        name="fimi_device_round_energy_joules",
        unit="joules",
        help="Joules of a device in the last round that it reported on.",
        labels=_METERED,
        rows=_joules(lambda d: d.round_energy.energy),
    ),
    Family(
        name="fimi_device_round_energy_predicted_joules",
        unit="joules",
        help="The prediction of that round, of the phases that were metered; always modelled.",
        labels=("device", "kind"),
        rows=_predicted(lambda d: d.round_energy.predicted_j),
    ),
    Family(
        name="fimi_device_power_watts",
        unit="watts",
        help="What a device drew when its meter was read last.",
        labels=_METERED,
        rows=_power,
    ),
    Family(
        name="fimi_device_temperature_celsius",
        unit="celsius",
        help="Temperature of a device's processor.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.temperature_c, now=True),
    ),
    Family(
        name="fimi_device_frequency_planned_hertz",
        unit="hertz",
        help="Frequency of a device's processor by its plan.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.set_hz),
    ),
    Family(
        name="fimi_device_frequency_set_hertz",
        unit="hertz",
        help="Frequency in force after the plan was applied, as read back.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.applied_hz, now=True),
    ),
    Family(
        name="fimi_device_frequency_achieved_hertz",
        unit="hertz",
        help="What its processor ran at, now or in its last round.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.clock_hz, now=True),
    ),
    Family(
        name="fimi_device_uplink_planned_bytes_per_second",
        unit="bytes_per_second",
        help="Uplink rate that the plan assumes.",
        labels=_DEVICE,
        rows=_of_device(lambda d: _bytes(d.set_bps)),
    ),
    Family(
        name="fimi_device_uplink_bytes_per_second",
        unit="bytes_per_second",
        help="Payload rate of its last upload.",
        labels=_DEVICE,
        rows=_of_device(lambda d: _bytes(d.sent_bps)),
    ),
    Family(
        name="fimi_device_round",
        help="The last round that a device reported on.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.round),
    ),
    Family(
        name="fimi_device_samples",
        help="Samples that a device trains on.",
        labels=("device", "origin"),
        rows=_samples,
    ),
    Family(
        name="fimi_device_training_accuracy_ratio",
        unit="ratio",
        help="Accuracy of a device's last training on its own data.",
        labels=_DEVICE,
        rows=_of_device(lambda d: d.accuracy),
    ),
    Family(
        name="fimi_server_energy_joules",
        type="counter",
        unit="joules",
        help="Joules of training on the server.",
        labels=ENERGY_LABELS,
        rows=_of_energy(lambda s: s.run.server),
    ),
    Family(
        name="fimi_generator_energy_joules",
        type="counter",
        unit="joules",
        help="Joules of drawing synthetic images.",
        labels=ENERGY_LABELS,
        rows=_of_energy(lambda s: s.generator.energy),
    ),
    Family(
        name="fimi_generator_batches_asked",
        help="Batches of images that the run has asked for.",
        rows=single(lambda s: s.generator.batches_asked),
    ),
    Family(
        name="fimi_generator_batches_ready",
        help="Those of them that are ready.",
        rows=single(lambda s: s.generator.batches_done),
    ),
    Family(
        name="fimi_generator_images_lacking",
        help="Images still to be drawn.",
        rows=single(lambda s: s.generator.lacking),
    ),
    Family(
        name="fimi_generator_images_delivered",
        type="counter",
        help="Images that devices have got.",
        rows=single(lambda s: sum(s.generator.delivered.values())),
    ),
    Family(
        name="fimi_generator_images_per_second",
        help="Images drawn per second of late.",
        rows=single(lambda s: s.generator.images_per_s),
    ),
)
