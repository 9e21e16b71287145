"""The tables of a run store.

Tables::

    run           key, value             configuration, versions, status; one row per key
    event         id, at, event, body    everything that happened, in order
    profile       device, body           what each device said of itself
    plan          id, body               the fleet's plan with bound, gap and search history
    device_plan   plan, device, body     each device's share of it
    round         number, ...            time, accuracy and loss of each round
    device_round  round, device, ...     what became of each device in each round
    sample        round, device, phase   every metered phase beside its prediction (round 0: before)
    transfer      round, device, phase   every payload that a device moved, and how long it took
    observation   round, device, ...     clock, throttling (JSON), heat, link, monitor's own cost
    residual      round, device, phase   predicted less measured joules, and what they come from
    refit         round, device, body    cost parameters that were fitted after a round
    server_round  round, ...             what the server trained in a round: its own seconds, joules
    label_skew    device, stage          label histogram, its distance to the population, entropy:
                                         of the local data, and filled as the plan has it
    model_file    round, variant, ...    what was exported, checked against PyTorch
    deployment    round, device, ...     how a device ran it: accuracy, latency, joules of inference
    insight       round, ...             orthogonality of a round's updates, size of the IID sample
    device_insight  round, device        local error, similarity to the IID update

``body`` columns hold JSON. An unknown value is NULL, never zero. Tables and columns are only ever
added, at the end, so that older runs can still be read: ``cpu_*``, ``transfer`` and ``observation``
are missing from stores of before there were any, and so are ``residual``, ``refit``,
``server_round`` and all below it, and ``trained_from`` and ``trained_until`` (UNIX time). A device
that was asked to try a file and could not has NULLs and the reason there.
"""

from __future__ import annotations

SCHEMA = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE profile (device TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE plan (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE device_plan (
    plan INTEGER NOT NULL REFERENCES plan, device TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (plan, device)) STRICT;
CREATE TABLE round (
    number INTEGER PRIMARY KEY, start_s REAL NOT NULL, duration_s REAL NOT NULL,
    accuracy REAL NOT NULL, loss REAL NOT NULL, class_accuracy TEXT NOT NULL,
    test_samples INTEGER NOT NULL) STRICT;
CREATE TABLE device_round (
    round INTEGER NOT NULL REFERENCES round, device TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, busy_s REAL, frequency_hz REAL, local_samples INTEGER NOT NULL,
    synthetic_samples INTEGER NOT NULL, training_loss REAL, training_accuracy REAL,
    backend TEXT NOT NULL, trained_from REAL, trained_until REAL,
    PRIMARY KEY (round, device)) STRICT;
CREATE TABLE sample (
    id INTEGER PRIMARY KEY, round INTEGER NOT NULL, device TEXT NOT NULL, phase TEXT NOT NULL,
    start_s REAL, duration_s REAL, energy_j REAL, kind TEXT, source TEXT, scope TEXT,
    uncertainty_j REAL, readings INTEGER, largest_gap_s REAL,
    predicted_s REAL, predicted_board_j REAL, predicted_dynamic_j REAL,
    cpu_j REAL, cpu_kind TEXT, cpu_source TEXT, cpu_scope TEXT, cpu_uncertainty_j REAL) STRICT;
CREATE TABLE transfer (
    id INTEGER PRIMARY KEY, round INTEGER NOT NULL, device TEXT NOT NULL, phase TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, duration_s REAL NOT NULL) STRICT;
CREATE TABLE observation (
    round INTEGER NOT NULL REFERENCES round, device TEXT NOT NULL, frequency_hz REAL,
    frequency_source TEXT NOT NULL, cap_hz REAL, throttled TEXT, rate_limit_bps REAL,
    link_interface TEXT, link_rate_bps REAL, link_signal_dbm REAL,
    monitor_cpu_s REAL, monitor_wall_s REAL, monitor_looks INTEGER, monitor_failed INTEGER,
    monitor_j REAL, monitor_kind TEXT, monitor_source TEXT, monitor_scope TEXT,
    monitor_uncertainty_j REAL, temperature_c REAL, PRIMARY KEY (round, device)) STRICT;
CREATE TABLE residual (
    round INTEGER NOT NULL REFERENCES round, device TEXT NOT NULL, phase TEXT NOT NULL,
    predicted_s REAL NOT NULL, measured_s REAL NOT NULL, predicted_j REAL NOT NULL,
    measured_j REAL NOT NULL, cycles_j REAL NOT NULL, throttling_j REAL NOT NULL,
    rate_j REAL NOT NULL, waiting_j REAL NOT NULL, power_j REAL NOT NULL,
    PRIMARY KEY (round, device, phase)) STRICT;
CREATE TABLE refit (
    round INTEGER NOT NULL REFERENCES round, device TEXT NOT NULL, drift_percent REAL,
    body TEXT NOT NULL, PRIMARY KEY (round, device)) STRICT;
CREATE TABLE server_round (
    round INTEGER PRIMARY KEY REFERENCES round, images INTEGER NOT NULL, seconds REAL NOT NULL,
    loss REAL NOT NULL, weight REAL, federated_accuracy REAL, augmented_accuracy REAL,
    energy_j REAL, kind TEXT, source TEXT, scope TEXT, uncertainty_j REAL) STRICT;
CREATE TABLE label_skew (
    device TEXT NOT NULL, stage TEXT NOT NULL, counts TEXT NOT NULL, emd REAL, entropy_bits REAL,
    PRIMARY KEY (device, stage)) STRICT;
CREATE TABLE model_file (
    round INTEGER NOT NULL, variant TEXT NOT NULL, digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, accuracy REAL NOT NULL, samples INTEGER NOT NULL,
    agreement REAL NOT NULL, difference REAL NOT NULL, compared INTEGER NOT NULL,
    PRIMARY KEY (round, variant)) STRICT;
CREATE TABLE deployment (
    round INTEGER NOT NULL, device TEXT NOT NULL, variant TEXT NOT NULL,
    inferences INTEGER, images INTEGER, accuracy REAL, latency_median_s REAL, latency_p95_s REAL,
    latency_kind TEXT, start_s REAL, duration_s REAL, energy_j REAL, kind TEXT, source TEXT,
    scope TEXT, uncertainty_j REAL, readings INTEGER, largest_gap_s REAL, error TEXT NOT NULL,
    PRIMARY KEY (round, device, variant)) STRICT;
CREATE TABLE insight (
    round INTEGER PRIMARY KEY REFERENCES round, orthogonality REAL,
    reference_samples INTEGER NOT NULL) STRICT;
CREATE TABLE device_insight (
    round INTEGER NOT NULL REFERENCES insight, device TEXT NOT NULL, local_error REAL NOT NULL,
    similarity REAL, PRIMARY KEY (round, device)) STRICT;
CREATE INDEX sample_by_round ON sample (round, device);
CREATE INDEX transfer_by_round ON transfer (round, device);
"""
