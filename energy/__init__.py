"""What a joule is, and everything that measures, predicts or changes one.

Joules

* :mod:`~fimi.energy.joules`       a joule with its kind, source, scope and uncertainty
* :mod:`~fimi.energy.cost_model`   seconds and joules of a round as formulas (docs/model.md)
* :mod:`~fimi.energy.compute_points`  measured operating points: names, and which no plan takes
* :mod:`~fimi.energy.ledger`       every joule of a device, phase by phase
* :mod:`~fimi.energy.ledger_log`   notes what a ledger is told, so that it can be computed again
* :mod:`~fimi.energy.ledger_parts`  parts of that: what they are, and how large they can be
* :mod:`~fimi.energy.ledger_packing`  such a part as bytes
* :mod:`~fimi.energy.ledger_opening`  reads it, whoever has sent it
* :mod:`~fimi.energy.reading_arrays`  its numbers in few bytes, without loss
* :mod:`~fimi.energy.replay`       a ledger fed with a log
* :mod:`~fimi.energy.phase_energy`  joules of phases, from readings that come late or seldom
* :mod:`~fimi.energy.phase_counts`  the same from counters of energy
* :mod:`~fimi.energy.phase_readings`  readings in columns, and how much their values scatter
* :mod:`~fimi.energy.phase_powers`  powers of phases that a meter cannot tell apart, by regression
* :mod:`~fimi.energy.resting`      what a board draws while it does nothing
* :mod:`~fimi.energy.work_meter`   joules of work that no device does: generator node and server
* :mod:`~fimi.energy.clock`        monotonic and virtual time
* :mod:`~fimi.energy.timestamps`   times as other programs write them

Boards

* :mod:`~fimi.energy.hardware`      the interface between an agent and the board it runs on
* :mod:`~fimi.energy.host`          the physical board: its meter, its controls, its observations
* :mod:`~fimi.energy.host_profile`  the profile of a physical board, from its user's file
* :mod:`~fimi.energy.units`         usual and possible values, and the units that explain others
* :mod:`~fimi.energy.clusters`      which cores and clusters are on
* :mod:`~fimi.energy.sysfs`         reading numbers out of the kernel's files
* :mod:`~fimi.energy.toml_text`     texts in lines that people paste into a profile

Rooms

* :mod:`~fimi.energy.meters`  counters, power meters and declared constants (RAPL, INA, Jetson,
  plugs …)
* :mod:`~fimi.energy.control`      setting the frequency and the sending rate, and restoring them
* :mod:`~fimi.energy.observe`      what the board did: clock, temperature, throttling, link
* :mod:`~fimi.energy.emulation`    emulated boards and their meters
* :mod:`~fimi.energy.step_load`    the response of a meter, and two meters, by a load of known edges
* :mod:`~fimi.energy.calibration`  cost parameters of a board from measurements

Imports none of the other packages.
"""
