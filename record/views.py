"""The views of a run store: flat rows, no JSON, units in the names, for ``sqlite3`` and pandas.

* ``phases``         a device, round and phase: metered beside predicted
* ``device_rounds``  a device and round
* ``rounds``         a round
* ``plans``, ``device_plans``, ``profiles``  what is JSON in their tables, in columns
* ``settings``, ``classes``, ``labels``      one value a row

A sum with an unreadable part is unknown, here as everywhere; ``known_j`` beside it has the phases
that could be read, and ``unmetered`` counts what could not. A prediction is shown where it is of
the same phases as the joules beside it, else it is unknown, too. Every column of joules has columns
beside it that say their kind, source, scope and uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from fimi.record import schema
from fimi.record.description import StoreColumn, StoreTable, StoreView, energy, real, text, whole
from fimi.record.phases import WAITED_MIN_S
from fimi.record.resolution import DYNAMIC
from fimi.record.results import APART, DeviceStatus

_ACCEPTED: DeviceStatus = "accepted"
_FAILED: DeviceStatus = "failed"
_ABSENT: DeviceStatus = "absent"
_APART = ", ".join(f"'{status}'" for status in APART)
_DYNAMIC = ", ".join(f"'{phase}'" for phase in DYNAMIC)

_WIDEST = (
    "substr(max(CASE {0} WHEN 'cpu' THEN '0cpu' WHEN 'gpu' THEN '0gpu' WHEN 'module' THEN "
    "'1module' WHEN 'board' THEN '2board' WHEN 'wall' THEN '3wall' END), 2)"
)


def _of(alias: str, columns: Iterable[StoreColumn]) -> tuple[StoreColumn, ...]:
    """Columns of a table or a query, as they are; JSON is left out."""
    return tuple(replace(c, at=f"{alias}.{c.name}") for c in columns if c.kind != "JSON")


def _of_sums(alias: str, columns: Iterable[StoreColumn]) -> tuple[StoreColumn, ...]:
    """The same of a query with sums: each source once, sorted, and roots of the variances."""
    once = (
        "(SELECT group_concat(value, '+') FROM (SELECT DISTINCT value FROM json_each("
        """replace({0}, '+', '","')) WHERE value IS NOT NULL ORDER BY value))"""
    )

    def whole_sum(column: StoreColumn) -> str:
        if column.name.endswith("source"):
            return once.format(column.at)
        return _root(column.at) if column.name.endswith("uncertainty_j") else column.at

    return tuple(replace(c, at=whole_sum(c)) for c in _of(alias, columns))


def _json(at: str) -> str:
    """SQL of a cell with JSON; unknown where it is none, so that the other rows can be read."""
    return f"CASE WHEN json_valid({at}) THEN {at} END"


def _bodies(table: StoreTable[Any]) -> str:
    """The rows of a table with a body."""
    names = "".join(f"{column.name}, " for column in table.beside)
    return f"(SELECT {names}{_json('body')} AS body FROM {table.name}) b"


def _select(columns: Iterable[StoreColumn]) -> str:
    return ", ".join(f"{column.at} AS {column.name}" for column in columns)


def _sum(
    meaning: str, of: str, to: str, name: str, complete: str = "1", independent: bool = False
) -> tuple[StoreColumn, ...]:
    """The six columns of a sum of energies over the rows of a group; see :func:`_of_sums`.

    Args:
        meaning: what the sum is of.
        of: prefix of the energies' columns in the rows.
        to: prefix of the sum's columns.
        name: of the sum's joules.
        complete: SQL that is true where no part is missing.
        independent: whether the parts are of different meters, so that they share no uncertainty.
            The variance is that of the sum; its uncertainty is to be the :func:`_root` of it.
    """
    squared = f"sum({of}uncertainty_j * {of}uncertainty_j)"
    shared = f"coalesce({of}common_j, {of}uncertainty_j)"
    together = f"sum({shared}) * sum({shared}) + max(0.0, {squared} - sum({shared} * {shared}))"
    parts = (
        f"sum({of or 'energy_'}j)",
        f"CASE WHEN min({of}kind) < max({of}kind) THEN 'mixed' ELSE min({of}kind) END",
        f"json_group_array({of}source)",
        _WIDEST.format(f"{of}scope"),
        squared if independent else together,
        "NULL" if independent else f"sum({shared})",
    )
    return tuple(
        replace(column, at=f"CASE WHEN {complete} THEN {part} END")
        for column, part in zip(energy(meaning, "", to, name), parts, strict=True)
    )


def _root(square: str) -> str:
    """SQL of a square root by Heron's rule; not every SQLite is built with a ``sqrt``."""
    return (
        f"(WITH RECURSIVE heron(square, root, step) AS (SELECT {square}, {square}, 0 UNION ALL "
        "SELECT square, (root + square / root) / 2, step + 1 FROM heron "
        "WHERE step < 99 AND root > 0) SELECT root FROM heron ORDER BY step DESC LIMIT 1)"
    )


def _sum_and_known(
    meaning: str, of: str, complete: str, independent: bool = False
) -> tuple[StoreColumn, ...]:
    """A sum of energies that is unknown where a part is missing, and the part that is known."""
    return (
        *_sum(meaning, of, "", "energy_j", complete, independent),
        *_sum("the phases of `energy_j` that could be read", of, "known_", "known_j",
              independent=independent),
    )  # fmt: skip


def _modelled(prefix: str, *columns: StoreColumn) -> tuple[StoreColumn, ...]:
    """Joules that the cost model said, with what is known about them."""
    return (
        *columns,
        text(f"{prefix}kind", "what these joules are", "'modelled'"),
        text(f"{prefix}source", "what said so", "'cost model'"),
        text(f"{prefix}scope", "what they cover", "'board'"),
        real(f"{prefix}uncertainty_j", "J", "never known", "NULL", null=True),
    )


def _in_body(*columns: StoreColumn) -> tuple[StoreColumn, ...]:
    """Columns whose ``at`` is a path in the JSON of ``body``."""
    return tuple(
        replace(c, at=f"json_extract(b.body, '$.{c.at or c.name}')", null=True) for c in columns
    )


def _counted(path: str) -> str:
    return f"(SELECT sum(value) FROM json_each(b.body, '$.{path}'))"


def _planned(key: str, phases: str) -> str:
    return (
        f"(SELECT sum(json_extract(value, '$.{key}')) FROM json_each(b.body, '$.predicted') "
        f"WHERE json_extract(value, '$.phase') IN ({phases}))"
    )


_LEAST = ""
"""Of a plan's energies: the one that it makes least."""


def _certified(of: str, key: str) -> str:
    """SQL of a number of one of a plan's energies, ``""``: of the one that it makes least."""
    if of:
        return f"json_extract(b.body, '$.{of}.{key}')"
    board, dynamic = _certified("board", key), _certified("dynamic", key)
    return f"CASE json_extract(b.body, '$.objective') WHEN 'board' THEN {board} ELSE {dynamic} END"


def _gap(of: str) -> str:
    """SQL of docs/model.md (24); unknown for a bound of 0."""
    energy, bound = _certified(of, "energy_j"), _certified(of, "bound_j")
    return f"100.0 * (({energy}) - ({bound})) / nullif({bound}, 0)"


def _planned_as(part: str, joules: str) -> str:
    """SQL of a prediction of the phases that ``part`` chooses; unknown if it is not of all."""
    part = f"{part} AND stretches + unmetered > 0"
    return (
        f"CASE WHEN sum({part} AND (energy_j IS NULL OR {joules} IS NULL)) = 0 "
        f"THEN sum(CASE WHEN {part} THEN {joules} END) END"
    )


def _is_read(prefix: str, joules: str) -> str:
    """SQL that is true where an energy is whole; it always has joules, kind and source."""
    return f"({joules} + length({prefix}kind) + length({prefix}source)) IS NOT NULL"


_STRETCHES = (
    whole("stretches", "stretches", "of phases that were metered", "sum(stretches)"),
    whole(
        "unmetered",
        "stretches",
        "among them that could not be read, and phases that were to be told and were not",
        "sum(unmetered)",
    ),
)
_READ = "sum(stretches) > 0 AND sum(unmetered) = 0"
_ALIKE = "unknown unless it is of the same phases as what was metered"
_STRETCH = ", ".join(
    column.name for column in schema.SAMPLE.columns if column.name not in ("phase", "start_s")
)
_NULLS = ", ".join(["NULL"] * (_STRETCH.count(",") + 1))
_OF_PHASE = (
    *_STRETCHES,
    real("start_s", "s", "beginning of the first, device's clock", "min(start_s)", null=True),
    real("duration_s", "s", "length of all", "sum(duration_s)", null=True),
    *_sum("board energy, idle power included", "", "", "energy_j", _READ),
    whole("resolved", "0 or 1", "whether its meter can tell it", "min(resolved)", null=True),
    real("most_j", "J", "at most, where it cannot", "sum(most_j)", null=True),
    whole("readings", "readings", "of the meter", "sum(readings)", null=True),
    real("largest_gap_s", "s", "between two readings", "max(largest_gap_s)", null=True),
    *_sum(
        "the processor's share",
        "cpu_",
        "cpu_",
        "cpu_j",
        f"sum(stretches) = sum({_is_read('cpu_', 'cpu_j')})",
    ),
    *_sum(
        "the same by a second meter",
        "second_",
        "second_",
        "second_j",
        f"sum(stretches) = sum({_is_read('second_', 'second_j')})",
    ),
    real("predicted_s", "s", "length by the cost model", "sum(predicted_s)", null=True),
    real("predicted_board_j", "J", "whole board", "sum(predicted_board_j)", null=True),
    real("predicted_dynamic_j", "J", "above idle", "sum(predicted_dynamic_j)", null=True),
)
_KEY = (schema.ROUND_OR_BEFORE, schema.DEVICE, schema.PHASE)
_WAITED_S = (
    "(SELECT coalesce(sum(s.duration_s), 0) FROM sample s WHERE (s.round, s.device) = "
    "(x.round, x.device) AND s.phase = 'waiting')"
)
_NOT_TOLD = (
    "(x.stretches = 0 AND CASE x.phase WHEN 'idle' THEN "
    f"coalesce(coalesce(d.busy_s, 0) + {_WAITED_S} + {WAITED_MIN_S} < r.duration_s, 0) "
    f"ELSE coalesce(d.status, '') <> '{_FAILED}' END)"
)

PHASES = StoreView(
    name="phases",
    about="One row per device, round and phase: what was metered beside what was predicted. Round "
    "0 is the time before the first round. No plan has `waiting`: 0 J of it are predicted wherever "
    "the other phases are.",
    columns=(
        *_of("x", _KEY),
        *_modelled(
            "predicted_",
            *(
                replace(c, at=f"x.unmetered + {_NOT_TOLD}") if c.name == "unmetered" else c
                for c in _of_sums("x", _OF_PHASE)
            ),
        ),
    ),
    rows=f"(SELECT round, device, phase, {_select(_OF_PHASE)} FROM (SELECT round, device, phase, "
    f"1 AS stretches, NOT ({_is_read('', 'energy_j')}) AS unmetered, start_s, {_STRETCH}, NULL AS "
    "predicted_s, NULL AS predicted_board_j, NULL AS predicted_dynamic_j FROM sample UNION ALL "
    f"SELECT round, device, phase, 0, 0, NULL, {_NULLS}, duration_s, board_j, dynamic_j FROM "
    f"prediction UNION ALL SELECT DISTINCT round, device, phase, 0, 0, NULL, {_NULLS}, 0.0, 0.0, "
    "0.0 FROM sample w WHERE phase = 'waiting' AND EXISTS (SELECT 1 FROM prediction p WHERE "
    "(p.round, p.device) = (w.round, w.device))) GROUP BY round, device, phase) x LEFT JOIN "
    "device_round d ON (d.round, d.device) = (x.round, x.device) LEFT JOIN round r ON r.number = "
    "x.round",
)

_DEVICE_SUMS = (
    *_STRETCHES,
    *_sum_and_known("board energy of all phases, idle power included", "", _READ),
    real(
        "predicted_board_j",
        "J",
        f"whole board; {_ALIKE}",
        _planned_as("1", "predicted_board_j"),
        null=True,
    ),
    real(
        "predicted_dynamic_j",
        "J",
        f"compute and upload above idle: the paper's energy; {_ALIKE}",
        _planned_as(f"phase IN ({_DYNAMIC})", "predicted_dynamic_j"),
        null=True,
    ),
)
_MOVED = (
    whole("down_bytes", "bytes", "received", "sum((phase <> 'upload') * size_bytes)", null=True),
    whole("up_bytes", "bytes", "sent", "sum((phase = 'upload') * size_bytes)", null=True),
)
_OBSERVED = tuple(
    replace(c, name="clock_hz", at="o.frequency_hz") if c.name == "frequency_hz" else c
    for c in _of("o", schema.OBSERVATION.columns)
)

DEVICE_ROUNDS = StoreView(
    name="device_rounds",
    about="One row per device and round. The time before the first round is left out: it is round "
    "0 of view `phases`.",
    columns=(
        *_of("d", schema.DEVICE_ROUND.described),
        *_modelled("predicted_", *_of_sums("e", _DEVICE_SUMS)),
        *_of("m", _MOVED),
        whole(
            "throttled",
            "times",
            "it was slowed down, all causes",
            f"(SELECT sum(value) FROM json_each({_json('o.throttled')}))",
            null=True,
        ),
        *_OBSERVED,
    ),
    rows="device_round d LEFT JOIN observation o USING (round, device) LEFT JOIN (SELECT round, "
    f"device, {_select(_DEVICE_SUMS)} FROM phases GROUP BY round, device) e USING (round, device) "
    f"LEFT JOIN (SELECT round, device, {_select(_MOVED)} FROM transfer GROUP BY round, device) m "
    "USING (round, device)",
)

_LACKS = (
    f"(energy_j IS NULL AND NOT (status = '{_ABSENT}' AND unknown_max_j IS NULL "
    "AND coalesce(stretches, 0) = 0))"
)
"""SQL that is true of a device whose joules are incomplete; one that has not joined has none."""

_ROUND_SUMS = (
    whole("devices", "devices", "that are enrolled", "count(*)"),
    whole("participants", "devices", "that were to train", f"sum(status NOT IN ({_APART}))"),
    whole("absent", "devices", "that were not there", f"sum(status = '{_ABSENT}')"),
    whole(
        "accepted", "devices", "whose update went into the model", f"sum(status = '{_ACCEPTED}')"
    ),
    whole("unmetered", "devices", "whose joules are incomplete", f"sum({_LACKS})"),
    *_sum_and_known("board energy of all devices", "known_", f"sum({_LACKS}) = 0", True),
    *_sum(
        "the most that the gaps in `energy_j` can hold; unknown if one has no bound",
        "gap_",
        "unknown_",
        "unknown_max_j",
        f"sum({_LACKS}) = sum({_is_read('gap_', 'gap_j')})",
    ),
    real(
        "predicted_board_j",
        "J",
        f"of the same boards; {_ALIKE}",
        "CASE WHEN sum(predicted_board_j IS NULL) = 0 THEN sum(predicted_board_j) END",
        null=True,
    ),
    real(
        "predicted_dynamic_j",
        "J",
        f"of the participants, compute and upload above idle; {_ALIKE}",
        f"CASE WHEN sum(status NOT IN ({_APART}) AND predicted_dynamic_j IS NULL) = 0 "
        "THEN sum(predicted_dynamic_j) END",
        null=True,
    ),
)

_GAPS = ", ".join(
    f"CASE WHEN energy_j IS NULL THEN unknown_{'max_j' if name == 'j' else name} END AS gap_{name}"
    for name in ("j", "kind", "source", "scope", "uncertainty_j", "common_j")
)

ROUNDS = StoreView(
    name="rounds",
    about="One row per round. The server's joules are in no sum of the devices'. The time before "
    "the first round is left out: it is round 0 of view `phases`, and the report counts it in the "
    "run and in the first round that was finished.",
    columns=(
        *_of("r", schema.ROUNDS.columns),
        *_modelled(
            "predicted_",
            *_of_sums("d", _ROUND_SUMS),
        ),
        real("server_s", "s", "wall time of training on the server", "s.seconds", null=True),
        whole("server_images", "images", "the server trained on", "s.images", null=True),
        *(
            replace(column, at=f"s.{column.name.replace('server_j', 'server_energy_j')[7:]}")
            for column in energy("board energy of the server meanwhile", "", "server_", "server_j")
        ),
    ),
    rows=f"round r LEFT JOIN (SELECT round, {_select(_ROUND_SUMS)} FROM (SELECT *, {_GAPS} "
    "FROM device_rounds) GROUP BY round) d ON d.round = r.number LEFT JOIN server_round s ON "
    "s.round = r.number",
)

PLANS = StoreView(
    name="plans",
    about="One row per plan of the fleet; the last is in force.",
    columns=(
        whole("plan", "rows", "`id` of the plan", "b.id"),
        *_in_body(
            text("status", "optimal, feasible, or uncertified"),
            text("objective", "energy that it makes least: board or dynamic"),
            text("search", "which search found it"),
            text("stop", "why the search ended"),
            real("round_s", "s", "length of a round"),
        ),
        real("gap_percent", "%", "`planned_j` above its bound", _gap(_LEAST), null=True),
        real("board_gap_percent", "%", "`planned_board_j` likewise", _gap("board"), null=True),
        real(
            "dynamic_gap_percent", "%", "`planned_dynamic_j` likewise", _gap("dynamic"), null=True
        ),
        *_in_body(
            real("error", "0 to 1", "mean learning error"),
            real("error_max", "0 to 1", "the limit on it"),
            real("synthetic_value", "1", "worth of a synthetic sample"),
            whole("evaluations", "candidates", "that were evaluated"),
            real("search_s", "s", "wall time of the search"),
            real("certificate_s", "s", "wall time of the certificate"),
        ),
        *_modelled(
            "planned_",
            *_in_body(
                real("planned_board_j", "J", "fleet and round, whole boards", "board.energy_j"),
                real("planned_board_bound_j", "J", "no plan takes less", "board.bound_j"),
                real("planned_dynamic_j", "J", "compute and upload above idle", "dynamic.energy_j"),
                real("planned_dynamic_bound_j", "J", "no plan takes less", "dynamic.bound_j"),
            ),
            real(
                "planned_j",
                "J",
                "the one of both that it makes least",
                _certified(_LEAST, "energy_j"),
                null=True,
            ),
            real(
                "planned_bound_j",
                "J",
                "certified: no plan takes less",
                _certified(_LEAST, "bound_j"),
                null=True,
            ),
            *_in_body(
                real("planned_search_j", "J", "`planned_j` before rounding", "search_energy_j"),
                real("planned_budgets_j", "J", "of `planned_j` for the budgets", "budget_cost_j"),
                real(
                    "planned_preparation_j",
                    "J",
                    "receiving synthetic samples, once",
                    "preparation_j",
                ),
            ),
        ),
    ),
    rows=_bodies(schema.PLAN),
)

DEVICE_PLANS = StoreView(
    name="device_plans",
    about="One row per plan and device.",
    columns=(
        *_of("b", schema.DEVICE_PLAN.described),
        *_in_body(
            real("frequency_hz", "Hz", "cap of the CPU's frequency", "point.frequency_hz"),
            real("bandwidth_hz", "Hz", "share of the uplink band", "point.bandwidth_hz"),
            real("transmit_power_w", "W", "of the radio", "point.transmit_power_w"),
            real("time_split", "0 to 1", "of working time for compute", "point.time_split"),
            real("rate_bps", "bit/s", "uplink rate that is counted on", "point.rate_bps"),
            text(
                "setting",
                "measured operating point; empty: the frequency alone is set",
                "point.setting",
            ),
        ),
        whole("synthetic_samples", "samples", "as delivered", _counted("synthetic_counts")),
        *_in_body(
            whole("unlabelled_samples", "samples", "of those without labels", "unlabelled"),
            real("confidence_min", "0 to 1", "to train on such a one"),
            whole("batch_bytes", "bytes", "of the synthetic samples", "batch.size_bytes"),
        ),
        real("compute_s", "s", "of a round", _planned("duration_s", "'compute'"), null=True),
        real("upload_s", "s", "of a round", _planned("duration_s", "'upload'"), null=True),
        *_modelled(
            "planned_",
            real(
                "planned_board_j",
                "J",
                "of a round, all phases",
                _planned("board_j", "json_extract(value, '$.phase')"),
                null=True,
            ),
            real(
                "planned_dynamic_j",
                "J",
                "of a round, compute and upload above idle",
                _planned("dynamic_j", _DYNAMIC),
                null=True,
            ),
        ),
    ),
    rows=_bodies(schema.DEVICE_PLAN),
)

PROFILES = StoreView(
    name="profiles",
    about="One row per device: board, meter, cost parameters (docs/model.md).",
    columns=(
        schema.DEVICE,
        whole("local_samples", "samples", "it holds", _counted("label_counts")),
        *_in_body(
            text("dataset", "what its labels mean"),
            text("backend", "what it can train with"),
            text("board", "model of the board", "hardware.board"),
            text("hardware", "physical or emulated", "hardware.kind"),
            text("meter", "where its joules come from", "hardware.meter.source"),
            text("meter_kind", "measured, modelled, or emulated", "hardware.meter.kind"),
            text("meter_scope", "cpu, gpu, module, board, or wall", "hardware.meter.scope"),
            real("meter_rate_hz", "Hz", "readings per second", "hardware.meter.rate_hz"),
            real("idle_power_w", "W", "when it does nothing", "board.idle_power_w"),
            real("cycles_per_sample", "cycles", "C", "board.compute.cycles_per_sample"),
            real("capacitance_w_per_hz3", "W/Hz³", "κ", "board.compute.capacitance_w_per_hz3"),
            real("active_power_w", "W", "while computing", "board.compute.active_power_w"),
            real("linear_power_w_per_hz", "W/Hz", "c", "board.compute.linear_power_w_per_hz"),
            real("frequency_min_hz", "Hz", "lowest", "board.compute.frequency_min_hz"),
            real("frequency_max_hz", "Hz", "highest", "board.compute.frequency_max_hz"),
        ),
        whole(
            "operating_points",
            "points",
            "measured; with any the law is not used",
            "json_array_length(b.body, '$.board.compute.points')",
            null=True,
        ),
        *_in_body(
            real("channel_gain", "1", "h, power gain", "board.link.channel_gain"),
            real("noise_density_w_per_hz", "W/Hz", "N0", "board.link.noise_density_w_per_hz"),
            real("transmit_power_max_w", "W", "p_max", "board.link.transmit_power_max_w"),
            real("downlink_rate_bps", "bit/s", "receiving", "board.link.downlink_rate_bps"),
            real("receive_power_w", "W", "while receiving", "board.link.receive_power_w"),
            real("electronics_power_w", "W", "sending", "board.link.electronics_power_w"),
            real("host_j_per_bit", "J/bit", "sending", "board.link.energy_per_bit_j"),
            real("rate_cap_bps", "bit/s", "most that it sends", "board.link.rate_cap_bps"),
            whole("power_settable", "0 or 1", "p can be chosen", "board.link.power_settable"),
        ),
    ),
    rows=_bodies(schema.PROFILE),
)

SETTINGS = StoreView(
    name="settings",
    about="One row per configuration key.",
    columns=(
        text("key", "section and name, with a dot between", "c.key"),
        text(
            "value",
            "as text: true, false, or the values of a list with commas between",
            "CASE c.type WHEN 'array' THEN (SELECT coalesce(group_concat(value, ', '), '') FROM "
            "json_each(c.value)) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
            "ELSE CAST(c.value AS TEXT) END",
            null=True,
        ),
        text("origin", "where it came from", "o.value", null=True),
    ),
    rows=f"run, json_each({_json('run.config')}) c LEFT JOIN (SELECT key, value FROM run, "
    f"json_each({_json('run.origins')})) o ON o.key = c.key",
)

CLASSES = StoreView(
    name="classes",
    about="One row per round and class.",
    columns=(
        whole("round", "rounds", "number of the round, from 1", "r.number"),
        whole("class", "classes", "from 0", "c.key"),
        real("accuracy", "0 to 1", "on the test samples of this class", "c.value", null=True),
    ),
    rows=f"round r, json_each({_json('r.class_accuracy')}) c",
)

LABELS = StoreView(
    name="labels",
    about="One row per device, stage and class.",
    columns=(
        *_of("l", schema.LABEL_SKEW.beside),
        whole("class", "classes", "from 0", "c.key"),
        whole("samples", "samples", "of this class", "c.value"),
    ),
    rows=f"label_skew l, json_each({_json('l.counts')}) c",
)

VIEWS = (
    PHASES,
    DEVICE_ROUNDS,
    ROUNDS,
    PLANS,
    DEVICE_PLANS,
    PROFILES,
    SETTINGS,
    CLASSES,
    LABELS,
)
"""All of them, in the order of ``docs/record.md``; each reads tables and views above it."""
